"""
From a path and what was heard to a verdict: the second half of a decision (docs/adr/0003-decision-order.md).

Owns the order of what refuses: faults of the path, revocation, policy, the rule's lists. Pure: the same question and
statements give the same verdict at any later time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import partial

from cftpki_ext.core.alerts import alert_for
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.escape import printable
from cftpki_ext.core.policy import Enforcement
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import (
    BAD_NEWS,
    AppliedRow,
    CertificateFinding,
    CertificateStatus,
    Evidence,
    Fault,
    Reason,
    Status,
    Verdict,
    strongest,
)
from cftpki_ext.core.vocabulary import Rules
from cftpki_ext.decision.apply_policy import Treated, treat, treat_reservation
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.other_paths import dead_keys, paths_tried
from cftpki_ext.decision.partner_lists import denied
from cftpki_ext.decision.summary import acceptance, entry, refusal, shorten
from cftpki_ext.revocation.judge import contradiction, unread_details

# Audit cannot accept what is refused for one of these: nothing was presented that could be let in, or an operator has shut
# out who presents it, and means every policy that is being tried out as well.
_ENFORCED = frozenset(
    {
        Reason.UNDECODABLE,
        Reason.NO_CERTIFICATE,
        Reason.TOO_COMPLEX,
        Reason.INTERNAL_ERROR,
        Reason.NO_RULE,
        Reason.BLOCKED,
    }
)


def conclude(examination: Examination, statements: Sequence[Statement], *, verdict_id: str) -> Verdict:
    """
    Judge every certificate by the statements, ask the policy about what was not established, and decide.

    Where a CA of the path is revoked for a reason that says nothing against its key, another path is judged. By
    default everything that is not good refuses. The strongest reason names the refusal (`verdict.RANK`); evidence
    holds the others.

    Args:
        examination: from `examine`.
        statements: everything that was heard.
        verdict_id: the id of the verdict.

    Returns:
        The verdict.

    """
    question = examination.question
    policy = question.trust.policy
    tried = paths_tried(examination, statements)
    examination = tried[-1]
    given_up = _given_up(tried, statements)
    same_key = tuple(examination.finding(number, statements) for number in examination.same_key)
    findings = tuple(
        replace(examination.finding(number, statements), depth=depth)
        for depth, number in enumerate(examination.numbers)
        if number in examination.to_judge
    )
    told = _Told(notes=list(examination.notes))
    faults = list(examination.faults)
    alerts: dict[Fault, int] = {}
    for finding in given_up:
        told.warn(
            shorten(f"another path was taken: {finding.subject} is {finding.status.value}, {finding.detail}")
        )
    for finding in findings:
        treated = _treat(examination, finding, statements, told)
        if treated is not None:
            faults.append(treated.fault)
            if treated.alert is not None:
                alerts[treated.fault] = treated.alert
    by_directory = _by_directory(examination, statements, findings)
    if by_directory is not None:
        treated = _treat_directory(examination, by_directory, statements, told)
        if treated is not None:
            faults.append(treated.fault)
            if treated.alert is not None:
                alerts[treated.fault] = treated.alert
    faults += _dead(examination, statements)
    if faults:
        # What is refused on the other path as well is refused for what was wrong with the first.
        faults += (_bad_news(finding) for finding in given_up)
    faults += _not_allowed(examination)
    deciding = strongest(faults)
    reason = deciding.reason if deciding else None
    alert = alert_for(reason) if deciding is None else alerts.get(deciding, alert_for(reason))
    summary = (
        refusal(examination.path or examination.presented, deciding, alert)
        if deciding
        else acceptance(examination.path, findings, by_directory, path_only=question.path_only)
    )
    # A fault that was found before anything was judged refuses by itself, whatever its reason.
    audited = (
        question.fault is None
        and reason is not None
        and not any(fault.reason in _ENFORCED for fault in faults)
    )
    if policy.enforcement is Enforcement.AUDIT and audited:
        would = f"audit: would have been {summary}"
        told.warn(would)
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
            findings=findings,
            notes=tuple(told.notes),
            rows=tuple(told.rows),
            beside=(*given_up, *same_key),
            directory=by_directory,
        ),
        warnings=tuple(told.warnings),
    )


@dataclass(slots=True, kw_only=True)
class _Told:
    """
    What a verdict tells besides its reason, as it comes up.
    """

    notes: list[str]
    warnings: list[str] = field(default_factory=list)
    rows: list[AppliedRow] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.notes.append(text)
        self.warnings.append(text)


def _treat(
    examination: Examination, finding: CertificateFinding, statements: Sequence[Statement], told: _Told
) -> _Refused | None:
    """
    What one certificate of the path comes to; `None` where it lets the partner in.

    Args:
        examination: of the path in force.
        finding: about one of its certificates, by depth.
        statements: everything heard.
        told: takes notes, warnings and the rows that were applied.

    """
    question, number = examination.question, examination.numbers[finding.depth]
    policy, reserved = question.trust.policy, None
    if finding.status is CertificateStatus.GOOD and question.rules >= Rules.ALL_HEARD:
        reserved = examination.reservation(number, statements)
    disagreement = contradiction(finding)
    if disagreement is not None and (reserved is None or reserved.cause is not Cause.UNUSABLE_ANSWER):
        told.warn(shorten(disagreement))
    if finding.status in BAD_NEWS:
        told.notes += (shorten(text) for text in unread_details(finding) if question.rules >= Rules.ALL_HEARD)
        return _Refused(_bad_news(finding))
    if finding.status is CertificateStatus.GOOD and reserved is None:
        return None
    if not examination.may_fetch:
        return None  # refused already by a fault of the path, which is why nobody was asked
    at, partner = question.at, examination.path[0].digest.hex()
    if reserved is not None:
        treated = treat_reservation(policy, finding, reserved, at=at, partner=partner)
        cause = reserved.cause
    else:
        whole = examination.finding(number, statements)
        good_until = partial(examination.good_until, whole, statements)
        treated = treat(policy, finding, at=at, partner=partner, good_until=good_until)
        cause = finding.cause or Cause.NO_SOURCE
    return _outcome(treated, finding.depth, cause, told)


def _outcome(treated: Treated, depth: int, cause: Cause, told: _Told) -> _Refused | None:
    """
    What a row of the policy comes to, told with its notes.
    """
    told.rows.append(AppliedRow(depth=depth, cause=cause, action=treated.action, excepted=treated.excepted))
    if treated.fault is not None:
        return _Refused(treated.fault, treated.alert)
    if treated.warn:
        told.warn(treated.note)
    else:
        told.notes.append(treated.note)
    return None


def _by_directory(
    examination: Examination, statements: Sequence[Statement], findings: Sequence[CertificateFinding]
) -> CertificateFinding | None:
    """
    What the directory says of the partner; `None` where there is none, or nobody was asked because the chain is refused.
    """
    judged = examination.by_directory(statements) if examination.may_fetch else None
    if judged is None:
        return None
    bad = any(finding.status in BAD_NEWS for finding in findings)
    return None if bad and not judged.finding.sources else judged.finding


def _treat_directory(
    examination: Examination, finding: CertificateFinding, statements: Sequence[Statement], told: _Told
) -> _Refused | None:
    """
    What it comes to that a directory does not say "found, and as it must be"; `None` where the partner is let in.
    """
    case, question = examination.directory, examination.question
    if finding.status is CertificateStatus.GOOD or finding.cause is None or case is None:
        return None
    treated = treat(
        question.trust.policy,
        finding,
        at=question.at,
        partner=examination.path[0].digest.hex(),
        good_until=partial(case.good_until, statements),
    )
    return _outcome(treated, 0, finding.cause, told)


@dataclass(frozen=True, slots=True)
class _Refused:
    fault: Fault
    alert: int | None = None


def _bad_news(finding: CertificateFinding) -> Fault:
    bad = Reason.REVOKED if finding.status is CertificateStatus.REVOKED else Reason.ON_HOLD
    return Fault(reason=bad, depth=finding.depth, rule="RFC 5280 6.1.3 (a)(3)", detail=finding.detail)


def _given_up(
    tried: Sequence[Examination], statements: Sequence[Statement]
) -> tuple[CertificateFinding, ...]:
    """
    The findings, by their depth then, for which paths before the last were left.
    """
    found: dict[int, CertificateFinding] = {}
    for examination in tried[:-1]:
        for depth, number in enumerate(examination.numbers):
            finding = examination.finding(number, statements) if number in examination.to_judge else None
            if depth > 0 and finding is not None and finding.status in BAD_NEWS:
                found.setdefault(number, replace(finding, depth=depth))
    return tuple(found.values())


def _dead(examination: Examination, statements: Sequence[Statement]) -> tuple[Fault, ...]:
    """
    The keys of the path that another certificate's revocation has killed.
    """
    return tuple(
        Fault(
            reason=Reason.REVOKED,
            depth=one.depth,
            rule="RFC 5280 5.3.1",
            detail=f"its key is compromised, another certificate of it ({one.finding.serial}) is {one.finding.detail}",
        )
        for one in dead_keys(examination, statements)
    )


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
    return (Fault(reason=Reason.NOT_ALLOWED, depth=0, rule=rule, detail=printable(detail)),)
