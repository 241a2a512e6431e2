"""
A ledger of days gone by: decisions made by the real core at the times that a test names, kept as the service keeps them.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record, encode
from cftpki_ext.ports.evidence import EvidenceEntry


class PastLedger:
    """
    Keeps decisions in `STATE/evidence`.
    """

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o700, exist_ok=True)
        self._ledger = EvidenceLedger(state / "evidence")
        self._ids = itertools.count(1)

    def decide(
        self,
        chain: tuple[bytes, ...],
        trust: TrustSet,
        *statements: Statement,
        at: datetime,
        door: Door = Door.EXIT,
        remote: str = "192.0.2.1",
        rule: str = "in",
    ) -> Record:
        """
        Judge a chain by what was heard, and keep the record.
        """
        question = Question(
            chain=chain, direction=Direction.SERVER, trust=trust, limits=Limits(), at=at, rule=rule
        )
        verdict_id = f"{int(at.timestamp() * 1000):012x}{next(self._ids):020x}"
        verdict = conclude(examine(question), statements, verdict_id=verdict_id)
        record = Record(
            question=question, statements=statements, verdict=verdict, asked=Asked(door=door, remote=remote)
        )
        made = encode(record)
        self._ledger.append(
            [
                EvidenceEntry(
                    id=verdict_id, kept_at=at, document=made.document, blobs=made.blobs, revoked=made.revoked
                )
            ]
        )
        return record

    def close(self) -> None:
        """
        Release files.
        """
        self._ledger.close()
