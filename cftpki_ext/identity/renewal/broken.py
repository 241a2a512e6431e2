"""
Attempts that our own disk or key files cut off: how soon the next one.

Owns this memory, which is of the process: what the disk refuses cannot be written down. Between two writes a CA may have
been asked for something, so that every attempt may cost it an order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

# At the next look, then after 20, 40, 80 … seconds: a disk is full for seconds or for hours.
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=15)


class BrokenAttempts:
    """
    By identity, when its last attempt was cut off and how many were in a row.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[datetime, int]] = {}

    def holds(self, name: str, now: datetime) -> bool:
        """
        Whether it is too soon after an attempt that was cut off.
        """
        at, times = self._known.get(name, (now, 0))
        wait = min(FIRST_PAUSE * (1 << min(max(times - 1, 0), 16)), LONGEST_PAUSE)
        # One in the future was written by a clock that has been set back since.
        return times > 0 and at <= now < at + wait

    @contextlib.contextmanager
    def noted(self, name: str, now: Callable[[], datetime]) -> Iterator[None]:
        """
        Note whether what is done here is cut off.
        """
        try:
            yield
        except Exception:  # whatever it was, a CA may have been asked for something
            self._known[name] = now(), self._known.get(name, (now(), 0))[1] + 1
            raise
        self._known.pop(name, None)
