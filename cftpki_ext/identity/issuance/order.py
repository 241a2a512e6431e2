"""
One order at one enroller: begun or taken up again, and moved on until the CA has handed out a certificate.

Owns the order of steps between journal and CA; what comes back is `admission`'s. The caller holds the identity's
lock. Decides nothing about when (`schedule`) or whom to ask next (`attempt`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import assert_never

from cftpki_ext.core.errors import CftPkiError, KeyUnavailableError
from cftpki_ext.identity.enroller_port import (
    Enroller,
    Failed,
    Fault,
    Held,
    Issued,
    Order,
    OrderState,
    Pending,
    PrivateKey,
    Progress,
)
from cftpki_ext.identity.issuance.admission import admit, objection
from cftpki_ext.identity.issuance.late import NotMadeError
from cftpki_ext.identity.issuance.request import make_request
from cftpki_ext.identity.issuance.requested import names_of, still_wanted
from cftpki_ext.identity.issuance.task import GRACE_S, OrderTask, Result, Waits, line, told
from cftpki_ext.identity.store import private_keys
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.journal import (
    OrderRecord,
    Outcome,
    OversizedError,
    checked_state,
    new_id,
    seconds,
)
from cftpki_ext.identity.store.layout import Log, Site
from cftpki_ext.ports.clock import Clock

# One step at a CA with its challenges; DNS takes minutes to be seen everywhere.
ADVANCE_S = 600.0


class Issuer:
    """
    Carries orders through. For one event loop; writes and key generation happen in threads.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        event: Log,
        anchors: Callable[[str], tuple[bytes, ...]],
    ) -> None:
        self._clock = clock
        self._event = event
        self._anchors = anchors

    async def run(
        self, site: Site, enroller: Enroller, current: Generation | None, *, revoked: bool
    ) -> Result:
        """
        Move the identity's order at one enroller on as far as it goes now, beginning one where none is open.

        Args:
            site: under the lock.
            enroller: whom to ask.
            current: the generation in force.
            revoked: `current` must not be used for anything.

        Returns:
            What came of it. The chain in force is replaced only by `Activated`.

        Raises:
            StoreError: the disk refuses, or the journal cannot be read.
            KeyUnavailableError: the order's key or the password cannot be read.

        """
        task = OrderTask(
            site=site,
            enroller=enroller,
            current=current,
            revoked=revoked,
            password=await asyncio.to_thread(site.password),
            clock=self._clock,
            event=self._event,
            configured=self._anchors,
        )
        try:
            return await _carry(task)
        except OversizedError as error:
            # What is too large to be kept came from the CA: the disk is well, and somebody else may be asked.
            return Failed(fault=Fault.UNREACHABLE, detail=line(str(error)))
        except NotMadeError as error:
            return Failed(fault=Fault.UNREACHABLE, detail=line(str(error)))


async def _carry(task: OrderTask) -> Result:
    answered = await _answered(task, await _taken_up(task))
    if isinstance(answered, Failed) and answered.fault is Fault.ORDER_LOST:
        # The CA forgot it: there is no certificate to wait for, so another order may begin, once.
        answered = await _answered(task, None)
    return await admit(task, answered) if isinstance(answered, OrderRecord) else answered


async def _taken_up(task: OrderTask) -> OrderRecord | None:
    """
    The order that is open at the enroller; one that asks for something else, or whose key is lost, is closed.
    """
    site = task.site
    record = (await asyncio.to_thread(site.journal.open_orders)).get(task.enroller.name)
    if record is None:
        return None
    why = "the configuration asks for something else"
    if still_wanted(record, site.identity, revoked=task.revoked, current=task.current):
        try:
            await asyncio.to_thread(site.journal.key, record, password=task.password)
        except KeyUnavailableError as error:
            # The password at rest was changed, say: without its key a certificate is good for nothing.
            why = f"its key cannot be used: {line(str(error))}"
        else:
            return record
    await task.close(record, Outcome.SUPERSEDED, why)
    return None


async def _answered(task: OrderTask, record: OrderRecord | None) -> OrderRecord | Waits | Failed:
    """
    The order with what the CA handed out for it, which may be known already; begun where there is none.
    """
    if record is None:
        begun = await _begin(task)
        if isinstance(begun, Failed):
            return begun
        record = begun
    return await _advance(task, record) if record.received is None else record


