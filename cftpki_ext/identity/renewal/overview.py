"""
How an identity that enrollers keep stands, as plain data for people and scripts. Pure but for reading its records.

More than 400 lines: what is known of one identity, and each way of showing it, side by side.
"""

from __future__ import annotations

import enum
import ipaddress
from datetime import datetime
from typing import Any

from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import IGNORED
from cftpki_ext.identity.issuance.requested import still_wanted
from cftpki_ext.identity.renewal.rows import blank
from cftpki_ext.identity.renewal.schedule import Plan, Why
from cftpki_ext.identity.renewal.standing import OVERDUE, Standing, alarm_of, by_time, standings
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.journal import DamagedOrder, OrderRecord
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.identity.store.state import Failure, IdentityState, Stage, Waiting
from cftpki_ext.x509.certificate import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    What is read of an identity at one time, with the plan that follows.

    `damage` is why what is in force by its name counts as missing, `number` that name's number; `faults` are records
    beside it that are not whole; `obstacle` is why nobody can renew it here.
    """

    current: Generation | None
    state: IdentityState
    plan: Plan
    number: int | None = None
    damage: str | None = None
    faults: tuple[str, ...] = ()
    obstacle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """
    A certificate that a CA has issued, or may have issued, and nobody uses.
    """

    order: str
    enroller: str
    at: datetime
    serial: str | None
    detail: str


class Progress(enum.StrEnum):
    """
    How far an open order is.
    """

    PREPARED = "prepared"  # key and request are made, no CA has heard of it
    SUBMITTED = "submitted"
    ANSWERED = "answered"  # what the CA sent is kept, and is not in force


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """
    An order that is not at its end. `next` says what will happen to it.
    """

    order: str
    enroller: str
    since: datetime
    progress: Progress
    next: str
    left: bool  # nobody is about to ask for it: the operator should know that it is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """
    One identity. `runway` is until when it can live without any CA.
    """

    name: str
    current: Generation | None
    stage: Stage | None
    runway: datetime | None
    plan: Plan
    now: datetime
    state: IdentityState
    orphans: tuple[Orphan, ...]
    open_orders: tuple[OpenOrder, ...]
    damage: str | None = None
    faults: tuple[str, ...] = ()
    damaged_orders: tuple[DamagedOrder, ...] = ()  # not set aside yet
    obstacle: str | None = None
    attended: bool = False  # a service does what is due, so that nothing is late by more than its tick

    @property
    def kind(self) -> str:
        """
        How it is kept.
        """
        return "enrollers"

    @property
    def words(self) -> tuple[Standing, ...]:
        """
        How it stands, the worst first.
        """
        state, current, now = self.state, self.current, self.now
        damaged = self.damage is not None or state.given_up is not None
        found: list[Standing | None] = [
            Standing.DAMAGED if damaged else None,
            Standing.BLOCKED if self.obstacle is not None else None,
            Standing.ORDER_DAMAGED if any(one.open for one in self.damaged_orders) else None,
            Standing.ORPHANED if self.orphans else None,
            Standing.FAILING if state.failures else None,
            Standing.WAITING if state.waiting is not None else None,
        ]
        if current is None:
            return standings(Standing.MISSING, *found)
        status, rollout = state.status, state.rollout
        if current.key_fault is not None:
            found.append(Standing.UNUSABLE)
        if status is not None and status.revoked and status.generation == current.number:
            found.append(Standing.REVOKED)
        if rollout is not None and (rollout.hooks.error or rollout.observed.error):
            found.append(Standing.NOT_TAKEN_OVER)
        found.append(by_time(current.leaf.not_before, current.ends, self.plan.floor or current.ends, now))
        if self.plan.at <= now:
            found.append(Standing.DUE)
            # What is due at once has no earlier time that it could be late by.
            late = self.plan.why in {Why.LIFETIME, Why.CA} and self.plan.at < now - OVERDUE
            if late and not state.under_way and not self.attended:
                found.append(Standing.OVERDUE)
        return standings(*found)

    @property
    def trouble(self) -> str | None:
        """
        What an operator should know first, in one line; `None` where all is well.
        """
        state = self.state
        said = []
        if self.damage is not None:
            said.append(f"DAMAGED ({self.damage})")
        elif state.given_up is not None:
            said.append(f"DAMAGED ({state.given_up.detail}), an earlier generation stands in for it")
        if self.current is None:
            said.append("no certificate is in force" if self.damage else "no certificate yet")
        elif self.current.ends <= self.now:
            said.append("EXPIRED")
        if self.obstacle is not None:
            said.append(f"cannot be renewed: {self.obstacle}")
        if self.current is not None and self.current.key_fault is not None:
            said.append(f"UNUSABLE ({self.current.key_fault})")
        if state.status is not None and self.current is not None:
            status = state.status
            if status.revoked and status.generation == self.current.number:
                said.append(f"REVOKED ({status.detail})")
            elif status.above and status.generation == self.current.number:
                said.append(f"a CA of the chain is revoked ({status.detail})")
        if state.waiting is not None:
            said.append(f"{state.waiting.enroller}: waiting: {state.waiting.detail}")
        elif state.last_failure is not None and state.failures:
            failure = state.last_failure
            said.append(f"{failure.enroller}: {failure.fault.value}: {failure.detail}")
        hint = state.hint
        if hint is not None and hint.explanation is not None and hint.explanation.startswith(IGNORED):
            said.append(hint.explanation)
        if self.plan.late and self.plan.floor is not None and self.plan.floor <= self.now:
            said.append(f"the CA wanted it renewed before {time_or_none(self.plan.floor)}")
        if self.plan.note is not None:
            said.append(self.plan.note)
        rollout = state.rollout
        if rollout is not None:
            said += [f"hooks: {rollout.hooks.error}"] if rollout.hooks.error else []
            said += [rollout.observed.error] if rollout.observed.error else []
        said += [
            f"{one.enroller}: order {one.order} is {one.progress.value} since {time_or_none(one.since)}: {one.next}"
            for one in self.open_orders
            if one.left
        ]
        said += [
            f"order {one.id} is damaged ({one.detail}): the next renewal puts it aside and begins another"
            for one in self.damaged_orders
            if one.open
        ]
        said += self.faults
        return "; ".join(said) or None

    @property
    def alarm(self) -> Standing | None:
        """
        What is wrong with what partners get, or how short the runway is; `None` while there is time.
        """
        return alarm_of(self.words)

    def data(self) -> dict[str, Any]:
        """
        Everything, for JSON.
        """
        current = self.current
        return blank(self) | {
            "generation": None if current is None else generation_data(current),
            "certificate": None if current is None else certificate_data(current.leaf),
            "stage": None if self.stage is None else self.stage.value,
            "runway": time_or_none(self.runway),
            "runway_s": None if self.runway is None else int((self.runway - self.now).total_seconds()),
            "next": {
                "at": time_or_none(self.plan.at),
                "why": self.plan.why.value,
                "detail": self.plan.detail,
            },
            "failures": self.state.failures,
            "last_failure": _failure(self.state.last_failure),
            "hint": None if self.state.hint is None else self.state.hint.model_dump(mode="json"),
            "waiting": _waiting(self.state.waiting),
            "status": None if self.state.status is None else self.state.status.model_dump(mode="json"),
            "open_orders": [open_order_data(one) for one in self.open_orders],
            "orphans": [
                {
                    "order": orphan.order,
                    "enroller": orphan.enroller,
                    "at": time_or_none(orphan.at),
                    "serial": orphan.serial,
                    "detail": orphan.detail,
                }
                for orphan in self.orphans
            ],
        }


def overview(site: Site, look: Look, *, now: datetime, attended: bool) -> Overview:
    """
    Put together how an identity stands.

    Args:
        site: its places.
        look: what was read of it.
        now: the wall-clock time.
        attended: whether this process does what is due.

    Returns:
        The overview.

    Raises:
        StoreError: this user may not look.

    """
    current, state, plan = look.current, look.state, look.plan
    orders, damaged = site.journal.orders(), site.journal.damaged()
    orphans = tuple(
        Orphan(
            order=record.id,
            enroller=record.enroller,
            at=record.closed_at or record.created_at,
            serial=record.serial,
            detail=record.detail,
        )
        for record in orders
        if record.orphan
    )
    orphans += tuple(
        Orphan(order=one.id, enroller="unknown", at=one.at, serial=None, detail=one.detail)
        for one in damaged
        if one.set_aside and one.open
    )
    return Overview(
        name=site.identity.name,
        current=current,
        stage=None if current is None else _stage(current, state),
        runway=None if current is None else current.ends,
        plan=plan,
        now=now,
        state=state,
        orphans=orphans,
        open_orders=open_orders(site, orders, current, state, plan),
        damage=look.damage,
        faults=look.faults,
        damaged_orders=tuple(one for one in damaged if not one.set_aside),
        obstacle=look.obstacle,
        attended=attended,
    )


def open_orders(
    site: Site,
    orders: tuple[OrderRecord, ...],
    current: Generation | None,
    state: IdentityState,
    plan: Plan,
) -> tuple[OpenOrder, ...]:
    """
    What is open, and what will happen to it.

    Args:
        site: its places.
        orders: from the journal.
        current: the generation in force.
        state: what is remembered.
        plan: what comes next.

    Returns:
        The orders without an end, oldest first.

    """
    status, waiting = state.status, state.waiting
    revoked = (
        status is not None and current is not None and status.revoked and status.generation == current.number
    )
    busy = state.under_way or state.failures > 0
    found = []
    for record in orders:
        if record.outcome is not None:
            continue
        left = False
        if record.enroller not in site.identity.enrollers:
            left, then = True, "the service gives it up: the enroller is not configured for the identity"
        elif not still_wanted(record, site.identity, revoked=revoked, current=current):
            then = "given up at the next attempt: something else is asked for by now"
        elif waiting is not None and waiting.order == record.id:
            then = f"asked for again at {time_or_none(waiting.retry_at)}"
        else:
            # Of one that no CA has heard of there is nothing to know.
            heard = record.submitted_at is not None
            left = heard and current is not None and not busy and waiting is None
            then = f"taken up again when this enroller is asked next, not before {time_or_none(plan.at)}"
        progress = Progress.PREPARED if record.submitted_at is None else Progress.SUBMITTED
        found.append(
            OpenOrder(
                order=record.id,
                enroller=record.enroller,
                since=record.created_at,
                progress=progress if record.received is None else Progress.ANSWERED,
                next=then,
                left=left,
            )
        )
    return tuple(found)


def open_order_data(one: OpenOrder) -> dict[str, Any]:
    """
    One open order, for JSON.
    """
    return {
        "order": one.order,
        "enroller": one.enroller,
        "since": time_or_none(one.since),
        "progress": one.progress.value,
        "next": one.next,
    }


def generation_data(generation: Generation) -> dict[str, Any]:
    """
    One generation, for JSON.
    """
    return {
        "number": generation.number,
        **certificate_data(generation.leaf),
        "ends": time_or_none(generation.ends),
        "enroller": generation.meta.enroller,
        "written_at": time_or_none(generation.meta.written_at),
        "directory": str(generation.path),
        "notes": list(generation.meta.notes),
    }


def certificate_data(leaf: Certificate) -> dict[str, Any]:
    """
    One certificate of ours, for JSON.
    """
    return {
        "subject": leaf.subject.text,
        "names": names_text(leaf),
        "issuer": leaf.issuer.text,
        "serial": leaf.serial_hex,
        "sha256": leaf.fingerprint,
        "not_before": time_or_none(leaf.not_before),
        "not_after": time_or_none(leaf.not_after),
    }


def names_text(leaf: Certificate) -> list[str]:
    """
    The host names and addresses of a certificate, in its order.
    """
    return [
        name.value if isinstance(name.value, str) else str(ipaddress.ip_address(name.value))
        for name in leaf.subject_alt_names
        if (name.kind == "dns" and isinstance(name.value, str))
        or (name.kind == "ip" and isinstance(name.value, bytes) and len(name.value) in {4, 16})
    ]


def _stage(current: Generation, state: IdentityState) -> Stage:
    rollout = state.rollout
    seen = (
        rollout is not None and rollout.generation == current.number and rollout.observed.done_at is not None
    )
    return Stage.OBSERVED if seen else Stage.ACTIVATED


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    return None if failure is None else failure.model_dump(mode="json")


def _waiting(waiting: Waiting | None) -> dict[str, Any] | None:
    return None if waiting is None else waiting.model_dump(mode="json")


def time_or_none(at: datetime | None) -> str | None:
    """
    A time to the second, for JSON.
    """
    return None if at is None else at.isoformat(timespec="seconds")
