"""
Records that are not let go though their time has come: a legal hold, or an archive that does not have them yet.

A chain of hashes loses its beginning and nothing else, so a hold keeps everything from its first record on. Owns one table,
which a ledger has since its first hold. That a hold was laid is a record of the chain besides (`ports.EvidenceEntry`).
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from cftpki_cache.ledger_blobs import has_table
from cftpki_cache.ledger_schema import chain_start, newest
from cftpki_ext.core.values import dataclass

# `broken` counts records that went for want of room though they were held, `told` how many of them were told of.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS hold (name TEXT PRIMARY KEY, first INTEGER NOT NULL, since INTEGER NOT NULL,"
    " reason TEXT NOT NULL, broken INTEGER NOT NULL, told INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
_FIRST_SINCE = "SELECT min(seq) FROM (SELECT seq FROM record WHERE kept_at >= ?1 UNION ALL SELECT seq FROM short WHERE kept_at >= ?1)"
_COUNT = "SELECT count(*) FROM {} WHERE seq BETWEEN ? AND ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """
    What is held: everything from a record on. `broken` records of it went for want of room.
    """

    name: str
    first: int
    since: datetime
    reason: str
    broken: int


def lay(db: sqlite3.Connection, name: str, *, since: datetime, first: int | None = None, reason: str) -> Hold:
    """
    Hold everything from a time on, or from a record on. Inside a transaction.

    Args:
        db: of the ledger.
        name: of the hold; one of the same name is replaced.
        since: when what is to be held was kept; what is yet to come is held, too.
        first: the first record that is held, where it is known better than by a time.
        reason: for whoever asks later.

    Returns:
        The hold.

    """
    db.execute(_SCHEMA)
    moment = int(since.astimezone(UTC).timestamp())
    if first is None:
        (found,) = db.execute(_FIRST_SINCE, (moment,)).fetchone()
        first = newest(db)[0] + 1 if found is None else int(found)
    db.execute(
        "INSERT INTO hold VALUES (?, ?, ?, ?, 0, 0) ON CONFLICT (name) DO UPDATE SET"
        " first = excluded.first, since = excluded.since, reason = excluded.reason",
        (name, first, moment, reason),
    )
    return next(one for one in holds(db) if one.name == name)


def lift(db: sqlite3.Connection, name: str) -> bool:
    """
    Let what a hold held go with its time again. Inside a transaction.

    Returns:
        Whether there was such a hold.

    """
    return has_table(db, "hold") and db.execute("DELETE FROM hold WHERE name = ?", (name,)).rowcount > 0


def holds(db: sqlite3.Connection) -> tuple[Hold, ...]:
    """
    All holds, by name.
    """
    if not has_table(db, "hold"):
        return ()
    return tuple(
        Hold(name=name, first=first, since=datetime.fromtimestamp(since, UTC), reason=reason, broken=broken)
        for name, first, since, reason, broken in db.execute(
            "SELECT name, first, since, reason, broken FROM hold ORDER BY name"
        )
    )


def not_held(db: sqlite3.Connection, last: int) -> int | None:
    """
    How far records may go by age.

    Args:
        db: of the ledger.
        last: the newest record that would go.

    Returns:
        The newest that goes; `None` where none may.

    """
    if not has_table(db, "hold"):
        return last
    (first,) = db.execute("SELECT min(first) FROM hold").fetchone()
    last = last if first is None else min(last, int(first) - 1)
    return last if last > chain_start(db)[0] else None


def note_broken(db: sqlite3.Connection, last: int) -> None:
    """
    Count the records that go for want of room though they are held. Inside the transaction in which they go.

    Args:
        db: of the ledger.
        last: the newest of them.

    """
    if not has_table(db, "hold"):
        return
    for name, first in db.execute("SELECT name, first FROM hold WHERE first <= ?", (last,)).fetchall():
        count = sum(
            db.execute(_COUNT.format(table), (first, last)).fetchone()[0] for table in ("record", "short")
        )
        db.execute("UPDATE hold SET broken = broken + ?, first = ? WHERE name = ?", (count, last + 1, name))


def newly_broken(db: sqlite3.Connection) -> str | None:
    """
    Say once of which holds records went. Inside a transaction.

    Returns:
        One line; `None` where nothing went since it was last asked.

    """
    if not has_table(db, "hold"):
        return None
    found = db.execute("SELECT name, broken - told FROM hold WHERE broken > told ORDER BY name").fetchall()
    if not found:
        return None
    db.execute("UPDATE hold SET told = broken")
    parts = ", ".join(f"{count} under {name!r}" for name, count in found)
    return f"records that are held were let go for want of room: {parts}; raise evidence.max_size"
