"""
What a CA handed out, from its judgement to its being in force.

Owns the order of these steps: normalised, compared with what was asked for, written, activated, the order closed.
The caller holds the identity's lock. Asks the CA for nothing but its anchors.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, PrivateKey
from cftpki_ext.identity.issuance.gate import Passage, compare
from cftpki_ext.identity.issuance.normalise import Chain, Unusable, normalise
from cftpki_ext.identity.issuance.requested import changed, wanted_of
from cftpki_ext.identity.issuance.task import Activated, OrderTask, Result, Waits, line
from cftpki_ext.identity.store import private_keys
from cftpki_ext.identity.store.journal import OrderRecord, Outcome, Received
from cftpki_ext.identity.store.state import read_state
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate

# After notBefore, so that partners whose clocks are slow take the certificate too.
HOLD_MARGIN = timedelta(seconds=5)


async def admit(task: OrderTask, record: OrderRecord) -> Result:
    """
    Put a certificate in force, or say why not.

    One that was written before a kill is not compared again: its generation is put in force as it is.

    Args:
        task: for whom it was asked.
        record: its order, open, with what the CA handed out.

    Returns:
        What came of it. The order stays open only with `Waits`.

    Raises:
        StoreError: the disk refuses, or the state cannot be read.
        KeyUnavailableError: the order's key cannot be read.

    """
    site, received = task.site, record.received
    if received is None:  # pragma: no cover - the caller asked
        msg = f"order {record.id} has no answer yet"
        raise KeyUnavailableError(msg)
    key = await asyncio.to_thread(site.journal.key, record, password=task.password)
    now = task.clock.now()
    chain = await _chain(task, record, received.issued(), key, now)
    if isinstance(chain, Unusable):
        trust = site.identity.trust
        hint = ""
        if trust is not None and chain.serial is not None:
            hint = f"; trust set {trust} decides: where its anchors have changed, systemctl reload cftpki reads them"
        return await _reject(task, record, f"{chain.detail}{hint}", chain.serial)
    generation = await asyncio.to_thread(site.generations.of_order, record.id)
    if generation is None:
        refused = await _compared(task, record, received, chain, now)
        if refused is not None:
            return refused
        generation = await asyncio.to_thread(
            site.generations.write,
            chain.certificates,
            key,
            password=task.password,
            order=record.id,
            enroller=record.enroller,
            at=now,
            own_key=received.own_key,
            notes=(*received.notes, *chain.notes),
            above=max(site.journal.last_generation(), *read_state(site.directory).revoked, 0),
        )
        task.event("identity_staged", identity=record.identity, generation=generation.number, order=record.id)
    await asyncio.to_thread(site.generations.activate, generation.number)
    await task.close(
        record, Outcome.ACTIVATED, "", serial=generation.leaf.serial_hex, generation=generation.number
    )
    return Activated(generation=generation)


async def objection(task: OrderTask, record: OrderRecord, issued: Issued, key: PrivateKey) -> str | None:
    """
    What `admit` would have against an answer for the order's key, asked before it is confirmed. Writes nothing.

    Args:
        task: for whom it was asked.
        record: its order.
        issued: the answer, unverified.
        key: the order's.

    Returns:
        One line, `None` where there is nothing; one that is to be held for a while is as good as any.

    """
    now = task.clock.now()
    chain = await _chain(task, record, issued, key, now)
    if isinstance(chain, Unusable):
        return line(chain.detail)
    differences = _passage(task, chain, now, own_key=True).differences
    return line("; ".join(map(str, differences))) if differences else None


async def _chain(
    task: OrderTask, record: OrderRecord, issued: Issued, key: PrivateKey, now: datetime
) -> Chain | Unusable:
    def to(anchors: tuple[bytes, ...]) -> Chain | Unusable:
        return normalise(
            issued,
            public_key=private_keys.public_bytes(key),
            anchors=tuple(_readable(anchors)),
            now=now,
            keep_root=task.site.identity.keep_root,
        )

    chain = to(record.anchors)
    if isinstance(chain, Unusable):
        # The CA may have changed its root since the order began.
        chain = to(tuple(dict.fromkeys((*record.anchors, *await task.anchors()))))
    return chain


async def _compared(
    task: OrderTask, record: OrderRecord, received: Received, chain: Chain, now: datetime
) -> Waits | Failed | None:
    """
    What speaks against this chain, or against it today.
    """
    site = task.site
    same = await asyncio.to_thread(site.generations.of_leaf, chain.leaf) if received.own_key else None
    if same is not None:
        # Nothing was issued: with a key that is used again an old answer looks like a new one.
        detail = f"the certificate of generation {same.number} came again"
        return await _reject(task, record, detail, None)
    passage = _passage(task, chain, now, own_key=received.own_key)
    if passage.differences:
        said = "; ".join(map(str, passage.differences))
        return await _reject(task, record, said, chain.leaf.serial_hex)
    if passage.hold_until is not None:
        detail = f"issued, but not valid before {passage.hold_until.isoformat()}"
        return Waits(order=record.id, retry_at=passage.hold_until + HOLD_MARGIN, detail=detail)
    return None


def _passage(task: OrderTask, chain: Chain, now: datetime, *, own_key: bool) -> Passage:
    identity, current = task.site.identity, task.current
    # A certificate that must go is replaced also by one that does not live longer.
    goes = task.revoked or (current is not None and changed(identity, current, now))
    wanted = wanted_of(identity, None if goes else current, now, own_key=own_key)
    return compare(wanted, chain, now=now)


async def _reject(task: OrderTask, record: OrderRecord, detail: str, serial: str | None) -> Failed:
    said = line(f"issued, but not what was asked for: {detail}")
    await task.close(record, Outcome.REJECTED, said, serial=serial)
    return Failed(fault=Fault.REFUSED, detail=said, issued=True)


def _readable(ders: tuple[bytes, ...]) -> list[Certificate]:
    anchors = []
    for der in ders:
        try:
            anchors.append(parse_certificate(der))
        except MalformedCertificateError:
            continue
    return anchors
