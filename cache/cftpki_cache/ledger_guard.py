"""
Whether a ledger ends as it was left: what states its end, held against its records before anything is appended.

Owns the comparison, and what this process has witnessed itself.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cftpki_cache.ledger_breaks import append_breaks, insert_break
from cftpki_cache.ledger_head import CLOSED, MOST_AHEAD, End, HeadFile, beside, is_torn, stated, this_boot
from cftpki_cache.ledger_schema import HEAD, chain_start
from cftpki_cache.ledger_short import octets_of
from cftpki_ext.core.ledger_notes import Break, BreakKind
from cftpki_ext.ports.evidence import LedgerFault


class Guard:
    """
    Watches the end of one ledger. For one connection at a time, inside its transactions.

    Args:
        folder: of the ledger.

    Raises:
        OSError: its head file cannot be opened.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot = this_boot()
        self._head = HeadFile(folder / HEAD)
        try:
            self._copy = HeadFile(beside(folder))
        except OSError:
            self._head.close()
            raise
        self._witnessed: End | None = None  # by this process, whatever became of the files
        self._compared = False
        self._unwritten: list[Break] = []
        self.noticed: tuple[Break, ...] = ()

    def is_to_look(self) -> bool:
        """
        Whether somebody else has touched the head since this process wrote it.
        """
        return not self._compared or self._head.is_changed()

    def is_other(self) -> bool:
        """
        Whether the head file is another one by now, or none.
        """
        return self._head.is_other()

    def reopen(self) -> None:
        """
        Open the files at their paths anew; what this process has witnessed is held against what is there now.

        Raises:
            OSError: they cannot be opened.

        """
        self.close()
        self._head = HeadFile(self._folder / HEAD)
        self._copy = HeadFile(beside(self._folder))
        self._compared = False

    def look(self, db: sqlite3.Connection, seq: int, digest: bytes) -> Break | None:
        """
        Hold what is stated against the records.

        Args:
            db: the ledger, in a transaction.
            seq: its newest record.
            digest: its hash.

        Returns:
            What is broken, to be kept by `keep`; `None` where nothing is.

        """
        head = self._stated(self._head, seq)
        # What is compared with each append is the head; the copy is for whoever begins.
        copy = None if self._compared else self._stated(self._copy, seq)
        self._compared = True
        ends = sorted((one for one in (head, copy, self._witnessed) if one), key=lambda one: -one.seq)
        for end in ends:
            kind = self._broken(db, end, seq)
            if kind is not None:
                found = _hash_at(db, end.seq) if kind is BreakKind.REPLACED else digest
                return self._break(kind, end.seq, end.hash, seq, found or b"")
        if head is None and seq > 0:
            return self._break(BreakKind.HEAD_GONE, seq, b"", seq, digest)
        if head is None:
            # Before the first record: from now on a missing head is one that was taken away.
            self._head.write(End(seq=seq, hash=digest, written_in=self._boot))
        return None

    @staticmethod
    def _stated(file: HeadFile, newest: int) -> End | None:
        end = file.read()
        return None if end is None or end.seq > newest + MOST_AHEAD else end

    def _broken(self, db: sqlite3.Connection, end: End, newest: int) -> BreakKind | None:
        if end.seq > newest:
            return BreakKind.TORN if is_torn(end, self._boot) else BreakKind.CUT
        begins, _ = chain_start(db)
        if end.seq < begins:
            # What only this process, or the copy, stated may have been let go since.
            return BreakKind.REPLACED if end == self._head.read() else None
        return None if _hash_at(db, end.seq) == end.hash else BreakKind.REPLACED

    def _break(self, kind: BreakKind, seq: int, expected: bytes, newest: int, found: bytes) -> Break:
        now = datetime.now(UTC)
        milliseconds = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
        return Break(
            id=f"{milliseconds:012x}{secrets.token_hex(10)}",
            noticed_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
            kind=kind,
            seq=seq,
            expected=expected.hex(),
            newest=newest,
            found=found.hex(),
        )

    def keep(self, db: sqlite3.Connection, found: Break) -> None:
        """
        Enter a break into the table that outlives the records. Inside a transaction; the file has it once that is done.
        """
        insert_break(db, found)
        self._unwritten.append(found)

    def forget(self) -> None:
        """
        Look again: the transaction was rolled back.
        """
        self._unwritten.clear()
        self._compared = False

    def committed(self, seq: int, digest: bytes) -> None:
        """
        State a new end; after the commit.

        Args:
            seq: the newest record.
            digest: its hash.

        Raises:
            OSError: the head cannot be written.

        """
        end = End(seq=seq, hash=digest, written_in=self._boot)
        if self._unwritten:
            self.noticed += tuple(self._unwritten)
            append_breaks(self._folder, self._unwritten)
            self._unwritten.clear()
        self._head.write(end, self._copy)
        self._witnessed = end

    def closed(self) -> None:
        """
        State that everything up to the end is written out.
        """
        end = self._witnessed
        if end is not None:
            with contextlib.suppress(OSError):
                self._head.write(End(seq=end.seq, hash=end.hash, written_in=CLOSED), self._copy)

    def close(self) -> None:
        """
        Close the files. May be called again.
        """
        self._head.close()
        self._copy.close()


def end_faults(
    db: sqlite3.Connection, folder: Path, ends: tuple[End | None, End | None], links: Mapping[int, bytes]
) -> Iterator[LedgerFault]:
    """
    Where the chain does not end as it is stated, for who only reads.

    Args:
        db: the ledger, in the transaction in which the chain was walked.
        folder: of it.
        ends: what the head and its copy stated before that. The copy lags, and a ledger from elsewhere has none.
        links: hashes of the places that these name, and of the chain's end.

    Yields:
        The faults.

    """
    head, copy = ends
    newest, begins = max(links), chain_start(db)[0]
    if head is None and newest > 0:
        yield LedgerFault(seq=None, detail="the head file is gone or unreadable")
    last = max((end for end in ends if end is not None), key=lambda end: end.seq, default=None)
    if last is not None and last.seq > newest:
        missing = f"records {newest + 1} to {last.seq}"
        torn = is_torn(last, this_boot())
        detail = f"{missing} {'are missing since the machine went down' if torn else 'were cut off the end'}"
        yield LedgerFault(seq=newest + 1, detail=detail)
    for end, what in ((head, "the head file"), (copy, "the copy of the head file")):
        if end is None or end.seq > newest or links.get(end.seq) == end.hash:
            continue
        # What was stated before the walk may have been let go meanwhile; what is stated still, has not.
        if end.seq >= begins or (end is head and end == stated(folder)[0]):
            yield LedgerFault(seq=end.seq, detail=f"record {end.seq} is not the one that {what} states")
            return


def _hash_at(db: sqlite3.Connection, seq: int) -> bytes | None:
    """
    The hash of one link of the chain, or of its start; `None` where there is none.
    """
    begins, start = chain_start(db)
    if seq <= begins:
        return start if seq == begins else None
    row = db.execute(
        "SELECT hash FROM record WHERE seq = ?1 UNION ALL SELECT hash FROM short WHERE seq = ?1"
        " UNION ALL SELECT hash FROM note WHERE seq = ?1",
        (seq,),
    ).fetchone()
    return None if row is None else octets_of(row[0])
