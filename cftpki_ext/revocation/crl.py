"""
The status of one certificate by all CRLs at hand together: RFC 5280 section 6.3.3.

Owns the combination: reasons added up over lists, deltas on their bases, holds and their release, sticky
revocation. Pure; the time is in the context. May import x509, context and the other crl modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cftpki_ext.causes import Cause
from cftpki_ext.model import Leniency, SourceKind
from cftpki_ext.policy import Depth
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl_entries import CERTIFICATE_HOLD, REMOVE_FROM_CRL, Entry, MalformedEntriesError
from cftpki_ext.revocation.crl_parse import CrlView, MalformedCrlError, read_crl
from cftpki_ext.revocation.crl_scope import ALL_REASONS, coverage, may_speak
from cftpki_ext.revocation.crl_signer import Signer, find_signer
from cftpki_ext.statement import Statement
from cftpki_ext.verdict import HopStatus, SourceFinding
from cftpki_ext.x509.certificate import Certificate

# A CRL signer may itself be on a CRL by another signer, and so on; a real PKI has one such step.
_SIGNER_DEPTH = 3

# Which cause speaks for a hop on which nothing was established. First those that say most of what is at hand: an
# authentic list in scope that is only too old, then what is wrong with the others, then how asking failed.
_CAUSE_RANK = (
    Cause.STALE,
    Cause.BAD_SIGNATURE,
    Cause.MALFORMED,
    Cause.TOO_LARGE,
    Cause.WRONG_SCOPE,
    Cause.FORBIDDEN_URL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlJudgement:
    """
    What the CRLs together say of one certificate, and what each of them contributed (one finding per statement).

    `cause` is set exactly when `status` is `UNDETERMINED`.
    """

    findings: tuple[SourceFinding, ...]
    status: HopStatus
    cause: Cause | None
    detail: str


@dataclass(slots=True, kw_only=True)
class _Heard:
    """
    One statement on its way through the checks. `cause` is why "not listed" must not be concluded from it.
    """

    statement: Statement
    view: CrlView | None = None
    signer: Signer | None = None  # set: the list is authentic
    entry: Entry | None = None
    reasons: frozenset[str] = frozenset()
    cause: Cause | None = None
    detail: str = ""
    expired: bool = False  # the cause is nextUpdate alone, which a fresh delta makes up for
    foreign: bool = False  # not about this certificate at all
    status: HopStatus = HopStatus.UNDETERMINED

    def refuse(self, cause: Cause, detail: str) -> None:
        self.cause = cause
        self.detail = detail


def judge_crls(context: RevocationContext, hop: int, statements: Sequence[Statement]) -> CrlJudgement:
    """
    Judge the CRLs about one certificate of a trusted path.

    By default "good" needs authentic, current lists in scope that together cover all reasons; "revoked" needs one
    authentic list with the serial, however old, because a revocation does not expire. Only certificateHold is
    lifted, by a newer list of the same scope or by removeFromCRL in a delta on it. A signer outside the path must
    have a good status by the same CRLs (and by `context.statements`); OCSP is not asked for it.

    Args:
        context: the path and what may help.
        hop: the certificate asked about, 0 = leaf; below the anchor.
        statements: the CRLs, with failures to get one among them; other kinds are refused as malformed.

    Returns:
        The judgement. Never raises for what is in a statement.

    """
    return _judge(context, hop, statements, frozenset())


def _judge(
    context: RevocationContext, hop: int, statements: Sequence[Statement], visiting: frozenset[bytes]
) -> CrlJudgement:
    certificate = context.path[hop]
    heard = [_hear(context, hop, statement) for statement in statements]
    for item in heard:
        if item.signer is not None:
            _check_signer(context, item, statements, visiting)
    authentic = [item for item in heard if item.signer is not None]
    for item in authentic:
        _look_up(context, certificate, item)
    status, cause, detail = _combine(context, [item for item in authentic if item.signer is not None], heard)
    findings = tuple(_finding(context, item) for item in heard)
    return CrlJudgement(findings=findings, status=status, cause=cause, detail=detail)


def _hear(context: RevocationContext, hop: int, statement: Statement) -> _Heard:
    """
    Read one statement and find its signer.
    """
    item = _Heard(statement=statement)
    raw = statement.raw
    if raw is None:
        item.refuse(statement.failure or Cause.UNREACHABLE, statement.detail)
    elif len(raw) > context.limits.crl_bytes:
        item.refuse(Cause.TOO_LARGE, f"{len(raw)} octets, and the limit is {context.limits.crl_bytes}")
    else:
        try:
            item.view = read_crl(raw)
        except MalformedCrlError as error:
            item.refuse(Cause.MALFORMED, str(error))
    view = item.view
    if view is None:
        return item
    if not may_speak(context.path[hop], view):
        item.foreign = True
        item.refuse(
            Cause.WRONG_SCOPE,
            f"the CRL is by {view.issuer.text}, which has no say about {context.path[hop].subject.text}",
        )
        return item
    found = find_signer(context, hop, view)
    if isinstance(found, str):
        item.refuse(Cause.BAD_SIGNATURE, found)
    else:
        item.signer = found
    return item


def _check_signer(
    context: RevocationContext, item: _Heard, statements: Sequence[Statement], visiting: frozenset[bytes]
) -> None:
    """
    The signer's own status, and that of the CAs above it which are not in the path (those are hops of their own).

    A signer that is on its own list is judged by that list: there is no other, and it would say so itself.
    """
    signer = item.signer
    if signer is None or signer.certificate in context.path or signer.certificate.digest in visiting:
        return
    if len(visiting) >= _SIGNER_DEPTH:
        item.signer = None
        item.refuse(Cause.BAD_SIGNATURE, "the signers of CRLs depend on each other too deeply")
        return
    everything = list(dict.fromkeys((*statements, *context.statements)))
    beside = replace(context, path=signer.path)
    for hop, certificate in enumerate(signer.path[:-1]):
        if certificate in context.path:
            continue
        judged = _judge(beside, hop, everything, visiting | {signer.certificate.digest})
        if judged.status is HopStatus.GOOD:
            continue
        if judged.status is HopStatus.UNDETERMINED and context.trust.policy.depth is Depth.LEAF:
            continue
        item.signer = None
        item.refuse(
            judged.cause or Cause.BAD_SIGNATURE,
            f"the status of the CRL's signer {certificate.subject.text} is {judged.status.value}: {judged.detail}",
        )
        return


def _look_up(context: RevocationContext, certificate: Certificate, item: _Heard) -> None:
    """
    What an authentic list says, and for which reasons its silence counts.
    """
    view = item.view
    if view is None or item.signer is None:
        return
    try:
        item.entry = view.entries.find(certificate.issuer, certificate.serial)
        unusable = view.unusable or view.entries.unusable()
    except MalformedEntriesError as error:
        item.signer = None
        item.refuse(Cause.MALFORMED, str(error))
        return
    if unusable:
        item.refuse(Cause.MALFORMED, unusable)
        return
    covered = coverage(certificate, view, locations=_locations(context, item.statement, view))
    if not covered.reasons:
        item.refuse(Cause.WRONG_SCOPE, covered.detail)
        return
    item.reasons = covered.reasons
    skew = context.limits.clock_skew
    if view.this_update - skew > context.now:
        item.refuse(
            Cause.STALE, f"thisUpdate {view.this_update.isoformat()} is after {context.now.isoformat()}"
        )
    elif view.next_update is None:
        _judge_endless(context, item, view.this_update)
    elif view.next_update + skew < context.now:
        item.expired = True
        item.refuse(
            Cause.STALE, f"nextUpdate {view.next_update.isoformat()} is before {context.now.isoformat()}"
        )


def _judge_endless(context: RevocationContext, item: _Heard, this_update: datetime) -> None:
    if Leniency.CRL_WITHOUT_NEXT_UPDATE not in context.trust.compat:
        item.refuse(Cause.STALE, "the CRL has no nextUpdate (compat crl_without_next_update)")
    elif this_update + context.limits.crl_max_age + context.limits.clock_skew < context.now:
        item.refuse(Cause.STALE, f"the CRL has no nextUpdate and is older than {context.limits.crl_max_age}")


def _locations(context: RevocationContext, statement: Statement, view: CrlView) -> tuple[str, ...]:
    """
    The URLs that the administrator vouches for: the configured ones, and what a list got from there calls itself.
    """
    trust = context.trust
    configured = {*trust.crl_urls, *map(str, trust.crl_files)}
    if statement.url not in configured or view.idp is None:
        return trust.crl_urls
    own = tuple(
        name.value for name in view.idp.full_names if name.kind == "uri" and isinstance(name.value, str)
    )
    return (*trust.crl_urls, *own)


def _combine(
    context: RevocationContext, authentic: list[_Heard], heard: list[_Heard]
) -> tuple[HopStatus, Cause | None, str]:
    """
    RFC 5280 6.3.3 (c) and (i) to (l) over all lists; sets the status of each item.
    """
    covered: frozenset[str] = frozenset()
    bases: list[_Heard] = []
    for item in authentic:
        if _is_delta(item):
            continue
        if item.expired and any(_extends(delta, item) for delta in authentic):
            item.cause, item.detail = None, "past its nextUpdate, continued by a delta"
        if (
            item.cause is None
            and item.entry is None
            and any(_supersedes(other, item, context.now) for other in authentic)
        ):
            item.refuse(Cause.STALE, "a newer list of the same scope is at hand")
        elif item.cause is None:
            bases.append(item)
    hold: _Heard | None = None
    for item in authentic:
        entry = item.entry
        if entry is None or (_is_delta(item) and entry.reason == REMOVE_FROM_CRL):
            continue
        if entry.reason != CERTIFICATE_HOLD:
            item.status = HopStatus.REVOKED
        elif not _is_lifted(item, authentic, bases):
            item.status = HopStatus.ON_HOLD
            hold = item
        elif item not in bases or not any(_removes(delta, item) for delta in authentic):
            item.refuse(Cause.STALE, "a newer list of the same scope no longer has this hold")
            bases = [base for base in bases if base is not item]
    revoked = next((item for item in authentic if item.status is HopStatus.REVOKED), None)
    if revoked is not None and revoked.entry is not None:
        return (
            HopStatus.REVOKED,
            None,
            f"revoked at {revoked.entry.revoked_at.isoformat()} ({revoked.entry.reason})",
        )
    if hold is not None and hold.entry is not None:
        return HopStatus.ON_HOLD, None, f"on hold since {hold.entry.revoked_at.isoformat()}"
    for base in bases:
        covered |= base.reasons
    if covered >= ALL_REASONS:
        _mark_good(bases, authentic)
        return HopStatus.GOOD, None, ""
    for item in authentic:
        if item.cause is None:
            item.refuse(Cause.WRONG_SCOPE, _what_is_missing(item, covered))
    cause, detail = _speaking_cause(heard)
    return HopStatus.UNDETERMINED, cause, detail


def _mark_good(bases: list[_Heard], authentic: list[_Heard]) -> None:
    for item in authentic:
        if item in bases or (
            _is_delta(item) and item.cause is None and any(_extends(item, base) for base in bases)
        ):
            item.status = HopStatus.GOOD
        elif item.cause is None:
            item.refuse(Cause.WRONG_SCOPE, "a delta without the list that it belongs to")


def _what_is_missing(item: _Heard, covered: frozenset[str]) -> str:
    if _is_delta(item):
        return "a delta without the list that it belongs to"
    return f"the lists at hand do not cover the reasons {', '.join(sorted(ALL_REASONS - covered))}"


def _speaking_cause(heard: list[_Heard]) -> tuple[Cause, str]:
    if not heard:
        return Cause.NO_SOURCE, "no CRL at hand"
    last = len(_CAUSE_RANK)

    def rank(item: _Heard) -> int:
        if item.foreign:
            return last + 1
        return _CAUSE_RANK.index(item.cause) if item.cause in _CAUSE_RANK else last

    first = min(heard, key=rank)
    return first.cause or Cause.MALFORMED, first.detail


def _is_delta(item: _Heard) -> bool:
    return item.view is not None and item.view.base_number is not None


def _same_scope(one: _Heard, other: _Heard) -> bool:
    a, b = one.view, other.view
    return a is not None and b is not None and a.issuer.key == b.issuer.key and a.idp_der == b.idp_der


def _is_newer(one: _Heard, other: _Heard) -> bool:
    """
    Newer by its date and, where both lists have one, by its number too.
    """
    a, b = one.view, other.view
    if a is None or b is None or a.this_update <= b.this_update:
        return False
    return a.number is None or b.number is None or a.number > b.number


def _belongs(delta: _Heard, base: _Heard) -> bool:
    """
    RFC 5280 5.2.4 and 6.3.3 (c): same issuer, scope and key, and numbers and dates in order.
    """
    d, b = delta.view, base.view
    if d is None or b is None or delta.signer is None or base.signer is None:
        return False
    if d.base_number is None or d.number is None or b.base_number is not None or b.number is None:
        return False
    return (
        _same_scope(delta, base)
        and d.authority_key_id == b.authority_key_id
        and delta.signer.certificate.spki == base.signer.certificate.spki
        and d.base_number <= b.number < d.number
        and b.this_update <= d.this_update
    )


def _extends(delta: _Heard, base: _Heard) -> bool:
    return delta.cause is None and _belongs(delta, base)


def _removes(delta: _Heard, base: _Heard) -> bool:
    entry = delta.entry
    return entry is not None and entry.reason == REMOVE_FROM_CRL and _extends(delta, base)


def _supersedes(other: _Heard, item: _Heard, now: datetime) -> bool:
    view = other.view
    return (
        view is not None
        and not _is_delta(other)
        and _same_scope(other, item)
        and _is_newer(other, item)
        and view.this_update <= now
    )


def _is_lifted(item: _Heard, authentic: list[_Heard], bases: list[_Heard]) -> bool:
    """
    Whether a hold was released: by removeFromCRL in a delta on its list, or by a newer list that is without it.
    """
    if any(_removes(delta, item) for delta in authentic):
        return True
    return any(base.entry is None and _same_scope(base, item) and _is_newer(base, item) for base in bases)


def _finding(context: RevocationContext, item: _Heard) -> SourceFinding:
    view, statement = item.view, item.statement
    listed = item.entry if item.status in (HopStatus.REVOKED, HopStatus.ON_HOLD) else None
    undetermined = item.status is HopStatus.UNDETERMINED
    return SourceFinding(
        kind=SourceKind.CRL,
        origin=statement.origin,
        url=statement.url,
        status=item.status,
        cause=(item.cause or Cause.WRONG_SCOPE) if undetermined else None,
        detail=item.detail,
        this_update=view.this_update if view else None,
        next_update=view.next_update if view else None,
        age_s=int((context.now - view.this_update).total_seconds()) if view else None,
        responder=item.signer.certificate.subject.text if item.signer else None,
        revoked_at=listed.revoked_at if listed else None,
        revocation_reason=listed.reason if listed else None,
        digest=view.raw_digest if view else None,
        elapsed_ms=statement.elapsed_ms,
    )
