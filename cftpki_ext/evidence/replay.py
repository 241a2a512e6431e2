"""
Deciding again: the same question and statements, offline, at the original time; and what came out otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from cftpki_ext.core.verdict import Verdict
from cftpki_ext.decision.decide import conclude, examine
from cftpki_ext.evidence.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One thing that came out otherwise: what was recorded, and what is decided now.
    """

    what: str
    recorded: str
    now: str


def decide_again(record: Record) -> Verdict:
    """
    Decide a stored question anew from its stored statements, at its own time. Nothing is fetched.

    Args:
        record: the stored decision.

    Returns:
        The verdict, with the recorded id.

    """
    return conclude(examine(record.question), record.statements, verdict_id=record.verdict.id)


def differences(recorded: Verdict, now: Verdict) -> tuple[Difference, ...]:
    """
    What two verdicts on one chain disagree about; empty when they agree in every decision.

    Args:
        recorded: the earlier verdict.
        now: the later one.

    Returns:
        One row for each of status, reason, alert, path, warnings and the status of each hop that differs.

    """
    pairs = [
        ("status", recorded.status.value, now.status.value),
        ("reason", _text(recorded.reason), _text(now.reason)),
        ("alert", str(recorded.alert), str(now.alert)),
        ("path", _path(recorded), _path(now)),
        ("warnings", "; ".join(recorded.warnings) or "-", "; ".join(now.warnings) or "-"),
    ]
    then = {finding.hop: finding.status.value for finding in recorded.evidence.hops}
    today = {finding.hop: finding.status.value for finding in now.evidence.hops}
    pairs += [
        (f"hop {hop}", then.get(hop, "-"), today.get(hop, "-")) for hop in sorted(then.keys() | today.keys())
    ]
    return tuple(Difference(what=what, recorded=a, now=b) for what, a, b in pairs if a != b)


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _path(verdict: Verdict) -> str:
    return " < ".join(entry.fingerprint[:16] for entry in verdict.evidence.path) or "-"
