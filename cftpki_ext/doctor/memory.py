"""
The memory of revocations held against the evidence: what would let in whom we know to be revoked. Writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType

from cftpki_ext.core.errors import StoreError
from cftpki_ext.doctor.findings import Finding, Level
from cftpki_ext.evidence.restore import Known, behind, known_by, missing
from cftpki_ext.ports.evidence import EvidenceReader
from cftpki_ext.ports.revocations import ProofReader

_CHECK = "memory of revocations"
_EVIDENCE = "look at the disk, and at cftpki audit verify"
_BEHIND = "find out who deleted evidence or put an old copy back: the log has the hash of each record"
_RESTART = "restart the service: it restores what the evidence proves, and says so in its log"
_REPLACE = "stop the service, move revocations.sqlite3 away, start it: it restores what the evidence proves"


def examine_memory(
    open_ledger: Callable[[], EvidenceReader | None],
    open_memory: Callable[[], ProofReader | None],
    *,
    now: datetime,
) -> tuple[Finding, ...]:
    """
    Look for revocations that the evidence has seen and the memory does not know, and for evidence that is gone.

    Args:
        open_ledger: opens the evidence; none where there is none.
        open_memory: opens the memory; none where there is none.
        now: certificates that have ended by now are left out.

    Returns:
        One finding.

    """
    with contextlib.ExitStack() as stack:
        try:
            ledger = open_ledger()
            if ledger is not None:
                stack.callback(ledger.close)
            known = Known() if ledger is None else known_by(ledger, now=now)
        except StoreError as exc:
            return (_of(Level.WARN, f"cannot be compared: {exc}", _EVIDENCE),)
        try:
            memory = open_memory()
            if memory is not None:
                stack.callback(memory.close)
            found = [] if ledger is None else [bool(one.statements) for one in missing(ledger, known, memory)]
            late = memory is not None and behind(known, memory)
        except StoreError as exc:
            return (_of(Level.FAIL, f"{exc}: nobody is judged", _REPLACE),)
    count, lost = len(found), found.count(False)
    if count:
        detail = f"lacks {count} of {len(known.revoked)} revocations that the evidence has seen"
        if lost:
            detail += f"; the proof of {lost} is gone from the evidence too: only their CA can say so again"
        return (_of(Level.FAIL, detail, _RESTART, known=len(known.revoked), missing=count, lost=lost),)
    if late:
        return (_of(Level.WARN, "it is younger than the evidence", _BEHIND, known=len(known.revoked)),)
    detail = f"knows all {len(known.revoked)} revocations that the evidence has seen"
    return (_of(Level.OK, detail, known=len(known.revoked)),)


def _of(level: Level, detail: str, action: str = "", **facts: int) -> Finding:
    return Finding(
        level=level,
        about="service",
        check=_CHECK,
        detail=detail,
        action=action,
        facts=MappingProxyType(dict(facts)),
    )
