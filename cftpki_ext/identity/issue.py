"""
One order at one enroller: begun or taken up again, moved on, judged, and put in force.

Owns the order of steps between journal, CA, gate and generations. The caller holds the identity's lock. Decides
nothing about when (`schedule`) or whom to ask next (`manager`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from cftpki_ext.enrolment import (
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
from cftpki_ext.errors import CftPkiError, KeyUnavailableError
from cftpki_ext.identity import private_keys
from cftpki_ext.identity.gate import compare
from cftpki_ext.identity.generations import Generation
from cftpki_ext.identity.journal import (
    OrderRecord,
    Outcome,
    OversizedError,
    checked_state,
    new_id,
    seconds,
)
from cftpki_ext.identity.normalise import Chain, Unusable, normalise
from cftpki_ext.identity.request import make_request
from cftpki_ext.identity.site import Log, Site
from cftpki_ext.identity.wish import changed, names_of, still_wanted, wanted_of
from cftpki_ext.ports import Clock
from cftpki_ext.settings import ManagedIdentity
from cftpki_ext.text import printable
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate

# One step at a CA with its challenges; DNS takes minutes to be seen everywhere.
ADVANCE_S = 600.0
ANCHORS_S = 20.0
MAX_DETAIL = 500
# After an issued certificate was rejected: hours, and more often as the end comes nearer.
SHORTEST_AFTER_REJECTION = timedelta(hours=1)
LONGEST_AFTER_REJECTION = timedelta(days=1)
REMAINING_SHARE = 1 / 10
# After notBefore, so that partners whose clocks are slow take the certificate too.
HOLD_MARGIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """
    A new generation is in force.
    """

    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """
    Nothing more can be done before `retry_at`; the order stays open.
    """

    order: str
    retry_at: datetime
    detail: str


Result = Activated | Waits | Failed


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
        try:
            return await self._carry(site, enroller, current, revoked=revoked)
        except OversizedError as error:
            # What is too large to be kept came from the CA: the disk is well, and somebody else may be asked.
            return Failed(fault=Fault.UNREACHABLE, detail=_line(str(error)))

    async def _carry(
        self, site: Site, enroller: Enroller, current: Generation | None, *, revoked: bool
    ) -> Result:
        password = await asyncio.to_thread(site.password)
        record = (await asyncio.to_thread(site.journal.open_orders)).get(enroller.name)
        if record is not None and not still_wanted(record, site.identity, revoked=revoked, current=current):
            await self._close(site, record, Outcome.SUPERSEDED, "the configuration asks for something else")
            record = None
        lost = False
        while True:
            if record is None:
                begun = await self._begin(site, enroller, current, password, revoked=revoked)
                if isinstance(begun, Failed):
                    return begun
                record = begun
            if record.received is None:
                moved = await self._advance(site, enroller, record, current, password, revoked=revoked)
                if isinstance(moved, Failed) and moved.fault is Fault.ORDER_LOST and not lost:
                    # The CA forgot it: there is no certificate to wait for, so another order may begin, once.
                    lost, record = True, None
                    continue
                if not isinstance(moved, OrderRecord):
                    return moved
                record = moved
            return await self._judge(site, enroller, record, current, password, revoked=revoked)

    async def _begin(
        self,
        site: Site,
        enroller: Enroller,
        current: Generation | None,
        password: bytes | None,
        *,
        revoked: bool,
    ) -> OrderRecord | Failed:
        identity = site.identity
        anchors = await self._trust(identity, enroller)
        if not anchors:
            return Failed(
                fault=Fault.UNREACHABLE,
                detail=f"no trust anchor: the CA tells none or was not heard; set identity.{identity.name}.trust",
            )
        key: PrivateKey | None = None
        if identity.reuse_key and current is not None and not revoked:
            key = await asyncio.to_thread(current.key, password)
            if private_keys.key_kind(key) != identity.key.value:
                key = None
        if key is None:
            key = await asyncio.to_thread(private_keys.make_key, identity.key)
        names = names_of(identity)
        now = self._clock.now()
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
            replaces=None if current is None else current.number,
        )
        await asyncio.to_thread(site.journal.begin, record, key, password=password)
        self._event("identity_order_begun", identity=identity.name, enroller=enroller.name, order=record.id)
        return record

    async def _trust(self, identity: ManagedIdentity, enroller: Enroller) -> tuple[bytes, ...]:
        if identity.trust is not None:
            return self._anchors(identity.trust)
        deadline = self._clock.monotonic() + ANCHORS_S
        try:
            return await enroller.trust_anchors(deadline=deadline)
        except Exception as error:  # noqa: BLE001 - a third party's adapter; nothing of it may end the service
            self._event("enroller_broken", enroller=enroller.name, error=_told(error))
            return ()

    async def _advance(
        self,
        site: Site,
        enroller: Enroller,
        record: OrderRecord,
        current: Generation | None,
        password: bytes | None,
        *,
        revoked: bool,
    ) -> OrderRecord | Waits | Failed:
        kept = [record.model_copy(update={"attempts": record.attempts + 1})]
        await asyncio.to_thread(site.journal.save, kept[0])

        async def save(state: OrderState) -> None:
            changed = {
                "state": checked_state(state),
                "submitted_at": kept[0].submitted_at or self._clock.now(),
            }
            kept[0] = kept[0].model_copy(update=changed)
            await asyncio.to_thread(site.journal.save, kept[0])

        key = await asyncio.to_thread(site.journal.key, record, password=password)
        held = await asyncio.to_thread(_held, current, enroller.name, password)
        order = Order(
            id=record.id,
            identity=record.identity,
            names=record.names,
            usages=frozenset(record.usages),
            key=key,
            csr=record.csr,
            lifetime_s=record.lifetime_s,
            current=held,
            revoked=revoked,
        )
        progress = await self._asked(enroller, order, record.state, save)
        record = kept[0]
        match progress:
            case Issued():
                return await asyncio.to_thread(site.journal.receive, record, progress, password=password)
            case Pending():
                return Waits(order=record.id, retry_at=progress.retry_at, detail=_line(progress.detail))
            case Failed():
                detail = _line(progress.detail)
                ends = {Fault.REFUSED: Outcome.REFUSED, Fault.ORDER_LOST: Outcome.LOST}
                if progress.fault in ends:
                    await self._close(site, record, ends[progress.fault], detail)
                return Failed(fault=progress.fault, detail=detail, retry_at=progress.retry_at)
            case _ as never:
                assert_never(never)

    async def _asked(
        self,
        enroller: Enroller,
        order: Order,
        state: Mapping[str, object],
        save: Callable[[OrderState], Awaitable[None]],
    ) -> Progress:
        deadline = self._clock.monotonic() + ADVANCE_S
        try:
            return await enroller.advance(order, state, save, deadline=deadline)
        except CftPkiError:
            # Our own journal refused: the step must not be taken.
            raise
        except Exception as error:  # noqa: BLE001 - a third party's adapter; the order stays open
            self._event("enroller_broken", enroller=enroller.name, order=order.id, error=_told(error))
            return Failed(fault=Fault.MISCONFIGURED, detail=f"the enroller broke: {_told(error)}")

    async def _judge(
        self,
        site: Site,
        enroller: Enroller,
        record: OrderRecord,
        current: Generation | None,
        password: bytes | None,
        *,
        revoked: bool,
    ) -> Result:
        received = record.received
        if received is None:  # pragma: no cover - the caller asked
            msg = f"order {record.id} has no answer yet"
            raise KeyUnavailableError(msg)
        key = await asyncio.to_thread(site.journal.key, record, password=password)
        now = self._clock.now()
        chain = self._normalise(site, received.issued(), key, record.anchors, now)
        if isinstance(chain, Unusable):
            # The CA may have changed its root since the order began.
            fresh = await self._trust(site.identity, enroller)
            anchors = tuple(dict.fromkeys((*record.anchors, *fresh)))
            chain = self._normalise(site, received.issued(), key, anchors, now)
        if isinstance(chain, Unusable):
            return await self._reject(site, record, current, chain.detail, chain.serial)
        done = await asyncio.to_thread(site.generations.of_order, record.id)
        if done is None:
            same = await asyncio.to_thread(site.generations.of_leaf, chain.leaf) if received.own_key else None
            if same is not None:
                # Nothing was issued: with a key that is used again an old answer looks like a new one.
                detail = f"the certificate of generation {same.number} came again"
                return await self._reject(site, record, current, detail, None)
            # A certificate that must go is replaced also by one that does not live longer.
            goes = revoked or (current is not None and changed(site.identity, current, now))
            wanted = wanted_of(site.identity, None if goes else current, now, own_key=received.own_key)
            passage = compare(wanted, chain, now=now)
            if passage.differences:
                said = "; ".join(map(str, passage.differences))
                return await self._reject(site, record, current, said, chain.leaf.serial_hex)
            if passage.hold_until is not None:
                detail = f"issued, but not valid before {passage.hold_until.isoformat()}"
                return Waits(order=record.id, retry_at=passage.hold_until + HOLD_MARGIN, detail=detail)
            done = await asyncio.to_thread(
                site.generations.write,
                chain.certificates,
                key,
                password=password,
                order=record.id,
                enroller=record.enroller,
                at=now,
                own_key=received.own_key,
                notes=(*received.notes, *chain.notes),
            )
            self._event("identity_staged", identity=record.identity, generation=done.number, order=record.id)
        await asyncio.to_thread(site.generations.activate, done.number)
        await self._close(
            site, record, Outcome.ACTIVATED, "", serial=done.leaf.serial_hex, generation=done.number
        )
        return Activated(generation=done)

    def _normalise(
        self,
        site: Site,
        issued: Issued,
        key: PrivateKey,
        anchors: tuple[bytes, ...],
        now: datetime,
    ) -> Chain | Unusable:
        return normalise(
            issued,
            public_key=private_keys.public_bytes(key),
            anchors=tuple(_readable(anchors)),
            now=now,
            keep_root=site.identity.keep_root,
        )

    async def _reject(
        self, site: Site, record: OrderRecord, current: Generation | None, detail: str, serial: str | None
    ) -> Failed:
        line = _line(f"issued, but not what was asked for: {detail}")
        await self._close(site, record, Outcome.REJECTED, line, serial=serial)
        # Each further attempt costs the CA a certificate that nobody uses: not before somebody may have acted.
        now = self._clock.now()
        left = timedelta(0) if current is None else current.ends - now
        wait = min(LONGEST_AFTER_REJECTION, max(SHORTEST_AFTER_REJECTION, left * REMAINING_SHARE))
        return Failed(fault=Fault.REFUSED, detail=line, retry_at=now + wait)

    async def _close(
        self,
        site: Site,
        record: OrderRecord,
        outcome: Outcome,
        detail: str,
        *,
        serial: str | None = None,
        generation: int | None = None,
    ) -> None:
        closed = await asyncio.to_thread(
            site.journal.close,
            record,
            outcome,
            at=self._clock.now(),
            detail=detail,
            serial=serial,
            generation=generation,
        )
        self._event(
            "identity_order_closed",
            identity=record.identity,
            enroller=record.enroller,
            order=record.id,
            outcome=outcome.value,
            detail=closed.detail,
            serial=serial,
            orphan=closed.orphan,
        )


def _held(current: Generation | None, enroller: str, password: bytes | None) -> Held | None:
    if current is None or current.meta.enroller != enroller:
        return None
    try:
        return Held(chain=tuple(c.der for c in current.chain), key=current.key(password))
    except KeyUnavailableError:
        # Enrolling anew heals what a lost key broke.
        return None


def _readable(ders: tuple[bytes, ...]) -> list[Certificate]:
    anchors = []
    for der in ders:
        try:
            anchors.append(parse_certificate(der))
        except MalformedCertificateError:
            continue
    return anchors


def _line(text: str) -> str:
    return printable(text)[:MAX_DETAIL]


def _told(error: Exception) -> str:
    return _line(f"{type(error).__name__}: {error}")
