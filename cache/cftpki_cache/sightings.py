"""
The partners that were accepted lately, in one SQLite database: whom to refresh after a restart.

Owns the file. What it gives is no reason to trust anybody: whoever reads it has each chain judged again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from cftpki_cache.sqlite import connect, create, transaction
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.partners import Sighting

T = TypeVar("T")
_log = logging.getLogger(__name__)

DATABASE = "partners.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS partners (
    name BLOB PRIMARY KEY, seen REAL NOT NULL, document TEXT NOT NULL, chain BLOB NOT NULL
) WITHOUT ROWID;
"""
# A chain as the protocol carries it, and what is known of it: longer rows are none of ours.
_LONGEST = 256 * 1024
# More than any configuration has remembered.
_MOST_READ = 100_000
# After trouble the disk is left alone for so long.
PAUSE_S = 30.0


def read_sightings(state: Path) -> Iterator[Sighting]:
    """
    The partners that a service remembers, with their chains, the one seen last first; nothing is written.

    Args:
        state: its state directory.

    Yields:
        Each. Rows that are none of ours are left out.

    Raises:
        StoreError: they cannot be read by this user, or the database is damaged.

    """
    path = state / DATABASE
    try:
        if not path.exists():
            return
        with contextlib.closing(connect(path, read_only=True)) as db:
            db.execute("PRAGMA trusted_schema = 0")
            rows = db.execute(
                "SELECT name, seen, CAST(document AS BLOB), chain FROM partners WHERE typeof(name) = 'blob'"
                " AND typeof(seen) = 'real' AND length(CAST(document AS BLOB)) <= ?1 AND typeof(chain) = 'blob'"
                " AND length(chain) <= ?1 ORDER BY seen DESC LIMIT ?2",
                (_LONGEST, _MOST_READ),
            )
            for name, seen, document, chain in rows:
                yield Sighting(name=name, seen=seen, document=document.decode(errors="replace"), chain=chain)
    except (OSError, sqlite3.Error) as error:
        msg = f"partners in {path} cannot be read: {error}"
        raise StoreError(msg) from error


class Sightings:
    """
    A `ports.SightingStore`. A damaged database is begun anew.

    Args:
        state: the state directory, which is ours.
        monotonic: seconds that only ever grow.

    """

    def __init__(self, state: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = state / DATABASE
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._idle_until = 0.0
        self._complained = False
        self._closed = False

    def latest(self, most: int) -> tuple[Sighting, ...]:
        """
        See `SightingStore`.
        """

        def work(db: sqlite3.Connection) -> tuple[Sighting, ...]:
            with transaction(db):
                # Rows that are none of ours go with those that are too many.
                db.execute(
                    "DELETE FROM partners WHERE name NOT IN (SELECT name FROM partners WHERE typeof(name) = 'blob'"
                    " AND typeof(seen) = 'real' AND length(CAST(document AS BLOB)) <= ? AND typeof(chain) = 'blob'"
                    " AND length(chain) <= ? ORDER BY seen DESC LIMIT ?)",
                    (_LONGEST, _LONGEST, most),
                )
            rows = db.execute("SELECT name, seen, CAST(document AS BLOB) FROM partners ORDER BY seen")
            return tuple(
                Sighting(name=name, seen=seen, document=document.decode(errors="replace"))
                for name, seen, document in rows
            )

        return self._run(work) or ()

    def chain(self, name: bytes) -> bytes | None:
        """
        See `SightingStore`.
        """

        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute(
                "SELECT chain FROM partners WHERE name = ? AND typeof(chain) = 'blob' AND length(chain) <= ?",
                (name, _LONGEST),
            ).fetchone()
            return None if row is None else bytes(row[0])

        return self._run(work)

    def write(self, sightings: Sequence[Sighting], forgotten: Sequence[bytes]) -> None:
        """
        See `SightingStore`.
        """

        def work(db: sqlite3.Connection) -> None:
            with transaction(db):
                db.executemany("DELETE FROM partners WHERE name = ?", [(name,) for name in forgotten])
                for one in sightings:
                    if one.chain is None:
                        db.execute(
                            "UPDATE partners SET seen = ?, document = ? WHERE name = ?",
                            (one.seen, one.document, one.name),
                        )
                    else:
                        db.execute(
                            "INSERT OR REPLACE INTO partners VALUES (?, ?, ?, ?)",
                            (one.name, one.seen, one.document, one.chain),
                        )

        self._run(work)

    def count(self) -> int | None:
        """
        How many there are; `None` where the disk does not say.
        """
        return self._run(lambda db: int(db.execute("SELECT count(*) FROM partners").fetchone()[0]))

    def close(self) -> None:
        """
        See `SightingStore`.
        """
        with self._lock:
            self._closed = True
            self._disconnect()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        with self._lock:
            if self._closed or self._monotonic() < self._idle_until:
                return None
            try:
                if self._db is None:
                    self._db = create(self._path, _SCHEMA, synchronous="NORMAL")
                result = work(self._db)
            except (OSError, sqlite3.Error, ValueError, OverflowError) as error:
                self._trouble(error)
                return None
            self._complained = False
            return result

    def _trouble(self, error: Exception) -> None:
        self._disconnect()
        say = _log.debug if self._complained else _log.warning
        self._complained = True
        self._idle_until = self._monotonic() + PAUSE_S
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            say("%s is damaged and begun anew: %s", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self._path.with_name(DATABASE + suffix).unlink(missing_ok=True)
            self._idle_until = 0.0
            return
        say("%s is left alone for %.0f s: %s", self._path, PAUSE_S, error)

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()
