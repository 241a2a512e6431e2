"""
Copies of an evidence ledger: made whole while it is written, and named where one was made without its write-ahead log.

Owns what a copy consists of: of each ledger one database without a log, and the small files beside it that say how it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cftpki_cache.ledger_schema import DATABASE, HEAD, chain_start, newest
from cftpki_cache.ledger_short import octets_of
from cftpki_cache.sqlite import connect
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.support.files import read_regular

# Four megabytes at a time: between two of them the caller is told how far it is.
_PAGES = 1024
_HEAD_OCTETS = 256
# Heads are lines of text.
_SMALL_OCTETS = 1024 * 1024
_LOG_SUFFIX = "-wal"
_NO_TABLE = "no such table"


def back_up(folder: Path, to: Path, progress: Callable[[int, int], None] = lambda *_: None) -> None:
    """
    Copy a ledger, whether or not somebody writes it meanwhile: as it is at one moment, and whole.

    Whether the ledger itself is whole is *not* looked at: the copy has its faults, too.

    Args:
        folder: of the ledger.
        to: the copy's folder, which is made and must not be there yet.
        progress: told how many pages were copied, of how many.

    Raises:
        InputError: the copy's folder is there already, or cannot be made.
        StoreError: the ledger cannot be read, or the copy not be written.

    """
    if not (folder / DATABASE).exists():
        msg = f"no evidence in {folder}: nothing was kept yet, or the state directory is another"
        raise StoreError(msg)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.mkdir(mode=0o700)
    except FileExistsError as exc:
        msg = f"{printable(str(to))} is there already: name a new directory"
        raise InputError(msg) from exc
    except OSError as exc:
        msg = f"{printable(str(to))}: {(exc.strerror or str(exc)).lower()}"
        raise InputError(msg) from exc
    try:
        # First what says how a ledger ends: a head that lags behind its records is no fault, one that leads would be.
        beside = {to.with_name(f"{to.name}.{HEAD}"): folder.with_name(f"{folder.name}.{HEAD}")}
        _copy_small(beside | _small_files(folder, to))
        for sub in sorted(one for one in folder.iterdir() if (one / DATABASE).is_file()):
            (to / sub.name).mkdir(mode=0o700)
            _copy_small(_small_files(sub, to / sub.name))
            _copy(sub / DATABASE, to / sub.name / DATABASE, progress)
            _sync(to / sub.name)
        _copy(folder / DATABASE, to / DATABASE, progress)
        _sync(to)
        _sync(to.parent)
    except (OSError, sqlite3.Error, InputError) as exc:
        msg = f"evidence ledger in {folder} cannot be copied to {to}: {printable(str(exc))}"
        raise StoreError(msg) from exc


def _small_files(folder: Path, to: Path) -> dict[Path, Path]:
    """
    What a ledger has beside its database, and where that goes.
    """
    return {
        to / one.name: one
        for one in folder.iterdir()
        if one.is_file() and not one.is_symlink() and not one.name.startswith(DATABASE)
    }


def _copy_small(files: Mapping[Path, Path]) -> None:
    for target, source in files.items():
        if source.exists():
            _write(target, read_regular(source, cap=_SMALL_OCTETS, what="evidence").data)


def _copy(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(connect(source, read_only=True)) as old,
        contextlib.closing(connect(target)) as new,
    ):
        # One view for all steps: SQLite would begin anew whenever somebody else has written in between.
        old.execute("BEGIN")
        old.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        old.backup(new, pages=_PAGES, progress=lambda _, remaining, total: progress(total - remaining, total))
        old.execute("ROLLBACK")
        # What is one file can be copied on without thinking of a second one. Whoever writes it makes it a log's again.
        new.execute("PRAGMA journal_mode = DELETE")


def _write(path: Path, octets: bytes) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "wb") as stream:
        stream.write(octets)
        stream.flush()
        os.fsync(number)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def copied_without_log(folder: Path) -> str | None:
    """
    Whether a ledger lacks its end because its write-ahead log was left behind when it was copied.

    Args:
        folder: of the ledger. Asked before anybody opens the database, who may make an empty log.

    Returns:
        One line that says what is missing and how a whole copy is made; `None` where nothing is missing, or it is missing for
        another reason. What cannot be read is left to whoever reads it.

    """
    path = folder / DATABASE
    log = path.with_name(path.name + _LOG_SUFFIX)
    head = _head_line(folder)
    found = None if head is None else re.match(rb"(\d{20}) ", head)
    try:
        if found is None or not path.exists() or (log.exists() and log.stat().st_size > 0):
            return None
        with contextlib.closing(connect(path, read_only=True)) as db:
            last, _ = newest(db)
    except sqlite3.OperationalError as exc:
        if _NO_TABLE not in str(exc):
            return None
        last = 0
    except (OSError, sqlite3.Error, TypeError, ValueError):
        return None
    if found is None or last >= int(found[1]):
        return None
    return (
        f"{printable(str(folder))} has no {log.name}, and records {last + 1} to {int(found[1])} are missing: a copy of {path.name}"
        f" alone lacks what was written last; copy it by cftpki audit backup, or with {log.name}"
    )


def _head_line(folder: Path) -> bytes | None:
    try:
        return read_regular(folder / HEAD, cap=_HEAD_OCTETS, what="head of the evidence").data
    except (InputError, OSError):
        return None


def end_of(folder: Path) -> tuple[int, str]:
    """
    Place and hash (hex) of the newest record of a ledger, or of the last that it let go of; 0 where it never had one.

    Raises:
        StoreError: it cannot be read.

    """
    with _reading(folder) as db:
        seq, digest = newest(db)
        return seq, digest.hex()


def start_of(folder: Path) -> int:
    """
    Place of the newest record that a ledger has let go of; 0 where it has all.

    Raises:
        StoreError: it cannot be read.

    """
    with _reading(folder) as db:
        return chain_start(db)[0]


def not_joined(older: Path, newer: Path) -> str | None:
    """
    Whether a ledger goes on where a copy of an earlier time ends, or before: between the two nothing is missing.

    Args:
        older: folder of the copy.
        newer: folder of the ledger, or of a later copy.

    Returns:
        Why not, in one line; `None` where they belong together.

    Raises:
        StoreError: one of them cannot be read.

    """
    with _reading(newer) as db:
        start, digest = chain_start(db)
    if start == 0:
        return None
    with _reading(older) as db:
        first, _ = chain_start(db)
        last, _ = newest(db)
        row = db.execute(
            "SELECT hash FROM record WHERE seq = ?1 UNION ALL SELECT hash FROM short WHERE seq = ?1", (start,)
        ).fetchone()
    if last < start:
        return f"records {last + 1} to {start} are in neither {older} nor {newer}"
    if row is None or octets_of(row[0]) != digest:
        return f"record {start}, which {newer} follows, is another one in {older}, which has {first + 1} to {last}"
    return None


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(connect(folder / DATABASE, read_only=True)) as db:
            yield db
    except (sqlite3.Error, TypeError, ValueError) as exc:
        msg = f"evidence ledger in {folder} cannot be read: {printable(str(exc))}"
        raise StoreError(msg) from exc
