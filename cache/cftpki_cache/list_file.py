"""
A large list in a file, and what is asked of each file of the folder: ours alone, never followed through a link.

Owns the names' endings, the seal behind an index, and the key of the state directory that vouches for indexes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import struct
import weakref
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.support.file_octets import FileOctets, read_at

KEY = "lists.key"
_KEY_OCTETS = 32
LIST, INDEX, PROOF, NEW = ".crl", ".idx", ".proof", "new-"
# The root of the index, its MAC, and what says that both are there.
SEAL = struct.Struct(">32s32s8s")
SEALED = b"CFTLSEAL"
OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OTHERS_MAY_WRITE = 0o022


class Place:
    """
    Where a file is, and whether it goes with the last who holds it.
    """

    __slots__ = ("index", "path", "temporary")

    def __init__(self, path: Path, *, temporary: bool) -> None:
        self.path = path
        self.temporary = temporary
        self.index: Path | None = None

    def abandon(self) -> None:
        """
        Nobody holds the list any more: what is temporary goes.
        """
        for path in (self.path if self.temporary else None, self.index):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()


class ListFile(FileOctets):
    """
    A list in a file of the folder, kept or not yet.
    """

    def __init__(self, number: int, place: Place, *, digest: str, size: int) -> None:
        super().__init__(number, digest=digest, size=size)
        self.place = place
        self._gone = weakref.finalize(self, Place.abandon, place)


def read_only(path: Path) -> tuple[int, int] | None:
    """
    A descriptor of a file that is ours alone, and its size.
    """
    try:
        number = os.open(path, OPEN)
    except OSError:
        return None
    state = os.fstat(number)
    if stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & _OTHERS_MAY_WRITE:
        return number, state.st_size
    os.close(number)
    return None


def flush(path: Path) -> None:
    """
    Have a file, or what a folder says of its files, on the disk.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def key_of(path: Path) -> bytes:
    """
    The key that indexes are vouched for with, made where there is none. Of another length or open to others it is made anew.
    """
    for _ in range(3):
        found = read_only(path)
        if found is not None:
            number, size = found
            try:
                key = read_at(number, 0, _KEY_OCTETS + 1)
                if size == len(key) == _KEY_OCTETS and not os.fstat(number).st_mode & 0o077:
                    return key
            finally:
                os.close(number)
            path.unlink(missing_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        number = os.open(fresh, NEW_FILE, 0o600)
        try:
            os.write(number, secrets.token_bytes(_KEY_OCTETS))
            os.fsync(number)
        finally:
            os.close(number)
        try:
            # Where another process was first, its key counts.
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    msg = f"{path} is not a key of ours alone: remove it"
    raise StoreError(msg)
