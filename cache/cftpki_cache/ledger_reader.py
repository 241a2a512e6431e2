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
from hashlib import sha256
from pathlib import Path

from cftpki_cache.ledger import DATABASE, GENESIS, HEAD, chain_start, link
from cftpki_cache.sqlite import connect
from cftpki_ext.core.errors import StoreError
from cftpki_ext.decision.known_revoked import Proven
from cftpki_ext.ports import LedgerEntry, LedgerFault

# Records fetched at a time: a walk over a year must not hold it all.
_PAGE = 500
# Ids begin with the time: six digits are four hours' worth, enough to type and hardly ever unique by accident.
_SHORTEST_PREFIX = 6


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
            rows = self._rows("id >= ? AND id < ? LIMIT 2", (prefix, prefix + "\U0010ffff"))
        return tuple(rows)

    def since(self, moment: datetime | None = None) -> Iterator[LedgerEntry]:
        """
        The records kept at or after `moment` (all of them without one), oldest first.
        """
        last = 0
        if moment is not None:
            with self._reading():
                row = self._db.execute(
                    "SELECT min(seq) FROM record WHERE kept_at >= ?", (_seconds(moment),)
                ).fetchone()
            if row[0] is None:
                return
            last = row[0] - 1
        while True:
            with self._reading():
                rows = self._rows("seq > ? ORDER BY seq LIMIT ?", (last, _PAGE))
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
            if not self._has_table("revoked"):
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
            return int(self._db.execute("SELECT count(*) FROM record").fetchone()[0])

    def ends(self) -> tuple[LedgerEntry | None, LedgerEntry | None]:
        """
        The oldest and the newest record; `None` twice where there is none.
        """
        with self._reading():
            rows = self._rows(
                "seq IN (SELECT min(seq) FROM record UNION SELECT max(seq) FROM record) ORDER BY seq", ()
            )
        return (rows[0], rows[-1]) if rows else (None, None)

    def blob(self, digest: str) -> bytes | None:
        """
        The raw bytes of a SHA-256 (hex), or `None`. The reader checks the digest (`evidence.decode` does).
        """
        with self._reading():
            row = self._db.execute("SELECT raw FROM blob WHERE digest = ?", (digest,)).fetchone()
            return self._whole(digest, row[0]) if row else None

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
                digests = set()
                for name, raw in self._db.execute("SELECT digest, raw FROM blob"):
                    digests.add(name)
                    if sha256(self._whole(name, raw)).hexdigest() != name:
                        faults.append(LedgerFault(seq=None, detail=f"blob {name} was changed"))
                links: dict[int, bytes] = {}
                faults.extend(self._gone_of_repeated(digests))
                faults.extend(self._walk(digests, links, head, progress))
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
        head: tuple[int, bytes] | None,
        progress: Callable[[int], None],
    ) -> Iterator[LedgerFault]:
        seq, previous = chain_start(self._db)
        links[seq] = previous
        if seq == 0 and previous != GENESIS:
            yield LedgerFault(seq=0, detail="the start of the chain was changed")
        rows = self._db.execute("SELECT seq, id, kept_at, document, blobs, hash FROM record ORDER BY seq")
        for looked_at, (number, record_id, kept_at, document, names, digest) in enumerate(rows, start=1):
            gap = number != seq + 1
            if gap:
                yield LedgerFault(seq=seq + 1, detail=f"records {seq + 1} to {number - 1} were removed")
            # Behind a gap nobody knows what the record followed; its own hash then stands for itself.
            elif link(previous, record_id, kept_at, names, document) != digest:
                yield LedgerFault(seq=number, detail=f"record {number} ({record_id}) was changed or replaced")
            for name in sorted(set(names.split()) - digests):
                yield LedgerFault(seq=number, detail=f"blob {name} of record {number} is gone")
            if head is not None and number == head[0]:
                links[number] = digest
            seq, previous = number, digest
            progress(looked_at)
        links[seq] = previous

    def _whole(self, digest: str, raw: bytes) -> bytes:
        """
        A blob, put together where it stands in pieces.
        """
        if raw or not self._has_table("piece"):
            return bytes(raw)
        pieces = self._db.execute("SELECT raw FROM piece WHERE digest = ? ORDER BY number", (digest,))
        return b"".join(piece for (piece,) in pieces)

    def _has_table(self, name: str) -> bool:
        """
        Whether somebody has written to the ledger since there is such a table.
        """
        return bool(self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchall())

    def _gone_of_repeated(self, digests: set[str]) -> Iterator[LedgerFault]:
        """
        What repeated documents name and is not there: their records name the document alone.
        """
        if not self._has_table("repeated"):
            return
        for digest, document in self._db.execute("SELECT digest, document FROM repeated ORDER BY 2, 1"):
            if digest not in digests:
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
            found = re.fullmatch(rb"(\d{20}) ([0-9a-f]{64})\n", (self._folder / HEAD).read_bytes())
        except OSError:
            return None
        return None if found is None else (int(found[1]), bytes.fromhex(found[2].decode()))

    def _rows(self, where: str, values: tuple[object, ...]) -> list[LedgerEntry]:
        found = self._db.execute(
            f"SELECT seq, id, kept_at, document, hash FROM record WHERE {where}",  # noqa: S608 (a constant of this file)
            values,
        ).fetchall()
        return [
            LedgerEntry(
                seq=seq,
                id=record_id,
                kept_at=datetime.fromtimestamp(kept_at, UTC),
                document=bytes(document),
                hash=bytes(digest).hex(),
            )
            for seq, record_id, kept_at, document, digest in found
        ]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            msg = f"evidence ledger in {self._folder} cannot be read: {exc}"
            raise StoreError(msg) from exc


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())
