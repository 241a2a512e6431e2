"""
What other processes put into the cache and the memory of revocations, seen from a process that runs.

Owns two connections for reading, and the mark of a cache that was emptied on purpose. SQLite's `data_version` says
whether there is anything to look for: no watch of files tells that of a write-ahead log on every file system.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cftpki_cache.disk import DATABASE as RESPONSES
from cftpki_cache.disk import RECEIVED, RECEIVED_AT
from cftpki_cache.revocations import DATABASE as PROOFS
from cftpki_cache.sqlite import connect
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.changes import StoreChanges

_FLUSHED = "flushed"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The cache's own time of a row is taken before its transaction, which may wait for another one. What was seen within so
# much is remembered, so that it is told once.
_OVERLAP_S = 10.0
# Rows of another form are none of the cache's.
_NEWEST = "SELECT max(store_time) FROM Cache WHERE typeof(key) = 'text' AND typeof(store_time) = 'real'"
_SINCE = (
    "SELECT rowid, key, store_time FROM Cache"
    " WHERE typeof(key) = 'text' AND typeof(store_time) = 'real' AND store_time > ? ORDER BY store_time LIMIT ?"
)
# Rows that one look reads at most; the next goes on from there.
_ROWS = 2000


def mark_flushed(responses: Path) -> None:
    """
    Have every `StateWatch` of a cache know that it was emptied on purpose.

    Args:
        responses: its directory.

    Raises:
        OSError: the mark cannot be written.

    """
    new = responses / f".{_FLUSHED}.{secrets.token_hex(8)}"
    try:
        new.touch(mode=0o600, exist_ok=False)
        new.replace(responses / _FLUSHED)
    finally:
        new.unlink(missing_ok=True)


class StateWatch:
    """
    A `StoreWatch` over one state directory. For one thread.

    Args:
        state: where the memory of revocations is.
        responses: the directory of the cache.
        wall: seconds since 1970, as the cache tells the time of its rows.

    """

    def __init__(self, state: Path, responses: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._proofs = _Database(state / PROOFS)
        self._has_proofs = False
        self._cache = _Database(responses / RESPONSES)
        self._mark = responses / _FLUSHED
        self._flushed = _stamp(self._mark)
        self._begun = wall()
        self._since: float | None = None
        self._told: dict[tuple[str, float], None] = {}

    def look(self) -> StoreChanges:
        """
        See `StoreWatch`.
        """
        # First what may raise: nothing else is taken for told then.
        revoked = self._revoked()
        flushed = _stamp(self._mark)
        was, self._flushed = self._flushed, flushed
        return StoreChanges(flushed=flushed != was, responses=self._responses(), revoked=revoked)

    def remembered(self) -> None:
        """
        See `StoreWatch`.
        """
        self._has_proofs = True
        self._proofs.look_again()

    def close(self) -> None:
        """
        See `StoreWatch`.
        """
        self._proofs.close()
        self._cache.close()

    def _revoked(self) -> frozenset[str] | None:
        try:
            db = self._proofs.changed()
            if db is None:
                # One that was taken away knows nobody; of one that was never there nothing is said.
                gone = self._has_proofs and not self._proofs.is_there()
                self._has_proofs = self._has_proofs and not gone
                return frozenset() if gone else None
            self._has_proofs = True
            return frozenset(key for (key,) in db.execute("SELECT DISTINCT certificate FROM proof"))
        except (OSError, sqlite3.Error) as exc:
            self._proofs.close()
            msg = f"memory of revocations cannot be read: {exc}"
            raise StoreError(msg) from exc

    def _responses(self) -> dict[str, datetime]:
        try:
            db = self._cache.changed()
            return {} if db is None else self._rows(db)
        except (OSError, sqlite3.Error, OverflowError):
            # A cache that cannot be read has nothing; whoever uses it says so.
            self._cache.close()
            return {}
        finally:
            if self._since is None:  # what it has once it is there came later than this
                self._since = self._begun

    def _rows(self, db: sqlite3.Connection) -> dict[str, datetime]:
        if self._since is None:
            ((newest,),) = db.execute(_NEWEST)
            since = newest or 0.0
            known = db.execute(_SINCE, (since - _OVERLAP_S, -1))
            self._told = {(key, at): None for _, key, at in known}
            self._since = since
            return {}
        found: dict[str, datetime] = {}
        # Where the clock was set back, what is stored now is older than what was.
        self._since = min(self._since, self._wall())
        limit = _ROWS + len(self._told)
        rows = db.execute(_SINCE, (self._since - _OVERLAP_S, limit)).fetchall()
        for row, key, at in rows:
            if (key, at) not in self._told:
                self._told[key, at] = None
                with contextlib.suppress(sqlite3.OperationalError, ValueError):  # it has gone meanwhile
                    found[key] = _received(db, row)
            self._since = max(self._since, at)
        if len(rows) == limit:
            self._cache.look_again()
        self._since = min(self._since, self._wall())
        old = self._since - _OVERLAP_S
        self._told = dict.fromkeys(one for one in self._told if one[1] > old)
        return found


class _Database:
    """
    One database, opened when it is there, and whether anybody has committed anything to it since it was last asked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, ...] | None = None
        self._version: int | None = None

    def changed(self) -> sqlite3.Connection | None:
        """
        The connection, where something was committed; `None` where nothing was, or there is no database.
        """
        file = _stamp(self._path)[:2]
        if self._db is None or file != self._file:
            self.close()
            if not file:
                return None
            self._db, self._file = connect(self._path, read_only=True), file
            self._db.execute("PRAGMA trusted_schema = 0")
        ((version,),) = self._db.execute("PRAGMA data_version")
        if version == self._version:
            return None
        self._version = version
        return self._db

    def is_there(self) -> bool:
        """
        Whether there was a database when it was last asked.
        """
        return self._db is not None

    def look_again(self) -> None:
        """
        Count as changed at the next look.
        """
        self._version = None

    def close(self) -> None:
        db, self._db, self._version = self._db, None, None
        if db is not None:
            db.close()


def _received(db: sqlite3.Connection, row: int) -> datetime:
    """
    When what a row holds was received; of a list of fifty megabytes only the head is read.
    """
    with db.blobopen("Cache", "value", row, readonly=True) as blob:
        head = blob.read(RECEIVED_AT + RECEIVED.size)
    if len(head) < RECEIVED_AT + RECEIVED.size:
        msg = "cut off"
        raise ValueError(msg)
    (received,) = RECEIVED.unpack_from(head, RECEIVED_AT)
    return _EPOCH + timedelta(microseconds=received)


def _stamp(path: Path) -> tuple[int, ...]:
    """
    What is another one for another file; empty where there is none.
    """
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
