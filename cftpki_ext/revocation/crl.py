"""
The status of one certificate by all CRLs at hand together: RFC 5280 section 6.3.3.

Owns the checks of each list in their order (read, entitled, signed, signer good, entries, scope, time); crl_combine
then weighs the lists against each other. Pure; the time is in the context.
"""

from __future__ import annotations

from collections.abc import Sequence

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Depth
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Form, Leniency, Origin, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl_combine import Heard, combine
from cftpki_ext.revocation.crl_entries import MalformedEntriesError
from cftpki_ext.revocation.crl_parse import CrlView, MalformedCrlError, read_crl
from cftpki_ext.revocation.crl_scope import coverage, may_speak
from cftpki_ext.revocation.crl_signer import Signer, find_signer
from cftpki_ext.revocation.freshness import staleness
from cftpki_ext.x509.certificate import Certificate

# A CRL signer may itself be on a CRL by another signer, and so on; a real PKI has one such step.
_SIGNER_DEPTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlJudgement:
    """
    What the CRLs together say of one certificate, and what each of them contributed (one finding per statement).

    `cause` is set exactly when `status` is `UNDETERMINED`.
    """

    findings: tuple[SourceFinding, ...]
    status: CertificateStatus
    cause: Cause | None
    detail: str


def judge_crls(context: RevocationContext, depth: int, statements: Sequence[Statement]) -> CrlJudgement:
    """
    Judge the CRLs about one certificate of a trusted path.

    By default "good" needs authentic, current lists in scope that together cover all reasons; "revoked" needs one
    authentic list with the serial, however old, because a revocation does not expire. Only certificateHold is
    lifted, by a newer list of the same scope or by removeFromCRL in a delta on it. A signer outside the path must
    have a good status by the same CRLs (and by `context.statements`); OCSP is not asked for it.

    Args:
        context: the path and what may help.
        depth: the certificate asked about, 0 = leaf; below the anchor.
        statements: the CRLs, with failures to get one among them; other kinds are refused as malformed.

    Returns:
        The judgement. Never raises for what is in a statement.

    """
    return _judge(context, depth, statements, frozenset())


def _judge(
    context: RevocationContext, depth: int, statements: Sequence[Statement], visiting: frozenset[bytes]
) -> CrlJudgement:
    certificate = context.path[depth]
    heard = [_hear(context, depth, statement) for statement in statements]
    refusals: dict[bytes, tuple[Cause, str] | None] = {}
    for item in heard:
        if item.signer is None or item.statement.origin is Origin.KNOWN_REVOKED:
            continue
        digest = item.signer.certificate.digest
        if digest not in refusals:
            refusals[digest] = _doubt_signer(context, item.signer, statements, visiting)
        refusal = refusals[digest]
        if refusal is not None:
            item.signer = None
            item.refuse(*refusal)
    for item in heard:
        _look_up(context, certificate, item)
    status, cause, detail = combine(heard, context.now)
    findings = tuple(_finding(context, item) for item in heard)
    return CrlJudgement(findings=findings, status=status, cause=cause, detail=detail)


def _hear(context: RevocationContext, depth: int, statement: Statement) -> Heard:
    """
    Read one statement and find its signer.
    """
    item = Heard(statement=statement)
    raw = statement.raw
    if raw is None:
        item.refuse(statement.failure or Cause.UNREACHABLE, statement.detail)
    elif len(raw) > context.limits.crl_bytes:
        item.refuse(Cause.TOO_LARGE, f"{len(raw)} octets, and the limit is {context.limits.crl_bytes}")
    else:
        try:
            item.view = read_crl(raw)
        except MalformedCrlError as error:
            item.refuse(_unreadable(context), str(error))
    view = item.view
    if view is None:
        return item
    if context.trust.form is Form.FIRST and view.notes.all:
        item.view = None
        item.refuse(Cause.MALFORMED, f"no CRL: {view.notes.all[0]}")
        return item
    if not may_speak(context.path[depth], view):
        item.foreign = True
        item.refuse(
            Cause.WRONG_SCOPE,
            f"the CRL is by {view.issuer.text}, which has no say about {context.path[depth].subject.text}",
        )
        return item
    # A known revocation was judged when it came, and stays proven when its signer's certificate has run out since.
    known = statement.origin is Origin.KNOWN_REVOKED
    valid_at = min(context.now, statement.received_at) if known else context.now
    found = find_signer(context, depth, view, valid_at=valid_at)
    if isinstance(found, str):
        doubt = next(iter(view.notes.doubts), None)
        item.refuse(*((Cause.BAD_SIGNATURE, found) if doubt is None else (Cause.MALFORMED, doubt)))
    else:
        item.signer = found
    return item


