"""
The evidence itself: whether the chain of records is whole, as far as there is time to look. Writes nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import MappingProxyType

from cftpki_ext.core.errors import StoreError
from cftpki_ext.doctor.findings import Finding, Level
from cftpki_ext.ports.evidence import EvidenceReader
from cftpki_ext.support.failures import reason_of

# Some hundred thousand records on a slow machine; who wants to know of all runs the command for it.
VERIFY_S = 20.0
_SPARE_S = 5.0
_CHECK = "chain of records"
_BROKEN = "see cftpki audit verify; keep the folder as it is, and find out who could write there"
# Breaks that are named.
_NAMED = 3


class _OutOfTimeError(Exception):
    """
    Looked long enough.
    """


def examine_ledger(
    open_ledger: Callable[[], EvidenceReader | None],
    *,
    monotonic: Callable[[], float],
    within_s: float = VERIFY_S,
) -> tuple[Finding, ...]:
    """
    Verify the chain, for some seconds.

    Args:
        open_ledger: opens the evidence; none where there is none.
        monotonic: seconds that only ever grow.
        within_s: how long to look.

    Returns:
        One finding, none where there is no evidence yet.

    """
    found: list[tuple[Finding, ...]] = []
    # What comes before the records, stored lists above all, tells of no progress: it is not waited for any longer.
    work = threading.Thread(
        target=lambda: found.append(_examine(open_ledger, monotonic=monotonic, within_s=within_s)),
        daemon=True,
    )
    work.start()
    work.join(within_s + _SPARE_S)
    if found:
        return found[0]
    detail = f"was not looked through within {within_s:.0f} s: it is large, or the disk is slow"
    return (_of(Level.NOTE, detail, "run cftpki audit verify for all of it"),)


def _examine(
    open_ledger: Callable[[], EvidenceReader | None], *, monotonic: Callable[[], float], within_s: float
) -> tuple[Finding, ...]:
    looked_at, until = 0, monotonic() + within_s

    def progress(count: int) -> None:
        nonlocal looked_at
        looked_at = count
        if monotonic() > until:
            raise _OutOfTimeError

    with contextlib.ExitStack() as stack:
        try:
            ledger = open_ledger()
            if ledger is None:
                return ()
            stack.callback(ledger.close)
            count = ledger.count()
            faults = ledger.verify(progress)
        except _OutOfTimeError:
            detail = f"the first {looked_at} of {count} records are looked at; there was no time for more"
            return (_of(Level.NOTE, detail, "run cftpki audit verify for all of it", records=count),)
        except StoreError as exc:
            return (_of(Level.FAIL, f"cannot be read: {exc}", _BROKEN),)
        except Exception as exc:  # noqa: BLE001 - whatever a broken database makes of it
            return (_of(Level.FAIL, f"cannot be verified: {reason_of(exc)}", _BROKEN),)
    if faults:
        named = "; ".join(fault.detail for fault in faults[:_NAMED])
        more = f"; {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        return (_of(Level.FAIL, f"is broken: {named}{more}", _BROKEN, records=count, faults=len(faults)),)
    return (_of(Level.OK, f"{count} records are whole", records=count, faults=0),)


def _of(level: Level, detail: str, action: str = "", **facts: int) -> Finding:
    return Finding(
        level=level,
        about="evidence",
        check=_CHECK,
        detail=detail,
        action=action,
        facts=MappingProxyType(dict(facts)),
    )
