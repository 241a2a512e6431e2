"""
The disk tier: raw responses that survive a restart, in one SQLite database that several processes share.

Owns the directory, the record format and the promise that no disk trouble becomes anything but a miss. The
digest in a record finds accidents, not attackers: whoever can write here can write a digest as well, so that
signatures are verified again by whoever gets the bytes. What bears no signature (`SEALED`) has a MAC instead, whose key is
not in the directory.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import sqlite3
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import diskcache  # type: ignore[import-untyped]  # diskcache has no types

from cftpki_cache.kept import Kept
from cftpki_cache.raw_disk import CorruptRowError, RawDisk
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.responses import StoredResponse

T = TypeVar("T")

_log = logging.getLogger(__name__)

# How long a write waits for another process's; one that waits longer is given up. Reads never wait.
LOCK_WAIT_S = 0.1
# After a write was given up, the next are not even tried for so long: nobody waits behind a stuck lock twice.
LOCKED_PAUSE_S = 1.0
_LARGE_OCTETS = 1024 * 1024
# After trouble the disk is left alone for so long; meanwhile everything is a miss.
PAUSE_S = 30.0
DATABASE = "cache.db"
# Magic, digest of everything else, when received, until when kept (microseconds since 1970, UTC).
_HEADER = struct.Struct(">4s32sqq")
_MAGIC = b"CFR1"
# When it was received, for whoever reads no more of a record.
RECEIVED = struct.Struct(">q")
RECEIVED_AT = 36
# Names of answers that no signature vouches for.
SEALED = ("directory:",)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SETTINGS = {
    # A reader that maps the file is killed by SIGBUS when another process cuts it short.
    "sqlite_mmap_size": 0,
    # What a planted schema may do.
    "sqlite_trusted_schema": 0,
    "sqlite_cell_size_check": 1,
    # Pages (4 KiB) in memory, for each thread's connection: what is read again and again is in the memory tier.
    "sqlite_cache_size": 512,
    # A crash may lose the last answers, never the file.
    "sqlite_synchronous": 1,
    # Reading must not write.
    "eviction_policy": "least-recently-stored",
    "statistics": 0,
    "tag_index": 0,
    # Rows that one write removes at most when the database is too large: more than come in, few of many.
    "cull_limit": 10,
}


class DiskStore:
    """
    A `ResponseStore` on disk.

    Never raises for a full, read-only, locked or corrupt disk: it logs once, forgets, leaves the disk alone for
    half a minute and tries again. A damaged database is removed and begun anew. Made for one thread at a time;
    a lock sees to it. Where the directory is not safely ours, nothing is begun at all.

    Args:
        directory: made with mode 0700 where it is missing.
        max_bytes: size of the database; the oldest entries go first.
        wall: seconds since 1970; entries survive restarts, so their ends are wall-clock times.
        monotonic: seconds that only ever grow, for the pause after trouble.
        key: gives the key of the MACs of answers without a signature; without it none of them is kept.

    Raises:
        StoreError: the directory is a symbolic link, another user's, or open to others.

    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = 512 * 1024 * 1024,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        key: Callable[[], bytes] | None = None,
    ) -> None:
        self._directory = directory
        self._key = key
        self._sealing: bytes | None = None
        self._max_bytes = max_bytes
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._cache: diskcache.Cache | None = None
        self._idle_until = 0.0
        self._no_writes_until = 0.0
        self._complained = False
        self._closed = False
        try:
            make_private_directory(directory)
        except OSError as error:
            self._trouble(error)

    def get(self, key: str) -> StoredResponse | None:
        """
        See `ResponseStore`.
        """
        kept = self.look(key)
        return None if kept is None else kept.response

    def look(self, key: str) -> Kept | None:
        """
        See `LivedStore`. A row that is damaged, or was never written by this store, is dropped unread.
        """
        if not self._vouches(key):
            return None

        def work(cache: diskcache.Cache) -> Kept | None:
            try:
                record = cache.get(key)
                return None if record is None else self._unpack(key, record)
            except CorruptRowError as error:
                _log.warning("a cached response is dropped: %s", error)
                cache.delete(key)
                return None

        return self._run(work)

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: float) -> None:
        """
        See `ResponseStore`. A response larger than half the store is not kept.
        """
        if keep_s <= 0 or len(raw) > self._max_bytes // 2 or not self._vouches(key):
            self.drop(key)
            return
        record = self._pack(key, bytes(raw), received_at, keep_s)

        def work(cache: diskcache.Cache) -> None:
            cache.set(key, record, expire=keep_s)
            if len(record) > _LARGE_OCTETS:
                # A prepared statement holds a copy of what was written last: only this connection's end lets go of it.
                cache.close()

        self._run(work, writes=True)

    def drop(self, key: str) -> None:
        """
        See `ResponseStore`.
        """
        self._run(lambda cache: cache.delete(key), writes=True)

    def usage(self) -> tuple[int, int] | None:
        """
        How many entries there are and how many bytes the database has; `None` where the disk does not say.
        """
        return self._run(lambda cache: (len(cache), int(cache.volume())))

    def clear(self) -> int | None:
        """
        Forget every entry; how many there were, or `None` where the disk or another process refuses.
        """
        return self._run(lambda cache: int(cache.clear()), writes=True)

    def close(self) -> None:
        """
        See `ResponseStore`. Afterwards everything is a miss.
        """
        with self._lock:
            self._closed = True
            self._disconnect()

    def _vouches(self, name: str) -> bool:
        """
        Whether what is kept under a name is either signed, or can be sealed by us.
        """
        if not name.startswith(SEALED) or self._sealing is not None:
            return True
        try:
            self._sealing = None if self._key is None else self._key()
        except (StoreError, OSError) as error:
            _log.warning("answers without a signature are not kept: %s", error)
        return self._sealing is not None

    def _digest(self, name: str, received: int, until: int, raw: bytes) -> bytes:
        octets = name.encode()
        head = struct.pack(">Qqq", len(octets), received, until)
        if name.startswith(SEALED):
            return hmac.digest(self._sealing or b"", head + octets + raw, "sha256")
        state = hashlib.sha256(head)
        state.update(octets)
        state.update(raw)
        return state.digest()

    def _pack(self, key: str, raw: bytes, received_at: datetime, keep_s: float) -> bytes:
        received = (received_at - _EPOCH) // timedelta(microseconds=1)
        until = int((self._wall() + keep_s) * 1_000_000)
        return _HEADER.pack(_MAGIC, self._digest(key, received, until, raw), received, until) + raw

    def _unpack(self, key: str, record: bytes) -> Kept | None:
        if len(record) < _HEADER.size:
            msg = "cut off"
            raise CorruptRowError(msg)
        magic, digest, received, until = _HEADER.unpack_from(record)
        raw = record[_HEADER.size :]
        if magic != _MAGIC or not hmac.compare_digest(digest, self._digest(key, received, until, raw)):
            msg = "the digest differs"
            raise CorruptRowError(msg)
        keep_s = until / 1_000_000 - self._wall()
        if keep_s <= 0:
            return None
        try:
            return Kept(raw=raw, received_at=_EPOCH + timedelta(microseconds=received), keep_s=keep_s)
        except OverflowError as error:
            msg = "a time outside the calendar"
            raise CorruptRowError(msg) from error

    def _run(self, work: Callable[[diskcache.Cache], T], *, writes: bool = False) -> T | None:
        """
        Do one thing with the database; whatever the disk does, the answer is at worst `None`.
        """
        with self._lock:
            pause = max(self._idle_until, self._no_writes_until) if writes else self._idle_until
            if self._closed or self._monotonic() < pause:
                return None
            try:
                if self._cache is None:
                    self._cache = self._connect()
                result = work(self._cache)
            except diskcache.Timeout:
                # Another process writes. What is not dropped now is found unusable again and dropped later.
                self._no_writes_until = self._monotonic() + LOCKED_PAUSE_S
                return None
            except Exception as error:  # noqa: BLE001  # a planted database makes diskcache raise nearly anything
                self._trouble(error)
                return None
            self._complained = False
            return result

    def _connect(self) -> diskcache.Cache:
        make_private_directory(self._directory)
        database = self._directory / DATABASE
        # diskcache's constructor waits a minute for a lock: look first whether there is one.
        with closing(sqlite3.connect(database, timeout=LOCK_WAIT_S, isolation_level=None)) as probe:
            probe.execute("PRAGMA trusted_schema = 0")
            probe.execute("BEGIN IMMEDIATE")
            probe.execute("ROLLBACK")
        return diskcache.Cache(
            str(self._directory), timeout=LOCK_WAIT_S, disk=RawDisk, size_limit=self._max_bytes, **_SETTINGS
        )

    def _trouble(self, error: Exception) -> None:
        self._disconnect()
        if _is_busy(error):
            self._idle_until = self._monotonic() + LOCKED_PAUSE_S
            return
        say = _log.debug if self._complained else _log.warning
        self._complained = True
        if _is_disk(error):
            say("the response cache on disk is left alone for %.0f s: %s", PAUSE_S, error)
            self._idle_until = self._monotonic() + PAUSE_S
            return
        say("the response cache on disk is damaged and begun anew: %r", error)
        for suffix in ("", "-wal", "-shm", "-journal"):
            try:
                (self._directory / (DATABASE + suffix)).unlink(missing_ok=True)
            except OSError:
                self._idle_until = self._monotonic() + PAUSE_S

    def _disconnect(self) -> None:
        cache, self._cache = self._cache, None
        if cache is not None:
            try:
                cache.close()
            except sqlite3.Error as error:
                _log.debug("closing the response cache: %s", error)


