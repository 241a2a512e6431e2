"""
A configuration tried on stored verdicts: what it would have answered to last week's partners, and what differs.

Pure. Nothing is fetched: only what was heard then is heard again.
"""

from __future__ import annotations

from dataclasses import replace

from cftpki_ext.core.alerts import alert_for
from cftpki_ext.core.settings import Rule, Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateStatus, Reason, Status, Verdict
from cftpki_ext.core.vocabulary import Phase
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.rules import RuleKey, match
from cftpki_ext.evidence import Difference, Record, decide_again, differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    One stored verdict decided again. `now` is `None` where the new configuration would not judge the chain.

    `not_asked` are the locations that the new configuration asks and of which nothing is recorded, where a
    status was wanting: the answer there may differ from what is decided here. `skipped` says why there is
    nothing to compare.
    """

    recorded: Verdict
    now: Verdict | None
    rule: str | None
    differences: tuple[Difference, ...] = ()
    not_asked: tuple[str, ...] = ()
    skipped: str | None = None


def try_again(record: Record) -> Trial:
    """
    Decide a stored question anew as it was asked. Anything but agreement is a defect, or a newer program.

    Args:
        record: the stored decision.

    Returns:
        The trial.

    """
    now = decide_again(record)
    return Trial(
        recorded=record.verdict,
        now=now,
        rule=record.question.rule,
        differences=differences(record.verdict, now),
    )


def try_under(record: Record, settings: Settings) -> Trial:
    """
    Decide a stored question under another configuration.

    The rule is the one that now fits the session, with its trust set and partners; limits are the new ones.
    Time and statements stay those of the record.

    Args:
        record: the stored decision.
        settings: the configuration to try.

    Returns:
        The trial. Where no rule fits, or the phase is left to the host, that is a difference.

    """
    verdict, asked, direction = record.verdict, record.asked, record.question.direction
    if record.question.fault is not None:
        why = f"refused before anything was judged: {record.question.fault.detail}"
        return Trial(recorded=verdict, now=None, rule=record.question.rule, skipped=why)
    if record.question.rule is None:
        return Trial(
            recorded=verdict, now=None, rule=None, skipped="whoever asked named the trust anchors, not a rule"
        )
    rule = match(
        settings.rules,
        RuleKey(direction=direction, profile=asked.profile, remote=asked.remote, port=asked.port),
    )
    if rule is None:
        return _unjudged(
            verdict, None, Status.REFUSED.value, Reason.NO_RULE.value, str(alert_for(Reason.NO_RULE))
        )
    if Phase.CHECK_CERTIFICATE in rule.not_handled or Phase.CHECK_CERTIFICATE not in settings.service.phases:
        return _unjudged(verdict, rule, "not handled", "-", "-")
    question = replace(
        record.question,
        trust=settings.trusts[rule.trust],
        limits=settings.limits,
        rule=rule.name,
        partners=rule.partners,
    )
    examination = examine(question)
    now = conclude(examination, record.statements, verdict_id=verdict.id)
    return Trial(
        recorded=verdict,
        now=now,
        rule=rule.name,
        differences=differences(verdict, now),
        not_asked=_not_asked(examination, record, now),
    )


def _unjudged(verdict: Verdict, rule: Rule | None, status: str, reason: str, alert: str) -> Trial:
    pairs = (
        ("status", verdict.status.value, status),
        ("reason", verdict.reason.value if verdict.reason else "-", reason),
        ("alert", str(verdict.alert), alert),
    )
    return Trial(
        recorded=verdict,
        now=None,
        rule=rule.name if rule else None,
        differences=tuple(Difference(what=what, recorded=a, now=b) for what, a, b in pairs if a != b),
    )


def _not_asked(examination: Examination, record: Record, now: Verdict) -> tuple[str, ...]:
    if not examination.may_fetch:
        return ()
    wanting = {
        finding.depth for finding in now.evidence.findings if finding.status is CertificateStatus.UNDETERMINED
    }
    heard = {(statement.kind, statement.url) for statement in record.statements}
    searches = examination.by_directory(record.statements)
    wanted = [lookup for lookup in examination.lookups if lookup.depth in wanting]
    wanted += () if searches is None else searches.open
    return tuple(dict.fromkeys(lookup.url for lookup in wanted if (lookup.kind, lookup.url) not in heard))
