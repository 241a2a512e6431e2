"""
The reading end of the evidence ledger: find, list, verify. Never writes, and never holds up who does.

Every walk sees the ledger as it was when the walk began, whatever a running service appends or lets go.
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
from cftpki_cache.ledger_schema import DATABASE, GENESIS, HEAD, chain_start, link
from cftpki_cache.ledger_short import RECORDS, SHORTS, ids_between, row_of
from cftpki_cache.sqlite import connect
from cftpki_cache.versions import DamagedVersionError
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.decision.known_revoked import Proven
from cftpki_ext.ports import LedgerEntry, LedgerFault
from cftpki_ext.support.files import read_regular

# Records fetched at a time: a walk over a year must not hold it all.
_PAGE = 500
# Ids begin with the time: six digits are four hours' worth, enough to type and hardly ever unique by accident.
_SHORTEST_PREFIX = 6
_HEAD_OCTETS = 128
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
            if not path.exists():
                msg = f"no evidence in {folder}: nothing was kept yet, or the state directory is another"
                raise StoreError(msg)
            self._db = connect(path, read_only=True)
            _refuse_programs(self._db, folder)
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
        yield from self.behind(last)

    def behind(self, last: int) -> Iterator[LedgerEntry]:
        """
        The records with a higher number than `last`, oldest first.
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
            are gone. Empty when the ledger is whole.

        Raises:
            StoreError: the database cannot be read.

        """
        # Before the walk's view of the database: a head that a writer moves on meanwhile is no fault.
        head = self._read_head()
        faults: list[LedgerFault] = []
        with self._reading():
            self._db.execute("BEGIN")
            try:
                digests = {name for (name,) in self._db.execute("SELECT digest FROM blob")}
                faults.extend(self._blobs.changed())
                links: dict[int, bytes] = {}
                repeated: set[str] = set()
                faults.extend(self._walk(digests, links, repeated, head, progress))
                faults.extend(self._gone_of_repeated(digests, repeated))
                faults.extend(self._head_faults(head, links))
            finally:
                self._db.execute("ROLLBACK")
        return tuple(faults)

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
        head: tuple[int, bytes] | None,
        progress: Callable[[int], None],
    ) -> Iterator[LedgerFault]:
        seq, previous = chain_start(self._db)
        links[seq] = previous
        if seq == 0 and previous != GENESIS:
            yield LedgerFault(seq=0, detail="the start of the chain was changed")
        rows = self._db.execute(f"{' UNION ALL '.join(self._tables().values())} ORDER BY seq")
        for looked_at, row in enumerate(rows, start=1):
            number, record_id, kept_at, document, names, digest = row_of(row)
            document = self._documents.document(document) if row[6] is None else document
            gap = number != seq + 1
            if gap:
                yield LedgerFault(seq=seq + 1, detail=f"records {seq + 1} to {number - 1} were removed")
            # Behind a gap nobody knows what the record followed; its own hash then stands for itself.
            elif link(previous, record_id, kept_at, names, document) != digest:
                yield LedgerFault(seq=number, detail=f"record {number} ({record_id}) was changed or replaced")
            if row[6] is not None:
                repeated.add(names)
            elif (again := _AGAIN.match(document)) is not None:
                repeated.add(again[1].decode())
            for name in sorted(set(names.split()) - digests):
                yield LedgerFault(seq=number, detail=f"blob {name} of record {number} is gone")
            if head is not None and number == head[0]:
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

    def _head_faults(self, head: tuple[int, bytes] | None, links: dict[int, bytes]) -> Iterator[LedgerFault]:
        newest = max(links)
        if head is None:
            if newest > 0:
                yield LedgerFault(seq=None, detail="the head file is gone or unreadable")
        elif head[0] > newest:
            yield LedgerFault(
                seq=newest + 1, detail=f"records {newest + 1} to {head[0]} were cut off the end"
            )
        elif head[0] in links and links[head[0]] != head[1]:
            yield LedgerFault(
                seq=head[0], detail=f"record {head[0]} is not the one that the head file states"
            )

    def _read_head(self) -> tuple[int, bytes] | None:
        try:
            octets = read_regular(self._folder / HEAD, cap=_HEAD_OCTETS, what="head of the evidence").data
        except (InputError, OSError):
            return None
        found = re.fullmatch(rb"(\d{20}) ([0-9a-f]{64})\n", octets)
        return None if found is None else (int(found[1]), bytes.fromhex(found[2].decode()))

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


def _text_of(value: object) -> str:
    if not isinstance(value, str):
        msg = "an id is text"
        raise TypeError(msg)
    return value


def _refuse_programs(db: sqlite3.Connection, folder: Path) -> None:
    """
    Make sure that a database is tables and nothing that runs: a view could go on for ever, and a computed column fill memory.

    Raises:
        StoreError: it has something else.
        sqlite3.Error: it cannot be read.

    """
    db.execute("PRAGMA trusted_schema = OFF")
    other = db.execute(
        "SELECT 1 FROM sqlite_schema AS one WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%'"
        " OR EXISTS (SELECT 1 FROM pragma_table_xinfo(one.name) WHERE one.type = 'table' AND hidden <> 0) LIMIT 1"
    ).fetchone()
    if other is not None:
        db.close()
        msg = f"evidence ledger in {folder} is none of ours: it holds more than tables"
        raise StoreError(msg)


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())
