"""
Where a large blob is cut into chunks, and which chunks of an older version lie under a new one. Pure.

Cuts follow the content: behind a pair of octets that random numbers have once in 65,536 places, so that an entry that
is inserted or removed moves the cuts behind it with their content. Cuts that both versions have are known by a mark,
a digest of the octets before them. What has no such pair is cut by size; its place is then told by that of the last
cut that both have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate

from cftpki_cache.packing import MAX_CHUNK
from cftpki_ext.core.values import dataclass

_PAIR = b"\xa5\x5a"
# Half of the largest lists' octets are random: chunks of some 250 KiB, 150 of them in a list of a million entries.
_LEAST_CHUNK = 128 * 1024
_MARKED = 48
MARK_OCTETS = 8
# Chunks of the older version that a new one is packed against.
MAX_UNDER = 4


@dataclass(frozen=True, slots=True)
class Cut:
    """
    A chunk, and the mark of its end.
    """

    chunk: bytes
    mark: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """
    Chunks of the older version, by number: `count` from `first` on.
    """

    first: int
    count: int


def cut(pieces: Iterable[bytes]) -> Iterator[Cut]:
    """
    Cut a blob into chunks.

    Args:
        pieces: the blob's octets, a megabyte at a time.

    Yields:
        The chunks; nothing for no octets.

    """
    rest = b""
    for piece in pieces:
        rest += piece
        begin = 0
        # A cut is only known where as much is at hand as a chunk may hold.
        while len(rest) - begin >= MAX_CHUNK:
            end = _end(rest, begin)
            yield _cut(rest[begin:end])
            begin = end
        rest = rest[begin:]
    begin = 0
    while begin < len(rest):
        end = _end(rest, begin)
        yield _cut(rest[begin:end])
        begin = end


def _end(raw: bytes, begin: int) -> int:
    last = min(len(raw), begin + MAX_CHUNK)
    found = raw.find(_PAIR, begin + _LEAST_CHUNK, last)
    return last if found < 0 else found + len(_PAIR)


def _cut(chunk: bytes) -> Cut:
    return Cut(chunk, blake2b(chunk[-_MARKED:], digest_size=MARK_OCTETS).digest())


class Alignment:
    """
    Which chunks of an older version lie under those of a new one, told from cut to cut.

    Args:
        sizes: of the older version's chunks.
        marks: of their ends.

    """

    def __init__(self, sizes: Sequence[int], marks: Sequence[bytes]) -> None:
        self._ends = list(accumulate(sizes))
        self._at: dict[bytes, int | None] = {}
        for number, mark in enumerate(marks):
            # Of a mark that stands at several cuts nobody knows which is meant.
            self._at[mark] = None if mark in self._at else number
        self._known: (
            int | None
        ) = -1  # the older chunk that ended at the last cut; the beginning is known to both
        self._place = 0  # octets of the new version so far
        self._shift = 0  # how much further back the older version has the same

    def under(self, cut: Cut) -> Span:
        """
        The older chunks under the next new one.

        Args:
            cut: the next chunk.

        Returns:
            What it is best packed against; of a version without chunks none.

        """
        begin, self._place = self._place, self._place + len(cut.chunk)
        before, after = self._known, self._at.get(cut.mark)
        if after is not None:
            self._shift = self._ends[after] - self._place
        self._known = after
        first = before + 1 if before is not None else self._number(begin + self._shift)
        last = after if after is not None else self._number(self._place + self._shift)
        if last < first:  # order has changed: what is about there
            first = last = self._number(begin + self._shift)
        if last >= len(self._ends) or first >= len(self._ends):
            last = len(self._ends) - 1
            first = min(first, last)
        return Span(max(first, 0), max(0, min(last - first + 1, MAX_UNDER)))

    def _number(self, place: int) -> int:
        """
        The older chunk that an octet is in.
        """
        return max(0, min(bisect_right(self._ends, place), len(self._ends) - 1))
