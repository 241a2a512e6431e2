"""
Large blobs turned into differences, in the background: first the octets as they came, then the same in few.

A blob is kept as it came before anybody is answered. Later its version is written chunk by chunk, each in a transaction
of its own; it is put together again from what was written and its digest compared; only then does it count, and after
that what came first is deleted piece by piece. Whoever is killed in between leaves the octets in at least one form, and
the next run begins again: `waiting` names a blob until nothing is left of its first form.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice

from cftpki_cache.cutting import Alignment, Cut, Span, cut
from cftpki_cache.first_form import AbandonedError, delete_first_form, pieces_of, size_of
from cftpki_cache.ledger_schema import is_there
from cftpki_cache.ledger_short import octets_of
from cftpki_cache.packing import pack
from cftpki_cache.sqlite import transaction
from cftpki_cache.versions import (
    GROUP,
    DamagedVersionError,
    Version,
    VersionReader,
    base_places,
    chunk_place,
    drop_version,
    in_bounds,
    whole_version,
)
from cftpki_ext.core.values import dataclass

# Octets at the beginning that lists of one CA have in common, behind their lengths: algorithm and issuer.
_HEAD = slice(16, 80)
# Kinds of lists of one CA (partitions, deltas) that are compared with.
_FAMILIES = 6
# A difference must save this much of what the chunk takes by itself, or it is the first of another family.
_WORTH = 0.7
# Chunks by which the nearest family is told.
_PROBED = 2
# After each chunk it rests for three times as long as that took, this long at least: a quarter of one processor.
_PAUSE_S = 0.002
_REST = 3
# Unpacked chunks of older versions that are kept while one is written: less than a reader's, who has a process to himself.
_KEPT_OCTETS = 16 * 1024 * 1024
# Chunks between which the write-ahead log is folded in.
_FOLDED_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class _Base:
    """
    What a new version is a difference to: the older one, with its chunks' sizes and marks.
    """

    version: Version
    sizes: Sequence[int]
    marks: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Plan:
    """
    Where a new version belongs.
    """

    family: int | None  # none yet
    place: int
    base: _Base | None


class Condenser:
    """
    Condenses what waits. For one thread.

    Args:
        db: a connection of its own, without a transaction.
        pause: told how long a step took; lets others in.

    """

    def __init__(self, db: sqlite3.Connection, *, pause: Callable[[float], None] | None = None) -> None:
        self._db = db
        self._pause = pause or (lambda took_s: time.sleep(max(_PAUSE_S, _REST * took_s)))
        self._reader = VersionReader(db, kept_octets=_KEPT_OCTETS)

    def run(self, *, until: Callable[[], bool] = lambda: False) -> int:
        """
        Condense blobs, the oldest first.

        Args:
            until: asked before each whether it is enough.

        Returns:
            How many are condensed.

        Raises:
            sqlite3.Error: the database cannot be written.

        """
        done = 0
        for digest in self._waiting():
            if until():
                break
            try:
                done += self._condense(digest)
            except AbandonedError:
                continue
            except (DamagedVersionError, OverflowError, TypeError):  # also of what somebody has put there
                self._leave(digest)
        return done

    def _waiting(self) -> list[str]:
        rows = self._db.execute(
            "SELECT waiting.digest FROM waiting LEFT JOIN blob ON blob.digest = waiting.digest ORDER BY blob.rowid"
        )
        return [digest for (digest,) in rows]

    def _condense(self, digest: str) -> bool:
        if not is_there(self._db, digest):
            with transaction(self._db):
                if not is_there(self._db, digest):
                    self._db.execute("DELETE FROM waiting WHERE digest = ?", (digest,))
            return False
        found = whole_version(self._db, digest) or self._write(digest)
        try:
            self._check(found)
        except DamagedVersionError:
            if self._is_there(found):
                raise
            raise AbandonedError from None  # another process took it for what a kill left, and writes it itself
        with transaction(self._db):
            done = self._db.execute(
                "UPDATE version SET whole = 1 WHERE number = ? AND EXISTS (SELECT 1 FROM blob WHERE digest = ?)",
                (found.number, digest),
            ).rowcount
        if not done:
            raise AbandonedError
        for _ in delete_first_form(self._db, digest):
            self._pause(0.0)
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return True

    def _leave(self, digest: str) -> None:
        """
        Leave a blob as it came: what was written of it is something else.
        """
        with transaction(self._db):
            row = self._db.execute(
                "SELECT number FROM version WHERE digest = ? AND whole = 0", (digest,)
            ).fetchone()
            if row is not None:
                drop_version(self._db, row[0])
            self._db.execute("DELETE FROM waiting WHERE digest = ?", (digest,))

    # -- writing ---------------------------------------------------------------------------------------------------

    def _write(self, digest: str) -> Version:
        """
        Write a version that does not count yet.
        """
        size = size_of(self._db, digest)
        cuts = cut(pieces_of(self._db, digest))
        first = list(islice(cuts, _PROBED))
        head = b"".join(one.chunk for one in first)[_HEAD]
        plan = self._plan(head, first)
        try:
            return self._write_chunks(digest, size, head, plan, _chained(first, cuts))
        except DamagedVersionError:
            if plan.base is None or plan.family is None:
                raise
        # What it was to be a difference to is damaged: it is the key version of the next group.
        place = (plan.place // GROUP + 1) * GROUP
        return self._write_chunks(
            digest, size, head, _Plan(plan.family, place, None), cut(pieces_of(self._db, digest))
        )

    def _write_chunks(self, digest: str, size: int, head: bytes, plan: _Plan, cuts: Iterator[Cut]) -> Version:
        number = self._begin(digest, size, head, plan)
        align = None if plan.base is None else Alignment(plan.base.sizes, plan.base.marks)
        for index, one in enumerate(cuts):
            begun = time.thread_time()
            span, packed = self._packed(one, None if align is None else align.under(one), plan.base)
            with transaction(self._db):
                written = self._db.execute(
                    "INSERT INTO chunk SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM version WHERE number = ?)",
                    (
                        chunk_place(number, index),
                        len(one.chunk),
                        one.mark,
                        span.first,
                        span.count,
                        packed,
                        number,
                    ),
                ).rowcount
            if not written:
                raise AbandonedError
            if index % _FOLDED_CHUNKS == _FOLDED_CHUNKS - 1:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._pause(time.thread_time() - begun)
        return Version(number, digest, size, None if plan.base is None else plan.base.version.number)

    def _packed(self, one: Cut, span: Span | None, base: _Base | None) -> tuple[Span, bytes]:
        if span is None or base is None or span.count == 0:
            return Span(0, 0), pack(one.chunk)
        under = self._reader.read(base.version, range(span.first, span.first + span.count))
        if under == one.chunk:
            return span, b""
        packed = pack(one.chunk, under)
        if len(packed) > len(one.chunk) // 4:
            # So little in common: perhaps it is better by itself, and depends on nothing.
            alone = pack(one.chunk)
            if len(alone) <= len(packed):
                return Span(0, 0), alone
        return span, packed

    def _begin(self, digest: str, size: int, head: bytes, plan: _Plan) -> int:
        with transaction(self._db):
            row = self._db.execute("SELECT number, whole FROM version WHERE digest = ?", (digest,)).fetchone()
            if row is not None and row[1]:  # another process was here meanwhile, and others may need it
                raise AbandonedError
            if row is not None:  # what a kill left unfinished
                drop_version(self._db, row[0])
            base = None if plan.base is None else plan.base.version.number
            if (
                base is not None
                and not self._db.execute(
                    "SELECT 1 FROM version WHERE number = ? AND whole = 1", (base,)
                ).fetchone()
            ):
                raise AbandonedError
            family = plan.family
            if family is None:
                (family,) = self._db.execute("SELECT coalesce(max(family), 0) + 1 FROM version").fetchone()
            number = self._db.execute(
                "INSERT INTO version (digest, size, head, family, place, base, whole) VALUES (?, ?, ?, ?, ?, ?, 0)",
                (digest, size, head, family, plan.place, base),
            ).lastrowid
            if number is None or not in_bounds(number):
                raise DamagedVersionError(digest, digest, f"number {number} is out of bounds")
            return number

    # -- where it belongs ------------------------------------------------------------------------------------------

    def _plan(self, head: bytes, first: list[Cut]) -> _Plan:
        """
        The family whose last version is nearest to a blob, by its first chunks; a new one where none is near.
        """
        alone = sum(len(pack(one.chunk)) for one in first)
        best: tuple[int, int] | None = None
        for family, number in self._families(head):
            base = self._base(number)
            if base is None:
                continue
            align = Alignment(base.sizes, base.marks)
            try:
                size = sum(len(self._packed(one, align.under(one), base)[1]) for one in first)
            except DamagedVersionError:
                continue
            if best is None or size < best[0]:
                best = (size, family)
        if best is None or best[0] > _WORTH * alone:
            return _Plan(None, 0, None)
        return self._place_in(best[1])

    def _families(self, head: bytes) -> list[tuple[int, int]]:
        """
        The families whose last version begins in the same way, with that version's number; the latest first.
        """
        rows = self._db.execute(
            "SELECT family, max(number) FROM version WHERE head = ? AND whole = 1 GROUP BY family ORDER BY 2 DESC LIMIT ?",
            (head, _FAMILIES),
        )
        return [(family, number) for family, number in rows]

    def _place_in(self, family: int) -> _Plan:
        """
        The next place of a family, and the nearest version there is that it may be a difference to.
        """
        (last,) = self._db.execute("SELECT max(place) FROM version WHERE family = ?", (family,)).fetchone()
        place = int(last) + 1
        for one in base_places(place):
            row = self._db.execute(
                "SELECT number FROM version WHERE family = ? AND place = ? AND whole = 1", (family, one)
            ).fetchone()
            base = None if row is None else self._base(row[0])
            if base is not None:
                return _Plan(family, place, base)
        # Nothing of this group is left: the next one begins.
        return _Plan(family, -(-place // GROUP) * GROUP, None)

    def _base(self, number: int) -> _Base | None:
        if not in_bounds(number):
            return None
        row = self._db.execute(
            "SELECT number, digest, size, base FROM version WHERE number = ? AND whole = 1", (number,)
        ).fetchone()
        chunks = self._db.execute(
            "SELECT size, mark FROM chunk WHERE place BETWEEN ? AND ? ORDER BY place",
            (chunk_place(number, 0), chunk_place(number + 1, 0) - 1),
        ).fetchall()
        if row is None or not chunks:
            return None
        return _Base(Version(*row), [size for size, _ in chunks], [octets_of(mark) for _, mark in chunks])

    def _is_there(self, version: Version) -> bool:
        return bool(self._db.execute("SELECT 1 FROM version WHERE number = ?", (version.number,)).fetchone())

    # -- from one form to the other --------------------------------------------------------------------------------

    def _check(self, version: Version) -> None:
        """
        Put a version together from what is written, and compare its digest.
        """
        digest = sha256()
        for chunk in VersionReader(self._db, kept_octets=_KEPT_OCTETS).chunks(version):
            digest.update(chunk)
            self._pause(0.0)
        if digest.hexdigest() != version.digest:
            raise DamagedVersionError(version.digest, version.digest, "what was written is something else")


def _chained(first: list[Cut], rest: Iterator[Cut]) -> Iterator[Cut]:
    yield from first
    yield from rest
