"""
How long things took, as a histogram: some buckets, whatever comes.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

# Seconds. What is remembered takes less than a millisecond; a call ends after some five seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Latencies:
    """
    Counts of durations by bucket.
    """

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """
        Count one.
        """
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum_s += seconds

    def status(self) -> dict[str, Any]:
        """
        Plain data: how many of each bucket (upper bounds are `bounds`, and one more for all that took longer), and their sum.
        """
        return {
            "bounds": list(BOUNDS),
            "counts": list(self._counts),
            "sum_s": round(self._sum_s, 6),
        }
