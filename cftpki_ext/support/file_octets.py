"""
Large octets in a file: read by a descriptor that nobody writes to any more, and that is closed with the last who holds it.

Owns `FileOctets`. A descriptor is read at places (pread(2)), never mapped: a file that is cut short is an error then, and
not the end of the process (SIGBUS).
"""

from __future__ import annotations

import os
import weakref

from cftpki_ext.core.octets import LargeOctets, OctetsIndex, UnreadableOctetsError


def read_at(number: int, offset: int, count: int) -> bytes:
    """
    A part of a file, shorter only where it ends.

    Args:
        number: its descriptor; where it stands is neither looked at nor changed.
        offset: where to begin.
        count: how many octets.

    Returns:
        The octets.

    Raises:
        UnreadableOctetsError: the disk does not give them.

    """
    try:
        found = os.pread(number, count, offset)
        while len(found) < count and (more := os.pread(number, count - len(found), offset + len(found))):
            found += more
    except OSError as error:
        msg = f"cannot be read: {error.strerror or error}"
        raise UnreadableOctetsError(msg) from error
    return found


def write_all(number: int, content: bytes) -> None:
    """
    Append octets to a file, all of them.

    Raises:
        OSError: it does not take them.

    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(number, rest) :]


class FileOctets(LargeOctets):
    """
    Octets in a file.

    Args:
        number: a descriptor of the file, ours from now on.
        digest: SHA-256, lower-case hexadecimal. Not compared here.
        size: how many octets.

    """

    def __init__(self, number: int, *, digest: str, size: int) -> None:
        super().__init__(digest=digest, size=size)
        self._number = number
        self._close = weakref.finalize(self, os.close, number)

    def fileno(self) -> int:
        """
        The descriptor, open for as long as somebody holds this object.
        """
        return self._number

    def read(self, offset: int, count: int) -> bytes:
        """
        See `LargeOctets`.
        """
        return read_at(self._number, offset, count)

    def close(self) -> None:
        """
        Close the descriptor now. Afterwards nothing can be read.
        """
        self._close()


class FileIndex(OctetsIndex):
    """
    An index in a file.

    Args:
        number: a descriptor of the file, ours from now on.
        size: how long the index is; what is behind is none of it.
        root: see `OctetsIndex`.

    """

    __slots__ = ("__weakref__", "_close", "number")

    def __init__(self, number: int, size: int, root: bytes) -> None:
        super().__init__(lambda offset, count: read_at(number, offset, count), size, root)
        self.number = number
        self._close = weakref.finalize(self, os.close, number)
