"""
What outlives a command, or a Python program's call: cache, memory of revocations and evidence of a state directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from cftpki_cache.ledger_shares import SharedLedger
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.evidence import Record, encode
from cftpki_ext.evidence.shares import share_of
from cftpki_ext.ports.evidence import EvidenceEntry, Share
from cftpki_ext.ports.responses import LocationLocks, ResponseStore
from cftpki_ext.ports.revocations import ProofStore
from cftpki_ext.state_directory import evidence_directory
from cftpki_ext.stores import location_locks, open_stores, recollect
from cftpki_ext.support.logs import event_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    The cache, the memory of revocations, and the locks of all processes that share the cache.
    """

    store: ResponseStore
    proofs: ProofStore
    locks: LocationLocks


def open_kept(settings: Settings, *, now: datetime, tell: Callable[..., None]) -> Kept:
    """
    Open the stores of a configuration; see `bootstrap.checker.make_checker`.

    Args:
        settings: the configuration.
        now: certificates that have ended by now are not put back into the memory of revocations.
        tell: is told by event and fields when that was not whole.

    Returns:
        The stores, to be closed by their owner.

    Raises:
        StoreError: the state directory cannot be used.

    """
    store, proofs = open_stores(settings.service)
    try:
        recollect(settings.service, proofs, required=settings.evidence.required, now=now, tell=tell)
    except StoreError:
        store.close()
        proofs.close()
        raise
    return Kept(store=store, proofs=proofs, locks=location_locks(settings.service))


def keep_record(settings: Settings, record: Record) -> str:
    """
    Keep one record in the ledger of a configuration, for the doors that decide in their own process.

    Args:
        settings: the configuration.
        record: the decision.

    Returns:
        The record's hash in the chain (hex).

    Raises:
        StoreError: it could not be kept.

    """
    stored = encode(record)
    folder, bound = evidence_directory(settings.service), settings.evidence.max_bytes
    with contextlib.closing(SharedLedger(folder, max_bytes=bound)) as ledger:
        for one in ledger.noticed:
            event_log().error("evidence_broken", kind=one.kind.value, record=one.seq, detail=one.detail)
        large = {name: raw for name, raw in stored.blobs.items() if isinstance(raw, LargeOctets)}
        if large:
            ledger.bring(large)
        (digest,) = ledger.append(
            (
                EvidenceEntry(
                    id=record.verdict.id,
                    kept_at=SystemClock().now(),
                    document=stored.document,
                    blobs={name: raw for name, raw in stored.blobs.items() if name not in large},
                    present=tuple(large),
                    revoked=stored.revoked,
                    share=Share.PARTNERS if large else share_of(record),
                ),
            )
        )
    return digest
