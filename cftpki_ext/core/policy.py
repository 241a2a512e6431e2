"""
The policy: what is done about each cause for which a status could not be established.

Owns the enums and frozen values; decides nothing about certificates. The default of everything is to refuse.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from types import MappingProxyType

from cftpki_ext.core.causes import RESERVATIONS, Cause
from cftpki_ext.core.values import dataclass


class Action(enum.StrEnum):
    """
    The answer to "no source established the status; now what?".
    """

    REFUSE = "refuse"
    ACCEPT_WARN = "accept_warn"
    ACCEPT = "accept"


class Depth(enum.StrEnum):
    """
    Which certificates need a status: every certificate below the anchor (default), or the leaf alone.
    """

    CHAIN = "chain"
    LEAF = "leaf"


class Enforcement(enum.StrEnum):
    """
    `AUDIT` decides and records, and lets everyone in: for trying a policy out, never for rest.
    """

    ENFORCE = "enforce"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """
    What is done about one cause.

    `max_stale` bounds how old the last good statement may be for the acceptance to hold (`None`: no
    earlier statement is asked for). `until` ends the exception: from then on the cause refuses again.
    `alert` is sent instead of 46 when the cause refuses, to tell a stranger less; the reason stays true.
    """

    action: Action = Action.REFUSE
    max_stale: timedelta | None = None
    until: datetime | None = None
    alert: int | None = None


REFUSE = Treatment()
# A "good" with a reservation is let in with a warning unless a policy refuses it; none can make it silent.
_RESERVED = Treatment(action=Action.ACCEPT_WARN)

# RFC 9608 4: whoever trusts the CA takes its word that there is no status; a policy may refuse it.
_NO_STATUS = Treatment(action=Action.ACCEPT)

# What a partner's exception lifts unless it names its causes: the CA could not be heard, or nobody asked it. What
# an authentic answer said, and what a forgery would look like, must be named.
SOFT_CAUSES = frozenset(
    {
        Cause.NO_SOURCE,
        Cause.UNREACHABLE,
        Cause.TIMED_OUT,
        Cause.TRY_LATER,
        Cause.RESPONDER_ERROR,
        Cause.UNAUTHORIZED,
        Cause.STALE,
        Cause.TOO_LARGE,
        Cause.FORBIDDEN_URL,
        Cause.OLDER_GOOD,
        Cause.SILENT_SOURCE,
        Cause.DIRECTORY_UNREACHABLE,
    }
)


_WIDER: Mapping[Cause, Cause] = MappingProxyType({Cause.UNREADABLE: Cause.MALFORMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerException:
    """
    One partner that is let in with a warning although a status in its chain could not be established.

    It holds for the chain whose leaf has this fingerprint (SHA-256 of the DER, lower-case hex), until its end,
    for its causes alone. It never lifts a revocation, a hold or a fault of the path.
    """

    fingerprint: str
    until: datetime
    reason: str
    causes: frozenset[Cause] = SOFT_CAUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    A named table cause → treatment, with exceptions for single partners.

    By default every cause refuses but the reservations about a "good" (`causes.RESERVATIONS`), which warn, and a
    certificate of which its CA says that it has no status (RFC 9608), which is let in; nobody is excepted, and the whole
    chain is checked.
    """

    name: str
    treatments: Mapping[Cause, Treatment] = field(default_factory=lambda: MappingProxyType({}))
    depth: Depth = Depth.CHAIN
    enforcement: Enforcement = Enforcement.ENFORCE
    exceptions: tuple[PartnerException, ...] = ()

    def treatment(self, cause: Cause, now: datetime) -> Treatment:
        """
        What is done about `cause` at `now`; a row whose end has come refuses, with its alert.

        Args:
            cause: why the status was not established.
            now: the time of the decision.

        Returns:
            The treatment in force.

        """
        treatment = self.treatments.get(cause)
        if treatment is None:
            # What cannot be read at all was called malformed before it had a name of its own.
            unnamed = _RESERVED if cause in RESERVATIONS else REFUSE
            unnamed = _NO_STATUS if cause is Cause.NO_REV_AVAIL else unnamed
            treatment = self.treatments.get(_WIDER.get(cause, cause), unnamed)
        if treatment.until is not None and now >= treatment.until:
            return Treatment(alert=treatment.alert)
        return treatment

    def exception(self, fingerprint: str, cause: Cause, now: datetime) -> PartnerException | None:
        """
        The exception that lets one partner in at `now` in spite of `cause`.

        Args:
            fingerprint: SHA-256 of the partner's certificate, lower-case hex.
            cause: why a status in its chain was not established.
            now: the time of the decision.

        Returns:
            The first that fits, or `None`.

        """
        for exception in self.exceptions:
            named = cause in exception.causes or _WIDER.get(cause) in exception.causes
            if exception.fingerprint == fingerprint and named and now < exception.until:
                return exception
        return None


STRICT = Policy(name="strict")

# The CA is down, transfers go on: a partner whose last good statement is at most a day past its life is let
# in with a warning. Authentic bad news, forgeries and wrong scopes still refuse.
RESILIENT = Policy(
    name="resilient",
    treatments=MappingProxyType(
        {
            cause: Treatment(action=Action.ACCEPT_WARN, max_stale=timedelta(hours=24))
            for cause in (
                Cause.UNREACHABLE,
                Cause.TIMED_OUT,
                Cause.TRY_LATER,
                Cause.RESPONDER_ERROR,
                Cause.STALE,
                Cause.DIRECTORY_UNREACHABLE,
            )
        }
    ),
)

AUDIT = Policy(name="audit", enforcement=Enforcement.AUDIT)

PROFILES: Mapping[str, Policy] = MappingProxyType({p.name: p for p in (STRICT, RESILIENT, AUDIT)})
