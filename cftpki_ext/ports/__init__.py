"""
The ports: what the core asks of the outside world. Each docstring is the contract of its adapters.

Adapters live in `connectors/` (network) and `cache/` (storage) and register through the entry point groups
`cftpki.status_sources` and `cftpki.stores`; a third party's use the same door.

More than 400 lines: all contracts with the outside world, to be read in one place; little of it is code.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Protocol, runtime_checkable

from cftpki_ext.core.blocks import Book
from cftpki_ext.core.cluster import Announcement, Beat, Heard, Lease, NodeRow, Parts, Refusal, SharedAnswer
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.large_lists import LargeStore, Spool
from cftpki_ext.core.ledger_notes import Break, Note
from cftpki_ext.core.notify import NoticeMessage
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.validators import Validators
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509.certificate import Certificate


class Clock(Protocol):
    """
    Wall time for validity, monotonic time for waits. Never mixed.
    """

    def now(self) -> datetime:
        """
        The wall-clock time, aware, in UTC.
        """

    def monotonic(self) -> float:
        """
        Seconds that only ever grow.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVersion:
    """
    What a location sent before, and what it said of that version.
    """

    raw: bytes | LargeOctets
    validators: Validators


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuestion:
    """
    What a status source is asked: the certificate, its issuer, where, and until when (monotonic seconds).

    `hear_time` is told the origin of each server that answers over HTTP, and what time it says it is. Large answers go to
    `spool`, where there is one. A source that asks whether there is another version than `known`, and is told "no", answers with
    that very `known.raw`. `hear_validators` is told what was said of a version that came whole.
    """

    lookup: Lookup
    certificate: Certificate
    issuer: Certificate
    trust: TrustSet
    limits: Limits
    deadline: float
    hear_time: Callable[[str, datetime], None] | None = None
    spool: Spool | None = None
    known: KnownVersion | None = None
    hear_validators: Callable[[Validators], None] | None = None


class StatusSource(Protocol):
    """
    Fetches one statement from one location. Judges nothing: bytes come back as received.

    An adapter never raises for what the network does: failure is a `Statement` with its cause. It connects
    only where the trust set allows, keeps to the limits, and gives up at the deadline. Where a place holds several
    answers it may hand them all on (`Statement.also`).
    """

    async def ask(self, question: StatusQuestion) -> Statement:
        """
        Ask `question.lookup.url` for the status of `question.certificate`.
        """

    async def aclose(self) -> None:
        """
        Release connections.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """
    Bytes from a store, unverified, with when they were received from their source.
    """

    raw: bytes | LargeOctets
    received_at: datetime


class ResponseStore(Protocol):
    """
    Keeps raw responses by key. Knows bytes and ages, no PKI rules.

    A store never raises for a full, read-only or corrupt disk: it forgets, logs once, and goes on. What it
    returns is exactly what was put under that key (a digest is kept beside it), or nothing.
    """

    def get(self, key: str) -> StoredResponse | None:
        """
        The bytes under `key`, or `None`.
        """

    def put(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        Keep `raw` for at most `keep_s` seconds, replacing what was there.
        """

    def drop(self, key: str) -> None:
        """
        Forget `key` (the bytes turned out to be unusable).
        """

    def close(self) -> None:
        """
        Release files.
        """


