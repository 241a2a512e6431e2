"""
The evidence ledger: verdict records in SQLite, hash-chained, kept by age and size.

SQLite because it is crash-safe, shared by processes and in every Python (ADR 0010). Each record's hash covers
the previous record's hash and its own document, so a changed, removed or reordered record breaks the chain.
The hash of the newest record is kept once more in a file of its own, so that a cut-off end is noticed too.
What this cannot notice: someone who may write both files and computes all hashes anew. The service logs the
hash of every record; logs that leave the machine settle that.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cftpki_ext.errors import StoreError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, decided_at INTEGER NOT NULL,
  document BLOB NOT NULL, previous BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS record_time ON record (decided_at);
CREATE TABLE IF NOT EXISTS blob (digest TEXT PRIMARY KEY, raw BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS record_blob (
  seq INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (seq, digest)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS record_blob_digest ON record_blob (digest);
CREATE TABLE IF NOT EXISTS chain_start (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
  hash BLOB NOT NULL) STRICT;
"""
_GENESIS = sha256(b"cftpki evidence ledger 1").digest()
# How long a writer waits for another process's transaction before the record counts as not kept.
_BUSY_MS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """
    One kept record: its place in the chain, id, time (UTC seconds) and document.
    """

    seq: int
    id: str
    decided_at: int
    document: bytes
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFault:
    """
    One break of the chain, for a person.
    """

    seq: int | None
    detail: str


