"""
The decision: from a chain and what was heard about it to a verdict.

Owns the order of the decision (docs/adr/0003-decision-order.md): bytes, path, revocation, policy. Pure: the
same question and statements give the same verdict at any later time. Imports the core only; fetches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial

from cftpki_ext import path as paths
from cftpki_ext import revocation
from cftpki_ext.core.alerts import alert_for
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.policy import Enforcement
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import (
    Evidence,
    Fault,
    HopFinding,
    HopStatus,
    Reason,
    Status,
    Verdict,
    strongest,
)
from cftpki_ext.core.vocabulary import Direction, Leniency
from cftpki_ext.core.work import Work, WorkExceededError
from cftpki_ext.decision.apply_policy import treat
from cftpki_ext.decision.partner_lists import clear_entries, denied
from cftpki_ext.decision.summary import acceptance, entry, refusal, shorten
from cftpki_ext.path import PathRequest, Purpose, crl_signer_path, find_path
from cftpki_ext.protocol.tls_vectors import decode_chain
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.freshness import fresh_until
from cftpki_ext.revocation.judge import contradiction, cross_check, judge_hop, require_staple
from cftpki_ext.revocation.plan import hops_to_judge, plan_deltas, plan_lookups
from cftpki_ext.x509.certificate import (
    Certificate,
    MalformedCertificateError,
    keep_certificate,
    parse_certificate,
)

_TIME = frozenset({Reason.EXPIRED, Reason.NOT_YET_VALID})
# Nothing was presented that could be let in: audit cannot accept it either.
_NOTHING_JUDGED = frozenset(
    {
        Reason.UNDECODABLE,
        Reason.NO_CERTIFICATE,
        Reason.TOO_COMPLEX,
        Reason.INTERNAL_ERROR,
        Reason.NO_RULE,
    }
)
_PURPOSES = {Direction.SERVER: Purpose.TLS_CLIENT, Direction.CLIENT: Purpose.TLS_SERVER}
# Each moment costs one judgement of the hop; a file of thousands of old lists must not buy as many.
_STALE_MOMENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    All that a decision depends on, save the statements. Certificates are DER, the chain leaf first.

    `path_only` leaves revocation out. `untrusted` are certificates that may help to build the path. `partners`
    are the rule's lists of whom it lets in, `None` where it lets in whoever is trusted.
    `message` is the handshake message itself where it could not be split into `chain`, which then is empty.
    `fault` was found before anything could be judged, and refuses by itself.
    """

    chain: tuple[bytes, ...]
    direction: Direction
    trust: TrustSet
    limits: Limits
    at: datetime
    rule: str | None
    path_only: bool = False
    untrusted: tuple[bytes, ...] = ()
    partners: Partners | None = None
    message: bytes | None = None
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """
    The path, and what remains to be established. `path` is leaf first with the anchor last, when `trusted`.

    `hops` are the certificates that need a status, `lookups` the places that know it. Only when `may_fetch`
    may they be asked: a chain that is refused anyway is judged by what is at hand.
    """

    question: Question
    path: tuple[Certificate, ...]
    presented: tuple[Certificate, ...]
    pool: tuple[Certificate, ...]
    trusted: bool
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    @cached_property
    def hops(self) -> tuple[int, ...]:
        """
        The hops whose status is to be established; none for an untrusted path, or when revocation is left out.
        """
        if not self.trusted or self.question.path_only:
            return ()
        return hops_to_judge(self.path, self.question.trust)

    @cached_property
    def lookups(self) -> tuple[Lookup, ...]:
        """
        Where the status of `hops` may be asked.
        """
        return plan_lookups(self.path, self.question.trust, self.question.limits) if self.hops else ()

    @property
    def may_fetch(self) -> bool:
        """
        Whether anything may be fetched: a trusted path whose only faults are those of time.
        """
        return bool(self.hops) and all(fault.reason in _TIME for fault in self.faults)

    def pair(self, hop: int) -> tuple[Certificate, Certificate]:
        """
        The certificate of a hop and the one that issued it.
        """
        return self.path[hop], self.path[hop + 1]

    def hop(self, hop: int, statements: Sequence[Statement]) -> HopFinding:
        """
        Judge one hop by what was heard so far. Policy is not looked at, the trust set's cross-check is.

        Args:
            hop: one of `hops`.
            statements: everything heard, about any hop.

        Returns:
            The finding.

        """
        heard = tuple(statements)
        last = self._findings.get(hop)
        # Whoever asks asks again when nothing new was heard, and at last to conclude.
        if last is None or last[0] != heard:
            finding = self._judge(hop, heard, self.question.at)
            last = self._findings[hop] = heard, cross_check(self.question.trust, finding)
        return last[1]

    def deltas(self, finding: HopFinding, statements: Sequence[Statement]) -> tuple[Lookup, ...]:
        """
        Where the delta CRLs are that should be heard before the lists at hand are believed.

        Args:
            finding: of one hop, by these statements.
            statements: everything heard.

        Returns:
            Lookups, whether or not they were asked already.

        """
        question = self.question
        return plan_deltas(self.path[finding.hop], finding, statements, question.trust, question.limits)

    def _judge(self, hop: int, statements: Sequence[Statement], at: datetime) -> HopFinding:
        context = RevocationContext(
            now=at,
            path=self.path,
            trust=self.question.trust,
            limits=self.question.limits,
            pool=self.pool,
            issuer_path=self._issuer_path,
            statements=tuple(statements),
        )
        finding = judge_hop(context, hop, statements)
        if hop == 0 and self.question.direction is Direction.CLIENT:
            return require_staple(self.path[0], finding)
        return finding

    def good_until(self, finding: HopFinding, statements: Sequence[Statement]) -> datetime | None:
        """
        When the statements at hand last established "good", by any source, for a hop that is undetermined.

        The hop is judged again as of the end of each stale statement's life: what counts is that all of
        them together were enough then, not that one of them was authentic. That is now, where a source of
        a cross-check is missing and the others say "good".

        Args:
            finding: an undetermined hop.
            statements: those that it was judged by.

        Returns:
            The latest such moment, or `None` where there is none.

        """
        now = self.question.at
        if (
            self.question.trust.cross_check
            and self._judge(finding.hop, statements, now).status is HopStatus.GOOD
        ):
            return now
        ends = {
            min(now, fresh_until(source.kind, source.this_update, source.next_update, self.question.limits))
            for source in finding.sources
            if source.cause is Cause.STALE and source.this_update is not None and source.this_update <= now
        }
        for end in sorted(ends, reverse=True)[:_STALE_MOMENTS]:
            if self._judge(finding.hop, statements, end).status is HopStatus.GOOD:
                return end
        return None

    def _issuer_path(self, signer: Certificate, at: datetime) -> tuple[Certificate, ...] | None:
        """
        A path for a certificate that signed a CRL, valid at a time, to the anchor of `path` itself.
        """
        key = signer.der, at
        if key not in self._issuer_paths:
            self._issuer_paths[key] = crl_signer_path(
                signer,
                anchor=self.path[-1],
                pool=self.pool,
                at=at,
                trust=self.question.trust,
                limits=self.question.limits,
            )
        return self._issuer_paths[key]

    @cached_property
    def _findings(self) -> dict[int, tuple[tuple[Statement, ...], HopFinding]]:
        return {}

    @cached_property
    def _issuer_paths(self) -> dict[tuple[bytes, datetime], tuple[Certificate, ...] | None]:
        return {}


