"""
What is to be said of the record of verdicts besides its faults: verdicts that are missing, that were counted, or went early.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cftpki_ext.bootstrap.forgotten import forgotten
from cftpki_ext.core.escape import printable
from cftpki_ext.core.ledger_notes import Break, BreakKind
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.evidence import EvidenceReader, LedgerFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """
    What is to be said. `early` counts records that were let go before their time, `strangers` those of strangers.
    """

    notes: tuple[str, ...]
    early: int
    newest: datetime | None
    strangers: int

    def lines(self) -> tuple[str, ...]:
        """
        For a person.
        """
        found = [printable(f"note: {note}") for note in self.notes]
        if self.newest is not None:
            found.append(
                f"note: {self.early} records were let go before their time for want of room, the last of {_moment(self.newest)}"
            )
        if self.strangers:
            found.append(
                f"note: {self.strangers} records of strangers were let go before their time for want of room"
            )
        return tuple(found)

    def data(self) -> dict[str, Any]:
        """
        As plain data.
        """
        return {
            "notes": list(self.notes),
            "let_go_early": {
                "partners": self.early,
                "newest": None if self.newest is None else _moment(self.newest),
                "strangers": self.strangers,
            },
        }


def remarks_of(ledger: EvidenceReader, *, since: datetime | None = None) -> Remarks:
    """
    Ask a ledger.

    Args:
        ledger: the evidence.
        since: notes of then or later.

    Returns:
        What it says; breaks of the chain are among its faults, and left out but for what a power cut took.

    """
    early, newest, strangers = ledger.early()
    notes = tuple(
        note.detail
        for note in ledger.notes(since)
        if not isinstance(note, Break) or note.kind is BreakKind.TORN
    )
    return Remarks(notes=notes, early=early, newest=newest, strangers=strangers)


def forgotten_in(ledger: EvidenceReader, state: Path) -> tuple[LedgerFault, ...]:
    """
    Revocations that records prove and that are not known any more, as faults of the evidence.
    """
    return tuple(
        LedgerFault(seq=None, detail=line) for line in forgotten(ledger, state, now=datetime.now(UTC))
    )


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
