"""
Letting go of the oldest records of the evidence ledger, and of what nothing needs any more.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from cftpki_cache.documents import drop_patterns
from cftpki_cache.ledger_holds import not_held, note_broken
from cftpki_cache.ledger_reach import note_early
from cftpki_cache.ledger_schema import used_bytes
from cftpki_cache.sqlite import transaction
from cftpki_cache.versions import drop_unneeded

# Records let go in one transaction: a writer waits for some milliseconds at most.
_BATCH = 64
_SHORT_BATCH = 1024
# Where room must be made among few records, a batch is this part of them.
_PART = 8
# Blobs that no record up to now names, and a document that is repeated later does: from now on they are used as it is.
_USED_BY_REPEATED = (
    "SELECT max(whole.last_use), old.digest FROM blob_use AS old JOIN repeated ON repeated.digest = old.digest"
    " JOIN blob_use AS whole ON whole.digest = repeated.document"
    " WHERE old.last_use <= ?1 AND whole.last_use > ?1 GROUP BY old.digest"
)


def let_go(db: sqlite3.Connection, before: datetime | None, max_bytes: int) -> int:
    """
    Let one batch of records go, if any must.

    Args:
        db: a connection without a transaction.
        before: records kept earlier go; those that go and are younger are counted. `None`: nobody has said.
        max_bytes: greatest size of what is in use of the database.

    Returns:
        How many records it was.

    """
    with transaction(db):
        full = used_bytes(db) > max_bytes
        last = _end_of_batch(db, small=full)
        if last is None:
            return 0
        moment = None if before is None else int(before.astimezone(UTC).timestamp())
        if full:
            note_broken(db, last)
            if moment is not None:
                _count_early(db, last, moment)
        elif (
            moment is None
            or (last := _last_before(db, last, moment)) is None
            or (last := not_held(db, last)) is None
        ):
            return 0
        (digest,) = db.execute(
            "SELECT hash FROM record WHERE seq = ?1 UNION ALL SELECT hash FROM short WHERE seq = ?1", (last,)
        ).fetchone()
        db.execute("INSERT OR REPLACE INTO chain_start VALUES (1, ?, ?)", (last, digest))
        gone = db.execute("DELETE FROM record WHERE seq <= ?", (last,)).rowcount
        gone += db.execute("DELETE FROM short WHERE seq <= ?", (last,)).rowcount
        db.execute("DELETE FROM note WHERE seq <= ?", (last,))
        db.executemany(
            "UPDATE blob_use SET last_use = ? WHERE digest = ?",
            db.execute(_USED_BY_REPEATED, (last,)).fetchall(),
        )
        unused = db.execute("SELECT digest FROM blob_use WHERE last_use <= ?", (last,)).fetchall()
        lists = any(db.execute("SELECT 1 FROM version WHERE digest = ?", one).fetchone() for one in unused)
        db.executemany("DELETE FROM piece WHERE digest = ?", unused)
        db.executemany("DELETE FROM blob WHERE digest = ?", unused)
        db.executemany("DELETE FROM waiting WHERE digest = ?", unused)
        db.executemany("DELETE FROM blob_use WHERE digest = ?", unused)
        db.executemany("DELETE FROM repeated WHERE document = ?", unused)
        db.executemany("DELETE FROM whole WHERE document = ?", unused)
        db.executemany("DELETE FROM packed_blob WHERE digest = ?", unused)
        drop_patterns(db, last)
    if lists:
        drop_versions(db)
    return gone


def drop_versions(db: sqlite3.Connection) -> None:
    """
    Let go of the versions of lists that nothing needs any more: those that later ones are differences to stay.
    """
    while True:
        with transaction(db):
            if not drop_unneeded(db):
                return


def _end_of_batch(db: sqlite3.Connection, *, small: bool) -> int | None:
    """
    The place of the newest record of the oldest batch; `None` where there is no record.

    Args:
        db: of the ledger.
        small: whether it is to be a small part of all records: no more are to go than there must be room.

    """
    ends = []
    full = []
    for table, batch in (("record", _BATCH), ("short", _SHORT_BATCH)):
        first, last = db.execute(
            # One by one: both at once would walk the table.
            f"SELECT (SELECT min(seq) FROM {table}), (SELECT max(seq) FROM {table})"  # noqa: S608 (constants)
        ).fetchone()
        most = max(1, min(batch, ((last or 0) - (first or 0)) // _PART)) if small else batch
        newest, count = db.execute(
            f"SELECT max(seq), count(*) FROM (SELECT seq FROM {table} ORDER BY seq LIMIT ?)",  # noqa: S608 (constants)
            (most,),
        ).fetchone()
        if count == most:
            full.append(newest)
        elif newest is not None:
            ends.append(newest)
    return min(full) if full else max(ends, default=None)


def _count_early(db: sqlite3.Connection, last: int, moment: int) -> None:
    """
    Count the records up to a place that are let go before their time.
    """
    count, newest = db.execute(
        "SELECT count(*), max(kept_at) FROM (SELECT kept_at FROM record WHERE seq <= ?1"
        " UNION ALL SELECT kept_at FROM short WHERE seq <= ?1) WHERE kept_at >= ?2",
        (last, moment),
    ).fetchone()
    if count:
        note_early(db, count, newest)


def _last_before(db: sqlite3.Connection, last: int, moment: int) -> int | None:
    """
    The newest of the batch that was kept before a moment.
    """
    (found,) = db.execute(
        "SELECT max(seq) FROM (SELECT seq, kept_at FROM record WHERE seq <= ?1"
        " UNION ALL SELECT seq, kept_at FROM short WHERE seq <= ?1) WHERE kept_at < ?2",
        (last, moment),
    ).fetchone()
    return None if found is None else int(found)
