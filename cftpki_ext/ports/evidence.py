"""
What the core asks of the ledger: verdicts' records, kept in order and read again. Each docstring is the contract of its adapters.

The adapter is `cftpki_cache.ledger`; `evidence` and the ledger's process stand between it and who judges.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import Break, Note
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.values import dataclass

# The first octet of a short record; no JSON begins with it.
SHORT_MARK = b"\x02"
_ID = re.compile("[0-9a-f]{32}")
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """
    A record that another one repeats: its id, and the SHA-256 (hex) of its document.
    """

    id: str
    document: str

    def head(self, verdict_id: str) -> bytes | None:
        """
        How the short document of a record that repeats this one begins: a store need not keep these octets twice.

        Args:
            verdict_id: the id of the record that repeats.

        Returns:
            The mark, the id's 16 octets and the digest's 32; `None` where the id or the digest has another form.

        """
        if _ID.fullmatch(verdict_id) is None or _DIGEST.fullmatch(self.document) is None:
            return None
        return SHORT_MARK + bytes.fromhex(verdict_id) + bytes.fromhex(self.document)


class Share(enum.StrEnum):
    """
    Whose share of the evidence a record counts against; records of one share never push out those of the other.
    """

    PARTNERS = "partners"
    STRANGERS = "strangers"  # chains that lead to no anchor, or were not judged


class EntryKind(enum.StrEnum):
    """
    What a link of the chain is.
    """

    VERDICT = "verdict"
    NOTE = "note"  # `core.ledger_notes`


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceEntry:
    """
    One record for the evidence store: the verdict's id, now, the document, and the blobs it names by SHA-256 (hex).

    `revoked` says which certificates the record proves revoked, and by which of its blobs. `present` names blobs that
    are not brought because the store should have them. `repeats` is a record whose document this one names: the store has
    it, and keeps it with all its blobs for as long as this one.
    """

    id: str
    kept_at: datetime
    document: bytes
    blobs: Mapping[str, bytes | LargeOctets]
    revoked: tuple[Proven, ...] = ()
    present: tuple[str, ...] = ()
    repeats: Repeated | None = None
    share: Share = Share.PARTNERS
    kind: EntryKind = EntryKind.VERDICT


class BlobsMissingError(StoreError):
    """
    Nothing was kept: the store has not, or no longer, what `EvidenceEntry.present` names.
    """

    def __init__(self, digests: Sequence[str]) -> None:
        super().__init__(f"{len(digests)} blobs are not in the evidence: {', '.join(digests[:3])}")
        self.digests = tuple(digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """
    How far back an evidence store reaches: its oldest record's time, its size, and what came in the last hours.

    `grown_bytes` in `measured_hours`, a week at most: what was let go meanwhile counts too. `breaks` is where it did not
    end as it was left, ever. `early` counts records that were let go for want of room before they were as old as they were
    to be kept, and `early_newest` is when the youngest of them was kept; of strangers' records `strangers_early` counts them.
    """

    oldest: datetime | None
    used_bytes: int
    measured_hours: int
    grown_bytes: int
    breaks: tuple[Break, ...] = ()
    early: int = 0
    early_newest: datetime | None = None
    index_lacks: int = 0  # rows of the index of revocations that somebody has taken away
    strangers_bytes: int = 0
    strangers_early: int = 0


class EvidenceStore(Protocol):
    """
    Keeps the records of verdicts, in order, so that a changed or removed one is noticed. Knows bytes only.
    """

    def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        Write large blobs, little by little, so that records that come meanwhile hardly wait.

        Of octets that are read in parts the digest is compared: they may lie in a file.

        Raises:
            StoreError: they could not be written.

        """

    def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        Keep records durably, all or none, and give each one's hash in the chain (hex).

        A record that is kept already, the same in every octet, is no fault: whoever did not hear the first answer
        sends it again, and is given the hash that it has.

        Raises:
            BlobsMissingError: blobs are named as present that are not, or a record that is repeated has been let go.
            StoreError: they could not be kept.

        """

    def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        Let go of what was kept before a time, and of the oldest until the size fits; how many records went.

        Raises:
            StoreError: the store cannot be written.

        """

    def condense(self) -> int:
        """
        Spend some seconds on keeping large blobs that came lately in less room, behind all other work; how many it was.

        Raises:
            StoreError: the store cannot be written.

        """

    def reach(self, *, now: datetime) -> Reach:
        """
        How far back it reaches, and how fast it grows.

        Raises:
            StoreError: the store cannot be used.

        """

    def close(self) -> None:
        """
        Release files.
        """


