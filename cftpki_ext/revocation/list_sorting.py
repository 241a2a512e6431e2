"""
Sorting the entries of a large list in memory that does not grow with it: stretches are sorted, written, and merged in ranges.

Owns the scratch file's layout, which nobody else reads and which ends with the sorting.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from itertools import accumulate

from cftpki_ext.core.octets import ReadOctets
from cftpki_ext.core.values import dataclass

# Each such record of a sorted stretch is remembered, to cut the stretch into ranges.
_SAMPLE = 256


@dataclass(frozen=True, slots=True)
class Scratch:
    """
    A file for what is in between: `write` appends, `read` gives parts of what was written.
    """

    write: Callable[[bytes], object]
    read: ReadOctets


@dataclass(slots=True)
class _Run:
    """
    A sorted stretch in the scratch file: where the lengths of its records are, where they are, and each 256th of them.
    """

    lengths_at: int
    records_at: int
    count: int
    size: int
    samples: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class Runs:
    """
    The sorted stretches of a list.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._runs: list[_Run] = []
        self._written = 0
        self._first: list[bytes] | None = None

    def add(self, records: list[bytes]) -> None:
        """
        Take some more records. Those of the first stretch stay in memory until there is another.
        """
        records.sort()
        if self._first is None and not self._runs:
            self._first = records
            return
        if self._first is not None:
            first, self._first = self._first, None
            self._put(first)
        self._put(records)

    def _put(self, records: list[bytes]) -> None:
        lengths = array("I", map(len, records))
        places = array("Q", accumulate(lengths, initial=0))
        written = lengths.tobytes(), b"".join(records)
        run = _Run(
            lengths_at=self._written,
            records_at=self._written + len(written[0]),
            count=len(records),
            size=places[-1],
            samples=records[::_SAMPLE],
            places=places[:-1][::_SAMPLE].tolist(),
        )
        for piece in written:
            self._scratch.write(piece)
            self._written += len(piece)
        self._runs.append(run)

    def sorted(self) -> Iterator[list[bytes]]:
        """
        All records in order, range by range.
        """
        if self._first is not None:
            yield self._first
            return
        samples = sorted(sample for run in self._runs for sample in run.samples)
        step = max(1, max((run.count for run in self._runs), default=0) // _SAMPLE)
        begins = [(0, 0)] * len(self._runs)
        for border in (*samples[step::step], None):
            ends = [self._cut(run, border) for run in self._runs]
            found: list[bytes] = []
            for run, (first, begin), (last, end) in zip(self._runs, begins, ends, strict=True):
                found += self._records(run, first, last, begin, end)
            found.sort()
            yield found
            begins = ends

    def _cut(self, run: _Run, border: bytes | None) -> tuple[int, int]:
        """
        The first record of a stretch that is not before a border, and where it begins.
        """
        if border is None:
            return run.count, run.size
        sample = bisect_left(run.samples, border)
        if sample == 0:
            return 0, 0
        first, begin = (sample - 1) * _SAMPLE, run.places[sample - 1]
        last = min(first + _SAMPLE, run.count)
        end = run.places[sample] if sample < len(run.places) else run.size
        records = self._records(run, first, last, begin, end)
        before = bisect_left(records, border)
        return first + before, begin + sum(map(len, records[:before]))

    def _records(self, run: _Run, first: int, last: int, begin: int, end: int) -> list[bytes]:
        if first == last:
            return []
        lengths = array("I", self._read(run.lengths_at + 4 * first, 4 * (last - first)))
        content = self._read(run.records_at + begin, end - begin)
        return _cut_up(content, lengths)

    def _read(self, offset: int, count: int) -> bytes:
        found = self._scratch.read(offset, count)
        if len(found) != count:
            msg = "the scratch file was cut off"
            raise OSError(msg)
        return found


def _cut_up(content: bytes, lengths: Sequence[int]) -> list[bytes]:
    ends = list(accumulate(lengths, initial=0))
    return list(map(content.__getitem__, map(slice, ends, ends[1:])))
