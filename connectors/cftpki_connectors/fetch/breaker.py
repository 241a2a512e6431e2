"""
The circuit breaker of one host: a pure state machine with time as an argument.

Owns when a host that keeps failing is left alone and when it is tried again. Knows neither HTTP nor asyncio.
"""

from __future__ import annotations

import enum

# So many failures in a row, retries not counted, and the host is left alone.
FAILURES_TO_OPEN = 5
# The first pause; it doubles with each failed probe up to the longest.
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0


class Circuit(enum.StrEnum):
    """
    Asked as usual, left alone, or one probe on its way.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """
    Counts one host's failures in a row and says whether it may be asked.

    Each permitted `enter` is followed by exactly one of `succeeded`, `failed` and `abandoned`. The last is for
    requests that were cancelled or too short to tell: they say nothing about the host.
    """

    __slots__ = ("_failures", "_pause_s", "_probing", "_retry_at", "circuit")

    def __init__(self) -> None:
        self.circuit = Circuit.CLOSED
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._retry_at = 0.0
        self._probing = False

    def wait_s(self, now: float) -> float:
        """
        How long the host is still left alone.

        Args:
            now: monotonic seconds.

        Returns:
            Seconds, 0 where it may be asked (or probed) now.

        """
        if self.circuit is Circuit.CLOSED:
            return 0.0
        if self._probing:
            return max(self._retry_at - now, 0.001)
        return max(self._retry_at - now, 0.0)

    def enter(self, now: float) -> bool:
        """
        Ask for permission; an open circuit lets one probe through when its pause is over.

        Args:
            now: monotonic seconds.

        Returns:
            Whether the host may be asked.

        """
        if self.circuit is Circuit.CLOSED:
            return True
        if self._probing or now < self._retry_at:
            return False
        self.circuit = Circuit.HALF_OPEN
        self._probing = True
        return True

    def succeeded(self) -> None:
        """
        The host answered, whatever it said.
        """
        self.circuit = Circuit.CLOSED
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._probing = False

    def failed(self, now: float) -> None:
        """
        The host could not be reached, did not answer in time, or is broken.

        Args:
            now: monotonic seconds.

        """
        self._failures += 1
        if self.circuit is Circuit.HALF_OPEN:
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        elif self.circuit is Circuit.OPEN or self._failures < FAILURES_TO_OPEN:
            # Requests that were under way when the circuit opened neither lengthen nor shorten the pause.
            return
        self.circuit = Circuit.OPEN
        self._retry_at = now + self._pause_s
        self._probing = False

    def abandoned(self) -> None:
        """
        Nothing was learnt; the next one may probe.
        """
        self._probing = False
        if self.circuit is Circuit.HALF_OPEN:
            self.circuit = Circuit.OPEN
