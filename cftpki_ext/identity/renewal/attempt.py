"""
One attempt: the enrollers in their order, until one has issued or the order is where it has to wait.

Owns fail-over and what is remembered of it. The caller holds the identity's lock and has decided that it is time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

from cftpki_ext.identity.enroller_port import Enroller
from cftpki_ext.identity.issuance.order import Issuer
from cftpki_ext.identity.issuance.task import Activated, Waits
from cftpki_ext.identity.renewal.facts import held_until, is_revoked, left_of, waits_until
from cftpki_ext.identity.renewal.schedule import EARLY_SHARE, PAUSES, Plan, Why
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Log, Site
from cftpki_ext.identity.store.state import Failure, IdentityState, Rollout, Waiting, write_state
from cftpki_ext.ports.clock import Clock


class Attempter:
    """
    Asks the enrollers. For one event loop.
    """

    def __init__(
        self,
        *,
        enrollers: Mapping[str, Enroller],
        clock: Clock,
        event: Log,
        anchors: Callable[[str], tuple[bytes, ...]],
    ) -> None:
        self._enrollers = enrollers
        self._clock = clock
        self._event = event
        self._issuer = Issuer(clock=clock, event=event, anchors=anchors)

    async def attempt(
        self,
        site: Site,
        current: Generation | None,
        state: IdentityState,
        now_due: Plan,
        *,
        force: bool = False,
    ) -> tuple[Generation | None, IdentityState]:
        """
        Ask the enrollers in their order until one has issued, or an order is where it has to wait.

        By default those are left out that asked not to be asked yet. While one waits the next is asked only when
        nothing can be used or less than the floor of the life is left.

        Args:
            site: under the lock.
            current: the generation in force; it stays so unless another one is activated.
            state: what is remembered.
            now_due: why this is done, and where the floor is.
            force: also ask those that asked not to be asked yet.

        Returns:
            The generation in force, and what is remembered now.

        Raises:
            StoreError: the disk refuses, or the journal cannot be read.
            KeyUnavailableError: a key or its password cannot be read.

        """
        name = site.identity.name
        now = self._clock.now()
        # What is revoked is good for nothing, not even for asking for the next one; nor is what cannot sign.
        unfit = current is not None and (is_revoked(current, state) or current.key_fault is not None)
        left = left_of(current, state, now)
        urgent = current is None or unfit or (now_due.floor is not None and now >= now_due.floor)
        # Who asks by hand has changed something, or wants to know: what was counted before says nothing.
        held_back = {} if force else {n: f for n, f in state.held_back.items() if f.at <= now}
        waiting: Waiting | None = None
        failure: Failure | None = None
        enrollers = site.identity.enrollers
        if state.under_way:
            # The attempt was cut off: what was asked for is collected before anybody else is asked.
            submitted = await asyncio.to_thread(_submitted, site)
            enrollers = tuple(sorted(enrollers, key=lambda one: one not in submitted))
        else:
            state = state.model_copy(update={"under_way": True})
            await asyncio.to_thread(write_state, site.directory, state)
        for enroller_name in enrollers:
            if not force and _still_waits(state, enroller_name, waits_until(state, now, left)):
                waiting = waiting or state.waiting
                if not urgent:
                    break
                continue
            before = held_back.get(enroller_name)
            if held_until(before, now, left) is not None:
                failure = failure or before
                continue
            enroller = self._enrollers[enroller_name]
            result = await self._issuer.run(site, enroller, current, revoked=unfit)
            if isinstance(result, Activated):
                generation = result.generation
                self._event(
                    "identity_activated",
                    identity=name,
                    generation=generation.number,
                    enroller=enroller_name,
                    why="operator" if force else now_due.why.value,
                    serial=generation.leaf.serial_hex,
                    not_after=generation.leaf.not_after.isoformat(),
                )
                held_back.pop(enroller_name, None)
                fresh = IdentityState(
                    mark=state.mark,
                    last_failure=failure,
                    held_back=held_back,
                    replaced=0 if force or not _early(current, now_due, now) else state.replaced + 1,
                    revoked=state.revoked,
                    rollout=Rollout(generation=generation.number, activated_at=self._clock.now()),
                )
                await asyncio.to_thread(write_state, site.directory, fresh)
                return generation, fresh
            if isinstance(result, Waits):
                waiting = waiting or Waiting(
                    enroller=enroller_name, order=result.order, retry_at=result.retry_at, detail=result.detail
                )
                # Somebody has to approve, perhaps: the next one is asked only when time runs out.
                if not urgent:
                    break
                continue
            failure = Failure(
                at=self._clock.now(),
                enroller=enroller_name,
                fault=result.fault,
                detail=result.detail,
                not_before=result.retry_at,
                times=1 if before is None else before.times + 1,
                issued=result.issued,
            )
            if result.retry_at is not None or result.fault in PAUSES:
                held_back[enroller_name] = failure
            self._event(
                "identity_attempt_failed",
                identity=name,
                enroller=enroller_name,
                fault=result.fault.value,
                detail=result.detail,
                generation_in_force=None if current is None else current.number,
                runway=None if current is None else current.ends.isoformat(),
            )
        state = state.model_copy(
            update={
                "under_way": False,
                "failures": state.failures if waiting else state.failures + 1,
                "last_attempt_at": self._clock.now(),
                "last_failure": failure or state.last_failure,
                "held_back": held_back,
                "waiting": waiting,
            }
        )
        await asyncio.to_thread(write_state, site.directory, state)
        return current, state


def _early(current: Generation | None, now_due: Plan, now: datetime) -> bool:
    """
    Whether the generation in force had to go before its time.
    """
    if current is None or now_due.why not in {Why.REVOKED, Why.UNUSABLE, Why.DAMAGED, Why.CHANGED, Why.CA}:
        return False
    since = current.meta.written_at
    return now_due.why is not Why.CA or now - since < (current.ends - since) * EARLY_SHARE


def _submitted(site: Site) -> frozenset[str]:
    open_orders = site.journal.open_orders()
    return frozenset(name for name, record in open_orders.items() if record.submitted_at is not None)


def _still_waits(state: IdentityState, enroller: str, until: datetime | None) -> bool:
    return state.waiting is not None and state.waiting.enroller == enroller and until is not None