def examine(question: Question) -> Examination:
    """
    Read the chain and find its path.

    A leaf that cannot be read is refused. Other presented certificates that cannot be read are left out with
    a note; where the path ends for want of one of them, its own fault is reported and not "no path".

    Args:
        question: what is asked.

    Returns:
        The examination; never raises for what a certificate is.

    """
    limits, trust = question.limits, question.trust
    if question.fault is not None:
        return _refused(question, (question.fault,))
    if question.message is not None:
        try:
            chain = decode_chain(
                question.message, max_bytes=limits.chain_bytes, max_certificates=limits.chain_certificates
            )
        except InputError as exc:
            return _refused(question, (_undecodable(str(exc)),))
        return examine(replace(question, chain=chain, message=None))
    fault = _countable(question.chain, limits)
    if fault is not None:
        return _refused(question, (fault,))
    work = Work(limits.work)
    try:
        leaf = parse_certificate(question.chain[0], compat=trust.compat, work=work)
    except MalformedCertificateError as exc:
        return _refused(question, (replace(exc.fault, hop=0),))
    except WorkExceededError as exc:
        return _refused(question, (_too_complex(exc),))
    notes: list[str] = []
    broken: dict[int, MalformedCertificateError] = {}
    presented = [leaf]
    for position, der in enumerate(question.chain[1:], start=1):
        try:
            presented.append(parse_certificate(der, compat=trust.compat, work=work))
        except WorkExceededError as exc:
            return _refused(question, (_too_complex(exc),))
        except MalformedCertificateError as exc:
            broken[position] = exc
            notes.append(printable(f"presented certificate {position} is left out: {exc}"))
    helping = _usable((*trust.intermediates, *question.untrusted), trust.compat, "intermediate", notes)
    anchors = _usable(trust.anchors, trust.compat, "anchor", notes)
    result = find_path(
        PathRequest(
            chain=tuple(presented),
            anchors=anchors,
            intermediates=helping,
            now=question.at,
            purpose=_PURPOSES[question.direction],
            inputs=trust.policy_inputs,
            compat=trust.compat,
            limits=limits,
            work=work,
        )
    )
    faults = result.faults
    if not result.trusted:
        wanted = (result.path or (leaf,))[-1].issuer.der
        missing = tuple(
            replace(exc.fault, hop=position)
            for position, exc in broken.items()
            if wanted in question.chain[position]
        )
        if missing and faults[0].reason is not Reason.TOO_COMPLEX:
            notes += (printable(f"no path without it: {fault.detail}") for fault in faults)
            faults = missing
        elif not faults:
            faults = (_no_path("no path to an anchor was found"),)
    if question.path_only:
        notes.append("revocation was left out on request")
    return Examination(
        question=question,
        path=result.path,
        presented=tuple(presented),
        pool=(*presented[1:], *helping),
        trusted=result.trusted,
        faults=faults,
        notes=tuple(notes),
    )


