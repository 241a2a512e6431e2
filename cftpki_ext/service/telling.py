"""
What is told of evidence that cannot be renewed, and of partners that end: log lines ahead of it, and STATUS.

Owns how often. Decides nothing; the time is an argument.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.checking.held import Partner, ending
from cftpki_ext.checking.refreshing import Ahead, Trouble, posix
from cftpki_ext.core.settings import RefreshSettings
from cftpki_ext.service.audit import AuditSink

# Log lines of partners that end, for a day.
_LINES = 200
_NAMED = 20
_MORE = b"", "more"
_WEEK = timedelta(days=7)
_MONTH = timedelta(days=30)


class Telling:
    """
    Tells an audit trail, each thing once.

    Args:
        ahead: the schedule that knows it.
        audit: is told.

    """

    def __init__(self, ahead: Ahead, audit: AuditSink) -> None:
        self._ahead = ahead
        self._audit = audit
        self._told_troubles: dict[str, tuple[datetime, float]] = {}
        self._told_ends: dict[tuple[bytes, str], datetime] = {}

    def troubles(self, now: datetime) -> None:
        """
        Say what cannot be renewed: when it has failed twice, and each time half of what was left is over.
        """
        troubles = {one.location: one for one in self._ahead.troubles()}
        for location in [location for location in self._told_troubles if location not in troubles]:
            since, _ = self._told_troubles.pop(location)
            self._audit.event(
                "evidence_renewed_again", None, location=location, failed_since=since.isoformat()
            )
        for location, one in troubles.items():
            left_s = (one.ends - now).total_seconds()
            _, told_s = self._told_troubles.get(location, (one.since, float("inf")))
            if one.failures >= 2 and (told_s == float("inf") or (told_s > 0 and left_s <= told_s / 2)):
                self._told_troubles[location] = one.since, left_s
                self._audit.event(
                    "evidence_not_renewed",
                    None,
                    location=location,
                    issuers=list(one.issuers),
                    since=one.since.isoformat(timespec="seconds"),
                    ends=one.ends.isoformat(timespec="seconds"),
                    ends_in_min=int(left_s // 60),
                    partners=one.partners,
                    detail=one.detail,
                )

    def ends(self, now: datetime, before: timedelta) -> None:
        """
        Say which partners end soon, once a day each.
        """
        day = timedelta(days=1)
        self._told_ends = {key: at for key, at in self._told_ends.items() if timedelta(0) <= now - at < day}
        more = 0
        for one in ending(self._ahead.partners, now, within=before):
            cause = "certificate" if one.ending == one.subject else "ca_certificate"
            if (one.name, cause) in self._told_ends:
                continue
            if len(self._told_ends) >= _LINES:
                more += 1
                continue
            self._told_ends[one.name, cause] = now
            self._audit.event(
                "partner_ends",
                None,
                partner=one.subject,
                serial=one.serial,
                rule=one.rule,
                cause=cause,
                certificate=one.ending,
                ends=one.ends.isoformat(timespec="seconds"),
                days=(one.ends - now).days,
            )
        if more and _MORE not in self._told_ends:
            self._told_ends[_MORE] = now
            self._audit.event("partners_end", None, more=more, days=before.days)


def status_of(ahead: Ahead, settings: RefreshSettings, *, now: datetime, judged_again: int) -> dict[str, Any]:
    """
    The refresh for STATUS.
    """
    next_at = ahead.next_at()
    before = max(settings.tell_before, _WEEK)
    later = list(ending(ahead.partners, now, within=max(before, _MONTH)))
    soon = [one for one in later if one.ends <= now + before]
    return {
        "enabled": settings.enabled,
        "partners": ahead.count,
        "evidence": {kind.value: count for kind, count in sorted(ahead.evidence().items())},
        "renewed": ahead.renewed,
        "failed": ahead.failed,
        "requests": ahead.requests,
        "judged_again": judged_again,
        "last": None if ahead.last is None else ahead.last.isoformat(timespec="seconds"),
        "next": None if next_at is None else posix(next_at).isoformat(timespec="seconds"),
        "waiting": ahead.waiting(),
        "troubles": [_plain_trouble(one, now) for one in ahead.troubles()],
        "ending": {
            "within_7d": sum(one.ends <= now + _WEEK for one in soon),
            "within_30d": sum(one.ends <= now + _MONTH for one in later),
            "within": len(soon),
            "within_days": before.days,
            "first": [_plain_end(one, now) for one in soon[:_NAMED]],
        },
    }


def _plain_trouble(one: Trouble, now: datetime) -> dict[str, object]:
    return {
        "location": one.location,
        "issuers": list(one.issuers),
        "since": one.since.isoformat(timespec="seconds"),
        "failures": one.failures,
        "detail": one.detail,
        "ends": one.ends.isoformat(timespec="seconds"),
        "ends_in_s": int((one.ends - now).total_seconds()),
        "partners": one.partners,
    }


def _plain_end(one: Partner, now: datetime) -> dict[str, object]:
    return {
        "partner": one.subject,
        "serial": one.serial,
        "rule": one.rule,
        "certificate": one.ending,
        "ends": one.ends.isoformat(timespec="seconds"),
        "days": (one.ends - now).days,
    }
