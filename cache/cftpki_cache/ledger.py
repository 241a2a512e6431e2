"""
The evidence ledger: verdict records in SQLite, hash-chained, kept by age and size. This is its writing end.

SQLite because it is crash-safe, shared by processes and in every Python (ADR 0010). Each record's hash covers
the previous record's hash and all that is kept of it, so a changed, removed or reordered record breaks the
chain. The hash of the newest record is kept once more in a file of its own, so that a cut-off end is noticed
too. What this cannot notice: someone who may write both files and computes all hashes anew. The service logs
the hash of every record; logs that leave the machine settle that. Reading and verifying: `cftpki_cache.ledger_reader`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cftpki_cache.sqlite import connect, create, transaction
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports import BlobsMissingError, EvidenceEntry, Repeated

DATABASE = "ledger.sqlite3"
HEAD = "head"
GENESIS = sha256(b"cftpki evidence ledger 1").digest()
# `last_use` instead of a table of references: a blob may go when the last record that names it has gone.
# `revoked` is an index, one row for each certificate that a record proves revoked: with it a lost memory of
# revocations is noticed without walking a million records. It outlives its records, so that what cannot be restored
# any more is at least named. Nothing is believed for its sake: what it leads to is judged anew.
# `piece`: a large blob, whose own row is empty, in the order of the numbers. Its pieces are there before it is.
# `repeated`: the document of a record that others repeat is a blob, and these are the blobs that it names in its turn.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kept_at INTEGER NOT NULL,
  document BLOB NOT NULL, blobs TEXT NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS record_time ON record (kept_at);
CREATE TABLE IF NOT EXISTS blob (digest TEXT PRIMARY KEY, raw BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS blob_use (digest TEXT PRIMARY KEY, last_use INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (certificate TEXT PRIMARY KEY, digest TEXT NOT NULL, final INTEGER NOT NULL,
  ends INTEGER NOT NULL, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piece (digest TEXT NOT NULL, number INTEGER NOT NULL, raw BLOB NOT NULL,
  PRIMARY KEY (digest, number)) STRICT;
CREATE TABLE IF NOT EXISTS repeated (digest TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (digest, document)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS repeated_document ON repeated (document);
CREATE TABLE IF NOT EXISTS chain_start (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
  hash BLOB NOT NULL) STRICT;
"""
# Checkpoints wait for the disk (fsync), so none is made where records wait: a thread makes them each time so much has
# been written, besides `tend`. Should neither come to it, the log is folded in at 512 MB.
_FOLD_OCTETS = 8 * 1024 * 1024
_CHECKPOINT_PAGES = 128 * 1024
# Blobs that no record up to now names, and no document that is repeated later.
_UNUSED = (
    "SELECT digest FROM blob_use WHERE last_use <= ?1 AND NOT EXISTS (SELECT 1 FROM repeated JOIN blob_use AS whole ON whole.digest = repeated.document"
    " WHERE repeated.digest = blob_use.digest AND whole.last_use > ?1)"
)
_PIECE_OCTETS = 1024 * 1024
# Pieces between which the write-ahead log is folded in, and how long others are let in between two.
_FOLDED_PIECES = 16
_PAUSE_S = 0.002
# Records let go in one transaction: a writer waits for some milliseconds at most.
_PRUNE_BATCH = 64


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
        self._lock = threading.Lock()
        self._written = 0  # octets since the log was folded in
        self._folding: threading.Thread | None = None
        self._path = folder / DATABASE
        try:
            self._db = create(self._path, _SCHEMA, synchronous="NORMAL")
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence ledger in {folder}: {exc}"
            raise StoreError(msg) from exc
        try:
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            # Written in place, 86 bytes in one call: a kill leaves the old or the new line.
            self._head = os.open(folder / HEAD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, sqlite3.Error) as exc:
            self._db.close()
            msg = f"evidence ledger in {folder}: {exc}"
            raise StoreError(msg) from exc

    def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        Keep records and the blobs that they name, all or none.

        Args:
            entries: in the order of the chain.

        Returns:
            Each record's chain hash (hex), for the log.

        Raises:
            BlobsMissingError: a blob that is named as present is not.
            StoreError: they could not be kept (disk full, read-only, locked, an id in use by another record).

        """
        digests: list[bytes] = []
        try:
            with self._lock:
                with transaction(self._db):
                    seq, previous = newest(self._db)
                    for entry in entries:
                        kept = self._same(entry)
                        if kept is None:
                            seq, kept = self._insert(previous, entry)
                            previous = kept
                        digests.append(kept)
                # After the commit: a kill in between leaves a head that lags, which is no fault; one that led
                # would look like a cut-off end.
                os.pwrite(self._head, f"{seq:020d} {previous.hex()}\n".encode(), 0)
                self._fold_later(sum(map(_octets, entries)))
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence of {', '.join(entry.id for entry in entries)} could not be kept: {exc}"
            raise StoreError(msg) from exc
        return tuple(digest.hex() for digest in digests)

    def _same(self, entry: EvidenceEntry) -> bytes | None:
        """
        The hash of a record that was kept before, the same in all that is kept of it; `None` where there is none.
        """
        row = self._db.execute(
            "SELECT hash FROM record WHERE id = ? AND kept_at = ? AND blobs = ? AND document = ?",
            (entry.id, int(entry.kept_at.timestamp()), _names(entry), entry.document),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _insert(self, previous: bytes, entry: EvidenceEntry) -> tuple[int, bytes]:
        kept_at, names = int(entry.kept_at.timestamp()), _names(entry)
        digest = link(previous, entry.id, kept_at, names, entry.document)
        seq = self._db.execute(
            "INSERT INTO record (id, kept_at, document, blobs, hash) VALUES (?, ?, ?, ?, ?)",
            (entry.id, kept_at, entry.document, names, digest),
        ).lastrowid
        if entry.repeats is not None:
            self._keep_repeated(entry.repeats)
        missing = [name for name in entry.present if not self._has(name)]
        if missing:
            raise BlobsMissingError(missing)
        for name, raw in entry.blobs.items():
            # Asked first, so that a CRL of 20 MB is not handed over a thousand times to be ignored.
            if not self._has(name):
                self._db.execute("INSERT INTO blob VALUES (?, ?)", (name, raw))
        self._db.executemany(
            "INSERT INTO blob_use VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET last_use = excluded.last_use",
            ((name, seq) for name in _all_names(entry)),
        )
        self._db.executemany(
            "INSERT INTO revoked VALUES (?, ?, ?, ?, ?) ON CONFLICT (certificate) DO UPDATE SET"
            " digest = excluded.digest, final = excluded.final, ends = excluded.ends, record = excluded.record"
            " WHERE excluded.final >= final",
            (
                (known.certificate, known.digest, known.final, int(known.ends.timestamp()), entry.id)
                for known in entry.revoked
            ),
        )
        return seq or 0, digest

    def _keep_repeated(self, repeated: Repeated) -> None:
        """
        Make the document of a record a blob, unless it is one already.
        """
        if self._has(repeated.document):
            return
        row = self._db.execute("SELECT document, blobs FROM record WHERE id = ?", (repeated.id,)).fetchone()
        if row is None or sha256(row[0]).hexdigest() != repeated.document:
            raise BlobsMissingError([repeated.document])
        self._db.execute("INSERT INTO blob VALUES (?, ?)", (repeated.document, row[0]))
        self._db.executemany(
            "INSERT OR IGNORE INTO repeated VALUES (?, ?)",
            ((name, repeated.document) for name in row[1].split()),
        )

    def _has(self, name: str) -> bool:
        return _is_there(self._db, name)

    def bring(self, blobs: Mapping[str, bytes]) -> None:
        """
        Write large blobs piece by piece, each in a transaction of its own, on a connection of its own.

        Args:
            blobs: by SHA-256 (hex). What is there already is left alone.

        Raises:
            StoreError: they could not be written (disk full, read-only, locked), or were let go meanwhile.

        """
        try:
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("PRAGMA wal_autocheckpoint = 0")
                for name, raw in blobs.items():
                    if not _is_there(db, name):
                        self._bring(db, name, raw)
        except sqlite3.Error as exc:
            msg = f"evidence could not be kept: {exc}"
            raise StoreError(msg) from exc

    def _bring(self, db: sqlite3.Connection, name: str, raw: bytes) -> None:
        begins = range(0, len(raw), _PIECE_OCTETS)
        for number, begin in enumerate(begins):
            with self._lock, transaction(db):
                if number == 0:
                    # From now on, so that what a kill leaves unfinished goes with the records of its time.
                    db.execute(
                        "INSERT INTO blob_use VALUES (?, (SELECT coalesce(max(seq), 0) FROM record))"
                        " ON CONFLICT (digest) DO UPDATE SET last_use = max(last_use, excluded.last_use)",
                        (name,),
                    )
                db.execute(
                    "INSERT OR REPLACE INTO piece VALUES (?, ?, ?)",
                    (name, number, raw[begin : begin + _PIECE_OCTETS]),
                )
            if number % _FOLDED_PIECES == _FOLDED_PIECES - 1:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            time.sleep(_PAUSE_S)  # whoever waits for the lock has it now
        with self._lock, transaction(db):
            if _is_there(db, name):
                return
            (count,) = db.execute("SELECT count(*) FROM piece WHERE digest = ?", (name,)).fetchone()
            if count != len(begins):
                msg = f"evidence could not be kept: {name} was let go while it was written"
                raise StoreError(msg)
            db.execute("INSERT INTO blob VALUES (?, x'')", (name,))

    def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        Let go of the oldest records: all that were kept before `before`, and more until the size fits.

        The chain stays verifiable: its start moves to the newest record that was let go. Space that became
        free is used again; the file itself does not shrink. Records are let go in small transactions, on a
        connection of its own, so that `append` hardly waits.

        Args:
            before: records kept earlier go.
            max_bytes: greatest size of what is in use of the database.

        Returns:
            How many records went.

        Raises:
            StoreError: the database cannot be written.

        """
        gone = 0
        try:
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                while (found := _let_go(db, before, max_bytes)) > 0:
                    gone += found
                # Whatever is said of it, a certificate that ended so long ago is refused as expired.
                db.execute("DELETE FROM revoked WHERE ends < ?", (int(before.astimezone(UTC).timestamp()),))
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as exc:
            msg = f"evidence ledger could not be pruned: {exc}"
            raise StoreError(msg) from exc
        return gone

    def _fold_later(self, written: int) -> None:
        """
        Have the write-ahead log folded in by a thread, once enough has been written.
        """
        self._written += written
        if self._written < _FOLD_OCTETS or (self._folding is not None and self._folding.is_alive()):
            return
        thread = threading.Thread(target=self._fold, name="evidence-log", daemon=True)
        # The records are kept; where there is no thread to be had, the next ones try again.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._written, self._folding = 0, thread

    def _fold(self) -> None:
        # Its failure is no record's: the log grows, and the next one tries again.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(self._path)) as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """
        Close the database. May be called again.
        """
        if self._folding is not None:
            self._folding.join()
        with self._lock:
            self._db.close()
            if self._head >= 0:
                os.close(self._head)
                self._head = -1


def _octets(entry: EvidenceEntry) -> int:
    return len(entry.document) + sum(map(len, entry.blobs.values()))


def _is_there(db: sqlite3.Connection, name: str) -> bool:
    return db.execute("SELECT 1 FROM blob WHERE digest = ?", (name,)).fetchone() is not None


def _names(entry: EvidenceEntry) -> str:
    """
    The digests of all blobs of a record, as they are kept and hashed.
    """
    return " ".join(sorted(_all_names(entry)))


def _all_names(entry: EvidenceEntry) -> set[str]:
    return {*entry.blobs, *entry.present, *(() if entry.repeats is None else (entry.repeats.document,))}


def _let_go(db: sqlite3.Connection, before: datetime, max_bytes: int) -> int:
    """
    Let one batch go, if any must; how many records it was.
    """
    with transaction(db):
        first, last = db.execute(
            "SELECT min(seq), max(seq) FROM (SELECT seq FROM record ORDER BY seq LIMIT ?)", (_PRUNE_BATCH,)
        ).fetchone()
        if first is None:
            return 0
        if _used_bytes(db) <= max_bytes:
            (last,) = db.execute(
                "SELECT max(seq) FROM (SELECT seq, kept_at FROM record ORDER BY seq LIMIT ?) WHERE kept_at < ?",
                (_PRUNE_BATCH, int(before.astimezone(UTC).timestamp())),
            ).fetchone()
            if last is None:
                return 0
        digest = db.execute("SELECT hash FROM record WHERE seq = ?", (last,)).fetchone()[0]
        db.execute("INSERT OR REPLACE INTO chain_start VALUES (1, ?, ?)", (last, digest))
        gone = db.execute("DELETE FROM record WHERE seq <= ?", (last,)).rowcount
        unused = db.execute(_UNUSED, (last,)).fetchall()
        db.executemany("DELETE FROM piece WHERE digest = ?", unused)
        db.executemany("DELETE FROM blob WHERE digest = ?", unused)
        db.executemany("DELETE FROM blob_use WHERE digest = ?", unused)
        db.execute("DELETE FROM repeated WHERE document NOT IN (SELECT digest FROM blob_use)")
    return gone


def _used_bytes(db: sqlite3.Connection) -> int:
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return int(pages - free) * int(size)


def chain_start(db: sqlite3.Connection) -> tuple[int, bytes]:
    """
    Sequence and hash of the newest record that was let go; 0 and the genesis where none was.
    """
    row = db.execute("SELECT seq, hash FROM chain_start").fetchone()
    return (row[0], bytes(row[1])) if row else (0, GENESIS)


def newest(db: sqlite3.Connection) -> tuple[int, bytes]:
    """
    Sequence and hash of the newest record, or of the chain's start where there is none.
    """
    row = db.execute("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0], bytes(row[1])) if row else chain_start(db)


def link(previous: bytes, record_id: str, kept_at: int, names: str, document: bytes) -> bytes:
    """
    The hash of a record: of the one before it, and of all that is kept of this one.
    """
    own = sha256(f"{record_id}\0{kept_at}\0{names}\0".encode() + document).digest()
    return sha256(previous + own).digest()
