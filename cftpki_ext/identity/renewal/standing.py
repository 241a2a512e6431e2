"""
How an identity stands, in words of which none can be misread; and which of them are alarms. Pure.

Owns the words and their rank. Whoever shows an identity (the commands, STATUS, the metrics, the log, the doctor) shows these.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime, timedelta

# What was due for so long, and nobody did it, is overdue: a service looks every ten seconds.
OVERDUE = timedelta(minutes=15)
LAST_DAY = timedelta(days=1)


class Standing(enum.StrEnum):
    """
    One word about an identity; several may hold. The worst comes first, and is what `identity list` shows first.
    """

    DAMAGED = "damaged"  # what was in force is not whole
    MISSING = "missing"  # no certificate is in force
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNUSABLE = "unusable"  # its key cannot be used: partners get 80
    BLOCKED = "blocked"  # it cannot be renewed here: the disk, a user, a folder's mode
    LAST_DAY = "last_day"  # overdue, and less than a day left
    OVERDUE = "overdue"  # renewal should have happened long before
    UNREADABLE = "unreadable"  # this user may not look: nothing is known of it
    FAILING = "failing"  # the last attempt came to nothing, and will be repeated
    ORDER_DAMAGED = "order_damaged"  # a record of an order is not whole
    NOT_TAKEN_OVER = "not_taken_over"  # a hook failed, or a listener does not serve it yet
    WAITING = "waiting"  # an order is with the CA
    DUE = "due"
    HEALTHY = "healthy"
    ORPHANED = "orphaned"  # certificates were issued, or may have been, that nobody uses


# What partners notice, or what nobody renews while the end comes nearer: told as an error, and by its own metric.
ALARMS = (
    Standing.DAMAGED,
    Standing.MISSING,
    Standing.REVOKED,
    Standing.EXPIRED,
    Standing.NOT_YET_VALID,
    Standing.UNUSABLE,
    Standing.BLOCKED,
    Standing.LAST_DAY,
    Standing.OVERDUE,
)


def standings(*words: Standing | None) -> tuple[Standing, ...]:
    """
    Words in their rank, each once; `healthy` where there is none.

    An identity that is healthy may have orphans: they harm no partner.
    """
    found = {word for word in words if word is not None}
    if not found - {Standing.ORPHANED}:
        found |= {Standing.HEALTHY}
    return tuple(word for word in Standing if word in found)


def alarm_of(words: Iterable[Standing]) -> Standing | None:
    """
    The worst alarm among them, `None` where none is an alarm.
    """
    held = set(words)
    return next((alarm for alarm in ALARMS if alarm in held), None)


def by_time(begins: datetime, ends: datetime, floor: datetime, now: datetime) -> Standing | None:
    """
    What the time says of a chain.

    Args:
        begins: when its leaf begins to be valid.
        ends: when the first of its certificates ends.
        floor: before which it should have been replaced.
        now: the wall-clock time.

    Returns:
        The word, `None` where there is time.

    """
    if now >= ends:
        return Standing.EXPIRED
    if now < begins:
        return Standing.NOT_YET_VALID
    if now < floor:
        return None
    return Standing.LAST_DAY if ends - now <= LAST_DAY else Standing.OVERDUE