def conclude(examination: Examination, statements: Sequence[Statement], *, verdict_id: str) -> Verdict:
    """
    Judge every hop by the statements, ask the policy about what was not established, and decide.

    By default everything that is not good refuses. The strongest reason names the refusal (`verdict.RANK`);
    evidence holds the others.

    Args:
        examination: from `examine`.
        statements: everything that was heard.
        verdict_id: the id of the verdict.

    Returns:
        The verdict.

    """
    question = examination.question
    policy = question.trust.policy
    faults, notes, warnings = list(examination.faults), list(examination.notes), list[str]()
    alerts: dict[Fault, int] = {}
    findings = tuple(examination.hop(hop, statements) for hop in examination.hops)
    for finding in findings:
        disagreement = contradiction(finding)
        if disagreement is not None:
            notes.append(shorten(disagreement))
            warnings.append(notes[-1])
        if finding.status is HopStatus.UNDETERMINED:
            if not examination.may_fetch:
                continue  # refused already by a fault of the path, which is why nobody was asked
            treated = treat(
                policy,
                finding,
                at=question.at,
                partner=examination.path[0].digest.hex(),
                good_until=partial(examination.good_until, finding, statements),
            )
            if treated.fault is None:
                notes.append(treated.note)
                warnings += [treated.note] if treated.warn else []
                continue
            faults.append(treated.fault)
            if treated.alert is not None:
                alerts[treated.fault] = treated.alert
        elif finding.status is not HopStatus.GOOD:
            bad = Reason.REVOKED if finding.status is HopStatus.REVOKED else Reason.ON_HOLD
            faults.append(
                Fault(reason=bad, hop=finding.hop, rule="RFC 5280 6.1.3 (a)(3)", detail=finding.detail)
            )
    faults += _not_allowed(examination)
    deciding = strongest(faults)
    reason = deciding.reason if deciding else None
    alert = alert_for(reason) if deciding is None else alerts.get(deciding, alert_for(reason))
    summary = (
        refusal(examination.path or examination.presented, deciding, alert)
        if deciding
        else acceptance(examination.path, findings, path_only=question.path_only)
    )
    # A fault that was found before anything was judged refuses by itself, whatever its reason.
    audited = question.fault is None and reason is not None and reason not in _NOTHING_JUDGED
    if policy.enforcement is Enforcement.AUDIT and audited:
        would = f"audit: would have been {summary}"
        notes.append(would)
        warnings.append(would)
        reason, alert, summary = (
            None,
            0,
            shorten(f"accepted by policy {policy.name!r} without enforcing; {would}"),
        )
    return Verdict(
        id=verdict_id,
        status=Status.ACCEPTED if reason is None else Status.REFUSED,
        reason=reason,
        alert=alert,
        summary=summary,
        evidence=Evidence(
            decided_at=question.at,
            rule=question.rule,
            trust=question.trust.name,
            policy=policy.name,
            direction=question.direction,
            path=tuple(entry(c) for c in examination.path or examination.presented),
            faults=tuple(faults),
            hops=findings,
            notes=tuple(notes),
        ),
        warnings=tuple(warnings),
    )


