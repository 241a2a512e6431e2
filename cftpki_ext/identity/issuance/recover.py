"""
What a kill or a new configuration left: flips without the last word about them, orders that nobody will ask for.

Owns the reading of these traces. Blocking; the caller holds the identity's lock. Asks no CA, puts nothing in force.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.identity.issuance.request import serial_for
from cftpki_ext.identity.store.journal import Outcome
from cftpki_ext.identity.store.layout import Log, Site
from cftpki_ext.identity.store.state import IdentityState, Rollout, read_state, write_state

__all__ = ["recover", "rolled_back"]


def recover(site: Site, *, now: datetime, event: Log) -> None:
    """
    Close the order whose generation is in force, end what put it there, and give up orders that nobody asks for.

    By default nothing is written. An attempt that has another order open since is left as it is: it goes on.

    Args:
        site: under the lock.
        now: the wall-clock time.
        event: the audit trail.

    Raises:
        StoreError: the state cannot be read or written.

    """
    _give_up(site, now, event)
    current = site.generations.look().generation
    if current is None:
        return
    others_open = False
    for record in site.journal.open_orders().values():
        if record.id == current.meta.order:
            serial = current.leaf.serial_hex
            site.journal.close(record, Outcome.ACTIVATED, at=now, serial=serial, generation=current.number)
        elif record.submitted_at is not None and record.submitted_at > current.meta.written_at:
            others_open = True
    state = read_state(site.directory)
    told = state.rollout is not None and state.rollout.generation == current.number
    if state.going_back is not None:
        # An operator's rollback was cut off. Where the flip never came the intention is gone with its command.
        came = state.going_back == current.number
        gone = state.model_copy(update={"going_back": None})
        state = rolled_back(state, current.number, now) if came else gone
        write_state(site.directory, state)
        told = told or came
    if state.under_way and not told and not others_open:
        rollout = Rollout(generation=current.number, activated_at=now)
        changed = {
            "under_way": False,
            "failures": 0,
            "waiting": None,
            "hint": None,
            "status": None,
            "kept_back": None,
            "given_up": None,
            "rollout": rollout,
        }
        write_state(site.directory, state.model_copy(update=changed))


def rolled_back(state: IdentityState, number: int, now: datetime) -> IdentityState:
    """
    What is remembered once an operator has gone back to a generation.

    Args:
        state: what was remembered before.
        number: of the generation.
        now: the wall-clock time.

    Returns:
        What is remembered now.

    """
    return state.model_copy(
        update={
            "kept_back": number,
            "going_back": None,
            "given_up": None,
            # An attempt that was under way must not undo what the operator wants.
            "under_way": False,
            "failures": 0,
            "waiting": None,
            "rollout": Rollout(generation=number, activated_at=now),
        }
    )


def _give_up(site: Site, now: datetime, event: Log) -> None:
    """
    Close what is open at enrollers that the identity does not name any more. What a CA heard of is an orphan.
    """
    for name, record in site.journal.open_orders().items():
        if name in site.identity.enrollers:
            continue
        answer = () if record.received is None else record.received.certificates
        closed = site.journal.close(
            record,
            Outcome.ABANDONED,
            at=now,
            detail=f"enroller {name} is not configured for the identity any more",
            serial=serial_for(record.csr, answer),
        )
        event(
            "identity_order_closed",
            identity=site.identity.name,
            enroller=name,
            order=record.id,
            outcome=Outcome.ABANDONED.value,
            detail=closed.detail,
            serial=closed.serial,
            orphan=closed.orphan,
        )
