"""
Each location asked once, however many questions need it at the same time, here and in other processes.

Owns which of them asks. From the first request until the cache has the answer, whoever comes later is given the same
answer; of several processes that share the cache one asks, and the others look into the cache again. What is shared is
octets as received: each question has them judged for itself. A large list that came too late for all its questions is
there for the next one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeGuard

from cftpki_ext.checking.case import Place
from cftpki_ext.checking.responses import Responses
from cftpki_ext.checking.sharing import Alone, Share, Tried
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.grounds import refresh_age
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.responses import LocationLocks, StoredResponse

# How often it is tried to get a lock that another process has: a system call of a microsecond.
_TRY_S = 0.02
# What a process that hangs may cost: so much of the time that is left, and then the location is asked all the same.
_SHARE = 0.5
# ... and never more than this: who warms the cache has minutes.
_LONGEST_S = 15.0
# Lists that came too late for their questions: each is a file, and nobody knows yet whether it is the CA's.
_LATE = 8
# So often one that is ready to be judged is given to a question that does not come to an end: then it is asked for anew.
_TRIES = 3


@dataclass(slots=True, eq=False)
class Asking:
    """
    A location that somebody asks, or whose answer is not in the cache yet.

    `users` are the questions that ask it; `locked`: this process has its lock. `flight` is the request, and its answer;
    `tries`: how often that was ready to be judged in vain.
    """

    key: str
    trust: TrustSet
    limits: Limits
    users: int = 0
    locked: bool = False
    flight: asyncio.Future[Statement] | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class _Late:
    """
    A large list that no question has judged yet; those of the same trust set and limits may.
    """

    trust: TrustSet
    limits: Limits
    statement: Statement
    tries: int


class Askings:
    """
    The locations that are being asked. For one event loop.

    Args:
        store: the cache.
        clock: the time.
        locks: shared with other processes; none where nobody shares the cache.

    `share` is what other nodes share with this one.
    """

    def __init__(self, store: Responses, clock: Clock, locks: LocationLocks | None = None) -> None:
        self._store = store
        self._clock = clock
        self._locks = locks
        self._asked: dict[str, Asking] = {}
        self._late: OrderedDict[str, _Late] = OrderedDict()
        # Answers that other nodes had, and requests to locations, since the start.
        self.of_nodes, self.requests = 0, 0
        self.share: Share = Alone()
        self._waits: dict[str, asyncio.Task[None]] = {}

    def enter(self, place: Place, trust: TrustSet, limits: Limits) -> Asking:
        """
        Note that a question asks a location; `ask` follows, and `leave` once it is judged or given up.

        Args:
            place: what is asked.
            trust: whose permissions hold; answers are shared only within one trust set.
            limits: likewise.

        Returns:
            The asking, shared or of its own. A CA's JSON lookup is asked by every question for itself: it counts only
            when it was just asked.

        """
        one = self._asked.get(place.key)
        if one is None or one.trust is not trust or one.limits is not limits:
            own = Asking(place.key, trust, limits, users=1)
            if one is not None or place.lookup.kind is SourceKind.REST:
                return own
            self._asked[place.key] = own
            return own
        one.users += 1
        return one

    async def ask(
        self,
        one: Asking,
        place: Place,
        fetch: Callable[[], Awaitable[Statement]],
        *,
        seen: StoredResponse | None,
        tried: Tried,
        deadline: float,
    ) -> Statement:
        """
        The answer of a location, asked by this question or by another.

        Failures are shared only among those who wait for them, and who has time left when another one's request ran out of
        it asks anew.

        Args:
            one: from `enter`.
            place: what is asked.
            fetch: asks the location.
            seen: what the question found in the cache; something newer is there by now where others have just asked.
            tried: what of other nodes' answers it has tried in vain.
            deadline: monotonic; at most half of what is left until then, and 15 s, is waited for another process.

        Returns:
            The statement. Its origin is the cache where another question, or another process, has put it there, and the cluster
            where another node has.

        """
        _, found = self._store.at_hand(place.key)
        if found is not None and self._is_news(one, place, found, seen):
            return _cached(place, found)
        fetch = self._counted(fetch)
        if not self._is_open(one):
            return await fetch()
        if _is_shared(one.flight) and digest_of(one.flight.result().raw or b"") in tried.digests:
            one.flight = None
        if one.flight is None:
            self._take_late(one, place, seen)
        if self._locks is not None and one.flight is None and not one.locked:
            brought = await self._of_another_process(place, one, self._locks, seen, deadline)
            if brought is not None:
                return brought
        leads = one.flight is None
        if one.flight is None:
            one.flight = asyncio.ensure_future(self.share.once(place, fetch, tried=tried, deadline=deadline))
        flight = one.flight
        statement = await asyncio.shield(flight)
        self.of_nodes += leads and statement.origin is Origin.CLUSTER
        if statement.raw is None and one.flight is flight:
            one.flight = None
        if statement.failure is Cause.TIMED_OUT and not leads and self._clock.monotonic() < deadline:
            return await fetch()
        return replace(statement, depth=place.lookup.depth, url=place.lookup.url)

    def _counted(self, fetch: Callable[[], Awaitable[Statement]]) -> Callable[[], Awaitable[Statement]]:
        async def counted() -> Statement:
            self.requests += 1
            return await fetch()

        return counted

    async def leave(self, one: Asking, *, judged: bool = True) -> None:
        """
        A question that asked is judged, or was given up. A request that nobody waits for is cancelled.

        Args:
            one: from `enter`.
            judged: whether there is a verdict. Without one a large list that came is kept for the next question: to
                receive it and make its index may take longer than any question has.

        """
        one.users -= 1
        if one.users > 0:
            return
        if self._is_open(one):
            self.has(one.key)
            if not judged:
                self._keep_late(one)
        if one.flight is not None and not one.flight.done():
            one.flight.cancel()
            await asyncio.gather(one.flight, return_exceptions=True)

    def has(self, key: str) -> None:
        """
        The cache has been given the answer of a location: whoever comes now finds it there.
        """
        self._late.pop(key, None)
        one = self._asked.pop(key, None)
        self.share.done(key)
        if one is not None and one.locked and self._locks is not None:
            one.locked = False
            self._store.after_writes(self._locks.give_back, key)

    def flushed(self) -> None:
        """
        The cache was emptied on purpose: what was not judged yet is asked for anew, too.
        """
        self._late.clear()

    def close(self) -> None:
        """
        Give up waiting, and let go of the locks; after the cache was closed.
        """
        for wait in self._waits.values():
            wait.cancel()
        self._late.clear()
        if self._locks is not None:
            self._locks.close()

    def _is_open(self, one: Asking) -> bool:
        return self._asked.get(one.key) is one

    def _keep_late(self, one: Asking) -> None:
        """
        Keep a large list that came, and that nobody has judged.
        """
        flight = one.flight
        if flight is None or not flight.done() or flight.cancelled() or flight.exception() is not None:
            return
        raw = flight.result().raw
        if not isinstance(raw, LargeOctets):
            return
        tries = one.tries + (not self._store.is_preparing(raw))
        if tries >= _TRIES:
            return
        self._late[one.key] = _Late(one.trust, one.limits, flight.result(), tries)
        if len(self._late) > _LATE:
            self._late.popitem(last=False)

    def _take_late(self, one: Asking, place: Place, seen: StoredResponse | None) -> None:
        """
        Have the list that came too late for an earlier question as the answer to this one, if it is young enough.
        """
        late = self._late.pop(one.key, None)
        if late is None or late.trust is not one.trust or late.limits is not one.limits:
            return
        raw, received_at = late.statement.raw, late.statement.received_at
        if raw is not None and self._is_news(
            one, place, StoredResponse(raw=raw, received_at=received_at), seen
        ):
            one.flight = asyncio.get_running_loop().create_future()
            one.flight.set_result(late.statement)
            one.tries = late.tries

    async def _of_another_process(
        self,
        place: Place,
        one: Asking,
        locks: LocationLocks,
        seen: StoredResponse | None,
        deadline: float,
    ) -> Statement | None:
        """
        What another process got meanwhile; `None` where this one has the lock now, or has waited long enough.
        """
        key = place.key
        if locks.take(key):
            one.locked = True
            return None
        wait = self._waits.get(key)
        if wait is None:
            wait = self._waits[key] = asyncio.ensure_future(self._wait(one, locks))
            wait.add_done_callback(lambda _: self._waits.pop(key, None))
        left_s = min(_LONGEST_S, max(0.0, deadline - self._clock.monotonic()) * _SHARE)
        await asyncio.wait((wait,), timeout=left_s)
        found = await self._store.find_below(key)
        return _cached(place, found) if found is not None and self._is_news(one, place, found, seen) else None

    def _is_news(self, one: Asking, place: Place, found: StoredResponse, seen: StoredResponse | None) -> bool:
        """
        Whether what is in the cache came since a question looked, and may stand alone: it need not be asked for.
        """
        age = self._clock.now() - found.received_at
        is_newer = seen is None or found.received_at > seen.received_at
        return is_newer and timedelta(0) <= age < refresh_age(place.lookup.kind, one.limits)

    async def _wait(self, one: Asking, locks: LocationLocks) -> None:
        """
        Wait for a lock while anybody here needs it.
        """
        while self._is_open(one):
            if locks.take(one.key):
                one.locked = True
                return
            await asyncio.sleep(_TRY_S)


def _is_shared(flight: asyncio.Future[Statement] | None) -> TypeGuard[asyncio.Future[Statement]]:
    """
    Whether a request was answered by another node.
    """
    return (
        flight is not None
        and flight.done()
        and not flight.cancelled()
        and flight.exception() is None
        and flight.result().origin is Origin.CLUSTER
    )


def _cached(place: Place, found: StoredResponse) -> Statement:
    return Statement(
        kind=place.lookup.kind,
        origin=Origin.CACHE,
        received_at=found.received_at,
        depth=place.lookup.depth,
        url=place.lookup.url,
        raw=found.raw,
    )
