"""
Records put at the end of the evidence ledger's chain, inside a transaction of the ledger's.

Owns what is remembered between two of them: where the chain ends, and which repeated documents are there. Another
connection's writing is noticed (`PRAGMA data_version`), and then all of it is read again, and held against what the head
states (`cftpki_cache.ledger_guard`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from hashlib import sha256

from cftpki_cache.documents import DocumentReader, DocumentWriter, keep_packed
from cftpki_cache.first_form import LEAST_OCTETS, wait
from cftpki_cache.ledger_guard import Guard
from cftpki_cache.ledger_schema import count_revoked, is_there, link, newest
from cftpki_cache.ledger_short import find_short, head_of, insert_short, number_of_whole, octets_of
from cftpki_ext.core.ledger_notes import Break
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.evidence import BlobsMissingError, EntryKind, EvidenceEntry, Repeated

# Documents that are repeated and known to be there, some 100 bytes each.
_WHOLES = 8192
# A blob that is named again and again is noted as used ahead of that: by so large a part of the times that it was named here,
# and for so many records at most. Until then nothing need be written for it; it stays so much longer.
_AHEAD_PART, _MOST_AHEAD = 8, 1024


@dataclass(slots=True)
class _Known:
    """
    The end of the chain, and documents that are repeated, with their numbers: as of a state of the database.
    """

    version: int
    seq: int
    previous: bytes
    place: int  # the greatest number that a record ever had
    wholes: dict[str, int] = field(default_factory=dict)
    uses: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # of blobs: how often, and up to which record noted


class Appender:
    """
    Puts records at the end of the chain. For one connection, one thread at a time.

    Args:
        db: of the ledger.
        guard: watches its end.

    """

    def __init__(self, db: sqlite3.Connection, guard: Guard) -> None:
        self._db = db
        self._guard = guard
        self._documents = DocumentWriter(db)
        self._known: _Known | None = None

    def keep(self, entries: Sequence[EvidenceEntry]) -> list[bytes]:
        """
        Keep records, or find those that were kept before.

        Args:
            entries: in the order of the chain.

        Returns:
            Each one's hash.

        Raises:
            BlobsMissingError: a blob that is named as present is not.
            sqlite3.Error: they could not be kept, an id in use by another record included.

        """
        known = self.look()
        used: dict[str, int] = {}
        digests = [self._keep(known, entry, used) for entry in entries]
        self._use(known, used)
        return digests

    def committed(self) -> None:
        """
        State the end of the chain; once the transaction is committed.

        Raises:
            OSError: the head cannot be written.

        """
        if self._known is not None:
            self._guard.committed(self._known.seq, self._known.previous)

    def forget(self) -> None:
        """
        Read everything again: the transaction was rolled back.
        """
        self._documents.forget()
        self._guard.forget()
        self._known = None

    def look(self) -> _Known:
        """
        The end of the chain, read again where another connection has written meanwhile. Inside a transaction.

        Where it is not the end that was left, that becomes the next link.
        """
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        known = self._known
        if known is None or known.version != version or self._guard.is_to_look():
            seq, previous = newest(self._db)
            # One that was cut off the end leaves its place empty, and is missed.
            known = self._known = _Known(version, seq, previous, max(seq, self._greatest_seq()))
            broken = self._guard.look(self._db, seq, previous)
            if broken is not None:
                self._enter(known, broken)
        return known

    def _enter(self, known: _Known, broken: Break) -> None:
        """
        Keep a break, behind every place that was ever given out.
        """
        known.place = max(known.place, broken.seq)
        note = EvidenceEntry(
            id=broken.id,
            kept_at=broken.noticed_at,
            document=broken.document(),
            blobs={},
            kind=EntryKind.NOTE,
        )
        self._note(known, note)
        self._guard.keep(self._db, broken)
        self._use(known, {})

    def _note(self, known: _Known, entry: EvidenceEntry) -> bytes:
        """
        Keep a link that is no verdict, or find it; its hash.
        """
        kept_at = int(entry.kept_at.timestamp())
        row = self._db.execute(
            "SELECT hash FROM note WHERE id = ? AND kept_at = ? AND document = ?",
            (entry.id, kept_at, entry.document),
        ).fetchone()
        if row is not None:
            return octets_of(row[0])
        seq = known.place + 1
        digest = link(known.previous, entry.id, kept_at, "", entry.document)
        self._db.execute(
            "INSERT INTO note VALUES (?, ?, ?, ?, ?)", (seq, entry.id, kept_at, entry.document, digest)
        )
        known.seq, known.place, known.previous = seq, seq, digest
        return digest

    def _keep(self, known: _Known, entry: EvidenceEntry, used: dict[str, int]) -> bytes:
        """
        Keep one record, or find it; its hash.
        """
        if entry.kind is EntryKind.NOTE:
            return self._note(known, entry)
        head = head_of(entry)
        if head is None:
            kept = self._same(entry)
            if kept is not None:
                return kept
        try:
            digest = self._insert(known, known.place + 1, entry, head)
        except sqlite3.IntegrityError:
            kept = self._same(entry)
            if kept is None:
                raise
            return kept
        known.seq = known.place = known.place + 1
        known.previous = digest
        used |= dict.fromkeys(_all_names(entry), known.seq)
        return digest

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

    def _use(self, known: _Known, used: Mapping[str, int]) -> None:
        """
        Note up to which record each blob is named, no record less than it is, and the greatest number.
        """
        noted = []
        for name, seq in used.items():
            count, until = known.uses.pop(name, (0, 0))
            if seq > until:
                until = seq + min(count // _AHEAD_PART, _MOST_AHEAD)
                noted.append((name, until))
            known.uses[name] = count + 1, until
        while len(known.uses) > _WHOLES:
            del known.uses[next(iter(known.uses))]
        if noted:
            self._db.executemany(
                "INSERT INTO blob_use VALUES (?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET last_use = max(last_use, excluded.last_use)",
                noted,
            )
        self._db.execute(
            "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'record' AND seq < ?1", (known.seq,)
        )

    def _insert(self, known: _Known, seq: int, entry: EvidenceEntry, head: bytes | None) -> bytes:
        kept_at, names = int(entry.kept_at.timestamp()), _names(entry)
        digest = link(known.previous, entry.id, kept_at, names, entry.document)
        if head is not None and entry.repeats is not None:
            document = entry.repeats.document
            whole = known.wholes.get(document)
            if whole is None:
                self._keep_repeated(entry.repeats)
                whole = known.wholes[document] = number_of_whole(self._db, document)
                while len(known.wholes) > _WHOLES:
                    del known.wholes[next(iter(known.wholes))]
            insert_short(self._db, seq, entry, head=head, whole=whole, digest=digest)
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
        for name, raw in blobs_of(entry).items():
            # Asked first, so that a CRL of 20 MB is not handed over a thousand times to be ignored.
            if not self._has(name):
                if isinstance(raw, LargeOctets):  # brought, and let go of again
                    raise BlobsMissingError([name])
                self._db.execute("INSERT INTO blob VALUES (?, ?)", (name, raw))
                if len(raw) >= LEAST_OCTETS:
                    wait(self._db, name)
        self.index((proven, entry.id) for proven in entry.revoked)
        return digest

    def index(self, proven: Iterable[tuple[Proven, str]]) -> None:
        """
        Enter what records prove into the index of revocations. Inside a transaction.

        Args:
            proven: each with the id of its record.

        """
        rows = [
            (one.certificate, one.digest, one.final, int(one.ends.timestamp()), name) for one, name in proven
        ]
        if not rows:
            return
        (before,) = self._db.execute("SELECT count(*) FROM revoked").fetchone()
        self._db.executemany(
            "INSERT INTO revoked VALUES (?, ?, ?, ?, ?) ON CONFLICT (certificate) DO UPDATE SET"
            " digest = excluded.digest, final = excluded.final, ends = excluded.ends, record = excluded.record"
            " WHERE excluded.final >= final",
            rows,
        )
        (after,) = self._db.execute("SELECT count(*) FROM revoked").fetchone()
        count_revoked(self._db, after - before)

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


def blobs_of(entry: EvidenceEntry) -> Mapping[str, bytes | LargeOctets]:
    """
    What a record brings, in memory or to be read in parts.
    """
    return entry.blobs


def _names(entry: EvidenceEntry) -> str:
    """
    The digests of all blobs of a record, as they are kept and hashed.
    """
    return " ".join(sorted(_all_names(entry)))


def _all_names(entry: EvidenceEntry) -> set[str]:
    return {*entry.blobs, *entry.present, *(() if entry.repeats is None else (entry.repeats.document,))}
