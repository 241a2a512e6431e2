"""
From what is on the disk to the facts that `schedule` plans by. Pure.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.core.settings import ManagedIdentity
from cftpki_ext.identity.issuance.requested import changed
from cftpki_ext.identity.renewal.schedule import LONGEST_RETRY_AFTER, LONGEST_WITHOUT, Attempts, Facts, Life
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.state import IdentityState


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
    hint, status = state.hint, state.status
    return Facts(
        now=now,
        seed=seed,
        life=_life(current),
        attempts=attempts,
        hint=hint.picked if hint is not None and hint.generation == current.number else None,
        hint_ready=hint is not None and hint.ready,
        under_way=state.under_way or state.waiting is not None or state.failures > 0,
        revoked=status is not None and status.generation == current.number and status.revoked,
        unusable=current.key_fault is not None,
        damaged=state.given_up is not None,
        changed=changed(identity, current, now),
        kept_back=state.kept_back == current.number,
    )


def _life(current: Generation) -> Life:
    return Life(begins=current.leaf.not_before, ends=current.ends, issued_at=current.meta.written_at)


def _not_before(
    identity: ManagedIdentity, current: Generation | None, state: IdentityState, now: datetime
) -> datetime | None:
    """
    Before when no CA wants to be asked again, bounded from the last attempt on.
    """
    last = state.last_attempt_at
    if last is None or last > now:
        # Written by a clock that has been set back since: what was said then says nothing now.
        return None
    if state.waiting is not None:
        floor = None if current is None else _floor(identity, current)
        urgent = floor is None or now >= floor
        # When time runs out, the other enrollers are asked meanwhile.
        several = len(identity.enrollers) > 1
        longest = LONGEST_WITHOUT if urgent and several else LONGEST_RETRY_AFTER
        at = min(state.waiting.retry_at, last + longest)
        return at if floor is None or urgent or not several else min(at, floor)
    asked = [failure.not_before for failure in state.held_back.values() if failure.not_before is not None]
    if set(identity.enrollers) <= set(state.held_back) and asked:
        return min(*asked, last + LONGEST_RETRY_AFTER)
    return None


def _floor(identity: ManagedIdentity, current: Generation) -> datetime:
    length = current.ends - current.leaf.not_before
    return current.ends - length * identity.renewal.floor
