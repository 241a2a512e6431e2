"""
What evidence of which partners is renewed when, before it ends.

Owns the schedule and its bounds; `held` says when a piece of evidence is due. Pure: times are arguments, and what happened
is told.

More than 400 lines: one object, whose parts must agree with each other at every moment.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta

from cftpki_ext.checking.held import Held, Partner, asks_each_time, due, spread
from cftpki_ext.core.settings import Limits, RefreshSettings, TrustSet
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.decision.grounds import refresh_age

# Never sooner again, whatever is left of an answer's life: so long, and a tenth of its refresh age or whole life.
SHORTEST = timedelta(seconds=2)
_TENTH = 10
# A location that fails is left alone for so long, then twice as long, up to the longest: as the breakers of hosts do, which
# it keeps open, so that handshakes do not wait for a host that is known to be silent.
FIRST_REST_S, LONGEST_REST_S = 15.0, 60.0
# Partners of one trust set that are renewed at once: half of what a host is asked at once (`fetch.gate`).
AT_ONCE = 4
# Evidence of the same partner that is due so soon is renewed in the same go.
_TOGETHER = timedelta(seconds=15)
# Hosts that are told of at once.
_TOLD = 20
# Clocks that part by more have been set.
_JUMP_S = 30.0
# Hosts that rest; their names come from certificates of trusted paths.
_PLACES = 1024


_NEVER = datetime.max.replace(tzinfo=UTC)
# Pieces of evidence that are looked at before others have their turn: a millisecond.
_AT_A_TIME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A partner to be judged again so that some of its evidence is asked for anew.
    """

    partner: Partner
    keys: frozenset[str]
    limits: Limits


@dataclass(slots=True)
class _Place:
    """
    A location that failed: how often in a row, since when, and until when it is left alone (monotonic).
    """

    since: datetime
    failures: int = 0
    until: float = 0.0
    counted: float = float("-inf")
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """
    Evidence that cannot be renewed: of which issuers, where, since when, why, and when the first of it ends.
    """

    location: str
    issuers: tuple[str, ...]
    since: datetime
    failures: int
    detail: str
    ends: datetime
    partners: int


@dataclass(slots=True)
class _Budget:
    """
    Requests that may be made for one trust set: so many an hour, at most those of a minute at once.
    """

    tokens: float
    at: float


@dataclass(slots=True)
class _Entry:
    """
    A piece of evidence, and whose it is: the one seen last is the last.
    """

    held: Held
    users: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    turn: int = 0  # what an earlier plan says of it counts no more
    due: datetime = _NEVER
    before_end: datetime = _NEVER


