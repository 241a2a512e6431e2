"""
Revocations that the evidence proves and somebody has had forgotten: in its index, or in the memory of revocations. Reads only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.evidence.restore import known_by, missing, unindexed
from cftpki_ext.ports.evidence import EvidenceReader
from cftpki_ext.state_directory import response_directory
from cftpki_ext.stores import revocation_reader

# Records that are named; the others are counted.
_NAMED = 8


def forgotten(ledger: EvidenceReader, state: Path, *, now: datetime) -> Iterator[str]:
    """
    Look for what would let in again whom the evidence knows to be revoked.

    Args:
        ledger: the evidence of a state directory.
        state: the directory. Where it is only a copy of the evidence, nothing is said of a memory that it does not have.
        now: certificates that have ended by now are left out.

    Yields:
        A line for each kind of loss, for a person.

    Raises:
        StoreError: the evidence cannot be read.

    """
    lost = tuple(unindexed(ledger, now=now))
    if lost:
        yield f"the index of revocations lacks {len(lost)} certificates that records prove revoked ({_named(name for _, name in lost)})"
    service = ServiceSettings(state=state)
    try:
        memory = revocation_reader(service)
    except StoreError as exc:
        yield str(exc)
        return
    if memory is None and not response_directory(service).exists():
        return
    with contextlib.ExitStack() as stack:
        if memory is not None:
            stack.callback(memory.close)
        known = known_by(ledger, now=now)
        try:
            gone = [one.record for one in missing(ledger, known, memory)]
        except StoreError as exc:
            yield str(exc)
            return
    if gone:
        yield f"the memory of revocations lacks {len(gone)} certificates that records prove revoked ({_named(iter(gone))})"


def _named(records: Iterator[str]) -> str:
    names = list(records)
    more = "" if len(names) <= _NAMED else f", and {len(names) - _NAMED} more"
    return f"records {', '.join(names[:_NAMED])}{more}"
