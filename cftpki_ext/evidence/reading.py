"""
Stored records read again, those that repeat another one made whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.forms import field_at_fault
from cftpki_ext.evidence.again import completed, plain_of
from cftpki_ext.evidence.record import MAX_DOCUMENT_BYTES, Record, record_from

Blob = Callable[[str], bytes | None]


def data_of(document: bytes, blob: Blob) -> dict[str, Any]:
    """
    A stored document as plain data, as if it repeated nothing. Certificates and statements stay references.

    Args:
        document: the stored document.
        blob: gives the bytes of a SHA-256 (hex), or `None` where they are gone.

    Returns:
        The whole document.

    Raises:
        StoreError: another format, a document that is not one of ours, or what it repeats is missing or was changed.

    """
    try:
        return completed(plain_of(document), blob, cap=MAX_DOCUMENT_BYTES)
    except (ValueError, TypeError, RecursionError) as exc:
        msg = f"evidence document cannot be read: {_why(exc)}"
        raise StoreError(msg) from exc


def decode(document: bytes, blob: Blob) -> Record:
    """
    The record that `encode`, or `again`, made.

    Args:
        document: the stored document.
        blob: gives the bytes of a SHA-256 (hex), or `None` where they are gone.

    Returns:
        The record.

    Raises:
        StoreError: another format, a missing or changed blob, or a document that is not one of ours.

    """
    try:
        return record_from(completed(plain_of(document), blob, cap=MAX_DOCUMENT_BYTES), blob)
    except (ValueError, TypeError, RecursionError) as exc:
        msg = f"evidence document cannot be read: {_why(exc)}"
        raise StoreError(msg) from exc


def _why(error: Exception) -> str:
    """
    What is wrong with a document: a field, or that it is no JSON; not the library's words.
    """
    field = field_at_fault(error)
    if field is not None:
        return f"field {printable(field)!r} is missing or not as it was written"
    return "it is not JSON, or a field of it is not as it was written"
