"""
Waiting inside an attempt, never beyond its deadline.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.clock import Clock

# What is kept of the deadline to end in order instead of being cut off.
RESERVE_S = 1.0
# Two requests are never closer together than this.
MIN_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """
    Wall-clock times to wait for, one monotonic deadline that ends all waiting.
    """

    clock: Clock
    deadline: float

    async def until(self, at: datetime) -> bool:
        """
        Wait, unless the deadline comes first.
        """
        pause_s = max((at - self.clock.now()).total_seconds(), MIN_PAUSE_S)
        if self.clock.monotonic() + pause_s + RESERVE_S >= self.deadline:
            return False
        await asyncio.sleep(pause_s)
        return True