_DISK_CODES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def _code(error: Exception) -> int:
    # The low byte is the primary code, the rest tells where it happened.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: Exception) -> bool:
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _is_disk(error: Exception) -> bool:
    """
    Whether the disk is the trouble, and not what stands on it: then beginning anew would not help.
    """
    return isinstance(error, (OSError, StoreError, MemoryError)) or _code(error) in _DISK_CODES


def make_private_directory(directory: Path) -> None:
    """
    Make sure that a directory is there, is none but a directory, is ours, and is closed to everyone else.

    An existing one is not changed: what others may have put there would stay.

    Args:
        directory: made with mode 0700 where it is missing; its parents are not.

    Raises:
        StoreError: it is not so.
        OSError: it cannot be made or looked at (a full or read-only disk).

    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        msg = f"{directory} is not a directory"
        raise StoreError(msg) from error
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode):
        msg = f"{directory} is a symbolic link; name the directory itself"
        raise StoreError(msg)
    if state.st_uid != os.geteuid():
        msg = f"{directory} belongs to user {state.st_uid}, not to us ({os.geteuid()})"
        raise StoreError(msg)
    if state.st_mode & 0o077:
        msg = (
            f"{directory} is open to others (mode {stat.S_IMODE(state.st_mode):04o}); empty it and chmod 700"
        )
        raise StoreError(msg)
