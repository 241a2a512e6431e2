"""
What lives in the state directory, opened: the cache, the memory of revocations, the evidence.

With `bootstrap` the only importer of `cache`.

More than 400 lines: one function for each thing that is opened; `state_directory` says where things are.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from cftpki_cache.blocked import LIST as BLOCK_LIST
from cftpki_cache.blocked import BlockFile
from cftpki_cache.cluster_place import FlushNumbers, PlaceFile
from cftpki_cache.disk import DiskStore
from cftpki_cache.gap_file import GapFile
from cftpki_cache.ledger_copies import back_up, copied_without_log
from cftpki_cache.ledger_schema import DATABASE
from cftpki_cache.ledger_shares import SharedLedger
from cftpki_cache.ledger_shares_reader import SharedLedgerReader
from cftpki_cache.list_file import key_of
from cftpki_cache.listed import ListedStore
from cftpki_cache.lists import ListFiles, list_directory
from cftpki_cache.location_locks import LocationLocks
from cftpki_cache.memory import MemoryStore, TwoSizesStore
from cftpki_cache.revocations import DATABASE as PROOFS
from cftpki_cache.revocations import RevocationMemory, RevocationReader
from cftpki_cache.sightings import DATABASE as PARTNERS
from cftpki_cache.sightings import Sightings, read_sightings
from cftpki_cache.tiered import TieredStore
from cftpki_cache.watch import StateWatch, mark_flushed
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.core.values import dataclass
from cftpki_ext.evidence.restore import Known, behind, known_by, restore
from cftpki_ext.ports.changes import StoreWatch
from cftpki_ext.ports.evidence import EvidenceReader
from cftpki_ext.ports.partners import Sighting
from cftpki_ext.ports.responses import ResponseStore
from cftpki_ext.ports.revocations import ProofStore
from cftpki_ext.state_directory import evidence_directory, ready_state, response_directory
from cftpki_ext.support.users import denied_text

_log = logging.getLogger(__name__)

# What answers without a signature are sealed by in the cache.
ANSWERS_KEY = "answers.key"
_GAP = "evidence.gap"
# Answers about partners, and one list of the largest size beside them; what is not here is read from the disk.
_SMALL_BYTES = 32 * 1024 * 1024
_LARGE_BYTES = 65 * 1024 * 1024
# Records of lost revocations that are named at most.
_NAMED = 10
_INDEX_LOST = "somebody had taken them away from the evidence's index of revocations: its records prove them"
_MEMORY_LOST = "the memory of revocations had lost them: it was deleted, or an older copy was put back"
_PROOF_LOST = (
    "seen revoked, and neither memory nor evidence has the proof any more: only their CA can say so again"
)
_EVIDENCE_BEHIND = "the memory of revocations is younger than the evidence: records were deleted, or not kept"
_CACHE_BUSY = "the cache in {} cannot be used now: another process writes, or the disk refuses; try again"


def open_ledger(state: Path) -> EvidenceReader:
    """
    Open the evidence for reading, whether or not a service is writing it.

    Args:
        state: the state directory.

    Returns:
        The reader, to be closed.

    Raises:
        StoreError: there is none, or it cannot be read by this user.

    """
    return SharedLedgerReader(evidence_directory(ServiceSettings(state=state)))


def ledger_remark(state: Path) -> str | None:
    """
    What is to be known of the evidence before it is read: that it is a copy without its write-ahead log.

    Args:
        state: the state directory.

    Returns:
        One line, or `None`.

    """
    return copied_without_log(evidence_directory(ServiceSettings(state=state)))


def back_up_ledger(state: Path, to: Path, progress: Callable[[int, int], None]) -> EvidenceReader:
    """
    Copy the evidence into a directory that is laid out as a state directory.

    Args:
        state: the state directory.
        to: of the copy; `evidence` is made in it.
        progress: told how many pages were copied, of how many.

    Returns:
        The copy, open for reading, to be closed.

    Raises:
        InputError: there is a copy already, or none can be made there.
        StoreError: there is no evidence, or it cannot be read or copied.

    """
    back_up(
        evidence_directory(ServiceSettings(state=state)),
        evidence_directory(ServiceSettings(state=to)),
        progress,
    )
    return open_ledger(to)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as exc:
        raise StoreError(denied_text(path, exc)) from exc


def open_stores(service: ServiceSettings) -> tuple[ResponseStore, ProofStore]:
    """
    Open what lives in the state directory.

    Args:
        service: where it is and how large it may grow.

    Returns:
        The cache of responses (memory above disk), and the memory of revocations.

    Raises:
        StoreError: the directory cannot be made or used by this user, or others may write there.

    """
    ready_state(service.state)
    lists = _open_lists(service)
    proofs = RevocationMemory(service.state, lists)
    try:
        disk = DiskStore(
            response_directory(service),
            max_bytes=service.cache_bytes,
            key=lambda: key_of(service.state / ANSWERS_KEY),
        )
    except StoreError:
        proofs.close()
        raise
    memory = TwoSizesStore(
        MemoryStore(max_entries=service.memory_entries, max_bytes=_SMALL_BYTES),
        MemoryStore(max_entries=service.memory_entries, max_bytes=_LARGE_BYTES),
    )
    tiers = TieredStore(memory, disk)
    return tiers if lists is None else ListedStore(tiers, lists), proofs


def location_locks(service: ServiceSettings) -> LocationLocks:
    """
    The locks by which the processes that share this cache ask a location once; after `open_stores`.
    """
    return LocationLocks(response_directory(service))


def open_blocks(service: ServiceSettings) -> BlockFile:
    """
    The partners that operators have shut out; nothing is made before the first is.

    Raises:
        StoreError: this user may not look into the state directory.

    """
    _is_there(service.state / BLOCK_LIST)
    return BlockFile(service.state)


def cluster_place(service: ServiceSettings) -> PlaceFile:
    """
    Where this node was in what its cluster tells.
    """
    return PlaceFile(service.state)


def flush_numbers(service: ServiceSettings) -> FlushNumbers:
    """
    Numbers for what this node tells a cluster to forget.
    """
    return FlushNumbers(service.state)


def open_sightings(service: ServiceSettings) -> Sightings:
    """
    Open what is remembered of partners that were accepted lately; after `open_stores`.
    """
    return Sightings(service.state)


def open_gaps(service: ServiceSettings, *, tell: Callable[..., None]) -> GapFile | None:
    """
    Take the place where it is noted that verdicts could not be kept, before the disk is full; after `open_stores`.

    Args:
        service: where it is.
        tell: is told by event and fields where it cannot be taken.

    Returns:
        The place, to be closed; `None` where there is none: a restart then forgets what was not kept.

    """
    try:
        return GapFile(service.state / _GAP)
    except StoreError as exc:
        tell("evidence_gap_not_kept", error=str(exc))
        return None


def known_partners(service: ServiceSettings) -> int:
    """
    How many partners are remembered, whose evidence a service renews ahead; 0 where there are none yet.

    Raises:
        StoreError: they cannot be read by this user.

    """
    if not _is_there(service.state / PARTNERS):
        return 0
    with contextlib.closing(Sightings(service.state)) as sightings:
        return sightings.count() or 0


def seen_partners(service: ServiceSettings) -> Iterator[Sighting]:
    """
    The partners that are remembered, with their chains; a service that runs is not disturbed.

    Raises:
        StoreError: they cannot be read by this user.

    """
    return read_sightings(service.state)


def recollect(
    service: ServiceSettings, proofs: ProofStore, *, required: bool, now: datetime, tell: Callable[..., None]
) -> frozenset[str]:
    """
    Put back what the memory of revocations has lost and the evidence proves, and say so.

    Evidence that cannot be read keeps nobody from judging unless it is required; a memory that cannot be read or
    written does.

    Args:
        service: where both are.
        proofs: the memory.
        required: whether nothing goes without evidence.
        now: certificates that have ended by now are left out.
        tell: is told by event and fields of what was not whole.

    Returns:
        The certificates of which something was put back.

    Raises:
        StoreError: the memory, or evidence that is required.

    """
    try:
        ledger = stored_evidence(service)
    except StoreError as exc:
        if required:
            raise
        tell("revocations_not_compared", error=str(exc))
        return frozenset()
    if ledger is None:
        if proofs.latest() is not None:
            tell("evidence_behind", detail=_EVIDENCE_BEHIND)
        return frozenset()
    with contextlib.closing(ledger):
        try:
            known = known_by(ledger, now=now)
        except StoreError as exc:
            if required:
                raise
            tell("revocations_not_compared", error=str(exc))
            return frozenset()
        done = restore(ledger, known, proofs)
        if known.unindexed:
            tell("revocation_index_restored", certificates=len(known.unindexed), detail=_INDEX_LOST)
            _index_again(service, known, tell)
        if behind(known, proofs):
            tell("evidence_behind", detail=_EVIDENCE_BEHIND)
    if done.restored:
        tell("revocations_restored", restored=len(done.restored), known=done.known, detail=_MEMORY_LOST)
    if done.lost:
        named = list(done.lost[:_NAMED])
        tell("revocations_lost", lost=len(done.lost), known=done.known, records=named, detail=_PROOF_LOST)
    return frozenset(done.restored)


def recollect_again(service: ServiceSettings, *, now: datetime, tell: Callable[..., None]) -> frozenset[str]:
    """
    Put back what was taken from the memory of revocations while a service runs; see `recollect`.

    Returns:
        See `recollect`.

    Raises:
        StoreError: the memory cannot be opened or written.

    """
    with contextlib.closing(RevocationMemory(service.state, _lists_of(service))) as proofs:
        return recollect(service, proofs, required=False, now=now, tell=tell)


def _index_again(service: ServiceSettings, known: Known, tell: Callable[..., None]) -> None:
    """
    Write into the evidence's index what was found in its records; what cannot be is looked for at the next start.
    """
    try:
        with contextlib.closing(SharedLedger(evidence_directory(service))) as ledger:
            ledger.index(known.unindexed)
    except StoreError as exc:
        tell("revocation_index_not_restored", error=str(exc))


def stored_evidence(service: ServiceSettings) -> EvidenceReader | None:
    """
    Open the evidence for reading; `None` where there is none yet, or any more.

    Raises:
        StoreError: it cannot be opened by this user.

    """
    folder = evidence_directory(service)
    return SharedLedgerReader(folder) if _is_there(folder / DATABASE) else None


def revocation_reader(service: ServiceSettings) -> RevocationReader | None:
    """
    Open the memory of revocations for reading; a service that runs is not disturbed.

    Args:
        service: where it is.

    Returns:
        The reader, to be closed; `None` where there is no memory, or an empty file: whoever writes begins it anew.

    Raises:
        StoreError: it cannot be opened by this user.

    """
    path = service.state / PROOFS
    if not _is_there(path) or path.stat().st_size == 0:
        return None
    return RevocationReader(service.state, _lists_of(service))


def _lists_of(service: ServiceSettings) -> ListFiles | None:
    """
    The folder of large lists, where there is one already.
    """
    return _open_lists(service) if _is_there(list_directory(service.state)) else None


def _open_lists(service: ServiceSettings) -> ListFiles | None:
    """
    The folder of large lists; `None` where the disk does not take it, and then large lists are in memory as others are.

    Raises:
        StoreError: it is not safely ours.

    """
    try:
        return ListFiles(service.state, max_bytes=service.cache_bytes)
    except OSError as error:
        _log.warning("large lists are kept in memory: %s", error)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUsage:
    """
    What the cache of raw responses holds.
    """

    directory: Path
    entries: int
    bytes: int


def cache_usage(service: ServiceSettings) -> CacheUsage:
    """
    Look at the cache on the disk; a service that runs is not disturbed.

    Args:
        service: where it is.

    Returns:
        What it holds; nothing where there is none yet.

    Raises:
        StoreError: it cannot be used by this user, or is busy.

    """
    directory = response_directory(service)
    if not _is_there(directory):
        return CacheUsage(directory=directory, entries=0, bytes=0)
    with contextlib.closing(DiskStore(directory, max_bytes=service.cache_bytes)) as disk:
        found = disk.usage()
    if found is None:
        raise StoreError(_CACHE_BUSY.format(directory))
    lists = _lists_of(service)
    octets = 0 if lists is None else lists.usage()[1]
    # Each large list is an entry there already.
    return CacheUsage(directory=directory, entries=found[0], bytes=found[1] + octets)


def flush_cache(service: ServiceSettings) -> int:
    """
    Forget every cached response; what is known to be revoked stays known. A service that runs forgets them, too.

    Args:
        service: where it is.

    Returns:
        How many there were.

    Raises:
        StoreError: it cannot be used by this user, or is busy.

    """
    directory = response_directory(service)
    if not _is_there(directory):
        return 0
    with contextlib.closing(DiskStore(directory, max_bytes=service.cache_bytes)) as disk:
        count = disk.clear()
    if count is None:
        raise StoreError(_CACHE_BUSY.format(directory))
    lists = _lists_of(service)
    if lists is not None:
        lists.clear()
    try:
        mark_flushed(directory)
    except OSError as exc:
        msg = f"{directory} is empty, and a service that runs cannot be told: {(exc.strerror or str(exc)).lower()}"
        raise StoreError(msg) from exc
    return count


def watch_stores(service: ServiceSettings) -> StoreWatch:
    """
    Watch what other processes put into the state directory.

    Args:
        service: where it is.

    Returns:
        The watch, to be closed.

    """
    return StateWatch(service.state, response_directory(service))
