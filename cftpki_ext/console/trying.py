"""
A policy tried on the last days' partners: who would be refused, and who let in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence import Door, Row, decode, row_from
from cftpki_ext.evidence.what_if import Trial
from cftpki_ext.looking.trials import Trials, try_record
from cftpki_ext.ports.evidence import EvidenceReader, LedgerEntry
from cftpki_ext.stores import stored_evidence

# So long it is decided again, the newest records of the time first in line: the rest is left out, and told.
WITHIN_S = 15.0
RECORDS = 20_000
PARTNERS = 500


def under_policy(settings: Settings, trust: str, policy: str) -> Settings:
    """
    The settings, but for the policy of one trust set.

    Raises:
        InputError: there is none of these names.

    """
    if trust not in settings.trusts:
        msg = f"there is no trust set {printable(trust)!r}"
        raise InputError(msg)
    if policy not in settings.policies:
        msg = f"there is no policy {printable(policy)!r}"
        raise InputError(msg)
    changed = replace(settings.trusts[trust], policy=settings.policies[policy])
    return replace(settings, trusts=MappingProxyType({**settings.trusts, trust: changed}))


def try_policy(settings: Settings, trust: str, policy: str, back: timedelta) -> dict[str, Any]:
    """
    Decide the stored verdicts of a time again, with another policy for one trust set. Nothing is fetched.

    Args:
        settings: the configuration in force.
        trust: whose policy is changed.
        policy: to which.
        back: how far back.

    Returns:
        Plain data: how many were decided again, what changes, and whose answer.

    Raises:
        InputError: there is none of these names.
        StoreError: the evidence cannot be read.

    """
    under = under_policy(settings, trust, policy)
    since = datetime.now(UTC) - back
    found, partners, looked = Trials(), _Partners(), 0
    until, whole = time.monotonic() + WITHIN_S, True
    ledger = stored_evidence(settings.service)
    reach: str | None = None
    if ledger is not None:
        with contextlib.closing(ledger):
            for entry in _entries(ledger, since):
                if time.monotonic() > until:
                    whole = False
                    break
                looked += 1
                reach = entry.kept_at.isoformat(timespec="seconds")
                _try(ledger, entry, under, found, partners)
    return {
        "since": since.isoformat(timespec="seconds"),
        "whole": whole,
        "looked": looked,
        "reach": reach,
        "replayed": found.replayed,
        "skipped": len(found.skipped),
        "unreadable": len(found.unreadable),
        "changes": [asdict(one) for one in found.changes()],
        "refused": partners.refused(),
        "let_in": partners.let_in(),
    }


def _entries(ledger: EvidenceReader, since: datetime) -> Iterator[LedgerEntry]:
    return (entry for entry in ledger.newest(RECORDS) if entry.kept_at >= since)


def _try(
    ledger: EvidenceReader, entry: LedgerEntry, under: Settings, found: Trials, partners: _Partners
) -> None:
    try:
        record = decode(entry.document, ledger.blob)
    except CftPkiError as error:
        found.add(entry, str(error), ledger.blob)
        return
    if record.asked.door is Door.REFRESH:
        return  # found ahead: it let nobody in
    trial = try_record(record, under)
    found.add(entry, trial, ledger.blob)
    found.differing.clear()  # what differs is counted: the verdicts themselves would take room
    if not isinstance(trial, str) and trial.differences:
        partners.add(row_from(entry.document, ledger.blob), trial)


class _Partners:
    """
    Whose answer changes, by fingerprint: the newest verdict of each says how.
    """

    def __init__(self) -> None:
        self._refused: dict[str, dict[str, Any]] = {}
        self._let_in: dict[str, dict[str, Any]] = {}

    def add(self, row: Row, trial: Trial) -> None:
        before, now = trial.recorded.accepted, trial.now is not None and trial.now.accepted
        if before == now:
            return
        whose = self._refused if before else self._let_in
        key = row.fingerprint or row.partner
        times = whose.pop(key, {"times": 0})["times"] + 1
        whose[key] = {
            "partner": row.partner,
            "fingerprint": row.fingerprint,
            "why": trial.now.summary
            if trial.now is not None
            else "no rule would fit, or the host would decide",
            "times": times,
            "last_id": row.id,
            "last_at": row.at,
        }

    def refused(self) -> dict[str, Any]:
        return _told(self._refused)

    def let_in(self) -> dict[str, Any]:
        return _told(self._let_in)


def _told(whose: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(whose), "rows": list(reversed(whose.values()))[:PARTNERS]}
