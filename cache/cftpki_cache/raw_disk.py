"""
diskcache's storage layer without pickle and without files: text keys, bytes values, all inside the database.

Owns what may go into and come out of a row. diskcache's own `Disk` unpickles whatever a row says is pickled
(CVE-2025-69872) and opens or deletes whatever file a row names; none of its methods is inherited that does.
"""

from __future__ import annotations

from typing import NoReturn

import diskcache  # type: ignore[import-untyped]  # diskcache has no types

# diskcache's number for a value that stands in the row as it is.
_MODE_RAW = 1


class CorruptRowError(Exception):
    """
    A row holds what this store never writes.
    """


class RawDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """
    Stores and fetches raw bytes under raw text, and refuses everything else, in both directions.
    """

    def put(self, key: object) -> tuple[str, bool]:
        """
        A key on its way into the database.
        """
        if not isinstance(key, str):
            msg = f"a key is text, not {type(key).__name__}"
            raise TypeError(msg)
        return key, True

    def get(self, key: object, raw: object) -> str:
        """
        A key on its way out.
        """
        if not isinstance(key, str) or not raw:
            msg = "a key that is not raw text"
            raise CorruptRowError(msg)
        return key

    def store(self, value: object, read: object, key: object = None) -> tuple[int, int, None, bytes]:  # noqa: ARG002  # diskcache's signature
        """
        A value on its way in: always inside the row, never a file, never a reader.
        """
        if not isinstance(value, bytes) or read:
            msg = f"a value is bytes, not {type(value).__name__}"
            raise TypeError(msg)
        return 0, _MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """
        A value on its way out: whatever is not raw bytes is refused unread, pickles and file names above all.
        """
        if mode != _MODE_RAW or filename is not None or not isinstance(value, bytes) or read:
            msg = f"a value of mode {mode!r}"
            raise CorruptRowError(msg)
        return value

    def filename(self, key: object = None, value: object = None) -> NoReturn:  # noqa: ARG002  # diskcache's signature
        """
        No value has a file.
        """
        msg = "values are kept in the database"
        raise TypeError(msg)

    def remove(self, file_path: object) -> None:
        """
        No value has a file, so none is deleted, whatever a row names.
        """
