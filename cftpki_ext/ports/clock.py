"""
The time, as the core asks for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """
    Wall time for validity, monotonic time for waits. Never mixed.
    """

    def now(self) -> datetime:
        """
        The wall-clock time, aware, in UTC.
        """

    def monotonic(self) -> float:
        """
        Seconds that only ever grow.
        """
