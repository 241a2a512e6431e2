"""
How long a statement counts: thisUpdate and nextUpdate against the time of the decision and our own bounds.

Owns the arithmetic only.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cftpki_ext.core.settings import Limits
from cftpki_ext.core.vocabulary import SourceKind


def fresh_until(
    kind: SourceKind, this_update: datetime, next_update: datetime | None, limits: Limits
) -> datetime:
    """
    The last moment at which a statement still counts, clock skew left aside.

    The end of a CRL is its nextUpdate: that of an offline root lives for half a year and more. Only one without
    nextUpdate ends by our own greatest age. An OCSP answer ends at its nextUpdate, and never later than our own
    greatest age after thisUpdate; one without nextUpdate ("newer information is available all the time",
    RFC 6960 4.2.2.1) ends after its own short life. What a directory says of a partner ends when it is asked again.

    Args:
        kind: whose bounds apply.
        this_update: when the status was known to be true.
        next_update: when newer information comes at the latest, if it is said.
        limits: the greatest ages.

    Returns:
        The end of the statement's life.

    """
    if kind is SourceKind.DIRECTORY:
        return _later(this_update, limits.directory_refresh)
    if kind is SourceKind.CRL:
        return next_update if next_update is not None else _later(this_update, limits.crl_max_age)
    greatest_age = limits.ocsp_max_age
    if next_update is None:
        greatest_age = min(greatest_age, limits.ocsp_life_without_next_update)
    end = _later(this_update, greatest_age)
    return end if next_update is None else min(end, next_update)


def staleness(
    kind: SourceKind, this_update: datetime, next_update: datetime | None, *, limits: Limits, now: datetime
) -> str | None:
    """
    Why a statement does not count at `now`, or `None` when it does.

    By default the two clocks may differ by `limits.clock_skew`, in either direction.

    Args:
        kind: whose bounds apply.
        this_update: when the status was known to be true.
        next_update: when newer information comes at the latest, if it is said.
        limits: skew and greatest ages.
        now: the time of the decision.

    Returns:
        A clause for a person with both sides of the failed comparison, or `None`.

    """
    if this_update > _later(now, limits.clock_skew):
        return f"thisUpdate {this_update.isoformat()} is after {now.isoformat()}"
    if next_update is not None and next_update < this_update:
        return f"nextUpdate {next_update.isoformat()} is before thisUpdate {this_update.isoformat()}"
    end = fresh_until(kind, this_update, next_update, limits)
    if now > _later(end, limits.clock_skew):
        if end == next_update:
            return f"nextUpdate {end.isoformat()} is before {now.isoformat()}"
        return f"thisUpdate {this_update.isoformat()} is too old at {now.isoformat()}, it counted until {end.isoformat()}"
    return None


def _later(moment: datetime, by: timedelta) -> datetime:
    """
    `moment + by`, held at the end of the calendar: a certificate authority may well write the year 9999.
    """
    try:
        return moment + by
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)
