"""
What all sources together say of one certificate.

Owns the combination: bad news first, then good news, else the most telling cause. Each source's own rules live in
`ocsp`, `crl` and `rest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cftpki_ext.core.causes import RESERVATIONS, Cause
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, SourceFinding, at_depth
from cftpki_ext.core.vocabulary import Form, Origin, Rules, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl import judge_crls
from cftpki_ext.revocation.freshness import staleness
from cftpki_ext.revocation.ocsp import NON_ISSUED, judge_ocsp
from cftpki_ext.revocation.rest import judge_rest
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.distribution import locations

# The TLS feature that a must-staple certificate lists: status_request (RFC 7633 4, RFC 6066 8), and the
# older form for whole chains, status_request_v2 (RFC 6961 2.2).
STATUS_REQUEST = frozenset({5, 17})

# Which cause names an undetermined certificate, and with it the row of the policy table: the first that was met.
# What an authentic source said comes before what may have been put in its way, so that nobody can trade an
# "unknown" for a softer cause by breaking the other source; then what an attack would look like; then an
# unwilling source before an absent one.
CAUSE_RANK: tuple[Cause, ...] = (
    Cause.DISAGREEMENT,
    Cause.MUST_STAPLE,
    Cause.UNKNOWN,
    Cause.BAD_SIGNATURE,
    Cause.MALFORMED,
    Cause.UNREADABLE,
    Cause.WRONG_SCOPE,
    Cause.TOO_LARGE,
    Cause.FORBIDDEN_URL,
    Cause.UNAUTHORIZED,
    Cause.STALE,
    Cause.RESPONDER_ERROR,
    Cause.TRY_LATER,
    Cause.TIMED_OUT,
    Cause.UNREACHABLE,
    Cause.NO_SOURCE,
    Cause.NO_REV_AVAIL,
)
_BAD = (CertificateStatus.REVOKED, CertificateStatus.ON_HOLD)
# A statement that was merely kept and has grown old says less than why no newer one came.
_OLD_NEWS = len(CAUSE_RANK)
# What a location says about certificates that it is not there for.
_NOT_HERE = frozenset({Cause.WRONG_SCOPE, Cause.UNAUTHORIZED})
# Evidence handed in for the chain as a whole is tried for every certificate; that it is about another one says nothing.
_OTHER_HOP = len(CAUSE_RANK) + 1


@dataclass(frozen=True, slots=True)
class _Undetermined:
    rank: int
    cause: Cause
    detail: str


def judge_certificate(
    context: RevocationContext, depth: int, statements: Sequence[Statement]
) -> CertificateFinding:
    """
    Combine all statements about one certificate of a trusted path.

    An authentic "revoked" from any source decides, whatever the others say and however old it is. Then an
    authentic hold decides, unless newer evidence lifts it. Then one "good" is enough, unless the same responder has
    said later that it does not know the certificate; a staple's only where `ocsp` is among the sources. Otherwise the
    certificate is undetermined, with the first cause of `CAUSE_RANK`. Evidence counts whether or not the certificate names
    a location for it. Who should have been heard besides (`cftpki_ext.decision.grounds`) and policy are not looked at.

    Args:
        context: the path and the time of the decision.
        depth: 0 = leaf; must be below the anchor.
        statements: what was heard; those about other certificates are left out.

    Returns:
        The finding, with one source finding per statement that was judged, in their order.

    """
    certificate = context.path[depth]
    relevant = [s for s in statements if s.depth is None or s.depth == depth]
    crls = [s for s in relevant if s.kind is SourceKind.CRL]
    lists = judge_crls(context, depth, crls) if crls else None
    list_findings = iter(lists.findings if lists else ())
    findings: list[SourceFinding] = []
    for statement in relevant:
        if statement.kind is SourceKind.CRL:
            finding = next(list_findings)
        elif statement.kind is SourceKind.OCSP:
            finding = judge_ocsp(context, depth, statement, crls=crls)
        else:
            finding = judge_rest(context, depth, statement)
        if finding.cause in RESERVATIONS:
            # They speak of a "good"; as the cause of a failure they would let in by default.
            finding = replace(finding, cause=Cause.MALFORMED)
        findings.append(finding)
    if context.rules >= Rules.ALL_HEARD:
        findings = _replaced(findings)
    undetermined = [
        _Undetermined(
            rank_of(context.trust, finding, loose=statement.depth is None), finding.cause, finding.detail
        )
        for statement, finding in zip(relevant, findings, strict=True)
        if finding.cause is not None
    ]
    bad = [f for f in findings if f.status is CertificateStatus.REVOKED]
    held = [f for f in findings if f.status is CertificateStatus.ON_HOLD]
    good = [f for f in findings if f.status is CertificateStatus.GOOD and f.kind is not SourceKind.CRL]
    if context.rules >= Rules.ALL_HEARD:
        good = [f for f in good if has_a_say(context.trust, f)]
    if lists is not None and lists.status is CertificateStatus.GOOD:
        # The lists were weighed against each other already: what one of them holds, another has released.
        held = [f for f in held if f.kind is not SourceKind.CRL]
        good += [f for f in findings if f.status is CertificateStatus.GOOD and f.kind is SourceKind.CRL]
    final = [f for f in bad if f.revocation_reason != NON_ISSUED]
    liftable = [f for f in (*bad, *held) if f not in final]
    standing = final or [f for f in liftable if not _lifted(context, f, good)]
    status, cause, detail = CertificateStatus.UNDETERMINED, None, ""
    if standing:
        worst = min(standing, key=lambda f: f.status is not CertificateStatus.REVOKED)
        status, detail = worst.status, _describe(worst)
    elif lists is not None and lists.status in _BAD and not any(f.status in _BAD for f in lists.findings):
        status, detail = lists.status, lists.detail
    elif good:
        freshest = max(good, key=_this_update)
        status, detail = CertificateStatus.GOOD, _describe(freshest)
    else:
        if lists is not None and lists.cause is not None:
            undetermined += _beyond_single_lists(lists.cause, lists.detail, undetermined)
        first = min(undetermined, key=lambda u: u.rank, default=None)
        cause = first.cause if first else Cause.NO_SOURCE
        detail = first.detail if first else _unheard(context.trust, certificate)
        silent = first is None or first.rank >= _OTHER_HOP
        if silent and certificate.no_rev_avail and context.trust.form is not Form.FIRST:
            cause, detail = Cause.NO_REV_AVAIL, "its CA says that it publishes no status of it (RFC 9608)"
    return CertificateFinding(
        depth=depth,
        subject=certificate.label,
        serial=certificate.serial_hex,
        fingerprint=certificate.digest.hex(),
        status=status,
        cause=cause,
        detail=detail,
        sources=tuple(findings),
    )


def _unheard(trust: TrustSet, certificate: Certificate) -> str:
    """
    Why no source was heard at all, as far as certificate and trust set tell.
    """
    own = (*trust.ocsp_urls, *trust.crl_urls, *map(str, trust.crl_files), *trust.api_crls)
    named = (*certificate.ocsp_urls, *locations(certificate.distribution_points), *own)
    if not named:
        return "no source was heard: neither the certificate nor the trust set names one, and nothing was handed in"
    return f"no source was heard: {named[0]} was not asked, and nothing was handed in"


def require_staple(certificate: Certificate, finding: CertificateFinding) -> CertificateFinding:
    """
    Hold a certificate with the TLS feature "status request" to its promise (RFC 7633 4.2.3).

    A usable OCSP answer must have come with the chain: stapled, or handed in beside it. One that was
    fetched by ourselves, and one that did not stand up, are none. Bad news stays bad news.

    Args:
        certificate: the server's certificate.
        finding: what the sources said of it.

    Returns:
        The finding itself, or one that is undetermined with the cause `MUST_STAPLE`.

    """
    if not certificate.tls_features & STATUS_REQUEST or finding.status in _BAD:
        return finding
    for source in finding.sources:
        brought = source.origin in (Origin.STAPLED, Origin.HANDED_IN)
        if brought and source.kind is SourceKind.OCSP and source.status is CertificateStatus.GOOD:
            return finding
    return replace(
        finding,
        status=CertificateStatus.UNDETERMINED,
        cause=Cause.MUST_STAPLE,
        detail="the certificate promises a stapled status (RFC 7633) and no usable one came",
    )


def cross_check(trust: TrustSet, finding: CertificateFinding) -> CertificateFinding:
    """
    Hold a good certificate to the agreement of several kinds of source: the worse answer counts.

    Bad news stands already. A signed "unknown" beside "good" is a disagreement. A kind that did not say "good"
    leaves the certificate undetermined, with the cause why it did not, and the policy decides about that.

    Args:
        trust: its `cross_check` names the kinds that must agree; none is no cross-check.
        finding: what the sources said together.

    Returns:
        The finding itself, or one that is undetermined.

    """
    if not trust.cross_check or finding.status is not CertificateStatus.GOOD:
        return finding
    against = contradiction(finding)
    if against is not None:
        return replace(
            finding, status=CertificateStatus.UNDETERMINED, cause=Cause.DISAGREEMENT, detail=against
        )
    for kind in trust.cross_check:
        said = [source for source in finding.sources if source.kind is kind]
        if any(source.status is CertificateStatus.GOOD for source in said):
            continue
        worst = min(
            (s for s in said if s.cause is not None),
            key=lambda s: rank_of(trust, s, loose=s.origin is Origin.HANDED_IN),
            default=None,
        )
        cause = Cause.NO_SOURCE if worst is None or worst.cause is None else worst.cause
        why = f": {worst.detail}" if worst is not None and worst.detail else ""
        return replace(
            finding,
            status=CertificateStatus.UNDETERMINED,
            cause=cause,
            detail=f"cross-check without an answer by {kind.value.upper()}{why}",
        )
    return finding


def contradiction(finding: CertificateFinding) -> str | None:
    """
    Whether authentic sources of one certificate contradict each other: bad or "unknown" here, good there.

    What counts has been decided already: bad news counts, and "good" goes before "unknown". A hold that newer
    evidence has lifted contradicts nothing.

    Args:
        finding: of a judged certificate.

    Returns:
        A clause that names both sides, or `None` where they agree.

    """
    good = [s for s in finding.sources if s.status is CertificateStatus.GOOD]
    if finding.status in _BAD:
        other = [s for s in finding.sources if s.status in _BAD]
    else:
        other = [s for s in finding.sources if s.cause is Cause.UNKNOWN]
    if not other or not good:
        return None
    return f"sources disagree about {at_depth(finding.depth)}: {_describe(other[0])}; {_describe(good[0])}"


def unread_details(finding: CertificateFinding) -> tuple[str, ...]:
    """
    What could not be read of the details of bad news that counted all the same.
    """
    return tuple(
        f"{_describe(s)}; {s.detail}"
        for s in finding.sources
        if s.status in _BAD and s.kind is SourceKind.REST and s.detail
    )


def has_a_say(trust: TrustSet, finding: SourceFinding) -> bool:
    """
    Whether good news of a source counts: what the partner staples does where `ocsp` is among the sources.
    """
    return finding.origin is not Origin.STAPLED or SourceKind.OCSP in (*trust.sources, *trust.cross_check)


def speaks_of_others(trust: TrustSet, finding: SourceFinding, *, loose: bool) -> bool:
    """
    Whether a source merely is not there for this certificate, which is no news.
    """
    return finding.cause is not None and rank_of(trust, finding, loose=loose) == _OTHER_HOP


def rank_of(trust: TrustSet, finding: SourceFinding, *, loose: bool) -> int:
    """
    How much an undetermined source says: the lowest names the certificate. For one that is determined, the least.

    Loose evidence, and the trust set's own locations, are tried for every certificate. That one of them speaks of
    another CA's certificates is no news, and must not hide why the source that does know was silent.
    """
    if finding.cause is None or (finding.cause is Cause.STALE and finding.origin is not Origin.NETWORK):
        return _OLD_NEWS
    if finding.cause is Cause.WRONG_SCOPE and loose:
        return _OTHER_HOP
    if finding.cause in _NOT_HERE and finding.url is not None:
        own = (*trust.crl_urls, *map(str, trust.crl_files), *trust.ocsp_urls)
        if finding.url in own:
            return _OTHER_HOP
    return CAUSE_RANK.index(finding.cause)


def _beyond_single_lists(cause: Cause, detail: str, heard: Sequence[_Undetermined]) -> list[_Undetermined]:
    """
    The cause of all lists together, where none of them has it alone (e.g. reasons left uncovered).
    """
    if any(u.cause is cause for u in heard):
        return []
    return [_Undetermined(CAUSE_RANK.index(cause), cause, detail)]


def _lifted(context: RevocationContext, held: SourceFinding, good: Sequence[SourceFinding]) -> bool:
    """
    Whether newer evidence ends a hold (or a "not issued"): RFC 5280 5.3.1, RFC 6960 2.2.

    The same kind of source may always take its own word back. Another kind may only do so once the hold's
    own evidence has run out; while both are in force they contradict each other, and the worse one counts.
    """
    if held.this_update is None:
        return False
    run_out = staleness(held.kind, held.this_update, held.next_update, limits=context.limits, now=context.now)
    if context.rules >= Rules.ALL_HEARD:
        newer = [f for f in good if _said_at(f) > _said_at(held)]
        own_word = frozenset({SourceKind.OCSP, SourceKind.REST})
    else:
        newer = [f for f in good if f.this_update is not None and f.this_update > held.this_update]
        own_word = frozenset({SourceKind.OCSP})
    return any(run_out is not None or f.kind is held.kind in own_word for f in newer)


def _replaced(findings: Sequence[SourceFinding]) -> list[SourceFinding]:
    """
    OCSP answers that a newer one of the same responder, or from the same address, replaces: "good" and "unknown".

    Which of two that contradict each other and say the same of their time came first, nobody knows: "unknown" counts.
    """
    said = [
        f
        for f in findings
        if f.kind is SourceKind.OCSP
        and f.responder is not None
        and f.this_update is not None
        and (f.status is CertificateStatus.GOOD or f.cause is Cause.UNKNOWN)
    ]
    if len(said) < 2:
        return list(findings)
    return [_unless_replaced(f, said) if f in said else f for f in findings]


def _unless_replaced(finding: SourceFinding, said: Sequence[SourceFinding]) -> SourceFinding:
    good = finding.status is CertificateStatus.GOOD
    for other in said:
        if (other.status is CertificateStatus.GOOD) is good:
            continue
        same = other.responder == finding.responder or (other.url is not None and other.url == finding.url)
        later = _said_at(other) > _said_at(finding) or (good and _said_at(other) == _said_at(finding))
        if same and later:
            word = "does not know the certificate" if good else "knows the certificate"
            detail = f"the same responder has said later that it {word}"
            cause = Cause.UNKNOWN if good else Cause.STALE
            return replace(finding, status=CertificateStatus.UNDETERMINED, cause=cause, detail=detail)
    return finding


def _said_at(finding: SourceFinding) -> tuple[float, float]:
    return _this_update(finding), finding.produced_at.timestamp() if finding.produced_at else 0.0


def _this_update(finding: SourceFinding) -> float:
    return finding.this_update.timestamp() if finding.this_update else 0.0


def _describe(finding: SourceFinding) -> str:
    """
    One clause: what was said, since when and why, by whom.
    """
    words = finding.cause.value if finding.cause is not None else finding.status.value
    if finding.revoked_at is not None:
        words += f" {_moment(finding.revoked_at)}"
    if finding.status is not CertificateStatus.GOOD and finding.revocation_reason:
        words += f" ({finding.revocation_reason})"
    where = finding.url or finding.origin.value.replace("_", " ")
    return f"{words}, said by {finding.kind.value.upper()} {where}"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
