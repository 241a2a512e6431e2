"""
Locks by which processes that share a cache ask a location once.

Owns one file beside the cache, and in it one octet for each lock: open file description locks (`F_OFD_SETLK`), which
the kernel releases when their holder dies. Locations share a fixed number of locks, so that no name of a stranger's
choosing makes a file. A lock saves requests, and nothing else depends on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import stat
import struct
import threading
from collections import Counter
from pathlib import Path

_log = logging.getLogger(__name__)

_FILE = "locations.lock"
# Two locations that share a lock wait for each other: with as many at once as a busy site has, seldom.
LOCKS = 4096
# struct flock of fcntl(2): type, whence, start, length, pid (0 for these locks); the native alignment is the kernel's.
_FLOCK = struct.Struct("hhqqi")


class LocationLocks:
    """
    A `ports.LocationLocks` in a folder. For any thread.

    Within this process a lock may be taken many times and is released when each has given it back: who waits for whom
    here is decided elsewhere. Where the file cannot be used, or the file system knows no such locks, every lock is free,
    and this is logged once.

    Args:
        directory: of the cache; made and checked by its owner.

    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._lock = threading.Lock()
        self._held: Counter[int] = Counter()
        self._file: int | None = None
        try:
            self._file = _open(self._path)
        except OSError as error:
            self._without(error)

    def take(self, name: str) -> bool:
        """
        Take the lock of a location, without waiting.

        Args:
            name: of the location, as the cache names it.

        Returns:
            Whether it is ours; `False` while another process has it.

        """
        place = _place(name)
        with self._lock:
            if not self._held[place] and not self._set(place, fcntl.F_WRLCK):
                return False
            self._held[place] += 1
            return True

    def give_back(self, name: str) -> None:
        """
        Give back what `take` gave.
        """
        place = _place(name)
        with self._lock:
            if self._held[place] > 1:
                self._held[place] -= 1
            elif self._held.pop(place, 0):
                self._set(place, fcntl.F_UNLCK)

    def close(self) -> None:
        """
        Release all.
        """
        with self._lock:
            file, self._file = self._file, None
            self._held.clear()
            if file is not None:
                os.close(file)

    def _set(self, place: int, kind: int) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, place, 1, 0))
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as fcntl(2) has it: another's
            return False
        except OSError as error:
            os.close(self._file)
            self._file = None
            self._without(error)
        return True

    def _without(self, error: OSError) -> None:
        _log.warning("%s: processes do not wait for each other's requests: %s", self._path, error)


def _open(path: Path) -> int:
    """
    The file, made with mode 0600 where it is missing: ours, regular, closed to others, and no link.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    state = os.fstat(number)
    if stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o077:
        return number
    os.close(number)
    msg = f"not a regular file of ours with mode 0600 (mode {state.st_mode:o}, user {state.st_uid})"
    raise OSError(msg)


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % LOCKS
