"""
How long the evidence will last: what was found in the store, held against what the configuration promises. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.core.settings import EvidenceSettings
from cftpki_ext.ports.evidence import Reach

# From a few hours nothing can be told: the first version of a list is as large as a hundred later ones.
_MEASURED_HOURS = 24
_MOST = timedelta(days=3650)


def lasts(reach: Reach, settings: EvidenceSettings) -> timedelta | None:
    """
    How long what partners' records may take lasts at the present rate.

    Args:
        reach: of the store.
        settings: the largest size.

    Returns:
        Ten years at most; `None` where less than a day was measured.

    """
    if reach.measured_hours < _MEASURED_HOURS:
        return None
    per_hour = reach.grown_bytes / reach.measured_hours
    hours = settings.partners_bytes / per_hour if per_hour > 0 else float("inf")
    return timedelta(hours=min(hours, _MOST.total_seconds() / 3600))


def falls_short(reach: Reach, settings: EvidenceSettings) -> bool:
    """
    Whether records will go, or go already, before they are as old as they are to be kept.
    """
    found = lasts(reach, settings)
    return found is not None and found < min(settings.keep, _MOST)


def told(reach: Reach, settings: EvidenceSettings, *, now: datetime) -> dict[str, Any]:
    """
    The same as plain data, for STATUS and the log.

    Args:
        reach: of the store.
        settings: in force.
        now: the time.

    Returns:
        Sizes in bytes, times in seconds; `warning` is a sentence where the size does not last.

    """
    found = lasts(reach, settings)
    warning = None
    if reach.breaks:
        last = reach.breaks[-1].detail
        times = len(reach.breaks)
        warning = (
            f"the evidence was broken {f'{times} times, the last time' if times > 1 else 'once'}: {last}"
        )
    elif found is not None and falls_short(reach, settings):
        warning = f"max_size lasts {_days(found)} at the present rate, keep is {_days(settings.keep)}"
    back = None if reach.oldest is None else max(0, int((now - reach.oldest).total_seconds()))
    return {
        "oldest": None if reach.oldest is None else reach.oldest.isoformat().replace("+00:00", "Z"),
        "reaches_back_s": back,
        "bytes": reach.used_bytes,
        "max_bytes": settings.max_bytes,
        "lasts_s": None if found is None else int(found.total_seconds()),
        "keep_s": int(settings.keep.total_seconds()),
        "strangers_bytes": reach.strangers_bytes,
        "let_go_early": reach.early,
        "strangers_let_go_early": reach.strangers_early,
        "breaks": len(reach.breaks),
        "warning": warning,
    }


def _days(duration: timedelta) -> str:
    days = duration.total_seconds() / 86400
    return f"{days:.1f} days" if days < 10 else f"{days:.0f} days"
