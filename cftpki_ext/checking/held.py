"""
The evidence that a partner rests on, and the partner as it is remembered.

Owns what is taken from a verdict, and when a piece of evidence is due. Two moments count for it: until when it *stands alone*
(our own refresh age), and when it *ends* (nextUpdate, or our greatest age). It is renewed at a point between a half and
three quarters of the way to either, which is another one for each piece, so that what was fetched together is not renewed
together. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from cftpki_ext.checking.case import Place
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.grounds import refresh_age
from cftpki_ext.revocation.freshness import fresh_until

# Where on the way to its end a piece of evidence is renewed: WebLogic's "refresh at N % of validity", spread.
EARLIEST, LATEST = 0.5, 0.75
# A refresh age that is shorter means that each handshake is to ask: nothing is renewed for it.
LEAST_AGE = timedelta(seconds=5)
_CACHED = frozenset({Origin.NETWORK, Origin.CLUSTER, Origin.CACHE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    One answer in the cache: under which name, from where, and its times.
    """

    key: str
    kind: SourceKind
    url: str
    issuer: str  # of the certificate that it is about, for a person
    received_at: datetime
    this_update: datetime
    next_update: datetime | None

    def stands_until(self, limits: Limits) -> datetime:
        """
        Until when it answers without its source being asked.
        """
        return min(self.received_at + refresh_age(self.kind, limits), self.ends(limits))

    def ends(self, limits: Limits) -> datetime:
        """
        When it counts no longer.
        """
        return fresh_until(self.kind, self.this_update, self.next_update, limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """
    A partner that was accepted: what it takes to judge it again (its chain is kept elsewhere), and when it ends.

    `name` is that of its question (`service.judging.standing.name_of`).
    """

    name: bytes
    rule: str
    trust: str
    direction: Direction
    subject: str
    serial: str
    ends: datetime  # of the certificate of its path that ends first
    ending: str  # that certificate's subject
    seen: datetime
    held: tuple[Held, ...]


def held_of(
    verdict: Verdict, statements: Sequence[Statement], places: Iterable[Place], trust: TrustSet
) -> tuple[Held, ...]:
    """
    The answers in the cache that an accepted verdict needs.

    Of several kinds that have said "good" about a certificate, the first of `trust.sources` is enough; those of a
    cross-check are needed beside it.

    Args:
        verdict: accepted.
        statements: those that it rests on.
        places: where the cache was looked into, with the names that it has for them.
        trust: whose sources were heard.

    Returns:
        One for each "good" from the network or the cache whose times are known.

    """
    keys = {place.lookup: place.key for place in places}
    found: dict[str, Held] = {}
    received = {
        (one.depth, one.url, digest_of(one.raw)): one.received_at
        for one in statements
        if one.raw is not None and one.origin in _CACHED
    }
    evidence = verdict.evidence
    for finding in (*evidence.findings, *((evidence.directory,) if evidence.directory else ())):
        issuer = evidence.path[finding.depth].issuer if finding.depth < len(evidence.path) else ""
        of_kind: dict[SourceKind, list[Held]] = {}
        for source in finding.sources:
            if (
                source.status is not CertificateStatus.GOOD
                or source.url is None
                or source.this_update is None
            ):
                continue
            if "://" not in source.url:
                continue  # a file of the trust set's own is read each time
            key = keys.get(Lookup(depth=finding.depth, kind=source.kind, url=source.url))
            received_at = received.get((finding.depth, source.url, source.digest or ""))
            if key is None or received_at is None:
                continue
            seat = SourceKind.REST if source.url in trust.api_crls else source.kind
            of_kind.setdefault(seat, []).append(
                Held(
                    key=key,
                    kind=source.kind,
                    url=source.url,
                    issuer=issuer,
                    received_at=received_at,
                    this_update=source.this_update,
                    next_update=source.next_update,
                )
            )
        first = next((kind for kind in trust.sources if kind in of_kind), None)
        for kind, them in of_kind.items():
            if kind in {first, SourceKind.REST, SourceKind.DIRECTORY, *trust.cross_check}:
                for one in them:
                    before = found.get(one.key)
                    if before is None or one.received_at > before.received_at:
                        found[one.key] = one
    return tuple(found.values())


def still_wanted(before: Iterable[Held], now: Sequence[Held], failures: Iterable[str]) -> tuple[Held, ...]:
    """
    The answers of a verdict, with those of an earlier one whose locations were asked in vain this time.

    Args:
        before: of the earlier verdict.
        now: of this one.
        failures: the URLs that gave nothing that could be used.

    Returns:
        All that is to be renewed: another source that was heard instead is not what the trust set wants first.

    """
    failed, known = set(failures), {one.key for one in now}
    return (*now, *(one for one in before if one.key not in known and one.url in failed))


def partner_of(
    name: bytes,
    verdict: Verdict,
    held: tuple[Held, ...],
    *,
    rule: str,
    trust: str,
    direction: Direction,
    seen: datetime,
) -> Partner | None:
    """
    A partner as it is remembered; `None` where nothing of its path has an end.
    """
    path = verdict.evidence.path
    ends = [(one.not_after, one.subject) for one in path if one.not_after is not None]
    if not path or not ends:
        return None
    first, ending = min(ends)
    return Partner(
        name=name,
        rule=rule,
        trust=trust,
        direction=direction,
        subject=path[0].subject,
        serial=path[0].serial,
        ends=first,
        ending=ending,
        seen=seen,
        held=held,
    )


def due(held: Held, limits: Limits, *, each_time: bool = False) -> tuple[datetime | None, datetime]:
    """
    When a piece of evidence is renewed.

    Args:
        held: the evidence.
        limits: refresh ages and greatest ages.
        each_time: another source is asked in every handshake: standing alone helps nobody.

    Returns:
        The moment before its refresh age is over, `None` where that is too short to be worth it; and the moment before
        it ends. Both are later than when it was received, and earlier than what they are to prevent.

    """
    share = EARLIEST + (LATEST - EARLIEST) * spread(held)
    alone, ends = held.stands_until(limits), held.ends(limits)
    before_end = _on_the_way(held.received_at, ends, share)
    if each_time or refresh_age(held.kind, limits) < LEAST_AGE:
        return None, before_end
    return min(_on_the_way(held.received_at, alone, share), before_end), before_end


def _on_the_way(begin: datetime, end: datetime, share: float) -> datetime:
    return begin + max(timedelta(0), end - begin) * share


def spread(held: Held) -> float:
    """
    A number in [0, 1) that is another one for each answer.
    """
    digest = sha256(f"{held.key} {held.received_at.isoformat()}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def asks_each_time(trust: TrustSet) -> bool:
    """
    Whether a trust set has a source whose answer only counts when it was just asked: a CA's JSON lookup.
    """
    return SourceKind.REST in (*trust.sources, *trust.cross_check) and not trust.api_crls


def ending(partners: Iterable[Partner], now: datetime, *, within: timedelta) -> Iterator[Partner]:
    """
    The partners whose certificate, or another of their path, ends soon; the first to end first.
    """
    yield from sorted(
        (one for one in partners if one.ends <= now + within), key=lambda one: (one.ends, one.name)
    )
