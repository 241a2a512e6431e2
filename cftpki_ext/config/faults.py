"""
Collects the faults of a configuration, so that all are reported at once, in the order of the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from cftpki_ext.config.positions import KeyPath, line_of
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass

# What a value of each type is, and how pydantic names one that is not.
_TYPES = MappingProxyType(
    {
        "string": "must be a string",
        "path": "must be a string",
        "int": "must be a whole number",
        "float": "must be a number",
        "bool": "must be true or false",
        "list": "must be a list",
        "tuple": "must be a list",
        "set": "must be a list",
        "dict": "must be a table",
        "model": "must be a table",
    }
)
_WRONG = frozenset({"type", "parsing", "from_float"})


@dataclass(slots=True, kw_only=True)
class Faults:
    """
    The faults found so far in one file.
    """

    origin: str
    lines: Mapping[KeyPath, int]
    notes: list[str] = field(default_factory=list)  # what is to be said and is no fault
    _found: list[tuple[int, str]] = field(default_factory=list)
    _places: set[KeyPath] = field(default_factory=set)

    def add(
        self, path: KeyPath, message: str, *, wanted: str | None = None, known: Iterable[str] = ()
    ) -> None:
        """
        Note one fault.

        Args:
            path: the key that is at fault.
            message: a lower-case clause.
            wanted: the name that was written, where the fault is an unknown name.
            known: the names that could have been meant.

        """
        self._places.add(path)
        line = line_of(self.lines, path)
        near = None if wanted is None else nearest(wanted, known)
        hint = "" if near is None else f' (did you mean "{near}"?)'
        entry = (line, f"{self.origin}:{line}: [{spell(path)}] {printable(message)}{hint}")
        if entry not in self._found:
            self._found.append(entry)

    def within(self, path: KeyPath) -> bool:
        """
        Whether a fault was noted at this key or below it.
        """
        return any(place[: len(path)] == path for place in self._places)

    def report(self) -> tuple[str, ...]:
        """
        Every fault, one printable line each, in the order of the file.
        """
        return tuple(text for _, text in sorted(self._found, key=lambda entry: entry[0]))


def nearest(wanted: str, known: Iterable[str]) -> str | None:
    """
    The known name that was probably meant, or `None` where none is near.

    Args:
        wanted: what was written.
        known: what exists.

    Returns:
        The nearest name; case and the difference of `-` and `_` do not count.

    """
    folded = {name.casefold().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(wanted.casefold().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def spell(path: KeyPath) -> str:
    """
    A key path as in the file: names joined by dots, elements of arrays counted from 1.

    Args:
        path: the path; empty for the document.

    Returns:
        E.g. `rule[2].trust`.

    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += ("." if text else "") + printable(part)
    return text or "file"


def words_of(error: Mapping[str, Any]) -> str:
    """
    One fault that pydantic found in a value, in the words of the file's own types.

    Args:
        error: of `ValidationError.errors()`.

    Returns:
        A lower-case clause.

    """
    kind = str(error["type"])
    for family, words in _TYPES.items():
        if kind.startswith(f"{family}_") and kind.removeprefix(f"{family}_") in _WRONG:
            return words
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return message[:1].lower() + message[1:]
