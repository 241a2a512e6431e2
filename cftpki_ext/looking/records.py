"""
Stored verdicts: walked as rows, found by an id, and where one is in the chain of records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.evidence import Row, row_from
from cftpki_ext.ports.evidence import EvidenceReader, LedgerEntry

_ID_DIGITS = 32
_REPEATED = 256
# The 64-byte area in hexadecimal, and where the verdict's id is in it (docs/protocol.md, "Global area").
_AREA_DIGITS = 128
_ID_IN_AREA = slice(16, 48)


class NotFoundError(CftPkiError):
    """
    No verdict, or no single one, has this id.
    """


def read_rows(
    entries: Iterable[LedgerEntry],
    ledger: EvidenceReader,
    *,
    until: datetime | None = None,
    tell: Callable[[str], None],
) -> Iterator[Row]:
    """
    The rows of records.

    Args:
        entries: the records.
        ledger: has what they repeat.
        until: later ones are left out.
        tell: told of records that cannot be read, which are left out.

    Yields:
        A row for each, in their order.

    """
    # A partner that comes again and again repeats one record.
    blob = lru_cache(maxsize=_REPEATED)(ledger.blob)
    for entry in entries:
        # A clock that was set back may make a later record an earlier one: the walk does not end here.
        if until is not None and entry.kept_at > until:
            continue
        try:
            yield row_from(entry.document, blob)
        except StoreError as exc:
            tell(unreadable_record(entry, exc))


def unreadable_record(entry: LedgerEntry, error: StoreError) -> str:
    """
    What is said of a record that cannot be read.
    """
    return f"record {entry.seq} ({printable(entry.id)}): {error}; see cftpki audit verify"


def find(ledger: EvidenceReader, given: str) -> LedgerEntry:
    """
    The one record that an id, its beginning, or a global area means.

    Args:
        ledger: where to look.
        given: as typed.

    Returns:
        The record's entry.

    Raises:
        InputError: this is no id.
        NotFoundError: none, or several, have it.

    """
    digits = "".join(given.split()).replace(":", "").lower()
    if len(digits) == _AREA_DIGITS:
        digits = digits[_ID_IN_AREA]
    if not digits or len(digits) > _ID_DIGITS or set(digits) - set("0123456789abcdef"):
        msg = f"{printable(given)!r} is no verdict id: 32 hexadecimal digits, their beginning, or a 64-byte area"
        raise InputError(msg)
    if not digits.strip("0") and len(digits) == _ID_DIGITS:
        msg = "this area names no verdict: the partner's chain was not judged in that session"
        raise NotFoundError(msg)
    found = ledger.find(digits)
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"more than one verdict begins with {digits}: give more digits ({', '.join(printable(e.id) for e in found)}, …)"
        raise NotFoundError(msg)
    hint = (
        " (at least six digits)" if len(digits) < _ID_DIGITS else "; it may have been let go by age or size"
    )
    msg = f"no verdict {digits} in the evidence{hint}"
    raise NotFoundError(msg)


def place_of(entry: LedgerEntry) -> dict[str, Any]:
    """
    Where a record is in the chain, as plain data.
    """
    return {
        "seq": entry.seq,
        "id": entry.id,
        "hash": entry.hash,
        "kept_at": moment_text(entry.kept_at),
        "share": entry.share.value,
    }


def moment_text(when: datetime) -> str:
    """
    A time to the second, RFC 3339.
    """
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
