"""
What a check saw: what was looked up and recalled for a chain, what came of it, and who hears that it is no longer so.

Values and the port of the news; `checker` makes the one and tells the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from cftpki_ext.checking.case import Outcome, Place, Recall
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """
    What was looked up and recalled for a chain.
    """

    places: tuple[Place, ...]
    recalls: tuple[Recall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """
    What a check saw in cache and memory of revocations.

    Names of both, what the cache had (when it was received, and its SHA-256), and at which state of the memory
    (`ProofReader.state`).
    """

    responses: Mapping[str, tuple[datetime, str] | None]
    recalls: tuple[Recall, ...]
    state: int

    @property
    def keys(self) -> frozenset[str]:
        """
        The names of the cache that were looked up.
        """
        return frozenset(self.responses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """
    An outcome, every statement that it rests on, and what was looked up for it; `looked` where that was all.
    """

    outcome: Outcome
    statements: tuple[Statement, ...]
    known: Known
    looked: Looked | None = None


class News(Protocol):
    """
    Who must know at once that a check would see something else now.
    """

    def changed(self, key: str) -> None:
        """
        The cache was given another answer under a name.
        """

    def stored(self, key: str, received_at: datetime) -> None:
        """
        The disk has an answer under a name that was received then, perhaps the one that is known.
        """

    def revoked(self, certificates: Collection[str]) -> None:
        """
        Proofs of revocation are kept of these certificates (`Recall.key`), perhaps those that are known.
        """

    def forgot(self) -> None:
        """
        Nothing is at hand any more.
        """
