"""
When a certificate is renewed, and when a failed attempt is repeated. Pure: the same facts give the same time.

Nothing here waits: the plan is made anew at every tick of the wall clock, so that a clock that jumps or a machine
that slept changes nothing but the answer. What a failure costs decides how long it is waited for: an unreachable CA is
asked within minutes, one that refuses or issues what nobody can use is left alone until somebody acts.

More than 400 lines: one pure rule, whose cases are read beside each other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, time, timedelta
from hashlib import sha256
from types import MappingProxyType

from cftpki_ext.core.identity_settings import ChangeWindow, RenewalRules
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault

# A fleet that was set up in one minute must not renew in one minute: up to a twentieth of the life earlier, and never
# more than a fifth of the time until the renewal.
JITTER_SHARE = 1 / 20
JITTER_OF_WAIT = 1 / 5
# What the configuration asks for would renew before so much of the life is gone: it was meant for longer lives. The
# smallest share that `renew_at` can name.
LEAST_SHARE = 1 / 10
# Attempts after failures: 1, 2, 4 … minutes, never rarer than this or than a twentieth of what is left.
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(hours=6)
SHORTEST_RETRY = timedelta(seconds=30)
REMAINING_SHARE = 1 / 20
# With nothing valid at hand each minute counts, but a CA that comes back must not be run over.
LONGEST_WITHOUT = timedelta(minutes=5)
# A CA may ask for patience, not for giving up: with nothing valid at hand an order that waits, or a limit, for no more
# than a quarter of an hour. Asking again costs it neither an order nor a certificate.
LONGEST_RETRY_AFTER = timedelta(days=1)
PATIENCE_WITHOUT = timedelta(minutes=15)
# Where a CA limits us and does not say until when.
RATE_LIMIT_PAUSE = timedelta(hours=1)
# Two early renewals in a row because the CA asked for them are at least a quarter of a life, or a day, apart; early is
# before half of the life is gone.
EARLY_SHARE = 1 / 2
HINT_SHARE = 1 / 4
HINT_INTERVAL = timedelta(days=1)
# A certificate that had to be replaced at once (revoked, unusable, changed) soon after another was: something takes
# them away as fast as they come.
FIRST_REPLACEMENT = timedelta(minutes=10)
LONGEST_REPLACEMENT = timedelta(hours=6)
_SEARCHED_DAYS = 8  # a week, and the window that began the day before


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """
    The waits after failures of one kind at one enroller: the first, doubled by each further one, and the longest.

    `without` bounds them while nothing valid is at hand, `near` by half of what is left, but never below it.
    """

    first: timedelta
    longest: timedelta
    without: timedelta
    near: timedelta


# Each attempt costs the CA an order, and a failed validation counts against its limits (public CAs take five an hour):
# four in the first ninety minutes, eight in the first day, whatever is at stake.
_REFUSED = Pause(
    first=timedelta(minutes=10), longest=LONGEST_RETRY, without=LONGEST_RETRY, near=timedelta(hours=1)
)
# Each attempt costs the CA a certificate that nobody uses: six in two days, then one a day.
_REJECTED = Pause(
    first=timedelta(hours=1), longest=timedelta(days=1), without=timedelta(days=1), near=timedelta(hours=1)
)
PAUSES: Mapping[Fault, Pause] = MappingProxyType(
    {
        Fault.REFUSED: _REFUSED,
        Fault.ORDER_LOST: _REFUSED,
        # It costs nothing but a wrong password, of which a directory takes some in half an hour.
        Fault.MISCONFIGURED: Pause(
            first=timedelta(minutes=5),
            longest=LONGEST_RETRY,
            without=timedelta(minutes=15),
            near=timedelta(minutes=15),
        ),
    }
)


class Why(enum.StrEnum):
    """
    Why the certificate is renewed at the planned time.
    """

    MISSING = "missing"  # nothing is held
    REVOKED = "revoked"
    UNUSABLE = "unusable"  # its key cannot be used
    DAMAGED = "damaged"  # what was in force was not whole, an earlier one stands in for it
    CHANGED = "changed"  # the configuration asks for another certificate
    LIFETIME = "lifetime"
    CA = "ca"  # the CA asks for it (ARI)
    OPERATOR = "operator"
    ORDER = "order"  # an attempt was begun and has not come to its end


# No change window holds these back.
_AT_ONCE = frozenset({Why.REVOKED, Why.UNUSABLE, Why.DAMAGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """
    What the plan needs to know of the chain in force. `ends` may be before the leaf's notAfter.
    """

    begins: datetime
    ends: datetime
    issued_at: datetime  # by our clock, when the generation was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """
    Failed attempts since the last success. `not_before` is when the first enroller may be asked (`again_at`).
    """

    failures: int = 0
    last: datetime | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    All that a plan depends on. `seed` names host and identity, for the jitter.
    """

    now: datetime
    seed: str
    life: Life | None = None
    attempts: Attempts = Attempts()
    hint: datetime | None = None  # the moment that was picked in the CA's window
    hint_ends: datetime | None = None  # the end of that window
    hint_ready: bool = False  # what replaces it is at hand: asking costs nobody anything
    under_way: bool = False
    revoked: bool = False
    unusable: bool = False
    damaged: bool = False
    changed: bool = False
    kept_back: bool = False  # an operator went back to this generation: keep it as long as is safe
    replaced: int = (
        0  # how many in a row had to be replaced before their time; the one in force is the last's successor
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    When to act, why, and the moment from which on windows hold nothing back.

    `late` says that `floor` is the CA's own deadline (the end of its window), `note` why the certificate is not renewed
    when the configuration says.
    """

    at: datetime
    why: Why
    floor: datetime | None
    detail: str
    late: bool = False
    note: str | None = None


def plan(rules: RenewalRules, facts: Facts) -> Plan:
    """
    Say when the next attempt is due.

    By default at two thirds of the issued lifetime, a little earlier by host and identity. A CA's hint can only
    make it earlier than the safety limit; its own deadline is one too. Windows can hold it back until there and no
    longer. A missing or revoked certificate, and one whose key cannot be used, is due now. After failures the wait
    doubles, and shrinks as the end comes nearer.

    Args:
        rules: of the identity.
        facts: the certificate, the attempts, the time.

    Returns:
        The plan; due when its time is not after `facts.now`.

    """
    wanted = _wanted(rules, facts)
    at, why, floor, detail = wanted.at, wanted.why, wanted.floor, wanted.detail
    life = facts.life
    if life is not None and floor is not None:
        if why not in _AT_ONCE:
            earliest = max(at, facts.now)
            opened = next_opening(rules.windows, earliest)
            if opened > earliest:
                at = max(earliest, min(opened, floor))
                detail = f"{why.value}, held back by a change window"
        # An issuance in the future was written by a clock that has been set back since.
        if why is not Why.ORDER and life.issued_at <= facts.now:
            at = max(at, life.issued_at + _interval(rules, facts, why, life))
    waits = [at]
    attempts = facts.attempts
    if attempts.failures and attempts.last is not None and attempts.last <= facts.now:
        waits.append(attempts.last + backoff(facts))
    if attempts.not_before is not None:
        waits.append(attempts.not_before)
    if max(waits) > at:
        times = "one failed attempt" if attempts.failures == 1 else f"{attempts.failures} failed attempts"
        detail = f"{detail}, waiting after {times}"
    return replace(wanted, at=max(waits), detail=detail)


def _interval(rules: RenewalRules, facts: Facts, why: Why, life: Life) -> timedelta:
    if why in {*_AT_ONCE, Why.CHANGED}:
        least = rules.min_interval if why is Why.CHANGED else timedelta(0)
        if not facts.replaced:
            return least
        return max(least, min(FIRST_REPLACEMENT * (1 << min(facts.replaced - 1, 16)), LONGEST_REPLACEMENT))
    if why is not Why.CA or facts.hint_ready or not facts.replaced:
        return rules.min_interval
    # A CA that says "now" once is heard; one that always does must not make us renew without end.
    return max(rules.min_interval, min(HINT_INTERVAL, (life.ends - life.begins) * HINT_SHARE))


def _wanted(rules: RenewalRules, facts: Facts) -> Plan:
    """
    The plan without windows, intervals and failures.
    """
    life = facts.life
    if life is None:
        return _plan(facts.now, Why.MISSING, None)
    floor = _safety_limit(rules, facts, life)
    if facts.revoked:
        return _plan(facts.now, Why.REVOKED, floor)
    if facts.unusable:
        return _plan(facts.now, Why.UNUSABLE, floor)
    if facts.damaged:
        return _plan(facts.now, Why.DAMAGED, floor)
    if facts.kept_back and not facts.under_way:
        return _plan(floor, Why.LIFETIME, floor)
    late = facts.hint_ends is not None and facts.hint_ends < floor
    if facts.hint_ends is not None:
        floor = min(floor, facts.hint_ends)
    if facts.under_way:
        return replace(_plan(facts.now, Why.ORDER, floor), late=late)
    if facts.changed:
        return replace(_plan(facts.now, Why.CHANGED, floor), late=late)
    if facts.hint is not None:
        # The CA knows its load and its incidents; but nothing may be put off past the safety limit.
        return replace(_plan(min(facts.hint, floor), Why.CA, floor), late=late)
    base, note = _by_age(rules, facts, life)
    detail = Why.LIFETIME.value if note is None else f"{Why.LIFETIME.value}: {note}"
    return Plan(at=min(base, floor), why=Why.LIFETIME, floor=floor, detail=detail, note=note)


def _plan(at: datetime, why: Why, floor: datetime | None) -> Plan:
    return Plan(at=at, why=why, floor=floor, detail=why.value)


def _held_since(facts: Facts, life: Life) -> datetime:
    """
    From when on the certificate is used; what it lived before (a CA's backdating, a late file) is nobody's.
    """
    return life.begins if life.issued_at > facts.now else max(life.begins, min(life.issued_at, life.ends))


def _safety_limit(rules: RenewalRules, facts: Facts, life: Life) -> datetime:
    since = _held_since(facts, life)
    floor = life.ends - (life.ends - life.begins) * rules.floor
    return floor if floor > since else life.ends - (life.ends - since) * rules.floor


def _by_age(rules: RenewalRules, facts: Facts, life: Life) -> tuple[datetime, str | None]:
    """
    When the configuration wants a renewal, and why that is not the time it names where it cannot be.
    """
    length, since = life.ends - life.begins, _held_since(facts, life)
    share, note = rules.renew_at, None
    if rules.renew_before is not None:
        base = life.ends - rules.renew_before
        asked = f"renew_at is {rules.renew_before} before the end"
    else:
        base = life.begins + length * share
        asked = f"renew_at is {share:.0%} of the life"
    if base < since + (life.ends - since) * LEAST_SHARE:
        lives = life.ends - since
        base = since + lives * share
        note = f"{asked}, and the certificate lives for {lives} here: renewed at {share:.0%} of that"
    jitter = min(length * JITTER_SHARE, (base - since) * JITTER_OF_WAIT)
    return base - jitter * fraction(facts.seed), note


def again_at(
    fault: Fault,
    *,
    at: datetime,
    times: int,
    asked: datetime | None,
    left: timedelta | None,
    issued: bool = False,
) -> datetime | None:
    """
    When an enroller that failed is asked again, by what an attempt costs its CA and what is at stake here.

    Args:
        fault: of the last failure.
        at: when that was.
        times: how many such failures in a row.
        asked: what the CA asked for (Retry-After).
        left: of the chain in force; `None` where nothing valid is at hand.
        issued: a certificate was issued that is of no use.

    Returns:
        The time; `None` where the identity's own `backoff` alone decides.

    """
    pause = _REJECTED if issued else PAUSES.get(fault)
    if pause is not None:
        wait = min(pause.first * (1 << min(max(times, 1) - 1, 16)), pause.longest)
        if left is None:
            return at + min(wait, pause.without)
        return at + min(wait, max(pause.near, left / 2))
    if fault is Fault.RATE_LIMITED and asked is None:
        asked = at + RATE_LIMIT_PAUSE
    if asked is None:
        return None
    longest = LONGEST_WITHOUT if fault is Fault.UNREACHABLE else PATIENCE_WITHOUT
    return at + min(asked - at, patience(left, without=longest))


def patience(left: timedelta | None, *, without: timedelta = PATIENCE_WITHOUT) -> timedelta:
    """
    How long a CA may let us wait.

    Args:
        left: of the chain in force; `None` where nothing valid is at hand.
        without: the most then.

    Returns:
        At most a day, and at most half of what is left.

    """
    if left is None:
        return without
    return min(LONGEST_RETRY_AFTER, max(left / 2, FIRST_RETRY))


def backoff(facts: Facts) -> timedelta:
    """
    How long to wait after the last of some failures.

    Args:
        facts: attempts, life and time.

    Returns:
        At least 30 seconds, at most six hours and at most a twentieth of the remaining life.

    """
    wait = FIRST_RETRY * (1 << min(facts.attempts.failures - 1, 16))
    cap = LONGEST_WITHOUT
    if facts.life is not None and not (facts.revoked or facts.unusable):
        remaining = facts.life.ends - facts.now
        if remaining > timedelta(0):
            cap = min(LONGEST_RETRY, remaining * REMAINING_SHARE)
    wait = max(SHORTEST_RETRY, min(wait, cap))
    # Up to a fifth more, another one for each attempt: those who failed together do not come back together.
    return wait * (1 + fraction(f"{facts.seed}/{facts.attempts.failures}") / 5)


def pick(start: datetime, end: datetime, *, draw: float) -> datetime:
    """
    The moment within a CA's renewal window (RFC 9773 4.2), to be picked once and kept.

    Args:
        start: of the window.
        end: of the window; one that is not after `start` gives `start`.
        draw: uniformly from 0 to 1.

    Returns:
        The moment.

    """
    return start + max(end - start, timedelta(0)) * draw


def next_opening(windows: tuple[ChangeWindow, ...], at: datetime) -> datetime:
    """
    The first moment from `at` on that lies in a window.

    Args:
        windows: none = every moment.
        at: aware.

    Returns:
        `at` itself where a window is open; `at` too where none ever opens.

    """
    if not windows:
        return at
    found = []
    midnight = datetime.combine(at.date(), time(), at.tzinfo)
    for offset in range(-1, _SEARCHED_DAYS):
        day = midnight + timedelta(days=offset)
        for window in windows:
            if day.weekday() not in window.days:
                continue
            begin, end = (
                datetime.combine(day, window.begin, at.tzinfo),
                datetime.combine(day, window.end, at.tzinfo),
            )
            if end <= begin:
                end += timedelta(days=1)
            if at < end:
                found.append(max(begin, at))
    return min(found, default=at)


def fraction(seed: str) -> float:
    """
    A number from 0 up to 1 that is always the same for the same text.
    """
    return int.from_bytes(sha256(seed.encode()).digest()[:8]) / 2**64
