"""
One gate per host: a bulkhead (so many requests at once) and a circuit breaker.

Owns the driver around `breaker`; the clock is an argument of the constructor. A dead responder fills its own
gate and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cftpki_connectors.fetch.breaker import Breaker

# Enough for a busy responder that answers in 10 ms (800 a second); a dead one holds so many and no more.
REQUESTS_PER_HOST = 8
# Hosts remembered; beyond it the one not asked for the longest time is forgotten, its breaker with it.
HOSTS = 1024


class ClosedGateError(Exception):
    """
    The host's circuit is open: it is left alone for `wait_s` more seconds.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"left alone for {wait_s:.1f} s more after failures in a row")
        self.wait_s = wait_s


class Gate:
    """
    One host's gate. `async with gate:` waits for a free place and asks the breaker.

    Whoever is inside says `succeeded` or `failed` once; leaving without a word counts as abandoned. By default
    nothing is said for a cancelled request.
    """

    def __init__(self, monotonic: Callable[[], float], places: int = REQUESTS_PER_HOST) -> None:
        self._monotonic = monotonic
        self._places = asyncio.Semaphore(places)
        self.breaker = Breaker()
        self.users = 0

    async def enter(self) -> Visit:
        """
        Wait for a place and for the breaker's permission.

        Returns:
            The visit; leave it with `async with` or `leave`.

        Raises:
            ClosedGateError: the circuit is open.

        """
        wait_s = self.breaker.wait_s(self._monotonic())
        if wait_s > 0:
            raise ClosedGateError(wait_s)
        self.users += 1
        try:
            await self._places.acquire()
        except BaseException:
            self.users -= 1
            raise
        # The circuit may have opened while this caller stood in the queue.
        if not self.breaker.enter(self._monotonic()):
            self.release()
            raise ClosedGateError(self.breaker.wait_s(self._monotonic()))
        return Visit(self, self._monotonic)

    def release(self) -> None:
        """
        Give the place back.
        """
        self.users -= 1
        self._places.release()


class Visit:
    """
    One request inside a gate.
    """

    def __init__(self, gate: Gate, monotonic: Callable[[], float]) -> None:
        self._gate = gate
        self._monotonic = monotonic
        self._told = False

    def succeeded(self) -> None:
        """
        The host answered, whatever it said.
        """
        self._told = True
        self._gate.breaker.succeeded()

    def failed(self) -> None:
        """
        The host could not be reached, did not answer in time, or is broken.
        """
        self._told = True
        self._gate.breaker.failed(self._monotonic())

    async def __aenter__(self) -> Self:
        """
        The visit; its place was taken when it was made.
        """
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """
        Give the place back.
        """
        if not self._told:
            self._gate.breaker.abandoned()
        self._gate.release()


class Gates:
    """
    The gates of all hosts, at most 1024 of them.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._gates: OrderedDict[str, Gate] = OrderedDict()

    def of(self, origin: str) -> Gate:
        """
        The gate of `scheme://host:port`.
        """
        gate = self._gates.get(origin)
        if gate is None:
            gate = self._gates[origin] = Gate(self._monotonic)
            self._shrink()
        self._gates.move_to_end(origin)
        return gate

    def _shrink(self) -> None:
        for origin in list(self._gates)[: max(0, len(self._gates) - HOSTS)]:
            if self._gates[origin].users == 0:
                del self._gates[origin]
