"""
How far back the evidence ledger reaches, and how fast it grows: a sample each hour.

Owns the tables `growth` and `counter`. Large blobs that wait to be condensed are left out: in a minute they take a
hundredth of it.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from cftpki_cache.ledger_schema import used_bytes
from cftpki_cache.sqlite import transaction
from cftpki_ext.ports.evidence import Reach

_LET_GO = "let_go_bytes"
_EARLY, _EARLY_NEWEST = "let_go_early", "let_go_early_newest"
_HOUR_S = 3600
# Transfers follow the week. A sample that is as old as this is what growth is measured from.
_WINDOW_HOURS = 7 * 24


def note_let_go(db: sqlite3.Connection, count: int) -> None:
    """
    Add to the bytes that were ever let go of.
    """
    if count > 0:
        db.execute(
            "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (_LET_GO, count),
        )


def note_early(db: sqlite3.Connection, count: int, newest: int) -> None:
    """
    Add to the records that were let go before they were as old as they were to be kept. Inside a transaction.

    Args:
        db: of the ledger.
        count: how many.
        newest: when the youngest was kept, seconds since 1970.

    """
    db.execute(
        "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (_EARLY, count),
    )
    db.execute(
        "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        (_EARLY_NEWEST, newest),
    )


def early(db: sqlite3.Connection) -> tuple[int, datetime | None]:
    """
    How many records were let go before their time, ever, and when the youngest of them was kept.
    """
    rows = dict(
        db.execute("SELECT name, value FROM counter WHERE name IN (?, ?)", (_EARLY, _EARLY_NEWEST)).fetchall()
    )
    newest = rows.get(_EARLY_NEWEST)
    return int(rows.get(_EARLY, 0)), None if newest is None else datetime.fromtimestamp(newest, UTC)


def look(db: sqlite3.Connection, now: datetime) -> Reach:
    """
    Look how far back the ledger reaches, and keep a sample where this hour has none.

    Args:
        db: a connection without a transaction.
        now: the time.

    Returns:
        What was found.

    """
    hour = int(now.astimezone(UTC).timestamp()) // _HOUR_S
    with transaction(db):
        used = used_bytes(db)
        (waiting,) = db.execute("SELECT coalesce(sum(length(raw)), 0) FROM piece").fetchone()
        row = db.execute("SELECT value FROM counter WHERE name = ?", (_LET_GO,)).fetchone()
        total = used - waiting + (0 if row is None else row[0])
        # A clock that was set back leaves samples of a time that has not come.
        db.execute("DELETE FROM growth WHERE hour > ? OR hour < ?", (hour, hour - _WINDOW_HOURS))
        db.execute("INSERT OR IGNORE INTO growth VALUES (?, ?)", (hour, total))
        first, then = db.execute("SELECT hour, total FROM growth ORDER BY hour LIMIT 1").fetchone()
        oldest = [
            found[0]
            for table in ("record", "short")
            if (found := db.execute(f"SELECT kept_at FROM {table} ORDER BY seq LIMIT 1").fetchone())  # noqa: S608 (constants)
        ]
    count, youngest = early(db)
    return Reach(
        oldest=datetime.fromtimestamp(min(oldest), UTC) if oldest else None,
        used_bytes=used,
        measured_hours=hour - first,
        grown_bytes=max(0, total - then),
        early=count,
        early_newest=youngest,
    )