@runtime_checkable
class LastingStore(ResponseStore, Protocol):
    """
    A store that waits for a disk, and may be used from several threads: whoever must not wait asks what is at hand.
    """

    def at_hand(self, key: str) -> StoredResponse | None:
        """
        The bytes under `key` where they are in memory; `None` says nothing.
        """

    def hold(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        The part of `put` that waits for nothing; `write` follows.
        """

    def let_go(self, key: str | None = None) -> None:
        """
        Have nothing at hand under `key`, or at all: the next look is at the disk.
        """

    def write(self, key: str, raw: bytes, *, received_at: datetime, keep_s: int) -> None:
        """
        The part of `put` that waits for the disk. What is at hand stays: something newer may have come meanwhile.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChanges:
    """
    What any process has changed in the stores since they were looked at last.

    `flushed`: the cache was emptied on purpose. `responses`: names under which something was stored, and when that was
    received. `revoked`: the certificates (`ProofReader.recall`) of which proofs are kept; `None` where no proof was added.
    It only ever grows, unless somebody has taken proofs away.
    """

    flushed: bool = False
    responses: Mapping[str, datetime] = field(default_factory=dict)
    revoked: frozenset[str] | None = None


class StoreWatch(Protocol):
    """
    Sees what other processes put into the stores that they share with this one. Cheap: it is asked many times a second.
    """

    def look(self) -> StoreChanges:
        """
        What has changed since the last look; the first look tells of nothing but proofs.

        Raises:
            StoreError: the memory of revocations cannot be read. That the cache cannot be is no change of it.

        """

    def remembered(self) -> None:
        """
        Take note that this process has kept a proof of revocation: the next look reads the memory of them, whether or not it was there.
        """

    def close(self) -> None:
        """
        Release files.
        """


@runtime_checkable
class SharedStore(LastingStore, Protocol):
    """
    A store whose lasting part other processes write as well.
    """

    def look_below(self, key: str) -> StoredResponse | None:
        """
        The newest of what is in memory and what the lasting part has now, which then is in memory, too.
        """


class LocationLocks(Protocol):
    """
    Locks that processes which share a cache take before they ask a location. For any thread; they end with their holder.

    What cannot be locked is free: the location is asked more often than need be, and nothing else happens.
    """

    def take(self, name: str) -> bool:
        """
        Take the lock of a location (as the cache names it) without waiting; `False` while another process has it.
        """

    def give_back(self, name: str) -> None:
        """
        Give back what `take` gave.
        """

    def close(self) -> None:
        """
        Release all.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """
    A partner as it is remembered over a restart: its name, when it was last accepted, what is known of it, and its chain.

    `document` is JSON and `chain` the octets of its certificates; both are as whoever reads them wrote them, or not at
    all: they are verified again. `chain` is `None` where the one that is kept stays.
    """

    name: bytes
    seen: float
    document: str
    chain: bytes | None = None


class BlockList(Protocol):
    """
    Keeps the partners that operators have shut out. What is written is on the disk; what cannot be read is an error, never nobody.
    """

    def document(self) -> bytes | None:
        """
        The entries (`core.blocks.encode_blocks`) as they are at this moment, `None` where there are none. Cheap.

        Raises:
            StoreError: they cannot be read, or are gone: then nobody knows who is shut out, and the caller refuses.

        """

    def book(self) -> Book:
        """
        All that operators did.

        Raises:
            StoreError: see `document`.

        """

    def change(self, edit: Callable[[Book], Book]) -> Book:
        """
        Change the book in one step, one process at a time.

        Args:
            edit: makes the new book of the one there is; what it raises changes nothing.

        Returns:
            The new book, on the disk.

        Raises:
            StoreError: it cannot be read, or the disk refuses.

        """


class SightingStore(Protocol):
    """
    Keeps the partners that were accepted lately. Knows no PKI rules. May be used from several threads.

    Never raises for a full, read-only or corrupt disk: it forgets, logs once, and goes on.
    """

    def latest(self, most: int) -> tuple[Sighting, ...]:
        """
        The `most` that were seen last, without chains, the one not seen for longest first; others are forgotten.
        """

    def chain(self, name: bytes) -> bytes | None:
        """
        The chain of a partner.
        """

    def write(self, sightings: Sequence[Sighting], forgotten: Sequence[bytes]) -> None:
        """
        Keep some, in place of what was known of them, and forget others.
        """

    def close(self) -> None:
        """
        Release files.
        """


@runtime_checkable
class ListStore(LastingStore, Protocol):
    """
    A store that keeps large lists as files: what it gives under a key may be `LargeOctets`.

    Args:
        lists: where they are.

    """

    lists: LargeStore

    def hold_list(self, key: str, raw: LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `hold`.
        """

    def write_list(self, key: str, raw: LargeOctets, *, received_at: datetime, keep_s: int) -> None:
        """
        See `write`.
        """


class ProofReader(Protocol):
    """
    The reading end of a `ProofStore`.
    """

    def recall(self, certificate: str) -> tuple[Statement, ...]:
        """
        The proofs kept under `certificate`, with origin `KNOWN_REVOKED`.

        Raises:
            StoreError: they cannot be read.

        """

    def holds(self, certificate: str, digest: str) -> bool:
        """
        Whether the statement of a SHA-256 (hex) is kept under `certificate`.

        Raises:
            StoreError: this cannot be read.

        """

    def state(self) -> int:
        """
        A number that is another one after anybody, in any process, has changed what is kept. Cheap.

        Raises:
            StoreError: it cannot be read.

        """

    def latest(self) -> datetime | None:
        """
        When the newest statement that is kept was received; `None` where there is none.

        Raises:
            StoreError: this cannot be read.

        """

    def close(self) -> None:
        """
        Release files.
        """


class ProofStore(ProofReader, Protocol):
    """
    Keeps proofs of revocation for good, by certificate. Knows bytes, no PKI rules.
    """

    def remember(self, certificate: str, statement: Statement) -> None:
        """
        Keep `statement` durably: it is on the disk when this returns.

        Raises:
            StoreError: it could not be written.

        """


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


class NoticeSender(Protocol):
    """
    Sends messages to one receiver (`core.notify`).
    """

    async def send(self, message: NoticeMessage, *, deadline: float) -> None:
        """
        Send one message; when this returns, the receiver has taken it.

        Args:
            message: at most some dozens of notices.
            deadline: monotonic seconds.

        Raises:
            NotTakenError: the receiver did not take it; the words name no secret.

        """

    async def aclose(self) -> None:
        """
        Release connections.
        """


class SharedTier(Protocol):
    """
    What the nodes of a cluster share of what CAs said: octets by the names of the cache, and who asks a location for all.

    Knows octets, no PKI rules. Never raises for what a server or a network does, and takes no longer than it is configured
    to: what cannot be found is not there. Whatever comes back may be anything: whoever uses it verifies it.
    """

    async def find(self, key: str) -> SharedAnswer | None:
        """
        What was put under a name, unverified.
        """

    async def put(
        self, key: str, raw: bytes, *, received_at: datetime, keep_s: int, lease: Lease | None
    ) -> bool:
        """
        Have others find an answer, unless one is there that was asked for by a later lease; ends the lease.

        Returns:
            Whether it is there now.

        """

    async def find_part(self, key: str, parts: Parts, number: int) -> bytes | None:
        """
        One part of a large list, unverified.
        """

    async def put_part(self, key: str, parts: Parts, number: int, octets: bytes, *, keep_s: int) -> bool:
        """
        Have others find one part of a large list; whether it is there now.
        """

    async def put_parts(
        self, key: str, parts: Parts, *, received_at: datetime, keep_s: int, lease: Lease | None
    ) -> bool:
        """
        See `put`, of a large list whose parts are there.
        """

    async def take(self, key: str) -> Lease | Refusal:
        """
        Take the right to ask a location for all nodes.
        """

    async def hold(self, key: str, lease: Lease) -> bool:
        """
        Keep a lease for another `LEASE_S`; whether it still is ours.
        """

    async def give_back(self, key: str, lease: Lease) -> None:
        """
        End a lease.
        """


class PlaceStore(Protocol):
    """
    Keeps where a node was in what a cluster tells, as octets.
    """

    def load(self) -> bytes | None:
        """
        What was saved last; `None` where nothing was, or it cannot be read.
        """

    def save(self, octets: bytes) -> None:
        """
        Save in one step.

        Raises:
            StoreError: the disk refuses.

        """


class ClusterServer(SharedTier, Protocol):
    """
    The server that nodes share, whole: besides what a check needs, what nodes tell each other.
    """

    @property
    def up(self) -> bool:
        """
        Whether it answered when it was last asked.
        """

    @property
    def has_secret(self) -> bool:
        """
        Whether nodes vouch for what they say.
        """

    async def beat(self, row: NodeRow, told: str | None = None) -> Beat | None:
        """
        Say that this node is there, and learn what the server has; `None` where it does not answer.

        Args:
            row: what the node says of itself.
            told: the position of what it told last.

        """

    async def heard_since(self, position: str) -> tuple[Heard, ...] | None:
        """
        The announcements behind a position, in their order, some at a time; `None` where the server does not answer.
        """

    async def announce(self, one: Announcement) -> str | None:
        """
        Tell all nodes; the position, `None` where it could not be told.

        Raises:
            InputError: it is longer than anything that is told.

        """

    def status(self) -> Mapping[str, object]:
        """
        For STATUS: whether it answers, since when, why not, and what was counted.
        """

    async def aclose(self) -> None:
        """
        Release connections.
        """