class Ahead:
    """
    The partners that were accepted lately, their evidence, and what is to be renewed next.

    Bounded: partners by number (the one not seen for longest goes first), requests by the hour and trust set, partners
    at once. What cannot be afforded waits, in this order: what ends soonest of what is past the point before its end;
    lists and CA certificates, which many need; partners seen last.

    Args:
        settings: `[refresh]`.
        limits: the configuration's.
        trusts: the trust sets by name.

    """

    def __init__(self, settings: RefreshSettings, limits: Limits, trusts: Mapping[str, TrustSet]) -> None:
        self._settings = settings
        self._limits = limits
        self._trusts = trusts
        self._partners: OrderedDict[bytes, Partner] = OrderedDict()
        self._entries: dict[str, _Entry] = {}
        # When something is due: (moment, turn, key).
        self._agenda: list[tuple[float, int, str]] = []
        # By trust set what is due, the most urgent first: (class, rank, turn, key).
        self._ready: dict[str, list[tuple[int, float, int, str]]] = {}
        # What is to be planned anew: the configuration or the clock was set.
        self._unplanned: deque[str] = deque()
        self._resting: OrderedDict[tuple[str, str], _Place] = OrderedDict()
        self._budgets: dict[str, _Budget] = {}
        self._running: dict[bytes, Job] = {}
        self._clocks: tuple[float, float] | None = None
        self._turns = 0
        self.renewed = 0
        self.failed = 0
        self.requests = 0
        self.last: datetime | None = None

    # --- who is known ---------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """
        How many partners are known.
        """
        return len(self._partners)

    @property
    def partners(self) -> Iterable[Partner]:
        """
        All, the one not seen for longest first.
        """
        return self._partners.values()

    def get(self, name: bytes) -> Partner | None:
        """
        One partner.
        """
        return self._partners.get(name)

    def replace_settings(
        self, settings: RefreshSettings, limits: Limits, trusts: Mapping[str, TrustSet]
    ) -> None:
        """
        Take over a new configuration; partners stay known, and are judged by the new one.
        """
        self._settings, self._limits, self._trusts = settings, limits, trusts
        self._budgets.clear()
        self._resting.clear()
        self._plan_all()

    def accepted(self, partner: Partner) -> tuple[bytes, ...]:
        """
        A partner was accepted.

        Args:
            partner: as it is by this verdict.

        Returns:
            The names of those that are forgotten for it.

        """
        self._put(partner, partner.seen)
        self._partners.move_to_end(partner.name)
        gone = []
        while len(self._partners) > self._settings.partners:
            name = next(iter(self._partners))
            self.forget(name)
            gone.append(name)
        return tuple(gone)

    def seen(self, name: bytes, at: datetime) -> bool:
        """
        A partner was accepted again without being judged; whether it is known.
        """
        partner = self._partners.get(name)
        if partner is None:
            return False
        self._partners[name] = replace(partner, seen=max(partner.seen, at))
        self._partners.move_to_end(name)
        for held in partner.held:
            entry = self._entries.get(held.key)
            if entry is not None and name in entry.users:
                entry.users.move_to_end(name)
        return True

    def forget(self, name: bytes) -> None:
        """
        A partner is not to be renewed any more.
        """
        partner = self._partners.pop(name, None)
        if partner is not None:
            self._leave(partner)

    def forget_unseen(self, now: datetime) -> tuple[bytes, ...]:
        """
        Forget those who were not seen for `RefreshSettings.remember`, and those whose path has ended.

        Returns:
            Their names.

        """
        oldest = now - self._settings.remember
        gone = tuple(one.name for one in self._partners.values() if one.seen < oldest or one.ends < now)
        for name in gone:
            self.forget(name)
        return gone

    def _put(self, partner: Partner, now: datetime) -> None:
        before = self._partners.get(partner.name)
        if before is not None:
            self._leave(before, but={held.key for held in partner.held})
        self._partners[partner.name] = partner
        for held in partner.held:
            entry = self._entries.get(held.key)
            fresh = entry is None
            if entry is None:
                entry = self._entries[held.key] = _Entry(held)
            entry.users[partner.name] = None
            entry.users.move_to_end(partner.name)
            if fresh or _is_newer(held, entry.held, now):
                entry.held = held
                self._plan(entry)

    def _leave(self, partner: Partner, but: Iterable[str] = ()) -> None:
        for held in partner.held:
            entry = self._entries.get(held.key)
            if entry is None or held.key in but:
                continue
            entry.users.pop(partner.name, None)
            if not entry.users:
                del self._entries[held.key]

    def doubt(self, now: datetime) -> None:
        """
        Have everything renewed as soon as it can be afforded: something may have been said that was not heard.
        """
        for entry in self._entries.values():
            self._again(entry, now, 0.0)

    # --- what is due ----------------------------------------------------------------------------------------------

    def take(self, now: datetime, monotonic: float) -> Job | None:
        """
        What is to be renewed now; `done` follows.

        Args:
            now: the time of day. Where it was set, everything is planned anew.
            monotonic: seconds that only ever grow.

        Returns:
            The job; `None` where nothing is due, or nothing that is due may be asked for now.

        """
        self._look_at_clocks(now, monotonic)
        self._plan_some(now)
        self._ripen(now)
        for trust, heap in self._ready.items():
            job = self._take(trust, heap, now, monotonic)
            if job is not None:
                self._running[job.partner.name] = job
                return job
        return None

    def next_at(self) -> float | None:
        """
        When there is something to do next (POSIX seconds, by the wall clock); `None` where there is nothing.
        """
        if self._unplanned:
            return 0.0
        while self._agenda and not self._is_current(self._agenda[0][1], self._agenda[0][2]):
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    def done(
        self,
        job: Job,
        partner: Partner | None,
        *,
        failures: Mapping[str, str],
        requests: int,
        now: datetime,
        monotonic: float,
        ours: bool = False,
    ) -> tuple[bytes, ...]:
        """
        A job came to its end.

        Args:
            job: from `take`.
            partner: as it is by the verdict; `None` where it is not accepted any more, and is forgotten.
            failures: by the URL, why a location that was asked gave nothing that could be used.
            requests: how many were made.
            now: the time of day.
            monotonic: seconds that only ever grow.
            ours: nothing came of it for reasons of our own; no location is blamed.

        Returns:
            The partners whose evidence is another one now.

        """
        self._running.pop(job.partner.name, None)
        trust = job.partner.trust
        self.requests += requests
        budget = self._budget(trust, monotonic)
        budget.tokens -= max(1, requests)
        if partner is None:
            self.forget(job.partner.name)
        else:
            known = self._partners.get(partner.name)
            if known is not None:  # else it was forgotten meanwhile
                self._put(replace(partner, seen=max(partner.seen, known.seen)), now)
        touched: dict[bytes, None] = {}
        for key in job.keys:
            entry = self._entries.get(key)
            before = next((held for held in job.partner.held if held.key == key), None)
            if entry is None or before is None:
                continue
            if _is_newer(entry.held, before, now):
                self.renewed += 1
                self.last = now
                self._resting.pop((trust, self._place_of(trust, entry.held)), None)
                self._plan(entry, now=now)
                touched.update(entry.users)
                continue
            if partner is None:
                self._again(entry, now, 0.0)  # somebody else is asked about
                continue
            self.failed += 1
            if ours:
                self._again(entry, now, LONGEST_REST_S)
                continue
            detail = failures.get(entry.held.url, "another source was heard instead")
            place = self._rest(trust, self._place_of(trust, entry.held), detail, now, monotonic)
            self._again(entry, now, place.until - monotonic)
        return tuple(touched)

    def troubles(self) -> tuple[Trouble, ...]:
        """
        What cannot be renewed now, what ends first before the rest.
        """
        failing = {
            location: place for (_, location), place in list(self._resting.items())[-_TOLD:] if place.failures
        }
        entries: dict[str, list[_Entry]] = {location: [] for location in failing}
        for entry in self._entries.values() if failing else ():
            trust = self._partners[next(reversed(entry.users))].trust if entry.users else ""
            location = self._place_of(trust, entry.held)
            if location in failing:
                entries[location].append(entry)
        found = [
            Trouble(
                location=location,
                issuers=tuple(sorted({entry.held.issuer for entry in theirs}))[:5],
                since=failing[location].since,
                failures=failing[location].failures,
                detail=failing[location].detail,
                ends=min(entry.held.ends(self._limits) for entry in theirs),
                partners=len({name for entry in theirs for name in entry.users}),
            )
            for location, theirs in entries.items()
            if theirs
        ]
        return tuple(sorted(found, key=lambda one: one.ends))

    def waiting(self) -> int:
        """
        How much is due and was not afforded yet.
        """
        return sum(
            len({key for *_, turn, key in heap if self._is_current(turn, key)})
            for heap in self._ready.values()
        )

    def evidence(self) -> Counter[SourceKind]:
        """
        How many answers are kept fresh, by kind.
        """
        return Counter(entry.held.kind for entry in self._entries.values())

    def _take(
        self, trust: str, heap: list[tuple[int, float, int, str]], now: datetime, monotonic: float
    ) -> Job | None:
        running = [job for job in self._running.values() if job.partner.trust == trust]
        if len(running) >= AT_ONCE or self._budget(trust, monotonic).tokens < 1 + len(running):
            return None
        while heap:
            *_, turn, key = heapq.heappop(heap)
            if not self._is_current(turn, key):
                continue
            entry = self._entries[key]
            place = self._resting.get((trust, self._place_of(trust, entry.held)))
            if place is not None and place.until > monotonic:
                self._again(entry, now, place.until - monotonic)
                continue
            partner = self._partners[next(reversed(entry.users))]
            if partner.name in self._running:
                self._again(entry, now, 1.0)
                continue
            if place is not None:
                # One asks; the others hear whether it is back.
                place.until = monotonic + FIRST_REST_S
            return self._job(partner, key, now)
        return None

    def _job(self, partner: Partner, key: str, now: datetime) -> Job:
        """
        The question's limits make exactly that old which is to be asked for anew.
        """
        soon = now + _TOGETHER
        keys = {key}
        for held in partner.held:
            entry = self._entries.get(held.key)
            if entry is not None and entry.due <= soon:
                keys.add(held.key)
        held_now = tuple(
            self._entries[held.key].held if held.key in self._entries else held for held in partner.held
        )
        for one in keys:
            self._entries[one].turn = self._turn()  # nobody else takes it meanwhile
        limits = self._limits
        for kind in (SourceKind.OCSP, SourceKind.CRL, SourceKind.DIRECTORY):
            ages = [now - held.received_at for held in held_now if held.kind is kind and held.key in keys]
            if ages:
                older = max(timedelta(0), min(ages) - timedelta(milliseconds=1))
                age = min(older, refresh_age(kind, self._limits))
                if kind is SourceKind.OCSP:
                    limits = replace(limits, ocsp_refresh=age)
                elif kind is SourceKind.CRL:
                    limits = replace(limits, crl_refresh=age)
                else:
                    limits = replace(limits, directory_refresh=age)
        return Job(partner=replace(partner, held=held_now), keys=frozenset(keys), limits=limits)

    def _due(self, held: Held) -> tuple[datetime | None, datetime]:
        entry = self._entries.get(held.key)
        trust = None
        if entry is not None and entry.users:
            trust = self._trusts.get(self._partners[next(reversed(entry.users))].trust)
        return due(held, self._limits, each_time=trust is not None and asks_each_time(trust))

    def _ripen(self, now: datetime) -> None:
        """
        Move what is due to where it waits for its turn.
        """
        moment = now.timestamp()
        for _ in range(_AT_A_TIME):
            if not self._agenda or self._agenda[0][0] > moment:
                return
            _, turn, key = heapq.heappop(self._agenda)
            if not self._is_current(turn, key):
                continue
            entry = self._entries[key]
            if not entry.users:
                continue
            partner = self._partners[next(reversed(entry.users))]
            heap = self._ready.setdefault(partner.trust, [])
            before_end = entry.before_end
            if before_end <= now:
                rank = 0, entry.held.ends(self._limits).timestamp()
            else:
                shared = entry.held.kind is SourceKind.CRL or len(entry.users) > 1
                rank = 1 if shared else 2, -partner.seen.timestamp()
                # Where it must wait for long, it becomes more urgent.
                heapq.heappush(self._agenda, (max(before_end.timestamp(), moment + 1), turn, key))
            heapq.heappush(heap, (*rank, turn, key))

    def _plan(self, entry: _Entry, *, now: datetime | None = None) -> None:
        """
        Note when a piece of evidence is due.
        """
        entry.turn = self._turn()
        soft, entry.before_end = self._due(entry.held)
        entry.due = entry.before_end if soft is None else soft
        moment = entry.due.timestamp()
        if now is not None:
            held = entry.held
            life = min(refresh_age(held.kind, self._limits), held.ends(self._limits) - held.this_update)
            pause = max(SHORTEST, life / _TENTH)
            moment = max(moment, now.timestamp() + pause.total_seconds())
        heapq.heappush(self._agenda, (moment, entry.turn, entry.held.key))

    def _plan_all(self) -> None:
        self._agenda.clear()
        self._ready.clear()
        self._unplanned = deque(self._entries)

    def _plan_some(self, now: datetime) -> None:
        for _ in range(min(_AT_A_TIME, len(self._unplanned))):
            entry = self._entries.get(self._unplanned.popleft())
            if entry is None:
                continue
            self._plan(entry)
            if entry.held.received_at > now + timedelta(seconds=_JUMP_S):
                # What seems to have been received in times to come is as old as can be.
                self._again(entry, now, 0.0)

    def _again(self, entry: _Entry, now: datetime, in_s: float) -> None:
        entry.turn = self._turn()
        # Those who wait for one location do not come all at once when it is asked again.
        later = max(0.0, in_s) + 1.0 + spread(entry.held)
        heapq.heappush(self._agenda, (now.timestamp() + later, entry.turn, entry.held.key))

    def _turn(self) -> int:
        self._turns += 1
        return self._turns

    def _is_current(self, turn: int, key: str) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.turn == turn

    def _look_at_clocks(self, now: datetime, monotonic: float) -> None:
        before, self._clocks = self._clocks, (now.timestamp(), monotonic)
        if before is None or abs((now.timestamp() - before[0]) - (monotonic - before[1])) > _JUMP_S:
            self._plan_all()

    def _budget(self, trust: str, monotonic: float) -> _Budget:
        most = max(2.0, self._settings.requests_per_hour / 60)
        budget = self._budgets.get(trust)
        if budget is None:
            budget = self._budgets[trust] = _Budget(most, monotonic)
        passed_s = max(0.0, monotonic - budget.at)
        budget.tokens = min(most, budget.tokens + passed_s * self._settings.requests_per_hour / 3600)
        budget.at = monotonic
        return budget

    def afforded_in(self, monotonic: float) -> float | None:
        """
        In how many seconds a trust set for which something waits may be asked again; `None` where nothing waits.
        """
        waits = []
        for trust, heap in self._ready.items():
            while heap and not self._is_current(heap[0][2], heap[0][3]):
                heapq.heappop(heap)
            if heap:
                short = 1 - self._budget(trust, monotonic).tokens
                waits.append(max(0.0, short * 3600 / max(1, self._settings.requests_per_hour)))
        return min(waits, default=None)

    def _place_of(self, trust: str, held: Held) -> str:
        """
        What fails together: a location, and of a directory, where each partner is another search, the whole of it.
        """
        known = self._trusts.get(trust)
        directory = None if known is None or held.kind is not SourceKind.DIRECTORY else known.directory
        return held.url if directory is None else directory.place

    def _rest(self, trust: str, location: str, detail: str, now: datetime, monotonic: float) -> _Place:
        place = self._resting.pop((trust, location), None) or _Place(now)
        self._resting[trust, location] = place
        while len(self._resting) > _PLACES:
            self._resting.popitem(last=False)
        if monotonic - place.counted >= 1:  # those that were under way together count once
            place.failures += 1
            place.counted = monotonic
        place.until = monotonic + min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(place.failures - 1, 10))
        place.detail = detail
        return place


def _is_newer(held: Held, before: Held, now: datetime) -> bool:
    """
    Whether an answer was received after another one; what seems to come from times to come is older than any.
    """
    if held.received_at == before.received_at:
        return False
    return held.received_at > before.received_at or before.received_at > now + timedelta(seconds=_JUMP_S)


def posix(moment: float) -> datetime:
    """
    A moment of the agenda as a time.
    """
    return datetime.fromtimestamp(moment, UTC)
