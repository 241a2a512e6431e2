"""
Sorting the entries of a large list in memory that does not grow with it: stretches are sorted, written, and merged.

Owns the scratch file's layout, which nobody else reads and which ends with the sorting.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import field

from cftpki_ext.core.octets import ReadOctets
from cftpki_ext.core.values import dataclass

# Sorted at once: such records lie in a processor's own memory, and what is in order by then is merged in little more time.
_AT_ONCE = 8192
# Of all stretches together so many records are held while they are merged, or so many octets of them ...
_HELD = 8192
_HELD_OCTETS = 4 * 1024 * 1024
# ... and of each of them at least so many.
_LEAST = 64


@dataclass(frozen=True, slots=True)
class Scratch:
    """
    A file for what is in between: `write` appends, `read` gives parts of what was written.
    """

    write: Callable[[bytes], object]
    read: ReadOctets


@dataclass(slots=True, eq=False)
class _Run:
    """
    A sorted stretch in the scratch file: where the lengths of its records are, where they are, and how many are left there.

    `each` are read at a time, and `held` are those that were read and not given yet.
    """

    lengths_at: int
    records_at: int
    left: int
    octets: int
    each: int = 0
    held: list[bytes] = field(default_factory=list)


class Runs:
    """
    The sorted stretches of a list.

    Args:
        scratch: takes them.
        written: how many octets it has already.

    """

    def __init__(self, scratch: Scratch, written: int = 0) -> None:
        self.written = written
        self._scratch = scratch
        self._runs: list[_Run] = []

    def add(self, records: list[bytes]) -> None:
        """
        Take some more records.
        """
        ordered: list[bytes] = []
        for begin in range(0, len(records), _AT_ONCE):
            ordered += sorted(records[begin : begin + _AT_ONCE])
        ordered.sort()
        lengths, content = array("I", map(len, ordered)).tobytes(), b"".join(ordered)
        lengths_at, records_at = self.written, self.written + len(lengths)
        self._runs.append(_Run(lengths_at, records_at, len(ordered), len(content)))
        for piece in (lengths, content):
            self._scratch.write(piece)
            self.written += len(piece)

    def sorted(self) -> Iterator[list[bytes]]:
        """
        All records in order, some thousands at a time.
        """
        runs = [run for run in self._runs if run.left]
        for run in runs:
            longest = _HELD_OCTETS // len(runs) * run.left // run.octets
            run.each = max(1, min(longest, max(_LEAST, _HELD // len(runs))))
        found: list[bytes] = []
        while runs:
            for run in runs:
                if len(run.held) < run.each and run.left:
                    run.held += self._next(run)
            # No record that is still in the file is before the last one that was read of its stretch.
            border = min((run.held[-1] for run in runs if run.left), default=None)
            taken: list[bytes] = []
            for run in runs:
                count = len(run.held) if border is None else bisect_right(run.held, border)
                taken += run.held[:count]
                del run.held[:count]
            taken.sort()
            found += taken
            runs = [run for run in runs if run.held or run.left]
            if len(found) >= _HELD // 2 or not runs:
                yield found
                found = []

    def _next(self, run: _Run) -> Iterator[bytes]:
        """
        Some more records of a stretch.
        """
        count = min(run.each, run.left)
        lengths = array("I", self._read(run.lengths_at, 4 * count))
        octets = sum(lengths)
        content = self._read(run.records_at, octets)
        run.lengths_at += 4 * count
        run.records_at += octets
        run.left -= count
        # The quickest way to cut octets up that Python has: half of what slices take.
        return map(io.BytesIO(content).read, lengths)

    def _read(self, offset: int, count: int) -> bytes:
        found = self._scratch.read(offset, count)
        if len(found) != count:
            msg = "the scratch file was cut off"
            raise OSError(msg)
        return found
