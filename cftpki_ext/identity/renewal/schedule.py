"""
When a certificate is renewed, and when a failed attempt is repeated. Pure: the same facts give the same time.

Nothing here waits: the plan is made anew at every tick of the wall clock, so that a clock that jumps or a machine
that slept changes nothing but the answer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from hashlib import sha256

from cftpki_ext.core.settings import ChangeWindow, RenewalRules

# A fleet that was set up in one minute must not renew in one minute: up to a twentieth of the life earlier.
JITTER_SHARE = 1 / 20
# Attempts after failures: 1, 2, 4 … minutes, never rarer than this or than a twentieth of what is left.
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(hours=6)
SHORTEST_RETRY = timedelta(seconds=30)
REMAINING_SHARE = 1 / 20
# With nothing valid at hand each minute counts, but a CA that comes back must not be run over.
LONGEST_WITHOUT = timedelta(minutes=5)
# A CA may ask for patience, not for giving up.
LONGEST_RETRY_AFTER = timedelta(days=1)
# Two renewals because the CA asked for them are at least a tenth of a life, or a day, apart.
HINT_SHARE = 1 / 10
HINT_INTERVAL = timedelta(days=1)
_SEARCHED_DAYS = 8  # a week, and the window that began the day before


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
    Failed attempts since the last success. `not_before` is what a CA asked for (Retry-After), bounded already.
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
    hint_ready: bool = False  # what replaces it is at hand: asking costs nobody anything
    under_way: bool = False
    revoked: bool = False
    unusable: bool = False
    damaged: bool = False
    changed: bool = False
    kept_back: bool = False  # an operator went back to this generation: keep it as long as is safe


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    When to act, why, and the moment from which on windows hold nothing back.
    """

    at: datetime
    why: Why
    floor: datetime | None
    detail: str


def plan(rules: RenewalRules, facts: Facts) -> Plan:
    """
    Say when the next attempt is due.

    By default at two thirds of the issued lifetime, a little earlier by host and identity. A CA's hint can only
    make it earlier than the safety limit, windows can hold it back until there and no longer. A missing or
    revoked certificate, and one whose key cannot be used, is due now. After failures the wait doubles, and shrinks as the end comes nearer.

    Args:
        rules: of the identity.
        facts: the certificate, the attempts, the time.

    Returns:
        The plan; due when its time is not after `facts.now`.

    """
    at, why, floor = _wanted_at(rules, facts)
    detail = why.value
    life = facts.life
    if life is not None and floor is not None and why not in _AT_ONCE:
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
    return Plan(at=max(waits), why=why, floor=floor, detail=detail)


def _interval(rules: RenewalRules, facts: Facts, why: Why, life: Life) -> timedelta:
    if why is not Why.CA or facts.hint_ready:
        return rules.min_interval
    # A CA that always says "now" must not make us renew without end.
    return max(rules.min_interval, min(HINT_INTERVAL, (life.ends - life.begins) * HINT_SHARE))


def _wanted_at(rules: RenewalRules, facts: Facts) -> tuple[datetime, Why, datetime | None]:
    life = facts.life
    if life is None:
        return facts.now, Why.MISSING, None
    length = life.ends - life.begins
    floor = life.ends - length * rules.floor
    if facts.revoked:
        return facts.now, Why.REVOKED, floor
    if facts.unusable:
        return facts.now, Why.UNUSABLE, floor
    if facts.damaged:
        return facts.now, Why.DAMAGED, floor
    if facts.under_way:
        return facts.now, Why.ORDER, floor
    if facts.kept_back:
        return floor, Why.LIFETIME, floor
    if facts.changed:
        return facts.now, Why.CHANGED, floor
    if rules.renew_before is not None:
        base = life.ends - min(rules.renew_before, length * (1 - JITTER_SHARE))
    else:
        base = life.begins + length * rules.renew_at
    base -= length * JITTER_SHARE * fraction(facts.seed)
    if facts.hint is not None:
        # The CA knows its load and its incidents; but nothing may be put off past the safety limit.
        return min(facts.hint, floor), Why.CA, floor
    return min(base, floor), Why.LIFETIME, floor


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
