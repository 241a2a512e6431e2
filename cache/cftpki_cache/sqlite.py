"""
The one way in which the stores of this package open and write their own SQLite databases.

Owns the folder's and the file's modes, the waiting for other processes, and transactions. Knows no tables.
"""

from __future__ import annotations

import contextlib
import os
import resource
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

    Who only reads, and can write no file at all, reads a database that nobody has open as it is: SQLite would want to make
    the index of a log that there is not. Somebody who begins to write meanwhile may make that reading fail: whoever reads so
    does it for seconds, and again.

    Raises:
        sqlite3.Error: it cannot be opened.

    """
    address = f"{path.absolute().as_uri()}?mode=ro" if read_only else path
    if read_only and _can_write_nothing(path) and not _is_open(path):
        address = f"{address}&immutable=1"
    return sqlite3.connect(
        address,
        uri=read_only,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )


def _can_write_nothing(path: Path) -> bool:
    """
    Whether this process may write no file there: by its limits, or by the file system.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return soft == 0 or not os.access(path.parent, os.W_OK)


def _is_open(path: Path) -> bool:
    """
    Whether somebody has a database open, or has left a log that belongs to it.
    """
    for ending in ("-shm", "-wal"):
        with contextlib.suppress(OSError):
            if path.with_name(path.name + ending).stat().st_size > 0:
                return True
    return False


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
