"""
What the policy does about a certificate whose status was not established: a refusal, or an acceptance with its note.

Owns the application of the cause table and of partners' exceptions to one certificate. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cftpki_ext.core.alerts import reason_for
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Action, Policy, Treatment
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateFinding, Fault, at_depth
from cftpki_ext.decision.grounds import Reservation
from cftpki_ext.decision.summary import moment, shorten, span


@dataclass(frozen=True, slots=True, kw_only=True)
class Treated:
    """
    The outcome for one certificate: a `fault` where it refuses, else the `note` that says why it does not.

    `alert` is sent instead of the reason's own; `warn` makes the note a warning as well. `action` is the row's;
    `excepted` where an exception of the partner let it in.
    """

    fault: Fault | None = None
    alert: int | None = None
    note: str = ""
    warn: bool = False
    action: Action = Action.REFUSE
    excepted: bool = False


def treat(
    policy: Policy,
    finding: CertificateFinding,
    *,
    at: datetime,
    partner: str,
    good_until: Callable[[], datetime | None],
) -> Treated:
    """
    Apply a policy to one certificate whose status is undetermined.

    The row of the cause comes first, then the exceptions of this partner. By default it refuses.

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
    row = _Row(policy=policy, finding=finding, cause=cause, detail=finding.detail, at=at, partner=partner)
    treatment = policy.treatment(cause, at)
    why_not = ""
    if treatment.action is not Action.REFUSE:
        age = ""
        if treatment.max_stale is not None:
            end = good_until()
            why_not = _too_long_ago(end, at, treatment.max_stale)
            age = f", good until {moment(end)}" if end is not None and end < at else ""
        if not why_not:
            return row.let_in(treatment.action, warn=treatment.action is Action.ACCEPT_WARN, age=age)
    return row.excepted() or row.refuse(treatment, why_not)


def treat_reservation(
    policy: Policy, finding: CertificateFinding, reservation: Reservation, *, at: datetime, partner: str
) -> Treated:
    """
    Apply a policy to a certificate that is good with a reservation.

    By default it is let in, with a warning. No policy makes it silent. `max_stale` is the time past the refresh age.

    Args:
        policy: of the trust set.
        finding: good.
        reservation: what is to be said against it.
        at: the time of the decision.
        partner: SHA-256 of the leaf, lower-case hex.

    Returns:
        What comes of it.

    """
    row = _Row(
        policy=policy,
        finding=finding,
        cause=reservation.cause,
        detail=reservation.detail,
        at=at,
        partner=partner,
    )
    treatment = policy.treatment(reservation.cause, at)
    why_not = ""
    if treatment.action is not Action.REFUSE:
        if treatment.max_stale is not None and reservation.until is not None:
            late = at - reservation.until
            if late > treatment.max_stale:
                why_not = f"; {span(late)} past its refresh age, and {span(treatment.max_stale)} are allowed"
        if not why_not:
            return row.let_in(treatment.action, warn=True)
    return row.excepted() or row.refuse(treatment, why_not)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """
    A row of the table and the certificate that it is applied to: what each outcome says.
    """

    policy: Policy
    finding: CertificateFinding
    cause: Cause
    detail: str
    at: datetime
    partner: str

    @property
    def _who(self) -> str:
        return f"{at_depth(self.finding.depth, self.finding.subject)}: {self.cause.value}, {self.detail}"

    def let_in(self, action: Action, *, warn: bool, age: str = "") -> Treated:
        note = shorten(f"{self._who}; accepted by policy {self.policy.name!r}{age}")
        return Treated(note=note, warn=warn, action=action)

    def excepted(self) -> Treated | None:
        exception = self.policy.exception(self.partner, self.cause, self.at)
        if exception is None:
            return None
        # The reason stands before what the network said: a long detail must not push it off the line.
        note = shorten(
            f"accepted by the exception of policy {self.policy.name!r} for this partner until"
            f" {moment(exception.until)} ({exception.reason}); {self._who}"
        )
        return Treated(note=note, warn=True, excepted=True)

    def refuse(self, treatment: Treatment, why_not: str) -> Treated:
        fault = Fault(
            reason=reason_for(self.cause),
            depth=self.finding.depth,
            rule=f"policy {self.policy.name}: {self.cause.value}",
            detail=f"{self.cause.value}: {self.detail}{why_not}",
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
