"""
The tables of the evidence ledger, and what both its ends read in them: the chain's ends and links.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256

from cftpki_cache.documents import DOCUMENTS_SCHEMA
from cftpki_cache.ledger_short import octets_of
from cftpki_cache.versions import VERSIONS_SCHEMA

DATABASE = "ledger.sqlite3"
HEAD = "head"
GENESIS = sha256(b"cftpki evidence ledger 1").digest()
# `last_use` instead of a table of references: a blob may go when the last record that names it has gone.
# `revoked` is an index, one row for each certificate that a record proves revoked: with it a lost memory of
# revocations is noticed without walking a million records. It outlives its records, so that what cannot be restored
# any more is at least named. Nothing is believed for its sake: what it leads to is judged anew.
# `piece`: a large blob, whose own row is empty, in the order of the numbers. Its pieces are there before it is.
# `repeated`: the document of a record that others repeat is a blob, and these are the blobs that it names in its turn.
# `short`: a record that repeats another one, in few octets (`cftpki_cache.ledger_short`). It has its place in the one chain by `seq`;
# `whole` numbers the documents that are repeated.
# `pattern`: what documents are packed against (`cftpki_cache.documents`).
# `note`: a link of the chain that is no verdict, and `breach` those notes that outlive their records (`cftpki_cache.ledger_guard`).
# `growth`: how large all that was ever kept was at the begin of an hour (`cftpki_cache.ledger_reach`).
SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS record (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kept_at INTEGER NOT NULL,
  document BLOB NOT NULL, blobs TEXT NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS record_time ON record (kept_at);
CREATE TABLE IF NOT EXISTS whole (number INTEGER PRIMARY KEY, document TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS short (
  seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kept_at INTEGER NOT NULL, whole INTEGER NOT NULL,
  rest BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS short_time ON short (kept_at);
CREATE TABLE IF NOT EXISTS note (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kept_at INTEGER NOT NULL, document BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS breach (id TEXT PRIMARY KEY, document BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob (digest TEXT PRIMARY KEY, raw BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS blob_use (digest TEXT PRIMARY KEY, last_use INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blob_use_last ON blob_use (last_use);
CREATE TABLE IF NOT EXISTS revoked (certificate TEXT PRIMARY KEY, digest TEXT NOT NULL, final INTEGER NOT NULL,
  ends INTEGER NOT NULL, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piece (digest TEXT NOT NULL, number INTEGER NOT NULL, raw BLOB NOT NULL,
  PRIMARY KEY (digest, number)) STRICT;
CREATE TABLE IF NOT EXISTS repeated (digest TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (digest, document)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS repeated_document ON repeated (document);
CREATE TABLE IF NOT EXISTS growth (hour INTEGER PRIMARY KEY, total INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chain_start (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
  hash BLOB NOT NULL) STRICT;
"""
    + DOCUMENTS_SCHEMA
    + VERSIONS_SCHEMA
)


def chain_start(db: sqlite3.Connection) -> tuple[int, bytes]:
    """
    Sequence and hash of the newest record that was let go; 0 and the genesis where none was.
    """
    row = db.execute("SELECT seq, hash FROM chain_start").fetchone()
    return (row[0], octets_of(row[1])) if row else (0, GENESIS)


def newest(db: sqlite3.Connection) -> tuple[int, bytes]:
    """
    Sequence and hash of the newest record, or of the chain's start where there is none.
    """
    rows = [
        db.execute(f"SELECT seq, hash FROM {table} ORDER BY seq DESC LIMIT 1").fetchone()  # noqa: S608 (constants)
        for table in ("record", *_chained_later(db))
    ]
    found = max((row for row in rows if row), default=None)
    return (found[0], octets_of(found[1])) if found else chain_start(db)


def _chained_later(db: sqlite3.Connection) -> list[str]:
    """
    The other tables of the chain that a ledger has: one that nobody has written to lately lacks some.
    """
    rows = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('short', 'note')")
    return [name for (name,) in rows]


def link(previous: bytes, record_id: str, kept_at: int, names: str, document: bytes) -> bytes:
    """
    The hash of a record: of the one before it, and of all that is kept of it.
    """
    own = sha256(f"{record_id}\0{kept_at}\0{names}\0".encode() + document).digest()
    return sha256(previous + own).digest()


REVOKED = "revoked"


def count_revoked(db: sqlite3.Connection, more: int) -> None:
    """
    Take note that rows of the index of revocations came, or went; how many there should be. Inside a transaction.
    """
    db.execute("UPDATE counter SET value = value + ? WHERE name = ?", (more, REVOKED))


def begin_counting_revoked(db: sqlite3.Connection) -> None:
    """
    Begin to note how many rows the index of revocations should have, where nobody has. Inside a transaction.
    """
    db.execute("INSERT OR IGNORE INTO counter SELECT ?, count(*) FROM revoked", (REVOKED,))


def index_lacks(db: sqlite3.Connection) -> int:
    """
    How many rows of the index of revocations somebody has taken away.
    """
    row = db.execute("SELECT value FROM counter WHERE name = ?", (REVOKED,)).fetchone()
    (count,) = db.execute("SELECT count(*) FROM revoked").fetchone()
    return max(0, int(row[0]) - int(count)) if row is not None and isinstance(row[0], int) else 0


def is_there(db: sqlite3.Connection, name: str) -> bool:
    """
    Whether a blob is kept.
    """
    return db.execute("SELECT 1 FROM blob WHERE digest = ?", (name,)).fetchone() is not None


def used_bytes(db: sqlite3.Connection) -> int:
    """
    The size of what is in use of the database: pages that became free are used again.
    """
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return int(pages - free) * int(size)
