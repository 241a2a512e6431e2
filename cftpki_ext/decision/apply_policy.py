"""
What the policy does about a certificate whose status was not established: a refusal, or an acceptance with its note.

Owns the application of the cause table and of partners' exceptions to one hop. Pure. Imports `policy`,
`verdict`, `summary` and `causes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Action, Policy
from cftpki_ext.core.verdict import Fault, HopFinding, Reason
from cftpki_ext.decision.summary import moment, shorten, span


@dataclass(frozen=True, slots=True, kw_only=True)
class Treated:
    """
    The outcome for one hop: a `fault` where it refuses, else the `note` that says why it does not.

    `alert` is sent instead of the reason's own; `warn` makes the note a warning as well.
    """

    fault: Fault | None = None
    alert: int | None = None
    note: str = ""
    warn: bool = False


def treat(
    policy: Policy,
    finding: HopFinding,
    *,
    at: datetime,
    partner: str,
    good_until: Callable[[], datetime | None],
) -> Treated:
    """
    Apply a policy to one undetermined hop.

    The row of the cause comes first, then the exceptions of this partner. By default the hop refuses.

    Args:
        policy: of the trust set.
        finding: undetermined.
        at: the time of the decision.
        partner: SHA-256 of the leaf, lower-case hex.
        good_until: when "good" was last established; only called where a row asks for it.

    Returns:
        What comes of it.

    """
    cause = finding.cause or Cause.NO_SOURCE
    treatment = policy.treatment(cause, at)
    who = f"hop {finding.hop} {finding.subject}: {cause.value}, {finding.detail}"
    why_not = ""
    if treatment.action is not Action.REFUSE:
        age = ""
        if treatment.max_stale is not None:
            end = good_until()
            why_not = _too_long_ago(end, at, treatment.max_stale)
            age = f", good until {moment(end)}" if end is not None and end < at else ""
        if not why_not:
            note = shorten(f"{who}; accepted by policy {policy.name!r}{age}")
            return Treated(note=note, warn=treatment.action is Action.ACCEPT_WARN)
    exception = policy.exception(partner, cause, at)
    if exception is not None:
        end_text = moment(exception.until)
        # The reason stands before what the network said: a long detail must not push it off the line.
        note = shorten(
            f"accepted by the exception of policy {policy.name!r} for this partner until {end_text}"
            f" ({exception.reason}); {who}"
        )
        return Treated(note=note, warn=True)
    fault = Fault(
        reason=Reason.STATUS_NOT_ESTABLISHED,
        hop=finding.hop,
        rule=f"policy {policy.name}: {cause.value}",
        detail=f"{cause.value}: {finding.detail}{why_not}",
    )
    return Treated(fault=fault, alert=treatment.alert)


def _too_long_ago(end: datetime | None, at: datetime, max_stale: timedelta) -> str:
    """
    Why the last "good" does not carry the acceptance, or "".
    """
    if end is None:
        return "; an exception asks for an earlier good statement, and there is none"
    if at - end > max_stale:
        return f"; good until {moment(end)}, longer ago than the {span(max_stale)} allowed"
    return ""
