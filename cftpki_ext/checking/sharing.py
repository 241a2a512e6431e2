"""
One asking for a whole cluster: what another node was answered is looked for before a location is asked, and one node asks.

Owns who waits for whom between nodes, and for how long; `asking` does it within a node. What comes from there is octets that anybody may have
put there: a statement of origin `CLUSTER`, judged like an answer of the location. Where it is no good the location is asked,
whatever the server says, so that whoever lies there costs time and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Protocol

from cftpki_ext.checking.case import Place
from cftpki_ext.checking.shared_lists import gather, scatter
from cftpki_ext.core.cluster import LEASE_S, SIGNED, Lease, NoLease, Parts, Refusal
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.large_lists import Spool
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.cluster import SharedTier

# What nobody vouches for was received no later than now; this says nothing at all.
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
# Between two looks for what another node is asking: first as long as an answer takes, then longer.
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.02, 0.1
# What a node that hangs may cost: so much of the time that is left, and then the location is asked all the same.
_SHARE = 0.5
_LONGEST_S = 15.0
# A lease is kept for as long as a list takes that anybody waits for.
_LONGEST_LEASE_S = 150.0
# Times that another node's answer is tried for one question: what is there, and what comes while that node asks.
ROUNDS = 2
# Answers on their way to the server; what comes beyond is not shared.
_PUTTING = 64


@dataclass(slots=True)
class Tried:
    """
    What of other nodes' answers a question has tried for one location, in vain.

    Large lists go to `spool`, of at most `most` octets; without one they are not taken.
    """

    spool: Spool | None = None
    most: int = 0
    rounds: int = 0
    digests: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """
    Another node's answer, whole.
    """

    raw: bytes | LargeOctets
    received_at: datetime


class Share(Protocol):
    """
    What a checker asks of a cluster, where there is one.
    """

    async def once(
        self, place: Place, fetch: Callable[[], Awaitable[Statement]], *, tried: Tried, deadline: float
    ) -> Statement:
        """
        The answer of a location, asked by this node or by another.
        """

    def kept(self, key: str, statement: Statement, *, keep_s: int) -> None:
        """
        The cache has been given what this node was answered: others may have it.
        """

    def done(self, key: str) -> None:
        """
        Nobody here asks a location any more.
        """

    def judged(self, *, usable: bool) -> None:
        """
        What became of another node's answer.
        """


class Alone:
    """
    No cluster.
    """

    async def once(
        self, place: Place, fetch: Callable[[], Awaitable[Statement]], *, tried: Tried, deadline: float
    ) -> Statement:
        """
        Ask the location.
        """
        del place, tried, deadline
        return await fetch()

    def kept(self, key: str, statement: Statement, *, keep_s: int) -> None:
        """
        Nobody is there.
        """

    def done(self, key: str) -> None:
        """
        Nobody is there.
        """

    def judged(self, *, usable: bool) -> None:
        """
        Nobody is there.
        """


class Sharing:
    """
    A `Share` over what nodes share. For one event loop.

    Args:
        tier: the server's side.
        clock: the time.

    """

    def __init__(self, tier: SharedTier, clock: Clock) -> None:
        self._tier = tier
        self._clock = clock
        self._leases: dict[str, tuple[Lease, asyncio.Task[None]]] = {}
        # When what is asked now, and not put there yet, was begun (monotonic).
        self._begun: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()
        self._putting_list = False
        self._uploading: set[str] = set()

    async def once(
        self, place: Place, fetch: Callable[[], Awaitable[Statement]], *, tried: Tried, deadline: float
    ) -> Statement:
        """
        The answer of a location, asked by this node or by another.

        Args:
            place: the location. A CA's JSON lookup, and a directory, is asked by every node for itself: nothing proves what
                it said.
            fetch: asks it.
            tried: what of other nodes' answers was no good.
            deadline: monotonic; at most half of what is left until then, and 15 s, is waited for another node.

        Returns:
            The statement; of origin `CLUSTER` where it came from another node.

        """
        if place.lookup.kind not in SIGNED or tried.rounds >= ROUNDS or place.key in self._leases:
            return await self._asked(place.key, fetch)
        begun = self._clock.monotonic()
        # Of what the server brings slowly, too: a location is asked while there is time for it.
        until = begun + max(0.0, deadline - begun) * _SHARE
        if tried.rounds == 0:
            found = await self._find(place.key, tried, until)
            if found is not None:
                return self._statement(place, found)
        brought = await self._lead_or_wait(place, tried, until)
        return await self._asked(place.key, fetch) if brought is None else self._statement(place, brought)

    async def _asked(self, key: str, fetch: Callable[[], Awaitable[Statement]]) -> Statement:
        self._counts["asked"] += 1
        self._begun[key] = self._clock.monotonic()
        return await fetch()

    async def _lead_or_wait(self, place: Place, tried: Tried, until: float) -> _Found | None:
        """
        What another node was answered meanwhile; `None` where this one asks, for all or, after a while, for itself.
        """
        waited_for = min(until, self._clock.monotonic() + _LONGEST_S)
        look_s = _FIRST_LOOK_S
        while True:
            lease = await self._tier.take(place.key)
            if isinstance(lease, Lease):
                return await self._lead(place.key, lease, tried, until)
            if lease is Refusal.UNAVAILABLE or self._clock.monotonic() >= waited_for:
                self._counts["waited_in_vain"] += lease is Refusal.HELD
                return None
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, _LONGEST_LOOK_S)
            found = await self._find(place.key, tried, until)
            if found is not None:
                return found

    async def _lead(self, key: str, lease: Lease, tried: Tried, until: float) -> _Found | None:
        """
        Ask for all; but whoever had the lease just now may have had the answer.
        """
        self._leases[key] = lease, self._begin(self._hold(key, lease))
        found = await self._find(key, tried, until)
        if found is not None:
            self.done(key)
        return found

    async def _hold(self, key: str, lease: Lease) -> None:
        """
        Keep a lease while its answer is on its way.
        """
        for _ in range(int(3 * _LONGEST_LEASE_S / LEASE_S)):
            await asyncio.sleep(LEASE_S / 3)
            if not await self._tier.hold(key, lease):
                return

    async def _find(self, key: str, tried: Tried, until: float) -> _Found | None:
        """
        What another node shared, whole; `None` where it was tried already.
        """
        found = await self._tier.find(key)
        raw = None if found is None else found.raw
        if isinstance(raw, Parts):
            large = None
            if raw.digest not in tried.digests and tried.spool is not None and raw.size <= tried.most:
                large = await gather(
                    self._tier, key, raw, tried.spool, in_time=lambda: self._clock.monotonic() < until
                )
            raw = large
        if found is None or raw is None or digest_of(raw) in tried.digests:
            return None
        return _Found(raw=raw, received_at=found.received_at or UNKNOWN)

    def _statement(self, place: Place, found: _Found) -> Statement:
        self._counts["brought"] += 1
        return Statement(
            kind=place.lookup.kind,
            origin=Origin.CLUSTER,
            received_at=found.received_at,
            depth=place.lookup.depth,
            url=place.lookup.url,
            raw=found.raw,
        )

    def kept(self, key: str, statement: Statement, *, keep_s: int) -> None:
        """
        See `Share`. What another node was answered is there already, and what is unsigned is shared with nobody.
        """
        if statement.origin is not Origin.NETWORK or statement.kind not in SIGNED:
            return
        raw = statement.raw
        if raw is None or len(self._tasks) > _PUTTING:
            return
        if isinstance(raw, LargeOctets):
            if not self._putting_list:
                self._putting_list = True
                self._begin(self._put_list(key, raw, statement.received_at, keep_s))
            return
        lease = self._lease_of(key)
        self._begin(self._put(key, raw, statement.received_at, keep_s, lease))

    async def _put(
        self, key: str, raw: bytes, received_at: datetime, keep_s: int, lease: Lease | NoLease | None
    ) -> None:
        await self._tier.put(key, raw, received_at=received_at, keep_s=keep_s, lease=lease)

    async def _put_list(self, key: str, raw: LargeOctets, received_at: datetime, keep_s: int) -> None:
        """
        Put a large list part by part; its lease is kept meanwhile. One list at a time, so that memory is bounded.
        """
        self._uploading.add(key)
        try:
            done = await scatter(self._tier, key, raw, keep_s=keep_s)
        finally:
            self._putting_list = False
            self._uploading.discard(key)
        lease = self._lease_of(key)
        if done is not None:
            await self._tier.put_parts(key, done, received_at=received_at, keep_s=keep_s, lease=lease)
        elif isinstance(lease, Lease):
            await self._tier.give_back(key, lease)

    def _lease_of(self, key: str) -> Lease | NoLease | None:
        """
        By what a location was asked; a lease is kept no longer.
        """
        begun = self._begun.pop(key, None)
        held = self._leases.pop(key, None)
        if held is not None:
            held[1].cancel()
            return held[0]
        return None if begun is None else NoLease(ago_s=self._clock.monotonic() - begun)

    def done(self, key: str) -> None:
        """
        See `Share`.
        """
        if key in self._uploading:
            return
        lease = self._lease_of(key)
        if isinstance(lease, Lease):
            self._begin(self._tier.give_back(key, lease))

    def judged(self, *, usable: bool) -> None:
        """
        See `Share`.
        """
        self._counts["used" if usable else "not_used"] += 1

    def status(self) -> dict[str, int]:
        """
        For STATUS: what other nodes brought, what of it could be used, and what was asked by this node.
        """
        names = ("brought", "used", "not_used", "asked", "waited_in_vain")
        return {name: self._counts[name] for name in names} | {"leases_now": len(self._leases)}

    async def aclose(self) -> None:
        """
        Give the leases back, and wait a moment for what is on its way.
        """
        for key in tuple(self._leases):
            self.done(key)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=1.0)
            for task in late:
                task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()  # no tier raises; nobody waits for it
