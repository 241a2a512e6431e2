"""
The reading end of the evidence ledger: find, list, verify. Never writes, and never holds up who does.

Every walk sees the ledger as it was when the walk began, whatever a running service appends or lets go.

More than 400 lines: one reading end, whose walks share one view of the database.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cftpki_cache.documents import DocumentReader
from cftpki_cache.ledger_blobs import BlobReader, has_table
from cftpki_cache.ledger_breaks import breaks_beside, breaks_in, merged
from cftpki_cache.ledger_foreign import refuse_programs
from cftpki_cache.ledger_guard import end_faults
from cftpki_cache.ledger_head import stated
from cftpki_cache.ledger_reach import early
from cftpki_cache.ledger_schema import DATABASE, GENESIS, chain_start, index_lacks, link
from cftpki_cache.ledger_short import NOTES, RECORDS, SHORTS, ids_between, octets_of, row_of
from cftpki_cache.sqlite import connect
from cftpki_cache.versions import DamagedVersionError
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.ledger_notes import MAX_NOTE_BYTES, Break, BreakKind, Note, note_from
from cftpki_ext.core.proven import Proven
from cftpki_ext.ports.evidence import LedgerEntry, LedgerFault

# Records fetched at a time: a walk over a year must not hold it all.
_PAGE = 500
# Ids begin with the time: six digits are four hours' worth, enough to type and hardly ever unique by accident.
_SHORTEST_PREFIX = 6
# Notes that are read at most: some lines of text each.
_MOST_NOTES = 10_000
# How a record that repeats another one begins as JSON (`evidence.again`), and how a document names a blob (`evidence.record`).
_AGAIN = re.compile(rb'\{"again":"([0-9a-f]{64})"')
_NAMED = re.compile(rb'"\$sha256":"([0-9a-f]{64})"')


class LedgerReader:
    """
    A ledger that somebody else writes, or wrote. For one thread.
    """

    def __init__(self, folder: Path) -> None:
        """
        Open a ledger for reading.

        Args:
            folder: of the ledger.

        Raises:
            StoreError: there is none, or it cannot be read by this user.

        """
        self._folder = folder
        path = folder / DATABASE
        try:
            if not path.exists() or path.stat().st_size == 0:
                last = max((end.seq for end in stated(folder) if end is not None), default=0)
                if last:
                    msg = f"evidence in {folder} is gone: its head states records up to {last}"
                    raise StoreError(msg)
                msg = f"no evidence in {folder}: nothing was kept yet, or the state directory is another"
                raise StoreError(msg)
            self._db = connect(path, read_only=True)
            refuse_programs(self._db, folder)
            self._documents = DocumentReader(self._db)
            self._blobs = BlobReader(self._db, self._documents)
        except (OSError, sqlite3.Error) as exc:
            msg = f"evidence ledger in {folder}: {exc}"
            raise StoreError(msg) from exc

    def find(self, prefix: str) -> tuple[LedgerEntry, ...]:
        """
        The records whose id begins so; at most two, since more would say nothing else.

        Args:
            prefix: an id, or its first six characters or more.

        Returns:
            One where it is unique, none where there is none or the prefix is too short.

        """
        if len(prefix) < _SHORTEST_PREFIX:
            return ()
        with self._reading():
            rows = self._rows(f"{RECORDS} WHERE id >= ? AND id < ? LIMIT 2", (prefix, prefix + "\U0010ffff"))
            between = ids_between(prefix)
            if between is not None and has_table(self._db, "short"):
                rows += self._rows(f"{SHORTS} WHERE id BETWEEN ? AND ? LIMIT 2", between)
        return tuple(rows[:2])

    def since(self, moment: datetime | None = None) -> Iterator[LedgerEntry]:
        """
        The records kept at or after `moment` (all of them without one), oldest first.
        """
        last = 0
        if moment is not None:
            with self._reading():
                found = [
                    self._db.execute(
                        f"SELECT min(seq) FROM {table} WHERE kept_at >= ?",  # noqa: S608 (constants)
                        (_seconds(moment),),
                    ).fetchone()[0]
                    for table in self._tables()
                ]
            first = min((seq for seq in found if seq is not None), default=None)
            if first is None:
                return
            last = first - 1
        yield from self._behind(last)

    def newest(self, count: int) -> Iterator[LedgerEntry]:
        """
        The newest records, so many at most, oldest first.
        """
        last = self.ends()[1]
        return iter(()) if last is None else self._behind(last.seq - count)

    def _behind(self, last: int) -> Iterator[LedgerEntry]:
        """
        The records with a higher number, oldest first.
        """
        while True:
            with self._reading():
                rows = self._page(last)
            if not rows:
                return
            # A clock that was set back makes a later record carry an earlier time: it still came after.
            yield from rows
            last = rows[-1].seq

    def revoked(self, *, ending_after: datetime) -> tuple[tuple[Proven, str], ...]:
        """
        The certificates that records proved revoked, one row each.

        Args:
            ending_after: those that end earlier are left out.

        Returns:
            What was proven, and the id of the newest record that proves it, which may have been let go.

        """
        with self._reading():
            if not has_table(self._db, "revoked"):
                return ()
            rows = self._db.execute(
                "SELECT certificate, digest, final, ends, record FROM revoked WHERE ends > ?",
                (_seconds(ending_after),),
            ).fetchall()
        try:
            return tuple(
                (
                    Proven(
                        certificate=certificate,
                        digest=digest,
                        final=bool(final),
                        ends=datetime.fromtimestamp(ends, UTC),
                    ),
                    record,
                )
                for certificate, digest, final, ends, record in rows
            )
        except (ValueError, OverflowError, OSError) as exc:
            msg = f"evidence ledger in {self._folder} cannot be read: a time is damaged"
            raise StoreError(msg) from exc

    def count(self) -> int:
        """
        How many records there are.
        """
        with self._reading():
            return sum(
                self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 (constants)
                for table in self._tables()
            )

    def ends(self) -> tuple[LedgerEntry | None, LedgerEntry | None]:
        """
        The oldest and the newest record; `None` twice where there is none.
        """
        with self._reading():
            rows = [
                row
                for table, select in self._tables().items()
                for row in self._rows(
                    f"{select} WHERE seq IN (SELECT min(seq) FROM {table} UNION SELECT max(seq) FROM {table})",  # noqa: S608 (constants)
                    (),
                )
            ]
        rows.sort(key=lambda row: row.seq)
        return (rows[0], rows[-1]) if rows else (None, None)

    def blob(self, digest: str) -> bytes | None:
        """
        The raw bytes of a SHA-256 (hex), or `None`. The reader checks the digest (`evidence.decode` does).

        Raises:
            StoreError: it is a difference to what is damaged, or the database cannot be read.

        """
        with self._reading(), self._snapshot():
            return self._blobs.blob(digest)

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> tuple[LedgerFault, ...]:
        """
        Walk the whole chain.

        Args:
            progress: told how many records have been looked at.

        Returns:
            Every break: changed, removed, reordered or cut-off records, and blobs whose bytes were changed or
            are gone; what was noticed once, and is kept for good. Empty when the ledger is whole.

        Raises:
            StoreError: the database cannot be read.

        """
        # Before the walk's view of the database: a head that a writer moves on meanwhile is no fault.
        head, copy = stated(self._folder)
        faults: list[LedgerFault] = []
        with self._reading():
            self._db.execute("BEGIN")
            try:
                digests = {name for (name,) in self._db.execute("SELECT digest FROM blob")}
                faults.extend(self._blobs.changed())
                links: dict[int, bytes] = {}
                repeated: set[str] = set()
                ends = {end.seq for end in (head, copy) if end is not None}
                faults.extend(self._walk(digests, links, repeated, ends, progress))
                faults.extend(self._gone_of_repeated(digests, repeated))
                faults.extend(end_faults(self._db, self._folder, (head, copy), links))
                faults.extend(
                    LedgerFault(seq=one.seq, detail=one.detail)
                    for one in self._breaks()
                    if one.kind is not BreakKind.TORN
                )
            finally:
                self._db.execute("ROLLBACK")
        return tuple(faults)

    def notes(self, since: datetime | None = None) -> tuple[Note, ...]:
        """
        What is said besides verdicts, oldest first: of a time or later, and all breaks, whenever they were noticed.
        """
        found: dict[str, Note] = {}
        with self._reading():
            if has_table(self._db, "note"):
                rows = self._db.execute(
                    "SELECT document FROM note WHERE kept_at >= ? AND length(document) <= ? ORDER BY seq DESC LIMIT ?",
                    (0 if since is None else _seconds(since), MAX_NOTE_BYTES, _MOST_NOTES),
                ).fetchall()
                for (document,) in reversed(rows):
                    with contextlib.suppress(ValueError):
                        note = note_from(octets_of(document))
                        found[note.id] = note
            found |= {one.id: one for one in self._breaks()}
        return tuple(sorted(found.values(), key=lambda one: one.id))

    def has_index(self) -> bool:
        """
        Whether there is an index of revocations: a ledger of the first days has none.
        """
        with self._reading():
            return has_table(self._db, "revoked")

    def index_lacks(self) -> int:
        """
        How many rows of the index of revocations somebody has taken away.
        """
        with self._reading():
            # A ledger of before the index has neither.
            there = has_table(self._db, "counter") and has_table(self._db, "revoked")
            return index_lacks(self._db) if there else 0

    def early(self) -> tuple[int, datetime | None, int]:
        """
        How many records were let go before their time, when the youngest of them was kept, and how many of strangers.
        """
        with self._reading():
            if not has_table(self._db, "counter"):
                return 0, None, 0
            return (*early(self._db), 0)

    def _breaks(self) -> tuple[Break, ...]:
        there = breaks_in(self._db) if has_table(self._db, "breach") else ()
        return merged(there, breaks_beside(self._folder))

    def close(self) -> None:
        """
        Close the database.
        """
        self._db.close()

    def _walk(
        self,
        digests: set[str],
        links: dict[int, bytes],
        repeated: set[str],
        ends: set[int],
        progress: Callable[[int], None],
    ) -> Iterator[LedgerFault]:
        seq, previous = chain_start(self._db)
        links[seq] = previous
        if seq == 0 and previous != GENESIS:
            yield LedgerFault(seq=0, detail="the start of the chain was changed")
        chained = self._tables() | ({"note": NOTES} if has_table(self._db, "note") else {})
        rows = self._db.execute(f"{' UNION ALL '.join(chained.values())} ORDER BY seq")
        for looked_at, row in enumerate(rows, start=1):
            number, record_id, kept_at, document, names, digest = row_of(row)
            document = self._documents.document(document) if row[6] is None else document
            gap = number != seq + 1
            if gap and not _tells_of(document, seq):
                yield LedgerFault(seq=seq + 1, detail=f"records {seq + 1} to {number - 1} were removed")
            # Behind a gap nobody knows what the record followed; its own hash then stands for itself.
            if not gap and link(previous, record_id, kept_at, names, document) != digest:
                yield LedgerFault(seq=number, detail=f"record {number} ({record_id}) was changed or replaced")
            if row[6] is not None:
                repeated.add(names)
            elif (again := _AGAIN.match(document)) is not None:
                repeated.add(again[1].decode())
            for name in sorted(set(names.split()) - digests):
                yield LedgerFault(seq=number, detail=f"blob {name} of record {number} is gone")
            if number in ends:
                links[number] = digest
            seq, previous = number, digest
            progress(looked_at)
        links[seq] = previous

    def _gone_of_repeated(self, digests: set[str], repeated: set[str]) -> Iterator[LedgerFault]:
        """
        What repeated documents name and is not there: their records name the document alone.

        Their own octets count, which the chain vouches for, besides the table that says when their blobs may go.
        """
        gone: set[tuple[str, str]] = set()
        if has_table(self._db, "repeated"):
            rows = self._db.execute("SELECT document, digest FROM repeated")
            gone.update(row for row in rows if row[1] not in digests)
        for document in repeated & digests:
            with contextlib.suppress(DamagedVersionError):  # told already
                named = _NAMED.findall(self._blobs.blob(document) or b"")
                gone.update((document, name.decode()) for name in named if name.decode() not in digests)
        for document, digest in sorted(gone):
            yield LedgerFault(seq=None, detail=f"blob {digest} of the repeated record {document} is gone")

    def _tables(self) -> dict[str, str]:
        """
        The tables that hold records, and how their rows are read.
        """
        return {"record": RECORDS} | ({"short": SHORTS} if has_table(self._db, "short") else {})

    def _page(self, last: int) -> list[LedgerEntry]:
        """
        The next records after a place, in their order.
        """
        parts = [
            f"SELECT * FROM ({select} WHERE seq > ?1 ORDER BY seq LIMIT ?2)"  # noqa: S608 (constants)
            for select in self._tables().values()
        ]
        return self._rows(f"{' UNION ALL '.join(parts)} ORDER BY seq LIMIT ?2", (last, _PAGE))

    def _rows(self, select: str, values: tuple[object, ...]) -> list[LedgerEntry]:
        return [
            LedgerEntry(
                seq=seq,
                id=_text_of(record_id),
                kept_at=datetime.fromtimestamp(kept_at, UTC),
                document=self._documents.document(document) if row[6] is None else document,
                hash=digest.hex(),
            )
            for row in self._db.execute(select, values)
            for seq, record_id, kept_at, document, _, digest in (row_of(row),)
        ]

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """
        One view of the database: a blob may go from one form to the other meanwhile.
        """
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            msg = f"evidence ledger in {self._folder} cannot be read: {printable(str(exc))}"
            raise StoreError(msg) from exc
        except (TypeError, ValueError, AttributeError, OverflowError) as exc:
            # Of a database that is none of ours: our tables are STRICT, or were written by us alone.
            msg = f"evidence ledger in {self._folder} cannot be read: a value is of another kind than it should be"
            raise StoreError(msg) from exc


def _tells_of(document: bytes, seq: int) -> bool:
    """
    Whether a link of the chain says that what followed a place is missing.
    """
    try:
        note = note_from(document)
    except ValueError:
        return False
    return isinstance(note, Break) and note.newest == seq


def _text_of(value: object) -> str:
    if not isinstance(value, str):
        msg = "an id is text"
        raise TypeError(msg)
    return value


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())
