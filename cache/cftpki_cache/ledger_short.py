"""
Records that repeat another one, kept in few octets: table `short`.

Owns which records are kept so, and how one is put together again. What a document says twice (its id, the digest of
what it repeats) is kept once; the chain's hash covers the whole document all the same.
"""

from __future__ import annotations

import re
import sqlite3

from cftpki_ext.ports.evidence import SHORT_MARK, EvidenceEntry

_ID_OCTETS = 16
_HEX_ID = re.compile("[0-9a-f]{32}")
_HEX_PREFIX = re.compile("[0-9a-f]{1,32}")
# All columns of a record as it was kept, of both tables: seq, id, kept_at, document, names, hash, and of a short one the digest.
RECORDS = "SELECT seq, id, kept_at, document, blobs, hash, NULL AS repeats FROM record"
SHORTS = (
    "SELECT seq, id, kept_at, rest AS document, NULL AS blobs, hash,"
    " coalesce((SELECT document FROM whole WHERE number = short.whole), '') AS repeats FROM short"
)

# What stands in the chain and is no verdict, in the same columns.
NOTES = "SELECT seq, id, kept_at, document, '' AS blobs, hash, NULL AS repeats FROM note"


def head_of(entry: EvidenceEntry) -> bytes | None:
    """
    The beginning of a record's document that need not be kept; `None` where the record is kept as any other.
    """
    if entry.repeats is None or entry.blobs or entry.present or entry.revoked:
        return None
    head = entry.repeats.head(entry.id)
    return head if head is not None and entry.document.startswith(head) else None


def row_of(row: tuple[object, ...]) -> tuple[int, str, int, bytes, str, bytes]:
    """
    A row of `RECORDS` or `SHORTS`, whole.

    Args:
        row: what was read, perhaps damaged.

    Returns:
        Place, id, time, document, names of blobs, hash. Of a damaged one, something that its hash does not fit.

    """
    seq, record_id, kept_at, document, names, digest, repeats = row
    if isinstance(repeats, str) and isinstance(record_id, bytes):
        # What it repeats may have no number any more: then it is none of ours, and its hash says so.
        try:
            octets = bytes.fromhex(repeats)
        except ValueError:
            octets = b""
        document = SHORT_MARK + record_id + octets + octets_of(document)
        record_id, names = record_id.hex(), repeats
    return seq, record_id, kept_at, octets_of(document), names, octets_of(digest)  # type: ignore[return-value] # STRICT


def octets_of(value: object) -> bytes:
    """
    A stored value that is to be octets; none where it is something else, of which a number would be made so many zeros.
    """
    return value if isinstance(value, bytes) else b""


def find_short(db: sqlite3.Connection, record_id: str) -> tuple[int, int, bytes, bytes] | None:
    """
    What is kept of a short record: its time, number of what it repeats, rest and hash.
    """
    if not _HEX_ID.fullmatch(record_id):
        return None
    row = db.execute(
        "SELECT kept_at, whole, rest, hash FROM short WHERE id = ?", (bytes.fromhex(record_id),)
    ).fetchone()
    return None if row is None else (row[0], row[1], octets_of(row[2]), octets_of(row[3]))


def ids_between(prefix: str) -> tuple[bytes, bytes] | None:
    """
    The least and the greatest id that begins so, as `short` has it; `None` where none can.
    """
    if not _HEX_PREFIX.fullmatch(prefix):
        return None
    digits = _ID_OCTETS * 2
    return bytes.fromhex(prefix.ljust(digits, "0")), bytes.fromhex(prefix.ljust(digits, "f"))


def number_of_whole(db: sqlite3.Connection, document: str) -> int:
    """
    The number of a document that is repeated, a new one where it has none yet. Inside a transaction.
    """
    row = db.execute("SELECT number FROM whole WHERE document = ?", (document,)).fetchone()
    if row is None:
        return int(db.execute("INSERT INTO whole (document) VALUES (?)", (document,)).lastrowid or 0)
    return int(row[0])


def insert_short(
    db: sqlite3.Connection, seq: int, entry: EvidenceEntry, *, head: bytes, whole: int, digest: bytes
) -> None:
    """
    Keep a short record. Inside a transaction.

    Args:
        db: of the ledger; it has the document that is repeated.
        seq: its place.
        entry: the record.
        head: from `head_of`.
        whole: the number of the document that it repeats.
        digest: its hash in the chain.

    Raises:
        sqlite3.IntegrityError: its id is another record's.

    """
    if db.execute("SELECT 1 FROM record WHERE id = ?", (entry.id,)).fetchone() is not None:
        msg = "the id is another record's"
        raise sqlite3.IntegrityError(msg)
    rest = entry.document[len(head) :]
    values = (seq, bytes.fromhex(entry.id), int(entry.kept_at.timestamp()), whole, rest, digest)
    db.execute("INSERT INTO short VALUES (?, ?, ?, ?, ?, ?)", values)