async def _begin(task: OrderTask) -> OrderRecord | Failed:
    identity, enroller = task.site.identity, task.enroller
    anchors = await task.anchors()
    if not anchors:
        return Failed(
            fault=Fault.UNREACHABLE,
            detail=f"no trust anchor: the CA tells none or was not heard; set identity.{identity.name}.trust",
        )
    key = await _key(task)
    names = names_of(identity)
    now = task.clock.now()
    record = OrderRecord(
        id=new_id(now),
        identity=identity.name,
        enroller=enroller.name,
        created_at=now,
        common_name=names.common_name,
        dns=names.dns,
        addresses=names.addresses,
        usages=tuple(sorted(identity.usages)),
        key=identity.key,
        csr=make_request(key, names, identity.usages),
        lifetime_s=seconds(identity.lifetime),
        anchors=anchors,
        replaces=None if task.current is None else task.current.number,
    )
    await asyncio.to_thread(task.site.journal.begin, record, key, password=task.password)
    task.event("identity_order_begun", identity=identity.name, enroller=enroller.name, order=record.id)
    return record


async def _key(task: OrderTask) -> PrivateKey:
    """
    A new key, or the one in force where the configuration says so and it may still be used.
    """
    identity, current = task.site.identity, task.current
    if identity.reuse_key and current is not None and not task.revoked:
        key = await asyncio.to_thread(current.key, task.password)
        if private_keys.key_kind(key) == identity.key.value:
            return key
    return await asyncio.to_thread(private_keys.make_key, identity.key)


async def _advance(task: OrderTask, record: OrderRecord) -> OrderRecord | Waits | Failed:
    journal, password = task.site.journal, task.password
    kept = [record.model_copy(update={"attempts": record.attempts + 1})]
    await asyncio.to_thread(journal.save, kept[0])

    async def save(state: OrderState) -> None:
        changed = {
            "state": checked_state(state),
            "submitted_at": kept[0].submitted_at or task.clock.now(),
        }
        kept[0] = kept[0].model_copy(update=changed)
        await asyncio.to_thread(journal.save, kept[0])

    key = await asyncio.to_thread(journal.key, record, password=password)
    order = Order(
        id=record.id,
        identity=record.identity,
        names=record.names,
        usages=frozenset(record.usages),
        key=key,
        csr=record.csr,
        lifetime_s=record.lifetime_s,
        current=await asyncio.to_thread(_held, task),
        revoked=task.revoked,
        objection=lambda issued: objection(task, record, issued, key),
    )
    progress = await _asked(task, order, record.state, save)
    record = kept[0]
    match progress:
        case Issued():
            return await asyncio.to_thread(journal.receive, record, progress, password=password)
        case Pending():
            return Waits(order=record.id, retry_at=progress.retry_at, detail=line(progress.detail))
        case Failed():
            detail = line(progress.detail)
            ends = {Fault.REFUSED: Outcome.REFUSED, Fault.ORDER_LOST: Outcome.LOST}
            if progress.fault in ends:
                await task.close(record, ends[progress.fault], detail)
            return Failed(fault=progress.fault, detail=detail, retry_at=progress.retry_at)
        case _ as never:
            assert_never(never)


async def _asked(
    task: OrderTask,
    order: Order,
    state: Mapping[str, object],
    save: Callable[[OrderState], Awaitable[None]],
) -> Progress:
    deadline = task.clock.monotonic() + ADVANCE_S
    limit = asyncio.timeout(ADVANCE_S + GRACE_S)
    try:
        async with limit:
            return await task.enroller.advance(order, state, save, deadline=deadline)
    except CftPkiError:
        # Our own journal refused: the step must not be taken.
        raise
    except Exception as error:  # noqa: BLE001 - a third party's adapter; the order stays open
        task.event("enroller_broken", enroller=task.enroller.name, order=order.id, error=told(error))
        if limit.expired():
            detail = f"the enroller did not come back within {ADVANCE_S + GRACE_S:.0f} s"
            return Failed(fault=Fault.UNREACHABLE, detail=detail)
        return Failed(fault=Fault.MISCONFIGURED, detail=f"the enroller broke: {told(error)}")


def _held(task: OrderTask) -> Held | None:
    current = task.current
    if current is None or current.meta.enroller != task.enroller.name:
        return None
    try:
        return Held(chain=tuple(c.der for c in current.chain), key=current.key(task.password))
    except KeyUnavailableError:
        # Enrolling anew heals what a lost key broke.
        return None
