"""
What the answers mean for partners: from what was heard to findings. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from cryptography.x509 import load_der_x509_crl

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.policy import Action, Enforcement
from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.doctor.asked import Plan, Target
from cftpki_ext.doctor.findings import Fact, Finding, Level
from cftpki_ext.revocation.crl_parse import read_crl
from cftpki_ext.revocation.ocsp import NON_ISSUED
from cftpki_ext.revocation.ocsp_response import parse_ocsp
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# A CA's or delegate's certificate with less time left than this is named before it is too late.
SOON = timedelta(days=30)
DELEGATE_SOON = timedelta(days=3)
# A list whose next one comes later than this share of its life before its end leaves no room for an outage.
_LATE = 0.1

_ACTIONS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.NO_REV_AVAIL: "nothing: its CA has no status to tell",
        Cause.NO_SOURCE: "name a location in [trust.{trust}] (ocsp, crl or rest)",
        Cause.UNREACHABLE: "see that this machine reaches it (DNS, firewall, TLS roots, proxy of [trust.{trust}])",
        Cause.TIMED_OUT: "see that this machine reaches it (firewall, proxy of [trust.{trust}]), or ask its operator",
        Cause.TRY_LATER: "ask the operator of the responder: it says tryLater",
        Cause.RESPONDER_ERROR: "ask the operator of the responder: it reports an error of its own",
        Cause.UNAUTHORIZED: "see that it serves this CA, and takes our credentials",
        Cause.UNKNOWN: "see that this responder knows the CA's certificates",
        Cause.STALE: "see that the CA publishes in time, and that both clocks are right",
        Cause.MALFORMED: "tell the CA what is wrong with its answers",
        Cause.UNREADABLE: "open the address in a browser: something else answers there",
        Cause.BAD_SIGNATURE: "see who signs there: name a responder's certificate in ocsp_signers of [trust.{trust}]",
        Cause.WRONG_SCOPE: "see that the address belongs to this CA",
        Cause.TOO_LARGE: "raise the limit in [limits], or have the CA part its list",
        Cause.FORBIDDEN_URL: "allow it in [trust.{trust}]: allow_hosts for the host, allow_networks for a private address",
        Cause.DISAGREEMENT: "ask the CA which source is right",
        Cause.MUST_STAPLE: "the partner must staple an OCSP answer",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """
    What was heard about one target: `finding.sources` are in the order of `statements`.
    """

    target: Target
    finding: CertificateFinding
    statements: tuple[Statement, ...]


def judge_trust(plan: Plan, heard: Sequence[Heard], *, limits: Limits, now: datetime) -> tuple[Finding, ...]:
    """
    Everything that is to be said of one trust set.

    Args:
        plan: what was asked.
        heard: what came, one per target.
        limits: as configured: what a handshake has.
        now: the time of judgement.

    Returns:
        Findings: CA certificates first, then locations.

    """
    about = f"trust {plan.trust.name}"
    found = [*_authorities(plan, about, now), *_broken(plan, about)]
    works = {
        statement.url
        for one in heard
        for statement, source in zip(one.statements, one.finding.sources, strict=True)
        if _answers(source)
    }
    for one in heard:
        found += _target(plan, one, about, works=works, limits=limits, now=now)
    if not plan.targets:
        found.append(
            Finding(
                level=Level.NOTE,
                about=about,
                check="locations",
                detail="none of its own: partners' certificates name theirs",
                action="name partners' certificates with --chain to have these asked",
            )
        )
    return tuple(found)


def _authorities(plan: Plan, about: str, now: datetime) -> Iterator[Finding]:
    for authority in plan.authorities:
        left = authority.not_after - now
        check = f"CA {authority.subject.text}"
        facts: dict[str, Fact] = {"not_after": authority.not_after.isoformat(), "days_left": left.days}
        if now < authority.not_before or left < timedelta(0):
            detail = f"valid from {_day(authority.not_before)} to {_day(authority.not_after)}, not now"
            action = "get the new CA certificate into the trust set"
            yield Finding(
                level=Level.FAIL, about=about, check=check, detail=detail, action=action, facts=facts
            )
        elif left < SOON:
            detail, action = (
                f"ends {_day(authority.not_after)}",
                "get the next CA certificate into the trust set",
            )
            yield Finding(
                level=Level.WARN, about=about, check=check, detail=detail, action=action, facts=facts
            )
        else:
            detail = f"valid to {_day(authority.not_after)}"
            yield Finding(level=Level.OK, about=about, check=check, detail=detail, facts=facts)


def _broken(plan: Plan, about: str) -> Iterator[Finding]:
    for one in plan.broken:
        fault = one.faults[0] if one.faults else None
        detail = "leads to no anchor" if fault is None else f"{fault.reason.value}: {fault.detail}"
        kind = "partner" if one.handed_in else "CA"
        yield Finding(
            level=Level.FAIL,
            about=about,
            check=f"{kind} {one.certificate.subject.text}",
            detail=detail,
            action="this partner is refused" if one.handed_in else "no chain through it is accepted",
        )


def _answers(source: SourceFinding) -> bool:
    """
    Whether an authentic answer came, whatever it says.
    """
    return source.status is not CertificateStatus.UNDETERMINED or source.cause is Cause.UNKNOWN


def _target(
    plan: Plan, one: Heard, about: str, *, works: set[str | None], limits: Limits, now: datetime
) -> Iterator[Finding]:
    target, trust = one.target, plan.trust
    answered = any(_answers(source) for source in one.finding.sources)
    established = one.finding.status is not CertificateStatus.UNDETERMINED
    for statement, source in zip(one.statements, one.finding.sources, strict=True):
        check = f"{source.kind.value} {source.url}"
        facts = _facts(statement, source, target)
        if not _answers(source):
            level = _level(trust, source, now, otherwise=answered if target.stand_in else established)
            if target.stand_in and statement.url in works:
                level = Level.NOTE  # it is another CA's
            elif target.stand_in and source.cause is Cause.UNAUTHORIZED and source.kind is SourceKind.OCSP:
                level = Level.NOTE  # RFC 5019: answers for issued certificates only
            cause = source.cause.value if source.cause else ""
            action = _action(source, trust)
            if source.kind is SourceKind.OCSP and level is Level.NOTE:
                action = "name a partner's certificate with --chain to have it asked"
            detail = f"{target.name}: {cause}: {source.detail}"
            yield Finding(level=level, about=about, check=check, detail=detail, action=action, facts=facts)
            continue
        yield _answer(one, source, about, check, facts)
        yield from _habits(trust, target, statement, source, about=about, check=check, limits=limits, now=now)
    if target.stand_in and not answered and target.issuer.spki in plan.bottom:
        yield Finding(
            level=Level.WARN,
            about=about,
            check=target.name,
            detail="no location of the trust set answers for them",
            action="they are refused unless they name locations of their own: try one with --chain",
        )
    elif not target.stand_in and not one.statements:
        level = _level(trust, None, now, otherwise=False)
        yield Finding(
            level=level,
            about=about,
            check=f"certificate {target.name}",
            detail="no_source: neither it nor the trust set names where its status can be asked",
            action=_ACTIONS[Cause.NO_SOURCE].format(trust=trust.name),
        )


def _action(source: SourceFinding, trust: TrustSet) -> str:
    if source.cause is None:
        return ""
    if source.cause is Cause.FORBIDDEN_URL and (source.url or "").lower().startswith(("ldap://", "ldaps://")):
        return (
            f"permit it with a table [trust.{trust.name}.ldap]: servers where the address names none; allow_hosts for the"
            " host, allow_networks for a private address"
        )
    return _ACTIONS[source.cause].format(trust=trust.name)


def _level(trust: TrustSet, source: SourceFinding | None, now: datetime, *, otherwise: bool) -> Level:
    """
    How bad silence is: it refuses partners unless another source answers, or policy lets them in.
    """
    if otherwise or trust.policy.enforcement is Enforcement.AUDIT:
        return Level.WARN
    cause = Cause.NO_SOURCE if source is None or source.cause is None else source.cause
    treatment = trust.policy.treatment(cause, now)
    soft = treatment.action is not Action.REFUSE and treatment.max_stale is None
    return Level.WARN if soft else Level.FAIL


def _answer(one: Heard, source: SourceFinding, about: str, check: str, facts: Mapping[str, Fact]) -> Finding:
    target = one.target
    level, words, action = Level.OK, source.status.value, ""
    if target.stand_in:
        words = "answers"
    elif (
        source.status in (CertificateStatus.REVOKED, CertificateStatus.ON_HOLD)
        and source.revocation_reason != NON_ISSUED
    ):
        level = Level.FAIL if target.certificate.is_ca else Level.WARN
        action = (
            "take this CA out of the trust set"
            if target.certificate.is_ca
            else "this partner is refused, rightly"
        )
    elif source.cause is Cause.UNKNOWN:
        level = Level.WARN if one.finding.status is CertificateStatus.GOOD else Level.FAIL
        words, action = "unknown", _ACTIONS[Cause.UNKNOWN]
    shown = [f"{target.name}: {words}", f"{source.elapsed_ms} ms", f"{facts.get('bytes', 0)} bytes"]
    if source.responder:
        shown.append(f"signed by {source.responder}")
    shown += [f"{facts[name]} {name.replace('_', ' ')}" for name in ("entries",) if name in facts]
    if source.next_update is not None:
        shown.append(f"next update {source.next_update.isoformat(timespec='seconds')}")
    return Finding(level=level, about=about, check=check, detail=", ".join(shown), action=action, facts=facts)


def _facts(statement: Statement, source: SourceFinding, target: Target) -> Mapping[str, Fact]:
    facts: dict[str, Fact] = {
        "asked_about": target.name,
        "stand_in": target.stand_in,
        "status": source.status.value,
        "cause": source.cause.value if source.cause else None,
        "elapsed_ms": source.elapsed_ms,
        "bytes": 0 if statement.raw is None else len(statement.raw),
        "signer": source.responder,
        "this_update": source.this_update.isoformat() if source.this_update else None,
        "next_update": source.next_update.isoformat() if source.next_update else None,
    }
    if statement.raw is not None and source.kind is SourceKind.CRL:
        try:
            view = read_crl(statement.raw)
            facts["entries"] = len(load_der_x509_crl(whole_of(statement.raw)))
        except (InputError, ValueError):
            return facts
        facts |= {
            "number": view.number,
            "delta": view.base_number is not None,
        }
        if view.idp is not None:
            facts["scope"] = ", ".join(str(name.value) for name in view.idp.full_names) or "unnamed"
    return facts


def _habits(
    trust: TrustSet,
    target: Target,
    statement: Statement,
    source: SourceFinding,
    *,
    about: str,
    check: str,
    limits: Limits,
    now: datetime,
) -> Iterator[Finding]:
    """
    What an answer that counts shows of its source: pace, size, clock, nonce, delegate, time left.
    """
    budget_ms = limits.budget_ms - limits.reserve_ms
    if source.kind is not SourceKind.CRL:
        budget_ms = min(budget_ms, limits.request_ms)

    def said(level: Level, detail: str, action: str = "", **facts: Fact) -> Finding:
        return Finding(level=level, about=about, check=check, detail=detail, action=action, facts=facts)

    if source.elapsed_ms > budget_ms:
        large = (
            "fetch it ahead with cftpki cache warm, or raise budget_ms"
            if source.kind is SourceKind.CRL
            else ""
        )
        yield said(
            Level.FAIL,
            f"takes {source.elapsed_ms} ms, a handshake has {budget_ms} ms for it",
            large or "raise request_ms and budget_ms in [limits], or ask its operator",
        )
    elif source.elapsed_ms > limits.hedge_ms:
        yield said(Level.WARN, f"takes {source.elapsed_ms} ms: handshakes wait for it")
    caps = {
        SourceKind.OCSP: ("ocsp_bytes", limits.ocsp_bytes),
        SourceKind.CRL: ("crl_bytes", limits.crl_bytes),
        SourceKind.REST: ("rest_bytes", limits.rest_bytes),
        SourceKind.DIRECTORY: ("directory_bytes", limits.directory_bytes),
    }
    name, cap = caps[source.kind]
    if statement.raw is not None and len(statement.raw) * 2 > cap:
        yield said(
            Level.WARN,
            f"{len(statement.raw)} bytes of the {cap} that {name} allows",
            f"raise {name} in [limits]",
        )
    if source.kind is SourceKind.CRL and source.this_update and source.next_update:
        left = source.next_update - now
        if left < (source.next_update - source.this_update) * _LATE:
            yield said(
                Level.WARN, f"its last hour comes {source.next_update.isoformat()}, and no newer one is out"
            )
    if source.kind is SourceKind.OCSP and statement.raw is not None:
        for level, detail, action in _responder(trust, target, statement, limits, now):
            yield said(level, detail, action)


def _responder(
    trust: TrustSet, target: Target, statement: Statement, limits: Limits, now: datetime
) -> Iterator[tuple[Level, str, str]]:
    try:
        basic = parse_ocsp(whole_of(statement.raw or b"")).basic
    except InputError:
        return
    if basic is None or basic.produced_at is None:
        return
    ahead = basic.produced_at - now
    echoed = statement.nonce is not None and basic.nonce == statement.nonce
    if ahead > limits.clock_skew / 2 or (echoed and -ahead > limits.clock_skew / 2):
        seconds = int(ahead.total_seconds())
        words = f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} ours"
        yield Level.WARN, f"its clock is {words}", f"set the clocks; clock_skew allows {limits.clock_skew}"
    if statement.nonce is not None and basic.nonce is None and trust.nonce is NonceMode.SEND:
        yield (
            Level.NOTE,
            "answers without our nonce: an older answer cannot be told from a new one within its life",
            'nothing, or nonce = "off" to let caches answer',
        )
    for delegate in _delegates(basic.certificates, target.issuer, trust):
        left = delegate.not_after - now
        if left < DELEGATE_SOON and left < (delegate.not_after - delegate.not_before) / 4:
            yield (
                Level.WARN,
                f"its certificate ends {delegate.not_after.isoformat()}",
                "ask its operator to renew it",
            )
        if not delegate.ocsp_nocheck:
            yield (
                Level.NOTE,
                "its certificate has no id-pkix-ocsp-nocheck: a CRL must show that it is good",
                "",
            )


def _delegates(ders: Iterable[bytes], issuer: Certificate, trust: TrustSet) -> Iterator[Certificate]:
    for der in ders:
        try:
            certificate = parse_certificate(der, compat=trust.compat, form=trust.form)
        except InputError:
            continue
        if certificate.spki != issuer.spki and certificate.issuer.key == issuer.subject.key:
            yield certificate


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
