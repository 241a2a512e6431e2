"""
How each source of statuses stands: whether it answers, since when, what it said last; and by how much CAs' clocks differ from ours.

Owns the states and their log lines: a source that goes down, or comes back, is one line at that moment, whatever the others say. A source
is down that cannot be reached, does not answer in time, or answers what nobody could use; what is wrong with one certificate is not
the source's. Bounded: locations come from certificates of trusted paths.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.sources import StatusQuestion, StatusSource
from cftpki_ext.service.monitoring.labels import label
from cftpki_ext.service.monitoring.latencies import Latencies

# Locations that are known, and that STATUS shows: those that are down first, then those asked last.
_MOST, _SHOWN = 256, 64
# Servers whose clocks are known.
_CLOCKS = 64
# A location that nobody asked for so long is nobody's trouble any more.
_FORGOTTEN = timedelta(days=7)
# Whoever had its answer elsewhere gives up a request: a source that kept quiet for so long, so often in a row, is silent.
_QUIET_S, _QUIET_TIMES = 0.5, 2
# ... and one that did so for so long is silent at once: nothing else was heard in all that time.
_DEAD_S = 2.0
# A timer that comes so late says that this process did not run, and nothing of the source.
_LATE_S = 0.5
# Less patience tells nothing of a source.
_FAIR_S = 0.25
# Certificates are dated back by minutes; a clock that differs by more makes answers stale, or not yet valid.
_CLOCK_DIFFERS_S = 60.0
_CHARACTERS = 200
_DETAIL = 160

# What keeps a source from being asked is no fault of its own.
_NOT_ASKED = frozenset({Cause.FORBIDDEN_URL, Cause.NO_SOURCE})
# What no certificate's own circumstances explain.
_UNUSABLE = frozenset(
    {
        Cause.TRY_LATER,
        Cause.RESPONDER_ERROR,
        Cause.STALE,
        Cause.MALFORMED,
        Cause.UNREADABLE,
        Cause.BAD_SIGNATURE,
        Cause.TOO_LARGE,
    }
)
Key = tuple[str, SourceKind, str]


@dataclass(slots=True)
class _State:
    asked: datetime
    up: bool | None = None
    since: datetime | None = None
    answered: datetime | None = None
    next_update: datetime | None = None
    is_judged: bool = False  # it is down for what it answered
    cause: str | None = None
    detail: str = ""
    answers: int = 0
    failures: int = 0
    quiet: int = 0


@dataclass(slots=True)
class _Offset:
    seconds: float
    at: datetime
    differs: bool


class SourceStates:
    """
    The states of all locations that were asked. For one event loop.

    Args:
        log: is told of each change.
        clock: the time.
        settings: those in force.

    """

    def __init__(self, log: Log, clock: Clock, settings: Settings) -> None:
        self._log = log
        self._clock = clock
        self._states: OrderedDict[Key, _State] = OrderedDict()
        self._offsets: OrderedDict[str, _Offset] = OrderedDict()
        self._seconds: defaultdict[str, Latencies] = defaultdict(Latencies)
        self._trusts = settings.trusts

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration: what no trust set asks any more is forgotten.
        """
        self._trusts = settings.trusts
        for key in [key for key in self._states if key[0] not in settings.trusts]:
            del self._states[key]

    def watch(self, sources: Mapping[SourceKind, StatusSource]) -> dict[SourceKind, StatusSource]:
        """
        Sources that are asked as before, and of which it is known how they stand.
        """
        return {kind: WatchedSource(one, self, self._clock) for kind, one in sources.items()}

    # --- what is told ---------------------------------------------------------------------------------------------

    def asked(self, question: StatusQuestion) -> Key:
        """
        A location is about to be asked; the name that the others below are told it by.
        """
        trust, lookup = question.trust, question.lookup
        key = (trust.name, lookup.kind, self._location(trust.name, lookup.kind, lookup.url))
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(asked=self._clock.now())
            if len(self._states) > _MOST:
                self._forget_one()
        state.asked = self._clock.now()
        self._states.move_to_end(key)
        return key

    def heard(self, key: Key, statement: Statement, *, seconds: float, late_s: float) -> None:
        """
        A location answered, or failed.

        Args:
            key: from `asked`.
            statement: what came of it.
            seconds: how long that took.
            late_s: how long after the question's deadline.

        """
        state = self._states.get(key)
        if state is None:
            return
        if statement.failure is None:
            self._seconds[key[1].value].add(seconds)
            state.answers += 1
            state.quiet = 0
            state.answered = statement.received_at
            if not (state.up is False and state.is_judged):
                self._up(key, state)
            return
        if statement.failure in _NOT_ASKED:
            return
        ran_out = statement.failure is Cause.TIMED_OUT
        if ran_out and (late_s > _LATE_S or seconds < _FAIR_S):
            return
        self._down(key, state, statement.failure.value, statement.detail)

    def given_up(self, key: Key, *, seconds: float, late_s: float) -> None:
        """
        A location was not waited for any longer: another one had answered, or the time was over.

        Args:
            key: from `asked`.
            seconds: how long it was waited for.
            late_s: how long after the question's deadline.

        """
        state = self._states.get(key)
        if state is None or seconds < _QUIET_S or late_s > _LATE_S:
            return
        state.quiet += 1
        if seconds >= _DEAD_S or state.quiet >= _QUIET_TIMES:
            detail = (
                f"no answer within {seconds:.1f} s, {state.quiet} in a row, and not waited for any longer"
            )
            self._down(key, state, Cause.TIMED_OUT.value, detail)

    def hear_time(self, origin: str, said: datetime) -> None:
        """
        A server said what time it is, to the second.
        """
        seconds = (said - self._clock.now()).total_seconds() + 0.5
        before = self._offsets.pop(origin, None)
        differs = abs(seconds) > _CLOCK_DIFFERS_S
        self._offsets[origin] = _Offset(seconds, self._clock.now(), differs)
        if len(self._offsets) > _CLOCKS:
            self._offsets.popitem(last=False)
        if differs and (before is None or not before.differs):
            self._log.warning(
                "clock_differs",
                origin=origin,
                offset_s=round(seconds),
                detail="the server's clock, or this machine's, is wrong",
            )

    def judged(self, verdict: Verdict) -> None:
        """
        What sources said was judged. Never raises.
        """
        evidence = verdict.evidence
        for finding in evidence.heard:
            for source in finding.sources:
                if source.origin is not Origin.NETWORK or source.url is None or evidence.trust is None:
                    continue
                location = self._location(evidence.trust, source.kind, source.url)
                key = (evidence.trust, source.kind, location)
                state = self._states.get(key)
                if state is None:
                    continue
                if source.cause is None:
                    state.next_update = source.next_update
                    self._up(key, state)
                elif source.cause in _UNUSABLE:
                    self._down(key, state, source.cause.value, source.detail, judged=True)

    # --- what is shown --------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """
        For STATUS.
        """
        now = self._clock.now()
        for key in [key for key, one in self._states.items() if now - one.asked > _FORGOTTEN]:
            del self._states[key]
        latest = [(key, self._states[key]) for key in reversed(self._states)]
        latest.sort(key=lambda one: one[1].up is not False)
        return {
            "known": len(self._states),
            "down": sum(one.up is False for one in self._states.values()),
            "locations": [_plain(key, one) for key, one in latest[:_SHOWN]],
            "seconds": {kind: one.status() for kind, one in sorted(self._seconds.items())},
            "clocks": {
                label(origin, _CHARACTERS): {"offset_s": round(one.seconds, 1), "at": _text(one.at)}
                for origin, one in self._offsets.items()
            },
        }

    def _location(self, trust: str, kind: SourceKind, url: str) -> str:
        """
        The place itself: a CA's lookup, and a search in a directory, has a URL of its own for each certificate.
        """
        known = self._trusts.get(trust)
        if kind is SourceKind.REST and known is not None and known.rest is not None:
            return known.rest.url
        if kind is SourceKind.DIRECTORY and known is not None and known.directory is not None:
            return known.directory.place
        return url

    def _forget_one(self) -> None:
        """
        Forget the location that was asked longest ago, of those that are up if there are any.
        """
        gone = next(
            (key for key, one in self._states.items() if one.up is not False), next(iter(self._states))
        )
        del self._states[gone]

    def _up(self, key: Key, state: _State) -> None:
        if state.up:
            return
        now, was_down, since = self._clock.now(), state.up is False, state.since
        state.up, state.since, state.is_judged = True, now, False
        state.cause, state.detail = None, ""
        if was_down and since is not None:
            self._log.info(
                "source_up", **_named(key), down_since=_text(since), down_s=int((now - since).total_seconds())
            )

    def _down(self, key: Key, state: _State, cause: str, detail: str, *, judged: bool = False) -> None:
        state.failures += 1
        state.cause, state.detail = cause, excerpt(detail, _DETAIL)
        state.is_judged = judged
        if state.up is False:
            return
        state.up, state.since = False, self._clock.now()
        self._log.warning(
            "source_down", **_named(key), cause=cause, error=state.detail, last_answer=_text(state.answered)
        )


class WatchedSource:
    """
    A `StatusSource` of which it is known how it stands.

    Args:
        source: asks.
        states: are told.
        clock: the time.

    """

    def __init__(self, source: StatusSource, states: SourceStates, clock: Clock) -> None:
        self._source = source
        self._states = states
        self._clock = clock

    async def ask(self, question: StatusQuestion) -> Statement:
        """
        See `StatusSource`.
        """
        key = self._states.asked(question)
        begun = self._clock.monotonic()
        if question.hear_time is None:
            question = replace(question, hear_time=self._states.hear_time)
        try:
            statement = await self._source.ask(question)
        except asyncio.CancelledError:
            now = self._clock.monotonic()
            self._states.given_up(key, seconds=now - begun, late_s=now - question.deadline)
            raise
        now = self._clock.monotonic()
        self._states.heard(key, statement, seconds=now - begun, late_s=now - question.deadline)
        return statement

    async def aclose(self) -> None:
        """
        See `StatusSource`.
        """
        await self._source.aclose()


def _named(key: Key) -> dict[str, str]:
    trust, kind, location = key
    return {"trust": trust, "kind": kind.value, "location": label(location, _CHARACTERS)}


def _plain(key: Key, one: _State) -> dict[str, Any]:
    return {
        **_named(key),
        "up": one.up,
        "since": _text(one.since),
        "asked": _text(one.asked),
        "answered": _text(one.answered),
        "next_update": _text(one.next_update),
        "answers": one.answers,
        "failures": one.failures,
        "cause": one.cause,
        "detail": one.detail,
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
