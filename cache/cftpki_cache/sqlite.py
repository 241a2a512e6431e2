"""
The one way in which the stores of this package open and write their own SQLite databases.

Owns the folder's and the file's modes, the waiting for other processes, and transactions. Knows no tables.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

# Connections that must not be closed: Python cannot close one without its log before 3.12.
_held: list[sqlite3.Connection] = []
# How long a writer waits for another process's transaction before what it brings counts as not kept.
BUSY_MS = 2000


def create(path: Path, schema: str, *, synchronous: str) -> sqlite3.Connection:
    """
    Open a database for writing, with its folder and tables; it is a write-ahead log's (WAL).

    Args:
        path: of the database; its folder is made with mode 0700 where it does not exist, itself it has mode 0600.
        schema: statements that change nothing where they were run before.
        synchronous: SQLite's pragma: NORMAL outlives a kill, FULL a power cut, too.

    Returns:
        A connection for any thread, one at a time; transactions are the caller's to begin.

    Raises:
        OSError: the folder or file cannot be used.
        sqlite3.Error: the database cannot be used.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = connect(path)
    try:
        path.chmod(0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.executescript(schema)
    except (OSError, sqlite3.Error):
        db.close()
        raise
    return db


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """
    One more connection to a database; transactions are the caller's to begin.

    Raises:
        sqlite3.Error: it cannot be opened.

    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro" if read_only else path,
        uri=read_only,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )


def abandon(db: sqlite3.Connection) -> None:
    """
    Let go of a database whose files were taken away, or replaced, and leave alone what is at their paths now.

    Closing it would delete the write-ahead log there.
    """
    if sys.version_info >= (3, 12):
        with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed already
            db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)  # noqa: FBT003 - the library's signature
        db.close()
    else:
        _held.append(db)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """
    A writing transaction: committed, or rolled back where anything is raised.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled it back already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
