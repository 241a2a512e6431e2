"""
How far this host's clock and a CA's are apart, in words. Pure: times are arguments.
"""

from __future__ import annotations

from datetime import datetime, timedelta

# Beyond this the operator is told; a token of ours may be refused for a minute.
SKEW_TOLD = timedelta(seconds=30)
# `Date` has whole seconds, and an answer takes a moment: less than this is no difference.
SKEW_SEEN = timedelta(seconds=3)


def skew_notes(date: datetime | None, now: datetime) -> tuple[str, ...]:
    """
    What to tell about the CA's clock when all went well.
    """
    if date is None or abs(now - date) <= SKEW_TOLD:
        return ()
    return (skew_text(now - date),)


def skew_text(ahead: timedelta) -> str:
    """
    The difference of two clocks in words.
    """
    way = "behind" if ahead < timedelta(0) else "ahead of"
    return f"this host's clock is {abs(ahead.total_seconds()):.0f} s {way} the CA's"