class EvidenceLedger:
    """
    Append-only store of records. One instance per process; several processes may share the folder.

    Safe for several threads. A record that `append` returned for survives kill -9 at any instant (SQLite WAL);
    a power cut may take the last moments' records, never a part of one.
    """

    def __init__(self, folder: Path) -> None:
        """
        Open or create the ledger.

        Args:
            folder: made with mode 0700 where it does not exist.

        Raises:
            StoreError: the folder or database cannot be used.

        """
        self._folder = folder
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                folder / "ledger.sqlite3",
                timeout=_BUSY_MS / 1000,
                isolation_level=None,
                check_same_thread=False,
            )
            (folder / "ledger.sqlite3").chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence ledger in {folder}: {exc}"
            raise StoreError(msg) from exc

    def append(
        self, record_id: str, decided_at: datetime, document: bytes, blobs: Mapping[str, bytes]
    ) -> str:
        """
        Keep a record and the blobs that it names.

        Args:
            record_id: the verdict's id, unique.
            decided_at: the verdict's time.
            document: the record's document.
            blobs: raw bytes by SHA-256 (hex).

        Returns:
            The record's chain hash (hex), for the log.

        Raises:
            StoreError: it could not be kept (disk full, read-only, locked, id in use).

        """
        try:
            with self._lock, self._transaction():
                row = self._db.execute("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1").fetchone()
                previous = row[1] if row else self._start()[1]
                digest = _link(previous, record_id, document)
                cursor = self._db.execute(
                    "INSERT INTO record (id, decided_at, document, previous, hash) VALUES (?, ?, ?, ?, ?)",
                    (record_id, int(decided_at.timestamp()), document, previous, digest),
                )
                self._db.executemany("INSERT OR IGNORE INTO blob VALUES (?, ?)", blobs.items())
                self._db.executemany(
                    "INSERT INTO record_blob VALUES (?, ?)", ((cursor.lastrowid, name) for name in blobs)
                )
            # After the commit: a kill in between leaves a head that lags, which verify() tells from a cut-off end.
            self._write_head(cursor.lastrowid or 0, digest)
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence of {record_id} could not be kept: {exc}"
            raise StoreError(msg) from exc
        return digest.hex()

    def get(self, record_id: str) -> LedgerEntry | None:
        """
        The record with this id, or the only one whose id begins so (8 characters or more).
        """
        upper = record_id + "\U0010ffff"
        rows = self._rows("id >= ? AND id < ? LIMIT 2", (record_id, upper)) if len(record_id) >= 8 else []
        exact = [row for row in rows if row.id == record_id]
        return exact[0] if exact else rows[0] if len(rows) == 1 else None

    def since(self, moment: datetime) -> Iterator[LedgerEntry]:
        """
        The records decided at or after `moment`, oldest first.
        """
        yield from self._rows("decided_at >= ? ORDER BY seq", (int(moment.timestamp()),))

    def blob(self, digest: str) -> bytes | None:
        """
        The raw bytes of a SHA-256 (hex), or `None`. The reader checks the digest (`evidence.decode` does).
        """
        with self._lock:
            row = self._db.execute("SELECT raw FROM blob WHERE digest = ?", (digest,)).fetchone()
        return bytes(row[0]) if row else None

    def verify(self) -> tuple[LedgerFault, ...]:
        """
        Walk the whole chain.

        Returns:
            Every break: changed, removed, reordered or cut-off records, and blobs whose bytes were changed or
            are gone. Empty when the ledger is whole.

        """
        faults: list[LedgerFault] = []
        with self._lock, self._transaction():
            seq, previous = self._start()
            expected = seq + 1
            for row in self._db.execute("SELECT seq, id, document, previous, hash FROM record ORDER BY seq"):
                number, record_id, document, stated_previous, digest = row
                if number != expected:
                    faults.append(
                        LedgerFault(seq=expected, detail=f"record {expected} to {number - 1} removed")
                    )
                if stated_previous != previous and number == expected:
                    faults.append(
                        LedgerFault(seq=number, detail=f"record {number} does not follow the one before")
                    )
                if _link(stated_previous, record_id, document) != digest:
                    faults.append(
                        LedgerFault(seq=number, detail=f"record {number} ({record_id}) was changed")
                    )
                expected, previous, seq = number + 1, digest, number
            faults.extend(
                LedgerFault(seq=None, detail=f"blob {digest} was changed")
                for digest, raw in self._db.execute("SELECT digest, raw FROM blob")
                if sha256(raw).hexdigest() != digest
            )
            faults.extend(
                LedgerFault(seq=number, detail=f"blob {digest} of record {number} is gone")
                for number, digest in self._db.execute(
                    "SELECT seq, digest FROM record_blob WHERE digest NOT IN (SELECT digest FROM blob)"
                )
            )
            faults.extend(self._head_faults(seq))
        return tuple(faults)

    def _head_faults(self, newest: int) -> Iterator[LedgerFault]:
        head = self._read_head()
        if head is None:
            if newest > 0:
                yield LedgerFault(seq=None, detail="the head file is gone or unreadable")
            return
        if head[0] > newest:
            yield LedgerFault(seq=None, detail=f"records {newest + 1} to {head[0]} were cut off the end")
            return
        row = self._db.execute("SELECT hash FROM record WHERE seq = ?", (head[0],)).fetchone() or (
            self._start()[1],
        )
        if row[0] != head[1]:
            yield LedgerFault(
                seq=head[0], detail=f"record {head[0]} is not the one that the head file states"
            )

    def prune(self, *, before: datetime, max_bytes: int) -> int:
        """
        Let go of the oldest records: all that were decided before `before`, and more until the size fits.

        The chain stays verifiable: its start moves to the newest record that was let go.

        Args:
            before: records decided earlier go.
            max_bytes: greatest size of documents and blobs together.

        Returns:
            How many records went.

        Raises:
            StoreError: the database cannot be written.

        """
        try:
            with self._lock, self._transaction():
                last = self._db.execute(
                    "SELECT max(seq) FROM record WHERE decided_at < ?", (int(before.timestamp()),)
                ).fetchone()[0]
                gone = self._let_go(last) if last is not None else 0
                while self._size() > max_bytes:
                    oldest = self._db.execute(
                        "SELECT max(seq) FROM (SELECT seq FROM record ORDER BY seq LIMIT 64)"
                    ).fetchone()[0]
                    if oldest is None:
                        break
                    gone += self._let_go(oldest)
        except sqlite3.Error as exc:
            msg = f"evidence ledger could not be pruned: {exc}"
            raise StoreError(msg) from exc
        return gone

    def close(self) -> None:
        """
        Close the database.
        """
        with self._lock:
            self._db.close()

    def _rows(self, where: str, values: tuple[object, ...]) -> list[LedgerEntry]:
        with self._lock:
            found = self._db.execute(
                f"SELECT seq, id, decided_at, document, hash FROM record WHERE {where}",  # noqa: S608 (a constant of this file)
                values,
            ).fetchall()
        return [
            LedgerEntry(seq=s, id=i, decided_at=t, document=bytes(d), hash=h.hex()) for s, i, t, d, h in found
        ]

    def _start(self) -> tuple[int, bytes]:
        row = self._db.execute("SELECT seq, hash FROM chain_start").fetchone()
        return (row[0], bytes(row[1])) if row else (0, _GENESIS)

    def _size(self) -> int:
        (documents,) = self._db.execute("SELECT coalesce(sum(length(document)), 0) FROM record").fetchone()
        (blobs,) = self._db.execute("SELECT coalesce(sum(length(raw)), 0) FROM blob").fetchone()
        return int(documents + blobs)

    def _let_go(self, last: int) -> int:
        digest = self._db.execute("SELECT hash FROM record WHERE seq = ?", (last,)).fetchone()[0]
        self._db.execute("INSERT OR REPLACE INTO chain_start VALUES (1, ?, ?)", (last, digest))
        gone = self._db.execute("DELETE FROM record WHERE seq <= ?", (last,)).rowcount
        self._db.execute("DELETE FROM record_blob WHERE seq <= ?", (last,))
        self._db.execute("DELETE FROM blob WHERE digest NOT IN (SELECT digest FROM record_blob)")
        return gone

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _write_head(self, seq: int, digest: bytes) -> None:
        fresh = self._folder / f"head.{os.getpid()}"  # another process writes its own
        fresh.write_text(f"{seq} {digest.hex()}\n")
        fresh.replace(self._folder / "head")

    def _read_head(self) -> tuple[int, bytes] | None:
        try:
            seq, digest = (self._folder / "head").read_text().split()
            return int(seq), bytes.fromhex(digest)
        except (OSError, ValueError):
            return None


def _link(previous: bytes, record_id: str, document: bytes) -> bytes:
    return sha256(previous + sha256(record_id.encode() + b"\0" + document).digest()).digest()
