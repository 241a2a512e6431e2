"""
The fields of an answer's head, as they came.
"""

from __future__ import annotations

from collections.abc import Iterable


class Fields:
    """
    The fields of an answer's head, by lower-case name.
    """

    __slots__ = ("_fields",)

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in raw:
            self._fields.setdefault(_text(name).lower(), []).append(_text(value))

    def get(self, name: str, default: str = "") -> str:
        """
        What a field says, of several of one name all together (RFC 9110 5.3); `default` where there is none.
        """
        found = self._fields.get(name)
        return default if found is None else ", ".join(found)

    def get_list(self, name: str) -> list[str]:
        """
        What each field of a name says.
        """
        return self._fields.get(name, [])


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")
