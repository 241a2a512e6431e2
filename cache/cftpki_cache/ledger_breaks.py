"""
How a break of a ledger is kept for good.

In the table `breach`, which outlives the records, and in the file `breaks`, which outlives the database; in the chain it is
a note as well (`cftpki_cache.ledger_appending`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from cftpki_cache.ledger_short import octets_of
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.ledger_notes import MAX_NOTE_BYTES, Break, note_from
from cftpki_ext.support.files import read_regular

BREAKS = "breaks"
# Some hundred bytes each. Who makes more of them has been noticed.
MOST_BREAKS = 512
_OCTETS = 1024 * 1024


def reconcile(db: sqlite3.Connection, folder: Path) -> tuple[Break, ...]:
    """
    Have every break that the database or the file knows known to both. Inside a transaction.

    Args:
        db: the ledger.
        folder: of it.

    Returns:
        All of them, the oldest first.

    Raises:
        OSError: the file cannot be written.

    """
    there, written = breaks_in(db), breaks_beside(folder)
    known = {one.id for one in there}
    for one in written:
        if one.id not in known:
            insert_break(db, one)
    lacking = [one for one in there if one.id not in {other.id for other in written}]
    if lacking:
        append_breaks(folder, lacking)
    return merged(there, written)


def merged(*found: tuple[Break, ...]) -> tuple[Break, ...]:
    """
    Breaks of several places, each once, the oldest first.
    """
    once = {one.id: one for part in found for one in part}
    return tuple(sorted(once.values(), key=lambda one: (one.noticed_at, one.id)))


def breaks_in(db: sqlite3.Connection) -> tuple[Break, ...]:
    """
    The breaks that a database knows.
    """
    rows = db.execute(
        "SELECT document FROM breach WHERE length(document) <= ? ORDER BY id LIMIT ?",
        (MAX_NOTE_BYTES, MOST_BREAKS),
    ).fetchall()
    return tuple(_breaks(octets_of(document) for (document,) in rows))


def breaks_beside(folder: Path) -> tuple[Break, ...]:
    """
    The breaks that the file beside a database knows; none where there is none, or it cannot be read.
    """
    try:
        octets = read_regular(folder / BREAKS, cap=_OCTETS, what="breaks of the evidence").data
    except (InputError, OSError):
        return ()
    return tuple(_breaks(octets.splitlines()[:MOST_BREAKS]))


def append_breaks(folder: Path, breaks: list[Break]) -> None:
    """
    Write breaks to the file beside the database, on the disk when this returns.

    Raises:
        OSError: it cannot be written.

    """
    octets = b"".join(one.document() + b"\n" for one in breaks)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    number = os.open(folder / BREAKS, flags, 0o600)
    try:
        if os.fstat(number).st_size + len(octets) <= _OCTETS:
            os.write(number, octets)
            os.fsync(number)
    finally:
        os.close(number)


def insert_break(db: sqlite3.Connection, found: Break) -> None:
    """
    Enter a break into the table, while there is room. Inside a transaction.
    """
    (count,) = db.execute("SELECT count(*) FROM breach").fetchone()
    if count < MOST_BREAKS:
        db.execute("INSERT OR IGNORE INTO breach VALUES (?, ?)", (found.id, found.document()))


def _breaks(documents: Iterable[bytes]) -> Iterator[Break]:
    for document in documents:
        with contextlib.suppress(ValueError):
            note = note_from(document)
            if isinstance(note, Break):
                yield note