class AsyncEvidenceStore(Protocol):
    """
    An `EvidenceStore` whose work is done elsewhere, in a thread or a process of its own.
    """

    async def bring(self, blobs: Mapping[str, bytes | LargeOctets]) -> None:
        """
        Have large blobs written before a record names them: nobody's record waits behind a list of fifty megabytes.

        Those that no record names in the end go when the store is tended.

        Raises:
            StoreError: they could not be written.

        """

    async def append(self, entries: Sequence[EvidenceEntry]) -> tuple[str, ...]:
        """
        See `EvidenceStore`. Cancelling stops the waiting, not the work.
        """

    async def tend(self, *, before: datetime, max_bytes: int) -> int:
        """
        See `EvidenceStore`.
        """

    async def condense(self) -> int:
        """
        See `EvidenceStore`.
        """

    async def reach(self, *, now: datetime) -> Reach:
        """
        See `EvidenceStore`.
        """

    async def aclose(self) -> None:
        """
        See `EvidenceStore.close`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """
    One kept record: its place in the chain of its share, id, when it was kept, document, and chain hash (hex).
    """

    seq: int
    id: str
    kept_at: datetime
    document: bytes
    hash: str
    share: Share = Share.PARTNERS


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFault:
    """
    One break of the chain of a share, for a person. `seq` is the record's place, `None` where it has none.
    """

    seq: int | None
    detail: str
    share: Share = Share.PARTNERS


class EvidenceReader(Protocol):
    """
    The reading end of an evidence store. Disturbs nobody who writes.
    """

    def find(self, prefix: str) -> tuple[LedgerEntry, ...]:
        """
        The records whose id begins so, at most two.
        """

    def since(self, moment: datetime | None = None) -> Iterator[LedgerEntry]:
        """
        The records kept at or after a time, or all, oldest first.
        """

    def newest(self, count: int) -> Iterator[LedgerEntry]:
        """
        The newest records of each share, so many at most, oldest first.
        """

    def blob(self, digest: str) -> bytes | None:
        """
        The bytes of a SHA-256 (hex), unverified.
        """

    def revoked(self, *, ending_after: datetime) -> tuple[tuple[Proven, str], ...]:
        """
        The certificates that records proved revoked and that end later, each with the newest such record's id.

        The record itself may have been let go.
        """

    def has_index(self) -> bool:
        """
        Whether it knows which records prove revocations: one of the first days does not.
        """

    def index_lacks(self) -> int:
        """
        How many certificates that `revoked` knew somebody has taken away from it.
        """

    def count(self) -> int:
        """
        How many records there are.
        """

    def ends(self) -> tuple[LedgerEntry | None, LedgerEntry | None]:
        """
        The oldest and the newest record.
        """

    def verify(self, progress: Callable[[int], None] = ...) -> tuple[LedgerFault, ...]:
        """
        Every break of the chain, those that were noticed once included.
        """

    def notes(self, since: datetime | None = None) -> tuple[Note, ...]:
        """
        What is said besides verdicts: of a time or later, and all breaks, whenever they were noticed.
        """

    def early(self) -> tuple[int, datetime | None, int]:
        """
        How many records were let go before their time, when the youngest of them was kept, and how many of strangers.
        """

    def close(self) -> None:
        """
        Release files.
        """