def clear_memos() -> None:
    """
    Forget everything that was parsed and verified before, so that the next decision starts cold.
    """
    paths.clear_memos()
    revocation.clear_memos()
    clear_entries()


def _not_allowed(examination: Examination) -> tuple[Fault, ...]:
    """
    Whether the rule's lists keep a trusted partner out. Of one that is not trusted nothing is believed.
    """
    question = examination.question
    if question.partners is None or not examination.trusted:
        return ()
    detail = denied(question.partners, examination.path[0])
    if detail is None:
        return ()
    rule = f"partners of rule {question.rule or '-'}"
    return (Fault(reason=Reason.NOT_ALLOWED, hop=0, rule=rule, detail=printable(detail)),)


def _countable(chain: tuple[bytes, ...], limits: Limits) -> Fault | None:
    """
    Whether there is a chain at all, and one within the caps.
    """
    if not chain:
        return Fault(
            reason=Reason.NO_CERTIFICATE,
            hop=None,
            rule="RFC 5246 7.4.6",
            detail="the peer sent no certificate",
        )
    detail = ""
    if len(chain) > limits.chain_certificates:
        detail = f"{len(chain)} certificates are over the limit of {limits.chain_certificates}"
    elif sum(map(len, chain)) > limits.chain_bytes:
        detail = f"chain of {sum(map(len, chain))} bytes is over the limit of {limits.chain_bytes}"
    elif max(map(len, chain)) > limits.certificate_bytes:
        detail = (
            f"certificate of {max(map(len, chain))} bytes is over the limit of {limits.certificate_bytes}"
        )
    return Fault(reason=Reason.UNDECODABLE, hop=None, rule="limits", detail=detail) if detail else None


def _refused(question: Question, faults: tuple[Fault, ...]) -> Examination:
    return Examination(
        question=question, path=(), presented=(), pool=(), trusted=False, faults=faults, notes=()
    )


def _undecodable(detail: str) -> Fault:
    return Fault(reason=Reason.UNDECODABLE, hop=None, rule="RFC 5246 7.4.2", detail=detail)


def _too_complex(exceeded: WorkExceededError) -> Fault:
    detail = f"the chain was not judged: {exceeded}"
    return Fault(reason=Reason.TOO_COMPLEX, hop=None, rule="limits.work", detail=detail)


def _no_path(detail: str) -> Fault:
    return Fault(reason=Reason.NO_PATH, hop=None, rule="RFC 5280 6.1", detail=detail)


def _usable(
    ders: Sequence[bytes], compat: frozenset[Leniency], what: str, notes: list[str]
) -> tuple[Certificate, ...]:
    """
    Those that can be read; the others are noted, and the path must do without them. They are the operator's: kept.
    """
    found: list[Certificate] = []
    for index, der in enumerate(ders):
        try:
            found.append(parse_certificate(der, compat=compat))
            keep_certificate(found[-1], compat=compat)
        except InputError as exc:
            notes.append(printable(f"{what} {index} is left out: {exc}"))
    return tuple(found)
