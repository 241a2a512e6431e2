"""
The size of a ledger, kept to while it is written: not only when somebody tends it.

Owns how often it is looked at, and who makes room: a thread behind the records, or, where that does not keep up, whoever
appends.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from datetime import datetime
from pathlib import Path

from cftpki_cache.ledger_pruning import let_go
from cftpki_cache.ledger_reach import note_let_go
from cftpki_cache.ledger_schema import used_bytes
from cftpki_cache.sqlite import connect

# Between two looks so much may be written, or a part of the whole where that is less.
_LOOK_OCTETS = 256 * 1024
_LOOK_PART = 64
# What a row takes besides its octets, its indices included.
_ROW_OCTETS = 128
# So much more than the bound, and whoever appends waits for room: a sixty-fourth of it, or two looks.
_SLACK_PART = 64
# The write-ahead log may have a sixteenth of the bound beside it, and no less or more than this.
_LOG_PART, _LOG_LEAST, _LOG_MOST = 16, 1024 * 1024, 64 * 1024 * 1024
# Whoever reads for long keeps the log from being cut: nobody's record waits for that.
_CUT_BUSY_MS = 50


class Bound:
    """
    What one ledger may take.

    Args:
        path: of the database.
        max_bytes: the bound; `None` until one is known.
        before: what was kept earlier may go anyway; `None` until that is known.

    """

    def __init__(self, path: Path, max_bytes: int | None, before: datetime | None) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._max_bytes = max_bytes
        self._before = before
        self._unlooked = 0
        self._making = threading.Lock()
        self._maker: threading.Thread | None = None

    def set(self, max_bytes: int, before: datetime) -> None:
        """
        Take over a bound.

        Args:
            max_bytes: greatest size of what is in use of the database.
            before: what was kept earlier may go anyway.

        """
        # Whoever asks for nothing to be left does not mean what comes next.
        self._max_bytes, self._before = max_bytes or None, before

    def wrote(self, db: sqlite3.Connection, octets: int, rows: int) -> bool:
        """
        Take note of what was written, and begin to make room where there is too much.

        Args:
            db: the connection that wrote it, without a transaction.
            octets: of what was written.
            rows: how many records it was.

        Returns:
            Whether whoever writes is to wait for room (`make_room`).

        """
        bound = self._max_bytes
        self._unlooked += octets + rows * _ROW_OCTETS
        if bound is None or self._unlooked < (look := min(_LOOK_OCTETS, bound // _LOOK_PART)):
            return False
        self._unlooked = 0
        used, log, most = used_bytes(db), self._log_octets(), _most_log(bound)
        if used <= bound and log <= most:
            return False
        if used > bound + max(bound // _SLACK_PART, 2 * look) or log > 2 * most:
            return True
        if self._maker is None or not self._maker.is_alive():
            self._maker = threading.Thread(target=self._make_room_later, name="evidence-room", daemon=True)
            # Where there is no thread to be had, whoever appends makes room in the end.
            with contextlib.suppress(RuntimeError):
                self._maker.start()
        return False

    def make_room(self) -> None:
        """
        Let the oldest records go until the bound is kept, and cut the write-ahead log where it is too long.

        Raises:
            sqlite3.Error: the database cannot be written.

        """
        bound = self._max_bytes
        if bound is None:
            return
        with self._making, contextlib.closing(connect(self._path)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            size = used_bytes(db)
            before = self._log_octets()
            while used_bytes(db) > bound and let_go(db, self._before, bound) > 0:
                pass
            note_let_go(db, size - used_bytes(db))
            if max(before, self._log_octets()) > _most_log(bound):
                # Most of it while others write, so that cutting it holds nobody up.
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
                db.execute(f"PRAGMA busy_timeout = {_CUT_BUSY_MS}")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _log_octets(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _make_room_later(self) -> None:
        # Its failure is no record's: the next one tries again, and whoever tends the ledger says why not.
        with contextlib.suppress(sqlite3.Error):
            self.make_room()

    def close(self) -> None:
        """
        Wait for what is under way.
        """
        if self._maker is not None and self._maker.is_alive():
            self._maker.join()


def _most_log(bound: int) -> int:
    return max(_LOG_LEAST, min(bound // _LOG_PART, _LOG_MOST))
