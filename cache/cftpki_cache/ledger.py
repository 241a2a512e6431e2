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

from cftpki_cache.condensing import Condenser
from cftpki_cache.documents import DocumentReader, DocumentWriter, keep_packed
from cftpki_cache.first_form import LEAST_OCTETS, fill_waiting, wait, write_first_form
from cftpki_cache.ledger_pruning import drop_versions, let_go
from cftpki_cache.ledger_reach import look, note_let_go
from cftpki_cache.ledger_schema import DATABASE, HEAD, SCHEMA, is_there, link, newest, used_bytes
from cftpki_cache.ledger_short import find_short, head_of, insert_short, number_of_whole, octets_of
from cftpki_cache.sqlite import connect, create, transaction
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError
from cftpki_ext.ports import BlobsMissingError, EvidenceEntry, Reach, Repeated

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
            self._db = create(self._path, SCHEMA, synchronous="NORMAL")
            self._documents = DocumentWriter(self._db)
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
        large = {
            name: raw
            for entry in entries
            for name, raw in _blobs(entry).items()
            if isinstance(raw, LargeOctets)
        }
        if large:
            self.bring(large)
        try:
            with self._lock:
                with transaction(self._db):
                    seq, previous = newest(self._db)
                    # One that was cut off the end leaves its place empty, and is missed.
                    place = max(seq, self._greatest_seq())
                    used: dict[str, int] = {}
                    for entry in entries:
                        kept = self._same(entry)
                        if kept is None:
                            seq = place = place + 1
                            previous = kept = self._insert(seq, previous, entry)
                            used |= dict.fromkeys(_all_names(entry), seq)
                        digests.append(kept)
                    self._use(used, seq)
                # After the commit: a kill in between leaves a head that lags, which is no fault; one that led
                # would look like a cut-off end.
                os.pwrite(self._head, f"{seq:020d} {previous.hex()}\n".encode(), 0)
                self._fold_later(sum(map(_octets, entries)))
        except BaseException as exc:
            self._documents.forget()
            if not isinstance(exc, OSError | sqlite3.Error):
                raise
            msg = f"evidence of {', '.join(entry.id for entry in entries)} could not be kept: {exc}"
            raise StoreError(msg) from exc
        return tuple(digest.hex() for digest in digests)

    def _same(self, entry: EvidenceEntry) -> bytes | None:
        """
        The hash of a record that was kept before, the same in all that is kept of it; `None` where there is none.
        """
        kept_at = int(entry.kept_at.timestamp())
        short = find_short(self._db, entry.id)
        if short is not None:
            head = head_of(entry)
            number = None if entry.repeats is None else number_of_whole(self._db, entry.repeats.document)
            same = head is not None and (kept_at, number, entry.document[len(head) :]) == short[:3]
            if not same:
                msg = "the id is another record's"
                raise sqlite3.IntegrityError(msg)
            return short[3]
        row = self._db.execute(
            "SELECT hash, document FROM record WHERE id = ? AND kept_at = ? AND blobs = ?",
            (entry.id, kept_at, _names(entry)),
        ).fetchone()
        same = row is not None and DocumentReader(self._db).document(octets_of(row[1])) == entry.document
        return bytes(row[0]) if same else None

    def _greatest_seq(self) -> int:
        """
        The greatest number that a record ever had.
        """
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
        return 0 if row is None else int(row[0])

    def _use(self, used: Mapping[str, int], seq: int) -> None:
        """
        Note by which record each blob was named last, and the greatest number.
        """
        self._db.executemany(
            "INSERT INTO blob_use VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET last_use = excluded.last_use",
            used.items(),
        )
        self._db.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'record' AND seq < ?1", (seq,))

    def _insert(self, seq: int, previous: bytes, entry: EvidenceEntry) -> bytes:
        kept_at, names = int(entry.kept_at.timestamp()), _names(entry)
        digest = link(previous, entry.id, kept_at, names, entry.document)
        head = head_of(entry)
        if head is not None and entry.repeats is not None:
            self._keep_repeated(entry.repeats)
            insert_short(self._db, seq, entry, head=head, digest=digest)
            return digest
        self._db.execute(
            "INSERT INTO record (seq, id, kept_at, document, blobs, hash) VALUES (?, ?, ?, ?, ?, ?)",
            (seq, entry.id, kept_at, self._documents.stored(entry.document, seq), names, digest),
        )
        if entry.repeats is not None:
            self._keep_repeated(entry.repeats)
        missing = [name for name in entry.present if not self._has(name)]
        if missing:
            raise BlobsMissingError(missing)
        for name, raw in _blobs(entry).items():
            # Asked first, so that a CRL of 20 MB is not handed over a thousand times to be ignored.
            if not self._has(name):
                if isinstance(raw, LargeOctets):  # brought, and let go of again
                    raise BlobsMissingError([name])
                self._db.execute("INSERT INTO blob VALUES (?, ?)", (name, raw))
                if len(raw) >= LEAST_OCTETS:
                    wait(self._db, name)
        self._db.executemany(
            "INSERT INTO revoked VALUES (?, ?, ?, ?, ?) ON CONFLICT (certificate) DO UPDATE SET"
            " digest = excluded.digest, final = excluded.final, ends = excluded.ends, record = excluded.record"
            " WHERE excluded.final >= final",
            (
                (known.certificate, known.digest, known.final, int(known.ends.timestamp()), entry.id)
                for known in entry.revoked
            ),
        )
        return digest

    def _keep_repeated(self, repeated: Repeated) -> None:
        """
        Make the document of a record a blob, unless it is one already.
        """
        if self._has(repeated.document):
            return
        row = self._db.execute("SELECT document, blobs FROM record WHERE id = ?", (repeated.id,)).fetchone()
        document = b"" if row is None else DocumentReader(self._db).document(octets_of(row[0]))
        if row is None or sha256(document).hexdigest() != repeated.document:
            raise BlobsMissingError([repeated.document])
        packed = keep_packed(self._db, repeated.document, octets_of(row[0]))
        self._db.execute("INSERT INTO blob VALUES (?, ?)", (repeated.document, b"" if packed else document))
        self._db.executemany(
            "INSERT OR IGNORE INTO repeated VALUES (?, ?)",
            ((name, repeated.document) for name in row[1].split()),
        )

    def _has(self, name: str) -> bool:
        return is_there(self._db, name)

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
            StoreError: the database cannot be written.

        """
        gone = 0
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
                db.execute("DELETE FROM revoked WHERE ends < ?", (int(before.astimezone(UTC).timestamp()),))
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as exc:
            msg = f"evidence ledger could not be pruned: {exc}"
            raise StoreError(msg) from exc
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
            with contextlib.closing(connect(self._path)) as db:
                db.execute("PRAGMA synchronous = NORMAL")
                return look(db, now)
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
        with self._lock:
            self._db.close()
            if self._head >= 0:
                os.close(self._head)
                self._head = -1


def _blobs(entry: EvidenceEntry) -> Mapping[str, bytes | LargeOctets]:
    """
    What a record brings, in memory or to be read in parts.
    """
    return entry.blobs


def _octets(entry: EvidenceEntry) -> int:
    return len(entry.document) + sum(map(len, entry.blobs.values()))


def _names(entry: EvidenceEntry) -> str:
    """
    The digests of all blobs of a record, as they are kept and hashed.
    """
    return " ".join(sorted(_all_names(entry)))


def _all_names(entry: EvidenceEntry) -> set[str]:
    return {*entry.blobs, *entry.present, *(() if entry.repeats is None else (entry.repeats.document,))}
