"""
A file for one note about evidence that could not be kept, whose place on the disk is taken before the disk is full.
"""

from __future__ import annotations

import os
from pathlib import Path

from cftpki_ext.core.errors import StoreError

_OCTETS = 4096


class GapFile:
    """
    A `GapStore` in one file of a fixed size, written in place.

    Args:
        path: of the file; it is made with mode 0600 where it is missing.

    Raises:
        StoreError: it cannot be made: there is no room for it, perhaps.

    """

    def __init__(self, path: Path) -> None:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._number = os.open(path, flags, 0o600)
            try:
                there = os.fstat(self._number).st_size
                if there < _OCTETS:
                    os.pwrite(self._number, b" " * (_OCTETS - there), there)
            except OSError:
                os.close(self._number)
                raise
        except OSError as exc:
            msg = f"{path}: {exc.strerror or exc}"
            raise StoreError(msg) from exc

    def load(self) -> bytes:
        """
        See `GapStore`.
        """
        return os.pread(self._number, _OCTETS, 0).rstrip(b" \0\n")

    def save(self, document: bytes) -> None:
        """
        See `GapStore`.
        """
        os.pwrite(self._number, document[:_OCTETS].ljust(_OCTETS), 0)

    def close(self) -> None:
        """
        Close it. May be called again.
        """
        if self._number >= 0:
            os.close(self._number)
            self._number = -1
