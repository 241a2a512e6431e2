"""
Where each key of a TOML file stands, so that a fault can name its line.

`tomllib` says what a file means and not where; this module says where and not what. It reads the syntax tree
of `tree-sitter-toml` and is only asked about files that `tomllib` has accepted; it is imported for the first of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

# A key's path: table names and keys as text, elements of arrays as numbers from 0.
KeyPath = tuple[str | int, ...]

_KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """
    The line of every table, key and array element of a TOML document.

    Args:
        text: a document that `tomllib.loads` accepts.

    Returns:
        Key path → line, from 1. A table that is opened several times has the line of the first; a path made
        only by a dotted key has that key's line.

    """
    import tree_sitter_toml  # noqa: PLC0415 - see the module
    from tree_sitter import Language, Parser  # noqa: PLC0415 - see the module

    tree = Parser(Language(tree_sitter_toml.language())).parse(text.encode())
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    for node in tree.root_node.named_children:
        if node.type == "pair":
            _note_pair(lines, (), node)
            continue
        if node.type not in {"table", "table_array_element"}:
            continue
        header = next(child for child in node.named_children if child.type in _KEYS)
        # A header below an array of tables speaks of the newest element of that array.
        place: KeyPath = ()
        names = _names(header)
        for depth, name in enumerate(names, start=1):
            place = (*place, name)
            lines.setdefault(place, _line(header))
            if depth == len(names) and node.type == "table_array_element":
                counts[place] = counts.get(place, -1) + 1
            if place in counts:
                place = (*place, counts[place])
                lines.setdefault(place, _line(header))
        for child in node.named_children:
            if child.type == "pair":
                _note_pair(lines, place, child)
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """
    The line of a key path, or of the nearest table around it; 1 for the document.

    Args:
        lines: from `key_lines`.
        path: any path, also of a key that is missing.

    Returns:
        A line, from 1.

    """
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


def _note_pair(lines: dict[KeyPath, int], table: KeyPath, pair: Node) -> None:
    key, value = (child for child in pair.named_children if child.type != "comment")
    place = table
    for name in _names(key):
        place = (*place, name)
        lines.setdefault(place, _line(key))
    _note_value(lines, place, value)


def _note_value(lines: dict[KeyPath, int], place: KeyPath, value: Node) -> None:
    children = [child for child in value.named_children if child.type != "comment"]
    if value.type == "inline_table":
        for pair in children:
            _note_pair(lines, place, pair)
    elif value.type == "array":
        for index, child in enumerate(children):
            lines.setdefault((*place, index), _line(child))
            _note_value(lines, (*place, index), child)


def _names(key: Node) -> tuple[str, ...]:
    return tuple(_parts(key))


def _parts(key: Node) -> Iterator[str]:
    """
    The parts of a dotted key, which the grammar nests to the left; escapes are tomllib's business.
    """
    if key.type == "dotted_key":
        for child in key.named_children:
            yield from _parts(child)
        return
    text = (key.text or b"").decode()
    yield text if key.type == "bare_key" else next(iter(tomllib.loads(f"{text} = 0")))


def _line(node: Node) -> int:
    return node.start_point[0] + 1
