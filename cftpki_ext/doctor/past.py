"""
The last days as the evidence tells them: who came, by which chains and addresses, and who was turned away.

Reads, newest hours first, for some seconds at most. What it means is `doctor.lately`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import RANK, Status
from cftpki_ext.evidence.listing import Row, row_from
from cftpki_ext.evidence.reading import data_of
from cftpki_ext.evidence.record import Door, from_plain
from cftpki_ext.ports.evidence import EvidenceReader
from cftpki_ext.x509.certificate import parse_certificate

# A record takes a fraction of a millisecond: tens of thousands.
READ_S = 10.0
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Partners that are told apart, and refusals that are remembered one by one; more of them are counted only.
MAX_PARTNERS = 20_000
MAX_CHAINS = 2_000
_REPEATED = 256
# By these doors hosts ask; nobody comes by the others.
_HOSTS = frozenset({Door.EXIT.value, Door.SOCKET.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    One verdict of a partner: what is to be compared with a later one.
    """

    at: datetime
    row: Row
    issuer: str
    ends: datetime | None
    causes: tuple[str, ...]
    locations: frozenset[str]
    # The chain as it was presented, as references into the ledger.
    chain: tuple[Any, ...]

    @property
    def refused(self) -> bool:
        """
        Whether it was turned away.
        """
        return self.row.refused


@dataclass(slots=True)
class Partner:
    """
    What is remembered of one partner: its newest verdict, and the newest by which it was let in.
    """

    last: Seen
    accepted: Seen | None


@dataclass(slots=True)
class Refusals:
    """
    Refusals of the last hour for one cause: how many, and the newest.
    """

    times: int
    newest: Seen


@dataclass(slots=True, kw_only=True)
class Past:
    """
    What the evidence tells. `read_to` is how far back there was time to read, `None` where all was read.
    """

    partners: dict[str, Partner] = field(default_factory=dict)
    # Refusals of the last hour by reason and cause.
    refusals: dict[tuple[str, str], Refusals] = field(default_factory=dict)
    # By trust set, issuer and addresses: somebody who came by them.
    ways: dict[tuple[str | None, str, frozenset[str]], Seen] = field(default_factory=dict)
    # By trust set, for which reasons an auditing policy let partners in.
    shadows: dict[str, Counter[str]] = field(default_factory=dict)
    newest: datetime | None = None
    records: int = 0
    unreadable: int = 0
    read_to: datetime | None = None


def look_back(
    ledger: EvidenceReader,
    *,
    now: datetime,
    since: datetime,
    monotonic: Callable[[], float],
    within_s: float = READ_S,
) -> Past:
    """
    Read the records of the last days, those of the last hour first.

    Args:
        ledger: the evidence.
        now: the time.
        since: how far back.
        monotonic: seconds that only ever grow.
        within_s: how long to read.

    Returns:
        What they tell; a record that cannot be read is counted.

    Raises:
        StoreError: the ledger cannot be read.

    """
    past, until = Past(), monotonic() + within_s
    newest = ledger.ends()[1]
    past.newest = None if newest is None else newest.kept_at
    # A partner that comes again and again repeats one record.
    blob = lru_cache(maxsize=_REPEATED)(ledger.blob)
    upper: datetime | None = None
    for lower in (max(since, now - HOUR), max(since, now - DAY), since):
        if upper is not None and lower >= upper:
            continue
        for document in _between(ledger, lower, upper):
            if monotonic() > until:
                past.read_to = upper or now
                return past
            past.records += 1
            try:
                _add(past, document, blob, now)
            except StoreError:
                past.unreadable += 1
        upper = lower
    return past


def _between(ledger: EvidenceReader, lower: datetime, upper: datetime | None) -> Iterator[bytes]:
    for entry in ledger.since(lower):
        if upper is not None and entry.kept_at >= upper:
            return
        yield entry.document


def _add(past: Past, document: bytes, blob: Callable[[str], bytes | None], now: datetime) -> None:
    row = row_from(document, blob)
    if row.door not in _HOSTS:
        return
    if not row.refused and row.would_refuse is not None:
        past.shadows.setdefault(row.trust or "", Counter())[row.would_refuse] += 1
    seen = _seen(row, data_of(document, blob))
    if seen.refused and now - seen.at <= HOUR:
        key = (row.reason or Status.REFUSED.value, ", ".join(seen.causes))
        found = past.refusals.setdefault(key, Refusals(0, seen))
        found.times += 1
        found.newest = max(found.newest, seen, key=lambda one: one.at)
    if not seen.chain:
        return
    known = past.partners.get(row.partner)
    if known is None:
        if len(past.partners) >= MAX_PARTNERS:
            return
        known = past.partners[row.partner] = Partner(seen, None)
    known.last = max(known.last, seen, key=lambda one: one.at)
    if not seen.refused:
        known.accepted = seen if known.accepted is None else max(known.accepted, seen, key=lambda one: one.at)
    way = (row.trust, seen.issuer, seen.locations)
    if way in past.ways or len(past.ways) < MAX_CHAINS:
        past.ways[way] = max(past.ways.get(way, seen), seen, key=lambda one: one.at)


def _seen(row: Row, data: Mapping[str, Any]) -> Seen:
    """
    The rest of what is compared; a field that is not as we write it is as good as none.
    """
    try:
        evidence = data["verdict"]["evidence"]
        leaf = evidence["path"][0] if evidence["path"] else {}
        causes = {finding["cause"] for finding in evidence["hops"] if finding.get("cause")}
        locations = {one["url"] for one in data["statements"] if one.get("url")}
        ends = leaf.get("not_after")
        return Seen(
            at=datetime.fromisoformat(row.at),
            row=row,
            issuer=str(leaf.get("issuer", "")),
            ends=None if ends is None else datetime.fromisoformat(ends),
            causes=tuple(sorted(causes)),
            locations=frozenset(map(str, locations)),
            chain=tuple(data["question"]["chain"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
        msg = f"evidence document cannot be read: {type(exc).__name__}"
        raise StoreError(msg) from exc


def chain_of(seen: Seen, ledger: EvidenceReader) -> tuple[bytes, ...] | None:
    """
    The chain that was presented.

    Args:
        seen: from `look_back`.
        ledger: where its certificates are.

    Returns:
        DER, leaf first; `None` where a certificate is gone or was changed.

    """
    try:
        found = from_plain(list(seen.chain), ledger.blob)
    except (StoreError, ValueError, TypeError):
        return None
    return tuple(whole_of(one) for one in found) if all(hasattr(one, "__len__") for one in found) else None


def key_of(seen: Seen, ledger: EvidenceReader) -> bytes | None:
    """
    The public key (SubjectPublicKeyInfo) of the partner.

    Args:
        seen: from `look_back`.
        ledger: where its certificates are.

    Returns:
        DER; `None` where the certificate is gone or cannot be read.

    """
    chain = chain_of(seen, ledger)
    try:
        return parse_certificate(chain[0]).spki if chain else None
    except InputError:
        return None


def rank_of(reason: str) -> int:
    """
    How strong a reason is; those that a later version wrote come last.
    """
    return next((place for place, one in enumerate(RANK) if one.value == reason), len(RANK))
