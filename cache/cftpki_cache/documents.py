"""
Documents of records, packed against one that is much like them: most of a record is what the record before said, too.

Owns the table `pattern`, the table `packed_blob` (documents that are repeated, in the form that their record had), and the
stored form. A document is kept as it is, or as a mark, the number of its pattern, its
own length and a zstd frame. The chain's hash is over the document, never over how it is kept.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import OrderedDict

from cftpki_cache.ledger_short import octets_of
from cftpki_cache.packing import DamagedChunkError, pack, unpack

# No document of ours begins with it; one that does stands behind the number of no pattern.
_MARK = b"\x01"
_NO_PATTERN = 0
_MOST_PATTERNS = 0xFFFF_FFFF
_HEAD = struct.Struct(">cII")
# What is smaller is hardly worth it; what is larger holds up the records behind it.
_LEAST, _MOST = 512, 64 * 1024
# A document that takes more of its size than this becomes a pattern for those like it.
_LIKE = 0.3
# Patterns that are tried: one for each rule and kind of answer, some 5 KB each.
_TRIED = 4
# Patterns that a reader keeps.
_READ = 64
DOCUMENTS_SCHEMA = """
CREATE TABLE IF NOT EXISTS pattern (
  number INTEGER PRIMARY KEY AUTOINCREMENT, last_use INTEGER NOT NULL, document BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS pattern_last ON pattern (last_use);
CREATE TABLE IF NOT EXISTS packed_blob (digest TEXT PRIMARY KEY, pattern INTEGER NOT NULL, stored BLOB NOT NULL)
  STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS packed_blob_pattern ON packed_blob (pattern);
"""


class DocumentWriter:
    """
    Gives documents their stored form.

    Args:
        db: of the ledger. `stored` is called inside a transaction of it.

    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._patterns: OrderedDict[int, bytes] = OrderedDict()
        self._loaded = False

    def stored(self, document: bytes, seq: int) -> bytes:
        """
        The stored form of a document.

        Args:
            document: of a record.
            seq: the record's place: its pattern is kept for as long.

        Returns:
            What to keep.

        """
        if document.startswith(_MARK):
            return _HEAD.pack(_MARK, _NO_PATTERN, len(document)) + document
        if not _LEAST <= len(document) <= _MOST:
            return document
        if not self._loaded:
            rows = self._db.execute(
                "SELECT number, document FROM pattern ORDER BY number DESC LIMIT ?", (_TRIED,)
            )
            self._patterns = OrderedDict(
                (number, octets_of(raw)) for number, raw in reversed(rows.fetchall())
            )
            self._loaded = True
        for number, pattern in reversed(list(self._patterns.items())):
            packed = pack(document, pattern)
            if len(packed) > _LIKE * len(document):
                continue
            # Another process may have let it go; what was rolled back was never there.
            used = self._db.execute(
                "UPDATE pattern SET last_use = max(last_use, ?) WHERE number = ?", (seq, number)
            )
            if used.rowcount:
                self._patterns.move_to_end(number)
                return _HEAD.pack(_MARK, number, len(document)) + packed
            del self._patterns[number]
        number = (
            self._db.execute(
                "INSERT INTO pattern (last_use, document) VALUES (?, ?)", (seq, document)
            ).lastrowid
            or 0
        )
        if not 0 < number <= _MOST_PATTERNS:
            return document
        self._patterns[number] = document
        if len(self._patterns) > _TRIED:
            self._patterns.popitem(last=False)
        return _HEAD.pack(_MARK, number, len(document)) + pack(document, document)

    def forget(self) -> None:
        """
        Read the patterns again: a transaction was rolled back, and their numbers may become others'.
        """
        self._patterns.clear()
        self._loaded = False


def keep_packed(db: sqlite3.Connection, digest: str, stored: bytes) -> bool:
    """
    Keep a document that others repeat in the form that it has in its record. Inside a transaction.

    Args:
        db: of the ledger.
        digest: of the document.
        stored: its stored form.

    Returns:
        Whether it has a pattern: else it is a blob as any other.

    """
    if not stored.startswith(_MARK) or len(stored) < _HEAD.size:
        return False
    _, number, _ = _HEAD.unpack_from(stored)
    if number == _NO_PATTERN:
        return False
    db.execute("INSERT OR REPLACE INTO packed_blob VALUES (?, ?, ?)", (digest, number, stored))
    return True


def drop_patterns(db: sqlite3.Connection, last: int) -> None:
    """
    Let go of patterns that no record behind a place, and no repeated document, needs. Inside a transaction.
    """
    db.execute(
        "DELETE FROM pattern WHERE last_use <= ?"
        " AND NOT EXISTS (SELECT 1 FROM packed_blob WHERE packed_blob.pattern = pattern.number)",
        (last,),
    )


class DocumentReader:
    """
    Gives stored documents back. What cannot be is given as it is kept: its hash does not fit then.

    Args:
        db: of the ledger.

    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._patterns: OrderedDict[int, bytes] = OrderedDict()

    def document(self, stored: bytes) -> bytes:
        """
        A document, from its stored form.
        """
        if not stored.startswith(_MARK) or len(stored) < _HEAD.size:
            return stored
        _, number, size = _HEAD.unpack_from(stored)
        if number == _NO_PATTERN:
            return stored[_HEAD.size :]
        pattern = self._pattern(number)
        if pattern is None:
            return stored
        try:
            return unpack(stored[_HEAD.size :], size, pattern)
        except DamagedChunkError:
            return stored

    def _pattern(self, number: int) -> bytes | None:
        found = self._patterns.get(number)
        if found is None:
            row = self._db.execute("SELECT document FROM pattern WHERE number = ?", (number,)).fetchone()
            if row is None:
                return None
            found = self._patterns[number] = octets_of(row[0])
            if len(self._patterns) > _READ:
                self._patterns.popitem(last=False)
        return found
