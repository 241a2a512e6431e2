"""
The policy: what is done about each cause for which a status could not be established.

Owns the enums and frozen values; decides nothing about certificates. The default of everything is to refuse.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from cftpki_ext.causes import Cause


class Action(enum.StrEnum):
    """
    The answer to "no source established the status; now what?".
    """

    REFUSE = "refuse"
    ACCEPT_WARN = "accept_warn"
    ACCEPT = "accept"


class Depth(enum.StrEnum):
    """
    Which certificates need a status: every hop below the anchor (default), or the leaf alone.
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
    """

    action: Action = Action.REFUSE
    max_stale: timedelta | None = None
    until: datetime | None = None


REFUSE = Treatment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    A named table cause → treatment. By default every cause refuses and the whole chain is checked.
    """

    name: str
    treatments: Mapping[Cause, Treatment] = field(default_factory=lambda: MappingProxyType({}))
    depth: Depth = Depth.CHAIN
    enforcement: Enforcement = Enforcement.ENFORCE

    def treatment(self, cause: Cause, now: datetime) -> Treatment:
        """
        What is done about `cause` at `now`; an exception whose end has come refuses.

        Args:
            cause: why the status was not established.
            now: the time of the decision.

        Returns:
            The treatment in force.

        """
        treatment = self.treatments.get(cause, REFUSE)
        if treatment.until is not None and now >= treatment.until:
            return REFUSE
        return treatment


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
            )
        }
    ),
)

AUDIT = Policy(name="audit", enforcement=Enforcement.AUDIT)

PROFILES: Mapping[str, Policy] = MappingProxyType({p.name: p for p in (STRICT, RESILIENT, AUDIT)})
