"""
Who used which private key, how often: the counts behind the audit trail's lines on CryptData.

Owns the counting only; pure but for the time that it is given.
"""

from __future__ import annotations

import enum
from collections import Counter, deque

# The rate is that of the last minute, counted by the second.
RATE_WINDOW_S = 60


class KeyUse(enum.StrEnum):
    """
    What became of the key: an operation with it, or itself given to the host (`hand_over_key`).
    """

    SIGNED = "signed"
    HANDED_OVER = "handed_over"


class KeyUses:
    """
    Uses of one identity's key since the start of the service. For one event loop.
    """

    def __init__(self) -> None:
        self._totals: Counter[KeyUse] = Counter()
        self._recent: deque[list[int]] = deque()  # [second, uses], at most RATE_WINDOW_S of them
        self._rate = 0  # the sum of these

    def add(self, use: KeyUse, *, at_s: float, count: int = 1) -> None:
        """
        Count uses.

        Args:
            use: what became of the key.
            at_s: monotonic seconds.
            count: how many.

        """
        self._totals[use] += count
        self._rate += count
        second = int(at_s)
        if self._recent and self._recent[-1][0] == second:
            self._recent[-1][1] += count
        else:
            self._recent.append([second, count])
        self._forget(second)

    def last_minute(self, *, at_s: float) -> int:
        """
        How many there were in the last minute.

        Args:
            at_s: monotonic seconds.

        """
        self._forget(int(at_s))
        return self._rate

    def counts(self, *, at_s: float) -> dict[str, int]:
        """
        Totals by what became of the key, and the rate, for STATUS.

        Args:
            at_s: monotonic seconds.

        """
        totals = {use.value: self._totals[use] for use in KeyUse}
        return {**totals, "last_minute": self.last_minute(at_s=at_s)}

    def _forget(self, second: int) -> None:
        while self._recent and self._recent[0][0] <= second - RATE_WINDOW_S:
            self._rate -= self._recent.popleft()[1]
