"""
Stored verdicts decided again, as recorded or under a configuration that is tried, and what came out otherwise, counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence import Asked, Door, Record, Row, decode, row_from, row_of
from cftpki_ext.evidence.grouping import Change, Changes, answer_of
from cftpki_ext.evidence.what_if import Trial, try_again, try_under
from cftpki_ext.ports.evidence import EvidenceReader, LedgerEntry
from cftpki_ext.support.failures import reason_of


def trial_of(ledger: EvidenceReader, entry: LedgerEntry, under: Settings | None) -> Trial | str:
    """
    Decide one stored verdict again.

    Args:
        ledger: has what the record refers to.
        entry: the record.
        under: the configuration to try; by default everything is as it was recorded.

    Returns:
        The trial, or why there is none.

    """
    try:
        record: Record = decode(entry.document, ledger.blob)
    except CftPkiError as exc:
        return str(exc)
    return try_record(record, under)


def try_record(record: Record, under: Settings | None) -> Trial | str:
    """
    Decide again, or say why that cannot be: times at the ends of the calendar, say, of a ledger from elsewhere.
    """
    try:
        return try_again(record) if under is None else try_under(record, under)
    except Exception as exc:  # noqa: BLE001 - the boundary: one record of a stranger's must not end the walk
        return f"cannot be decided: {reason_of(exc)}"


class Trials:
    """
    What a replay found.
    """

    def __init__(self) -> None:
        self.replayed = 0
        self.differing: list[tuple[Row, Trial]] = []
        self.unreadable: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self._changes = Changes()

    def add(self, entry: LedgerEntry, trial: Trial | str, blob: Callable[[str], bytes | None]) -> None:
        """
        Count one record.
        """
        if isinstance(trial, str):
            self.unreadable.append((entry.id, trial))
            return
        if trial.skipped:
            self.skipped.append((entry.id, trial.skipped))
            return
        self.replayed += 1
        if trial.differences:
            row = row_from(entry.document, blob)
            self.differing.append((row, trial))
            self._changes.add(row, answer_of(row), answer_now(row, trial))

    def changes(self) -> Sequence[Change]:
        """
        What came out otherwise, counted, the most frequent first.
        """
        return self._changes.found()


def answer_now(row: Row, trial: Trial) -> str:
    """
    What is answered now, in a few words; where that is the same as before, what else differs.
    """
    if trial.now is None:
        now = {"status": row.status, **{one.what: one.now for one in trial.differences}}
        return " ".join(now[what] for what in ("status", "alert", "reason") if now.get(what, "-") != "-")
    answer = answer_of(row_of(trial.now, Asked(door=Door.CLI)))
    if answer != answer_of(row):
        return answer
    return f"{answer} with another {', '.join(dict.fromkeys(one.what for one in trial.differences))}"


def trial_data(trial: Trial) -> dict[str, Any]:
    """
    One trial as plain data.
    """
    return {
        "agrees": not trial.differences,
        "rule": trial.rule,
        "summary": trial.now.summary if trial.now else None,
        "differences": [asdict(difference) for difference in trial.differences],
        "not_asked": list(trial.not_asked),
    }
