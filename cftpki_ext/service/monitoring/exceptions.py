"""
What a configuration lets in for a while: exceptions of partners, rows of policies with an end, and when they end.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.core.settings import Settings

_SHOWN = 50
_SOON = (7, 30)


def exceptions_of(settings: Settings, now: datetime) -> dict[str, Any]:
    """
    The exceptions of the policies that trust sets have, for STATUS.

    Args:
        settings: those in force.
        now: the time.

    Returns:
        Plain data: how many hold, have ended, end within days; those that end first (`first`) and the rows with an end (`rows`).

    """
    policies = {trust.policy.name: trust.policy for trust in settings.trusts.values()}
    them = sorted(
        ((one.until, name, one) for name, policy in policies.items() for one in policy.exceptions),
        key=lambda one: (one[0], one[1], one[2].fingerprint),
    )
    rows = rows_with_end(settings)
    holding = [one for one in them if one[0] > now]
    return {
        "in_force": len(holding),
        "ended": len(them) - len(holding),
        **{f"within_{days}d": sum(one[0] <= now + timedelta(days=days) for one in holding) for days in _SOON},
        "first": [
            {
                "policy": name,
                "fingerprint": one.fingerprint,
                "until": until.isoformat(timespec="seconds"),
                "reason": one.reason,
            }
            for until, name, one in holding[:_SHOWN]
        ],
        "rows": [
            {"policy": name, "cause": cause, "action": action, "until": until.isoformat(timespec="seconds")}
            for until, name, cause, action in rows[:_SHOWN]
        ],
    }


def rows_with_end(settings: Settings) -> list[tuple[datetime, str, str, str]]:
    """
    The rows with an end of the policies that trust sets have: until when, policy, cause, action; by time.
    """
    policies = {trust.policy.name: trust.policy for trust in settings.trusts.values()}
    return sorted(
        (treatment.until, name, cause.value, treatment.action.value)
        for name, policy in policies.items()
        for cause, treatment in policy.treatments.items()
        if treatment.until is not None
    )
