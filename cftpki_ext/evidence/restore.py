"""
The memory of revocations held against the evidence: what is missing there, and how it is put back.

A memory that was deleted, emptied, or replaced by an older copy begins anew without an error; the ledger still has
the statements that proved each revocation. They are judged again before they are kept, and once more each time they
are recalled. Knows ports, not files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.known_revoked import BAD_NEWS, proof_key, proves, strongest_of
from cftpki_ext.evidence import decode, proofs_of
from cftpki_ext.ports.evidence import EvidenceReader
from cftpki_ext.ports.revocations import ProofReader, ProofStore

# A proof is kept before its verdict's record; a disk that hangs may lie between them.
_BEHIND = timedelta(hours=1)
# Most records of one CA rest on the same list of perhaps 20 MB.
_BLOBS = 8
# A record that proves a revocation has one of these as a finding.
_BAD_NEWS = tuple(f'"{status.value}"'.encode() for status in BAD_NEWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """
    What the evidence knows: certificates seen revoked, with the newest record of each, and when it was last written.
    """

    revoked: tuple[tuple[Proven, str], ...] = ()
    newest: datetime | None = None
    unindexed: tuple[tuple[Proven, str], ...] = ()  # those of `revoked` that the index does not know any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """
    A certificate that the memory lacks, and the statements that prove it revoked; none where they are lost.
    """

    certificate: str
    record: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """
    The certificates whose proofs were put back, and the records of those that nothing proves any more.
    """

    known: int
    restored: tuple[str, ...]
    lost: tuple[str, ...]


def known_by(ledger: EvidenceReader, *, now: datetime) -> Known:
    """
    Ask the ledger's index.

    Args:
        ledger: the evidence.
        now: certificates that have ended by now are left out: they are refused for that.

    Returns:
        What it knows.

    Raises:
        StoreError: the ledger cannot be read.

    """
    newest = ledger.ends()[1]
    revoked = ledger.revoked(ending_after=now)
    # Somebody has emptied the index: what it knew is looked for in the records, however many they are.
    lost = tuple(unindexed(ledger, now=now)) if ledger.index_lacks() else ()
    return Known(revoked=(*revoked, *lost), newest=None if newest is None else newest.kept_at, unindexed=lost)


def unindexed(ledger: EvidenceReader, *, now: datetime) -> Iterator[tuple[Proven, str]]:
    """
    Walk all records for revocations that they prove and the index does not know.

    Args:
        ledger: the evidence.
        now: certificates that have ended by now are left out.

    Yields:
        What the newest of such records prove, each with its record's id.

    Raises:
        StoreError: the ledger cannot be read.

    """
    known = {proven.certificate for proven, _ in ledger.revoked(ending_after=now)}
    if not ledger.has_index():
        return
    blob = lru_cache(maxsize=_BLOBS)(ledger.blob)
    found: dict[str, tuple[Proven, str]] = {}
    for entry in ledger.since():
        if not any(word in entry.document for word in _BAD_NEWS):
            continue
        try:
            proofs = proofs_of(decode(entry.document, blob))
        except (StoreError, ValueError):
            continue  # damaged: `verify` says so
        for proven in strongest_of(proofs):
            before = found.get(proven.certificate)
            if (
                proven.certificate not in known
                and proven.ends > now
                and (before is None or proven.final >= before[0].final)
            ):
                found[proven.certificate] = (proven, entry.id)
    yield from found.values()


def behind(known: Known, memory: ProofReader) -> bool:
    """
    Whether the memory has proofs that are younger than all evidence: evidence was lost, or not kept.

    Raises:
        StoreError: the memory cannot be read.

    """
    latest = memory.latest()
    return latest is not None and (known.newest is None or latest > known.newest + _BEHIND)


def missing(ledger: EvidenceReader, known: Known, memory: ProofReader | None) -> Iterator[Missing]:
    """
    What the memory lacks. One look at an index for what is there; what is not is decided anew.

    Args:
        ledger: the evidence, for its records.
        known: from `known_by`.
        memory: the memory; none where there is none.

    Returns:
        Each certificate that nothing in the memory proves revoked, though a record does.

    Raises:
        StoreError: the memory cannot be read.

    """
    # For as long as the comparison lasts.
    blob = lru_cache(maxsize=_BLOBS)(ledger.blob)
    for proven, record in known.revoked:
        if memory is not None and memory.holds(proven.certificate, proven.digest):
            continue
        recalled = () if memory is None else _recalled(memory, proven.certificate)
        statements, enough = _judged(ledger, blob, proven, record, recalled)
        if not enough:
            yield Missing(certificate=proven.certificate, record=record, statements=statements)


def restore(ledger: EvidenceReader, known: Known, memory: ProofStore) -> Restoration:
    """
    Put back what is missing, one certificate after the other: what a kill interrupts, the next start goes on with.

    Args:
        ledger: the evidence.
        known: from `known_by`.
        memory: takes the proofs; other processes may do the same at the same time.

    Returns:
        What came of it.

    Raises:
        StoreError: the memory cannot be read or written.

    """
    restored, lost = list[str](), list[str]()
    for one in missing(ledger, known, memory):
        for statement in one.statements:
            memory.remember(one.certificate, statement)
        if one.statements:
            restored.append(one.certificate)
        else:
            lost.append(one.record)
    return Restoration(known=len(known.revoked), restored=tuple(restored), lost=tuple(lost))


def _recalled(memory: ProofReader, certificate: str) -> tuple[Statement, ...]:
    try:
        return memory.recall(certificate)
    except StoreError:
        return ()  # damaged: whoever presents this certificate is refused until it is whole again


def _judged(
    ledger: EvidenceReader,
    blob: Callable[[str], bytes | None],
    proven: Proven,
    record_id: str,
    recalled: tuple[Statement, ...],
) -> tuple[tuple[Statement, ...], bool]:
    """
    What of a record proves the certificate revoked, and whether something that was recalled does so as well.
    """
    try:
        (entry,) = ledger.find(record_id)
        record = decode(entry.document, blob)
    except (StoreError, ValueError):
        # Let go, or damaged: what the memory has is all there is.
        return (), bool(recalled)
    proofs = [proof for proof in proofs_of(record) if proof.proven.certificate == proven.certificate]
    examination = examine(record.question)
    enough = any(
        proves(examination, depth, statement, final=proven.final)
        for depth in examination.to_judge
        if recalled and proof_key(examination, depth) == proven.certificate
        for statement in recalled
    )
    return tuple(proof.statement for proof in proofs), enough