def _doubt_signer(
    context: RevocationContext, signer: Signer, statements: Sequence[Statement], visiting: frozenset[bytes]
) -> tuple[Cause, str] | None:
    """
    Why a signer may not be believed: its own status, or that of a CA above it, is not good.

    Those in the path are judged for themselves and not looked at here. A signer that is on its own list is judged by
    that list: there is no other, and it would say so itself.
    """
    if signer.certificate in context.path or signer.certificate.digest in visiting:
        return None
    if len(visiting) >= _SIGNER_DEPTH:
        return Cause.BAD_SIGNATURE, "the signers of CRLs depend on each other too deeply"
    others = (s for s in context.statements if s.kind is SourceKind.CRL)
    everything = tuple(dict.fromkeys((*statements, *others)))
    beside = replace(context, path=signer.path)
    for depth, certificate in enumerate(signer.path[:-1]):
        if certificate in context.path:
            continue
        judged = _judge(beside, depth, everything, visiting | {signer.certificate.digest})
        if judged.status is CertificateStatus.GOOD:
            continue
        if judged.status is CertificateStatus.UNDETERMINED and context.trust.policy.depth is Depth.LEAF:
            continue
        return (
            judged.cause or Cause.BAD_SIGNATURE,
            f"the status of the CRL's signer {certificate.subject.text} is {judged.status.value}: {judged.detail}",
        )
    return None


def _look_up(context: RevocationContext, certificate: Certificate, item: Heard) -> None:
    """
    What an authentic list says, and for which reasons its silence counts.
    """
    view = item.view
    if view is None or item.signer is None:
        return
    entries = view.entries
    if context.trust.form is Form.FIRST and not entries.strict:
        item.signer = None
        item.refuse(Cause.MALFORMED, entries.unusable() or "entries cannot be read")
        return
    try:
        item.entry = entries.find(certificate.issuer, certificate.serial)
    except MalformedEntriesError as error:
        item.doubtful = True
        item.refuse(Cause.MALFORMED, str(error))
        return
    if item.signer.weak:
        item.doubtful = True
        item.refuse(Cause.BAD_SIGNATURE, item.signer.weak)
        return
    wrong = entries.unusable()
    doubt = view.notes.against_good(context.trust.form)
    item.doubtful = doubt != "" or not entries.strict
    if unusable := view.unusable or wrong or doubt:
        item.refuse(Cause.UNREADABLE if entries.unread else Cause.MALFORMED, unusable)
        return
    if item.statement.origin is Origin.KNOWN_REVOKED and item.entry is None:
        item.refuse(Cause.STALE, "kept as the proof of a revocation, its silence about others proves nothing")
        return
    covered = coverage(certificate, view, locations=_locations(context, item.statement, view))
    if not covered.reasons:
        item.refuse(Cause.WRONG_SCOPE, covered.detail)
        return
    item.reasons = covered.reasons
    _judge_times(context, item, view)


def _unreadable(context: RevocationContext) -> Cause:
    return Cause.MALFORMED if context.trust.form is Form.FIRST else Cause.UNREADABLE


def _judge_times(context: RevocationContext, item: Heard, view: CrlView) -> None:
    """
    RFC 5280 6.3.3 (a): thisUpdate has come, nextUpdate has not passed, with the clock skew on either side.
    """
    if view.next_update is None and Leniency.CRL_WITHOUT_NEXT_UPDATE not in context.trust.compat:
        item.refuse(Cause.STALE, "the CRL has no nextUpdate (compat crl_without_next_update)")
        return
    stale = staleness(
        SourceKind.CRL, view.this_update, view.next_update, limits=context.limits, now=context.now
    )
    if stale is not None:
        item.expired = view.next_update is not None and view.next_update < context.now
        item.refuse(Cause.STALE, stale)


def _locations(context: RevocationContext, statement: Statement, view: CrlView) -> tuple[str, ...]:
    """
    The URLs that the administrator vouches for: the configured ones, and what a list got from there calls itself.
    """
    trust = context.trust
    vouched = (*trust.crl_urls, *map(str, trust.crl_files), *trust.api_crls)
    if view.idp is None or statement.url not in vouched:
        return trust.crl_urls
    own = tuple(
        name.value for name in view.idp.full_names if name.kind == "uri" and isinstance(name.value, str)
    )
    return (*trust.crl_urls, *own)


def _finding(context: RevocationContext, item: Heard) -> SourceFinding:
    view, statement = item.view, item.statement
    listed = item.entry if item.status in (CertificateStatus.REVOKED, CertificateStatus.ON_HOLD) else None
    undetermined = item.status is CertificateStatus.UNDETERMINED
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
        notes=() if view is None else view.notes.all,
    )
