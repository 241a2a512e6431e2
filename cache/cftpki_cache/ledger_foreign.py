"""
Ledgers that come from elsewhere: a database is a program, unless it is made sure that it is none.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cftpki_ext.core.errors import StoreError


def refuse_programs(db: sqlite3.Connection, folder: Path) -> None:
    """
    Make sure that a database is tables and nothing that runs: a view could go on for ever, and a computed column fill memory.

    Raises:
        StoreError: it has something else.
        sqlite3.Error: it cannot be read.

    """
    db.execute("PRAGMA trusted_schema = OFF")
    other = db.execute(
        "SELECT 1 FROM sqlite_schema AS one WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%'"
        " OR EXISTS (SELECT 1 FROM pragma_table_xinfo(one.name) WHERE one.type = 'table' AND hidden <> 0) LIMIT 1"
    ).fetchone()
    if other is not None:
        db.close()
        msg = f"evidence ledger in {folder} is none of ours: it holds more than tables"
        raise StoreError(msg)
