"""
Plain data as TOML text, in the order in which it stands.

Owns the spelling of keys and strings. `tomllib` reads and does not write, and no writer is among the libraries that the program
needs otherwise. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHORT_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def to_toml(data: Mapping[str, Any]) -> str:
    """
    A document.

    Args:
        data: tables, arrays, strings, numbers, booleans, dates and times; what is `None` is left out.

    Returns:
        Text that `tomllib.loads` reads as the same data.

    """
    return "\n".join(_table((), data)).strip("\n") + "\n"


def toml_value(value: Any) -> str:
    """
    One value as it stands behind `=`.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {toml_value(each)}" for key, each in _said(value))
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(toml_value, value))}]"
    msg = f"{type(value).__name__} has no form in TOML"
    raise TypeError(msg)


def toml_string(text: str) -> str:
    """
    A basic string: everything but printable characters as an escape.
    """
    return f'"{"".join(map(_character, text))}"'


def _character(one: str) -> str:
    if one in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[one]
    if one.isprintable():
        return one
    number = ord(one)
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    """
    The lines of a table: what stands in it by itself, then the tables below it.
    """
    below = []
    for key, value in _said(table):
        if isinstance(value, Mapping) or _is_tables(value):
            below.append((key, value))
        else:
            yield f"{_key(key)} = {toml_value(value)}"
    for key, value in below:
        place = (*path, key)
        name = ".".join(map(_key, place))
        for each in (value,) if isinstance(value, Mapping) else value:
            # A table that only holds others needs no line of its own.
            head = f"[{name}]" if isinstance(value, Mapping) else f"[[{name}]]"
            alone = (
                isinstance(value, Mapping) and each and all(isinstance(one, Mapping) for one in each.values())
            )
            yield from () if alone else ("", head)
            yield from _table(place, each)


def _said(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in table.items() if value is not None)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml_string(key)
