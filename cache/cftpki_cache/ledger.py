"""
The evidence ledger: verdict records in SQLite, hash-chained, kept by age and size. This is its writing end.

SQLite because it is crash-safe, shared by processes and in every Python (ADR 0010). Each record's hash covers
the previous record's hash and all that is kept of it, so a changed, removed or reordered record breaks the
chain. The hash of the newest record is kept once more in a file of its own, so that a cut-off end is noticed
too, before anything is appended (`cftpki_cache.ledger_guard`). What this cannot notice: someone who may write all
files and computes all hashes anew. The service logs the hash of every record; logs that leave the machine settle that.
Reading and verifying: `cftpki_cache.ledger_reader`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cftpki_cache.condensing import Condenser
from cftpki_cache.first_form import fill_waiting, write_first_form
from cftpki_cache.ledger_appending import Appender, blobs_of
from cftpki_cache.ledger_bound import Bound
from cftpki_cache.ledger_breaks import breaks_in, reconcile
from cftpki_cache.ledger_guard import Guard
from cftpki_cache.ledger_head import identity_of
from cftpki_cache.ledger_holds import newly_broken
from cftpki_cache.ledger_pruning import drop_versions, let_go
from cftpki_cache.ledger_reach import look, note_let_go
from cftpki_cache.ledger_schema import (
    DATABASE,
    SCHEMA,
    begin_counting_revoked,
    count_revoked,
    index_lacks,
    is_there,
    used_bytes,
)
from cftpki_cache.sqlite import abandon, connect, create, transaction
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import Break
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.values import replace
from cftpki_ext.ports.evidence import EvidenceEntry, Reach

# Checkpoints wait for the disk (fsync), so none is made where records wait: a thread makes them each time so much has
# been written, besides `tend`. Should neither come to it, the log is folded in at 512 MB.
_FOLD_OCTETS = 8 * 1024 * 1024
_CHECKPOINT_PAGES = 128 * 1024
# Blobs are begun to be condensed for so long at a time: letting go comes in between.
_CONDENSE_S = 20.0


class EvidenceLedger:
    """
    Append-only store of records. One instance per process; several processes may share the folder.

    Safe for several threads. A record that `append` returned for survives kill -9 at any instant (SQLite WAL);
    a power cut may take the last moments' records, never a part of one.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None, before: datetime | None = None) -> None:
        """
        Open or create the ledger.

        Args:
            folder: made with mode 0700 where it does not exist.
            max_bytes: what it may take, kept to while it is written; `None` until `tend` says it.
            before: what was kept earlier may go anyway, until `tend` says another time.

        Raises:
            StoreError: the folder or database cannot be used.

        """
        self._lock = threading.Lock()
        self._written = 0  # octets since the log was folded in
        self._folding: threading.Thread | None = None
        self._folder = folder
        self._path = folder / DATABASE
        # They are looked at with each append.
        self._names = os.fspath(self._path), f"{self._path}-wal"
        self._bound = Bound(self._path, max_bytes, before)
        self._closed = False
        try:
            self._db = create(self._path, SCHEMA, synchronous="NORMAL")
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence ledger in {folder}: {exc}"
            raise StoreError(msg) from exc
        guard: Guard | None = None
        try:
            guard = self._guard = Guard(folder)
            self._begin()
        except (OSError, sqlite3.Error) as exc:
            self._db.close()
            if guard is not None:
                guard.close()
            msg = f"evidence ledger in {folder}: {exc}"
            raise StoreError(msg) from exc

    @property
    def noticed(self) -> tuple[Break, ...]:
        """
        Where the ledger did not end as it was left, since it was opened here.
        """
        return self._guard.noticed

    def _begin(self) -> None:
        """
        Begin with a database that was opened: see that it ends as it was left.
        """
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._appender = Appender(self._db, self._guard)
        self._look()
        self._files = self._identities()

    def _look(self) -> None:
        """
        See that the ledger ends as it was left, and keep it where it does not.
        """
        try:
            with transaction(self._db):
                reconcile(self._db, self._folder)
                begin_counting_revoked(self._db)
                self._appender.look()
            self._appender.committed()
        except BaseException:
            self._appender.forget()
            raise

    def _identities(self) -> tuple[tuple[int, int] | None, ...]:
        database, log = self._names
        return identity_of(database), identity_of(log)

    def _follow(self) -> None:
        """
        Go on with the files that are there now, where somebody has put others in place or taken ours away.
        """
        now = self._identities()
        if now == self._files and not self._guard.is_other():
            return
        if now[0] != self._files[0]:
            abandon(self._db)
        else:
            self._db.close()  # what is only in the lost log is written out, where nobody else has the database open
        self._db = create(self._path, SCHEMA, synchronous="NORMAL")
        self._guard.reopen()
        self._begin()

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
        large = {
            name: raw
            for entry in entries
            for name, raw in blobs_of(entry).items()
            if isinstance(raw, LargeOctets)
        }
        if large:
            self.bring(large)
        try:
            with self._lock:
                digests = self._append(entries)
                octets = sum(map(_octets, entries))
                self._fold_later(octets)
                full = self._bound.wrote(self._db, octets, len(entries))
            if full:
                # The records are kept: where there is no room to be made, whoever tends the ledger says why.
                with contextlib.suppress(sqlite3.Error):
                    self._bound.make_room()
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence of {', '.join(entry.id for entry in entries)} could not be kept: {exc}"
            raise StoreError(msg) from exc
        return tuple(digest.hex() for digest in digests)

    def _append(self, entries: Sequence[EvidenceEntry]) -> list[bytes]:
        self._follow()
        try:
            with transaction(self._db):
                digests = self._appender.keep(entries)
            # After the commit: a kill in between leaves a head that lags, which is no fault; one that led
            # would look like a cut-off end.
            self._appender.committed()
        except BaseException:
            self._appender.forget()
            raise
        return digests

    def index(self, proven: Sequence[tuple[Proven, str]]) -> None:
        """
        Enter into the index of revocations what it lacks, and have it count as whole.

        Args:
            proven: what records prove, each with the id of its record.

        Raises:
            StoreError: it could not be written.

        """
        try:
            with self._lock, transaction(self._db):
                self._appender.index(proven)
                count_revoked(self._db, -index_lacks(self._db))
        except (OSError, sqlite3.Error) as exc:
            self._appender.forget()
            msg = f"the index of revocations could not be written: {exc}"
            raise StoreError(msg) from exc

    def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        Write large blobs piece by piece, each in a transaction of its own, on a connection of its own.

        Args:
            blobs: by SHA-256 (hex). What is there already is left alone. Of octets that are read in parts, perhaps from a
                file, the digest is compared.

        Raises:
            StoreError: they could not be written (disk full, read-only, locked), were let go meanwhile, or are others.

        """
        try:
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("PRAGMA wal_autocheckpoint = 0")
                for name, raw in blobs.items():
                    if not is_there(db, name):
                        write_first_form(db, self._lock, name, raw)
        except (sqlite3.Error, UnreadableOctetsError) as exc:
            msg = f"evidence could not be kept: {exc}"
            raise StoreError(msg) from exc

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
            StoreError: the database cannot be written, or records that are held went for want of room.

        """
        gone = 0
        self._bound.set(max_bytes, before)
        try:
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                size = used_bytes(db)
                while (found := let_go(db, before, max_bytes)) > 0:
                    gone += found
                drop_versions(db)
                if gone:
                    note_let_go(db, size - used_bytes(db))
                # Whatever is said of it, a certificate that ended so long ago is refused as expired.
                with transaction(db):
                    ended = int(before.astimezone(UTC).timestamp())
                    count_revoked(db, -db.execute("DELETE FROM revoked WHERE ends < ?", (ended,)).rowcount)
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
                with transaction(db):
                    broken = newly_broken(db)
        except sqlite3.Error as exc:
            msg = f"evidence ledger could not be pruned: {exc}"
            raise StoreError(msg) from exc
        if broken is not None:
            raise StoreError(broken)
        return gone

    def condense(self) -> int:
        """
        Turn large blobs that came since the last call into differences to older versions of the same list.

        It takes seconds, on a connection of its own: call it in a thread. What it is killed in the middle of, the
        next call begins again.

        Returns:
            How many blobs it was.

        Raises:
            StoreError: the database cannot be written.

        """
        ends = time.monotonic() + _CONDENSE_S
        try:
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("PRAGMA wal_autocheckpoint = 0")
                fill_waiting(db)
                return Condenser(db).run(until=lambda: time.monotonic() > ends)
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence could not be condensed: {exc}"
            raise StoreError(msg) from exc

    def reach(self, *, now: datetime) -> Reach:
        """
        How far back the ledger reaches, and how fast it grows.

        Args:
            now: the time; where its hour has no sample of the size yet, one is kept.

        Returns:
            What was found.

        Raises:
            StoreError: the database cannot be used.

        """
        try:
            with self._lock:
                self._follow()
                self._look()
                breaks, lacks = breaks_in(self._db), index_lacks(self._db)
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                return replace(look(db, now), breaks=breaks, index_lacks=lacks)
        except (sqlite3.Error, OverflowError, OSError) as exc:
            msg = f"evidence ledger cannot be looked at: {exc}"
            raise StoreError(msg) from exc

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
        self._bound.close()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(sqlite3.Error):
                # Nothing of it waits for others: where they are at work, it is they who close the ledger.
                _, frames, folded = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if frames == folded:
                    self._guard.closed()
            self._db.close()
            self._guard.close()


def _octets(entry: EvidenceEntry) -> int:
    return len(entry.document) + sum(map(len, entry.blobs.values()))
