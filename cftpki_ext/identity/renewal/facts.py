"""
From what is on the disk to the facts that `schedule` plans by. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.identity.issuance.requested import changed
from cftpki_ext.identity.renewal.schedule import (
    LONGEST_WITHOUT,
    Attempts,
    Facts,
    Life,
    again_at,
    patience,
)
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.state import Failure, Hint, IdentityState


def facts_of(
    identity: ManagedIdentity, current: Generation | None, state: IdentityState, *, now: datetime, seed: str
) -> Facts:
    """
    The facts of one identity.

    Args:
        identity: the configuration.
        current: the generation in force.
        state: what is remembered.
        now: the wall-clock time.
        seed: names host and identity.

    Returns:
        What the plan depends on.

    """
    attempts = Attempts(
        failures=state.failures,
        last=state.last_attempt_at,
        not_before=_not_before(identity, current, state, now),
    )
    if current is None:
        return Facts(now=now, seed=seed, attempts=attempts)
    hint = state.hint if state.hint is not None and state.hint.generation == current.number else None
    return Facts(
        now=now,
        seed=seed,
        life=_life(current),
        attempts=attempts,
        hint=None if hint is None else hint.picked,
        hint_ends=_deadline(hint),
        hint_ready=hint is not None and hint.ready,
        under_way=state.under_way or state.waiting is not None or state.failures > 0,
        revoked=is_revoked(current, state),
        unusable=current.key_fault is not None,
        damaged=state.given_up is not None,
        changed=changed(identity, current, now),
        kept_back=state.kept_back == current.number,
        replaced=state.replaced,
    )


def is_revoked(current: Generation, state: IdentityState) -> bool:
    """
    Whether the generation in force is known to be revoked.
    """
    status = state.status
    return status is not None and status.revoked and status.generation == current.number


def left_of(current: Generation | None, state: IdentityState, now: datetime) -> timedelta | None:
    """
    How long the chain in force can still be used; `None` where there is none that can.
    """
    if current is None or current.ends <= now or current.key_fault is not None or is_revoked(current, state):
        return None
    return current.ends - now


def held_until(failure: Failure | None, now: datetime, left: timedelta | None) -> datetime | None:
    """
    Until when an enroller is not asked because of what it said last; `None` where it may be.

    Args:
        failure: its last one that costs something.
        now: the wall-clock time.
        left: of the chain in force (`left_of`).

    Returns:
        A time after `now`, or `None`.

    """
    # What a clock wrote that has been set back since says nothing now.
    if failure is None or failure.at > now:
        return None
    until = again_at(
        failure.fault,
        at=failure.at,
        times=failure.times,
        asked=failure.not_before,
        left=left,
        issued=failure.issued,
    )
    return until if until is not None and until > now else None


def waits_until(state: IdentityState, now: datetime, left: timedelta | None) -> datetime | None:
    """
    Until when the order that waits is left alone; `None` where none does.
    """
    asked = state.last_attempt_at
    if state.waiting is None or asked is None or asked > now:
        return None
    until = min(state.waiting.retry_at, asked + patience(left))
    return until if until > now else None


def _deadline(hint: Hint | None) -> datetime | None:
    """
    By when the CA wants its certificate renewed. What lies ready in a file, or not, is no deadline.
    """
    if hint is None or hint.ready or hint.start == hint.end:
        return None
    return hint.end


def _life(current: Generation) -> Life:
    return Life(begins=current.leaf.not_before, ends=current.ends, issued_at=current.meta.written_at)


def _not_before(
    identity: ManagedIdentity, current: Generation | None, state: IdentityState, now: datetime
) -> datetime | None:
    """
    Before when no enroller is asked again.
    """
    last, left = state.last_attempt_at, left_of(current, state, now)
    if last is None or last > now:
        # Written by a clock that has been set back since: what was said then says nothing now.
        return None
    if state.waiting is not None:
        floor = None if current is None else _floor(identity, current)
        urgent = left is None or floor is None or now >= floor
        several = len(identity.enrollers) > 1
        at = min(state.waiting.retry_at, last + patience(left))
        # When time runs out, the other enrollers are asked meanwhile.
        if several and urgent:
            return min(at, last + LONGEST_WITHOUT)
        return min(at, floor) if several and floor is not None else at
    held = [held_until(state.held_back.get(name), now, left) for name in identity.enrollers]
    return min((one for one in held if one is not None), default=None) if None not in held else None


def _floor(identity: ManagedIdentity, current: Generation) -> datetime:
    length = current.ends - current.leaf.not_before
    return current.ends - length * identity.renewal.floor
