"""
Everything that is published for orders under way: by which solver, how long, and when it is taken away.

Owns the solvers and the leases. Decides nothing about orders.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from cftpki_connectors.acme.dns01 import make_dns01
from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.http01 import make_http01
from cftpki_connectors.acme.options import AcmeOptions, ChallengeKind
from cftpki_connectors.acme.solver import Solver, SolverError
from cftpki_connectors.acme.tlsalpn01 import TlsAlpnSolver
from cftpki_ext.ports.clock import Clock

# An order that nobody takes up again leaves no door open: what was published is taken away so long after.
LEASE_S = 600.0
# Taking away is tried for so long, also when the attempt's own time is over.
CLEANUP_S = 10.0


class Publisher:
    """
    The answers of one enroller.

    Args:
        options: which solvers there are.
        clock: for deadlines.

    """

    def __init__(self, options: AcmeOptions, clock: Clock) -> None:
        self._clock = clock
        self._solvers: dict[ChallengeKind, Solver] = {}
        if options.http01 is not None:
            self._solvers[ChallengeKind.HTTP_01] = make_http01(options.http01, clock)
        if options.tlsalpn01 is not None:
            self._solvers[ChallengeKind.TLS_ALPN_01] = TlsAlpnSolver(options.tlsalpn01, clock)
        if options.dns01 is not None:
            self._solvers[ChallengeKind.DNS_01] = make_dns01(options.dns01, clock)
        self._leases: dict[str, asyncio.Task[None]] = {}
        self._held: set[str] = set()

    async def publish(self, tasks: Sequence[Task], *, deadline: float) -> None:
        """
        Publish answers and wait until all can be seen.

        Raises:
            SolverError: one of them cannot.

        """
        for task in tasks:
            await self._solvers[task.kind].present(task, deadline=deadline)
        looks = [self._solvers[task.kind].ready(task, deadline=deadline) for task in tasks]
        for outcome in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def withdraw(self, tasks: Sequence[Task]) -> tuple[str, ...]:
        """
        Take answers away.

        Returns:
            What may still be there.

        """
        deadline = self._clock.monotonic() + CLEANUP_S
        left = []
        for task in tasks:
            solver = self._solvers.get(task.kind)
            if solver is None:
                left.append(
                    f"{task.kind} for {task.identifier.value} was left: it is not configured any more"
                )
                continue
            try:
                await solver.cleanup(task, deadline=deadline)
            except SolverError as error:
                left.append(f"{task.kind} for {task.identifier.value} was left: {error.detail}")
        return tuple(left)

    async def hold(self, order: str) -> bool:
        """
        The order is being worked on: its lease stops.

        Returns:
            Whether it had one: what was published for it has been there since.

        """
        self._held.add(order)
        lease = self._leases.pop(order, None)
        if lease is not None:
            lease.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lease
        return lease is not None

    def release(self, order: str, tasks: Sequence[Task], *, lease_s: float) -> None:
        """
        Leave answers where they are until the order is taken up again, but not for ever.
        """
        self._held.discard(order)
        if tasks:
            self._leases[order] = asyncio.get_running_loop().create_task(self._expire(order, tasks, lease_s))

    def busy_besides(self, order: str) -> bool:
        """
        Whether another order is under way.
        """
        return bool((self._held | self._leases.keys()) - {order})

    async def aclose(self) -> None:
        """
        Close all listeners. What was published elsewhere stays for whoever resumes the order.
        """
        for order in tuple(self._leases):
            await self.hold(order)
        self._held.clear()
        for solver in self._solvers.values():
            await solver.aclose()

    async def _expire(self, order: str, tasks: Sequence[Task], lease_s: float) -> None:
        await asyncio.sleep(lease_s)
        self._leases.pop(order, None)
        await self.withdraw(tasks)
