"""
The collection of statements about one chain: the cache looked into, sources asked, within one budget.

Owns the acts: looking into the cache, asking sources, waiting, and measuring how long each of them has had. Decides
nothing: what comes next is what the case says.

More than 400 lines: one object, a question's asking from the first look to the last answer, with the time that each step took.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from cftpki_ext.checking.asking import Asking, Askings
from cftpki_ext.checking.case import OpenCase, Outcome, Place, Recall, Turn
from cftpki_ext.checking.list_versions import Versions
from cftpki_ext.checking.responses import Responses, hashed
from cftpki_ext.checking.sharing import Tried
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.validators import Validators
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.settling import Situation, Waiting
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.responses import StoredResponse
from cftpki_ext.ports.sources import StatusQuestion, StatusSource
from cftpki_ext.x509.outline import outline, outline_of_ca

# How often the loop's own lateness is looked at while it waits.
_BEAT_S = 0.05
# Steps are told in milliseconds: what is shorter is no wait.
_TICK_S = 0.0005
# A timer that comes so late is no jitter of a busy machine: this process did not run.
_LATE_S = 0.1
# A source's own deadline is so much later than the end of our patience: an answer that has arrived by then is read,
# not cut off by the source's own timer. Within `reserve_ms`.
_GRACE_S = 0.1
# Servers close a connection on which nothing comes after five seconds and more.
_SERVERS_GIVE_UP_S = 5.0
# How often one location is asked anew because this process did not run while it was asked.
_ASKED_ANEW = 3
# Turns of the loop in which an answer that has arrived is read before the budget is called used up. A body takes
# about three; each costs some microseconds.
_LAST_TURNS = 20

_SILENCE = frozenset({Cause.TIMED_OUT, Cause.UNREACHABLE})


class StalledError(CftPkiError):
    """
    Again and again this process did not run for so long that nobody had a fair chance to answer.
    """


@dataclass(slots=True)
class _Ask:
    """
    One location that was asked, how long it has had, and how long of that this process did not run.
    """

    place: Place
    waited_s: float = 0.0
    lost_s: float = 0.0


class Collector:
    """
    Gathers `heard` for one case. Never raises for what a network or a cache does.

    `found` is what the cache had, by key; `offered`, what other nodes shared, whether it was heard or not. A location is asked once, once more where what another node was answered is no good, and
    once more where this process did not run while it was asked. Time in which this process did not run is nobody's silence: the budget counts what the sources had of it.
    """

    def __init__(
        self,
        case: OpenCase,
        question: Question,
        *,
        sources: Mapping[SourceKind, StatusSource],
        store: Responses,
        askings: Askings,
        clock: Clock,
        heard: Sequence[Statement],
        recall: Callable[[Recall], Sequence[Statement]] = lambda _: (),
    ) -> None:
        """
        Prepare to ask.

        Args:
            case: tells what to do next.
            question: what is asked.
            sources: who is asked, by kind; a kind without a source is never asked.
            store: the cache, only read here.
            askings: what others ask at the same time.
            clock: the time of waits and ages.
            heard: what came with the question.
            recall: what is known of a certificate's revocation.

        """
        self.heard = list(heard)
        self.found: dict[str, StoredResponse | None] = {}
        self._versions = Versions(store)
        self._said: dict[str, tuple[bytes | LargeOctets, Validators]] = {}
        self._case = case
        self._question = question
        self._sources = sources
        self._store = store
        self._askings = askings
        self._clock = clock
        self._recall = recall
        self._prepared = Turn()
        self._recalled: dict[str, Recall] = {}
        self._kept: list[Statement] = []
        self._looked_up: dict[Lookup, Place] = {}
        self._asked: set[Lookup] = set()
        self._has_asked = False
        # What other nodes shared of a location, and was no good.
        self._tried: defaultdict[Lookup, Tried] = defaultdict(Tried)
        self.offered: list[Statement] = []
        self._entered: list[Asking] = []
        self._unheard: set[str] = set()
        self._anew: dict[Lookup, int] = {}
        self._running: dict[asyncio.Task[Statement], _Ask] = {}
        self._seen_running = clock.monotonic()
        limits = question.limits
        self._left_s = (limits.budget_ms - limits.reserve_ms) / 1000

    @property
    def chain(self) -> tuple[bytes, ...]:
        """
        The certificates of the question.
        """
        return self._question.chain

    @property
    def places(self) -> tuple[Place, ...]:
        """
        Where the cache was looked into.
        """
        return tuple(self._looked_up.values())

    @property
    def brought(self) -> Iterator[tuple[str, bytes | LargeOctets]]:
        """
        What the cache had and the sources sent, with the names under which the cache keeps both.
        """
        for key, found in self.found.items():
            if found is not None:
                yield key, found.raw
        keys = {lookup: place.key for lookup, place in self._looked_up.items()}
        for one in self.heard:
            if one.raw is not None and one.depth is not None and one.url is not None:
                name = keys.get(Lookup(depth=one.depth, kind=one.kind, url=one.url))
                if name is not None:
                    yield name, one.raw

    @property
    def has_asked(self) -> bool:
        """
        Whether anybody was asked.
        """
        return self._has_asked

    @property
    def recalled(self) -> tuple[Recall, ...]:
        """
        Of which certificates it was asked what is known.
        """
        return tuple(self._recalled.values())

    async def leave(self, *, judged: bool) -> None:
        """
        All is judged, or was given up: nobody waits any more for what this question asked.
        """
        while self._entered:
            entered = self._entered.pop()
            await self._askings.leave(entered, judged=judged and entered.key not in self._unheard)

    def prepare(self, places: Iterable[Place], recalls: Iterable[Recall]) -> None:
        """
        Do at once what a case like this one asked for before.

        A proof of a revocation is left to be recalled by the case, which says which of its certificates it is about.

        Args:
            places: to be looked up.
            recalls: of what is known.

        """
        self._prepared = Turn(recall=tuple(recalls), look_up=tuple(places))

    async def run(self) -> Outcome | None:
        """
        Ask until every certificate is settled, nobody is left to ask, or the budget (less its reserve) is used up.

        Where a CA of the path turns out to be revoked, another path is asked about, within the same budget.

        Returns:
            The outcome, where the judge gave it at once.

        Raises:
            StalledError: this process did not run while others were asked, and not when they were asked anew.

        """
        try:
            await self._do(self._prepared, guessed=True)
            while True:
                turn = await self._case.advance(
                    self._situation(), recalled=frozenset(self._recalled), looked_up=self.places
                )
                if not await self._do(turn) and turn.foreseen is not None:
                    turn = turn.foreseen
                    await self._do(turn)
                if turn.wait_ms is None:
                    return turn.outcome
                if turn.wait_ms > 0:
                    await self._wait(turn.wait_ms / 1000)
        finally:
            if self._running:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    async def _do(self, turn: Turn, *, guessed: bool = False) -> bool:
        """
        Do a turn; whether anything was known or in the cache of what it asked for.
        """
        found = False
        for recall in turn.recall:
            known = self._recall(recall)
            if known and guessed:
                continue
            found |= bool(known)
            self._recalled[recall.key] = recall
            for statement in known:
                await self._store.prepare(statement.raw)
            self._hear(known)
        for place in turn.look_up:
            found |= await self._look_into_cache(place)
        self._hear(turn.hear)
        for place in turn.ask:
            self._ask(_Ask(place))
        return found

    def _situation(self) -> Situation:
        return Situation(
            kinds=frozenset(self._sources),
            left_ms=max(0, round(self._left_s * 1000)),
            statements=tuple(self.heard),
            kept=tuple(self._kept),
            looked_up=frozenset(self._looked_up),
            asked=frozenset(self._asked),
            waiting=tuple(
                Waiting(lookup=one.place.lookup, waited_ms=round(one.waited_s * 1000))
                for one in self._running.values()
            ),
        )

    def _hear(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            self.heard.append(statement)
            if statement in self._kept:
                self._kept.remove(statement)

    async def _look_into_cache(self, place: Place) -> bool:
        lookup = place.lookup
        before = self._looked_up.get(lookup)
        if before is not None and before.key != place.key:
            # It was guessed, and is about another certificate.
            there = (Origin.CACHE, lookup.depth, lookup.kind, lookup.url)
            self._kept = [one for one in self._kept if (one.origin, one.depth, one.kind, one.url) != there]
        self._looked_up[lookup] = place
        stored = self.found[place.key] = await self._store.find(place.key)
        if stored is not None:
            self._kept.append(
                Statement(
                    kind=lookup.kind,
                    origin=Origin.CACHE,
                    received_at=stored.received_at,
                    depth=lookup.depth,
                    url=lookup.url,
                    raw=stored.raw,
                )
            )
        return stored is not None

    def _ask(self, one: _Ask) -> None:
        lookup, question = one.place.lookup, self._question
        self._asked.add(lookup)
        self._has_asked = True
        asked = StatusQuestion(
            lookup=lookup,
            # Of a path that is trusted: nothing is fetched for another.
            certificate=outline(one.place.certificate),
            issuer=outline_of_ca(one.place.issuer),
            trust=question.trust,
            limits=question.limits,
            deadline=self._clock.monotonic() + self._left_s + _GRACE_S,
            spool=None if self._store.lists is None else self._store.lists.spool(),
        )
        entered = self._askings.enter(one.place, question.trust, question.limits)
        self._entered.append(entered)
        source = self._sources[lookup.kind]
        asking = self._askings.ask(
            entered,
            one.place,
            lambda: self._answer(source, asked, one.place.key),
            seen=self.found.get(one.place.key),
            tried=self._tried_of(lookup, asked),
            deadline=asked.deadline,
        )
        self._running[asyncio.ensure_future(asking)] = one

    async def _answer(self, source: StatusSource, question: StatusQuestion, key: str) -> Statement:
        """
        A source's answer. A list that the cache has is got again only where its location has another.
        """
        found, said = self.found.get(key), list[Validators]()
        question = replace(question, hear_validators=said.append)
        known = None
        if found is not None:
            known = await self._versions.known(question.lookup, found.raw, question.limits, self._clock.now())
        statement = await self._placed(source.ask(replace(question, known=known)))
        if known is not None and statement.raw is known.raw and not await self._store.prepare(known.raw):
            # What was confirmed is no longer there as it was.
            said.clear()
            statement = await self._placed(source.ask(question))
        if said and statement.raw is not None:
            self._said[key] = statement.raw, said[-1]
        return statement

    def said_of(self, key: str, raw: bytes | LargeOctets) -> Validators | None:
        """
        What was said of the version that was got under a name, where this question itself asked for it.
        """
        of, said = self._said.get(key, (None, None))
        return said if of is raw else None

    async def _placed(self, asking: Awaitable[Statement]) -> Statement:
        """
        An answer whose large list can be read in parts.
        """
        statement = await asking
        return statement if self._store.lists is None else await self._store.lists.placed(statement)

    async def _wait(self, longest_s: float) -> None:
        """
        Wait for an answer, in beats, so that it is known how much of the time this process ran.
        """
        # What this process decided since it last waited was not the sources' time either.
        self._lost(self._clock.monotonic() - self._seen_running)
        while longest_s > _TICK_S and self._running:
            beat_s = min(longest_s, _BEAT_S)
            begun = self._clock.monotonic()
            await asyncio.wait(self._running, timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
            self._seen_running = self._clock.monotonic()
            passed_s = self._seen_running - begun
            passed_s -= self._lost(passed_s - beat_s)
            for one in self._running.values():
                one.waited_s += passed_s
            self._left_s -= passed_s
            longest_s -= passed_s
            if self._left_s < _TICK_S:
                await self._last_turns()
            if await self._collect():
                return

    def _lost(self, late_s: float) -> float:
        """
        Note that this process did not run, where it is so late; how much of the time is nobody's silence.
        """
        if late_s < _LATE_S:
            return 0.0
        for one in self._running.values():
            one.lost_s += late_s
        return late_s

    async def _last_turns(self) -> None:
        """
        Let every answer that has arrived be read.
        """
        for _ in range(_LAST_TURNS):
            if all(task.done() for task in self._running):
                return
            await asyncio.sleep(0)

    async def _collect(self) -> bool:
        """
        Hear those who have answered; whether anybody has.
        """
        done = [task for task in self._running if task.done()]
        for task in done:
            one = self._running.pop(task)
            statement = task.result()
            for raw in (statement.raw, *statement.also):
                if raw is not None:
                    await hashed(raw)
            statement = await self._prepare(one, statement)
            if statement.origin is Origin.CLUSTER and statement.raw is not None:
                self._offer(one, statement)
            elif self._is_ours(one, statement):
                # Whoever did not answer while we did not run has not been silent.
                self._ask_anew(one)
            else:
                self.heard += statement.each()
        return bool(done)

    def _tried_of(self, lookup: Lookup, asked: StatusQuestion) -> Tried:
        """
        What of other nodes' answers was tried, and where their large lists may go.
        """
        tried = self._tried[lookup]
        if lookup.kind is SourceKind.CRL:
            tried.spool, tried.most = asked.spool, asked.limits.crl_bytes
        return tried

    def _offer(self, one: _Ask, statement: Statement) -> None:
        """
        Have the case look at what another node shared, as at what the cache has: where it is no good, its location is asked.
        """
        tried = self._tried[one.place.lookup]
        tried.rounds += 1
        tried.digests.add(digest_of(statement.raw or b""))
        self._kept.append(statement)
        self.offered.append(statement)
        self._asked.discard(one.place.lookup)

    async def _prepare(self, one: _Ask, statement: Statement) -> Statement:
        """
        Have the index of a list made.

        Where an older list may count instead, and others come after this question, only within the budget.
        """
        if not isinstance(statement.raw, LargeOctets):
            return statement
        lookup, lists = one.place.lookup, self._store.lists
        may_do_without = (
            lists is not None
            and lists.indexer.outlasts
            and any((kept.depth, kept.url) == (lookup.depth, lookup.url) for kept in self._kept)
        )
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._left_s) if may_do_without else None):
                await self._store.prepare(statement.raw)
        except TimeoutError:
            # The next question has it (`Askings.leave`).
            self._unheard.add(one.place.key)
            why = "the list came, and its index was not made in time"
            statement = replace(statement, raw=None, failure=Cause.TIMED_OUT, detail=why)
        if may_do_without:
            self._left_s -= self._clock.monotonic() - begun
        return statement

    def _is_ours(self, one: _Ask, statement: Statement) -> bool:
        """
        Whether a failure may be that of this process, because it did not run meanwhile.

        A refused connection is nobody's patience: it is tried once more, and again only where this process stood still
        for so long that servers give up. A source that ran out of time, time and again, has been silent where it had
        more of it than this process lost.
        """
        if statement.failure not in _SILENCE or one.lost_s == 0:
            return False
        times = self._anew.get(one.place.lookup, 0)
        if statement.failure is Cause.UNREACHABLE:
            return times == 0 or one.lost_s >= _SERVERS_GIVE_UP_S
        return times < _ASKED_ANEW or one.lost_s > one.waited_s

    def _ask_anew(self, one: _Ask) -> None:
        lookup = one.place.lookup
        times = self._anew[lookup] = self._anew.get(lookup, 0) + 1
        if times > _ASKED_ANEW:
            msg = f"this process did not run while {lookup.url} was asked, {times} times, {one.lost_s:.1f} s last"
            raise StalledError(msg)
        self._left_s += one.waited_s
        self._ask(_Ask(one.place))
