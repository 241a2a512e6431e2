"""
Large blobs as they came: written piece by piece so that records hardly wait, read and deleted again piece by piece.

Owns the table `piece`, and when a blob is entered into `waiting` (`cftpki_cache.condensing` turns it into a difference).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from hashlib import sha256

from cftpki_cache.ledger_schema import is_there, newest
from cftpki_cache.ledger_short import octets_of
from cftpki_cache.packing import MAX_CHUNK
from cftpki_cache.sqlite import transaction
from cftpki_cache.versions import MAX_BLOB, DamagedVersionError, whole_version
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets, UnreadableOctetsError

# What is smaller stays as it came for good: an answer of a responder, a certificate, a chain.
LEAST_OCTETS = 16 * 1024
_PIECE_OCTETS = 1024 * 1024
# Pieces between which the write-ahead log is folded in, and how long others are let in between two.
_FOLDED_PIECES = 16
_PAUSE_S = 0.002


class AbandonedError(Exception):
    """
    The blob was let go of meanwhile, or another process writes the same version.
    """


def write_first_form(
    db: sqlite3.Connection, lock: threading.Lock, name: str, raw: bytes | LargeOctets
) -> None:
    """
    Write a blob, each piece in a transaction of its own.

    Args:
        db: a connection without a transaction.
        lock: held for each piece, so that whoever else waits for it has its turn in between.
        name: SHA-256 (hex).
        raw: the octets; of those that are read in parts the digest is compared.

    Raises:
        StoreError: it was let go of while it was written.
        UnreadableOctetsError: the octets are others now.
        sqlite3.Error: the database cannot be written.

    """
    try:
        number = _write_pieces(db, lock, name, raw)
    except UnreadableOctetsError:
        with lock, transaction(db):
            if not is_there(db, name):
                db.execute("DELETE FROM piece WHERE digest = ?", (name,))
        raise
    with lock, transaction(db):
        # Whoever brought it meanwhile, these pieces are to be condensed, or to go.
        wait(db, name)
        if is_there(db, name):
            return
        (count,) = db.execute("SELECT count(*) FROM piece WHERE digest = ?", (name,)).fetchone()
        if count != number:
            msg = f"evidence could not be kept: {name} was let go while it was written"
            raise StoreError(msg)
        db.execute("INSERT INTO blob VALUES (?, x'')", (name,))


def wait(db: sqlite3.Connection, name: str) -> None:
    """
    Note that a blob is to be condensed. Inside a transaction.
    """
    db.execute("INSERT OR IGNORE INTO waiting VALUES (?)", (name,))


def _write_pieces(db: sqlite3.Connection, lock: threading.Lock, name: str, raw: bytes | LargeOctets) -> int:
    """
    Write a blob's pieces; how many they are.
    """
    number = 0
    for number, piece in enumerate(_cut(name, raw), start=1):
        with lock, transaction(db):
            if number == 1:
                # From now on, so that what a kill leaves unfinished goes with the records of its time.
                db.execute(
                    "INSERT INTO blob_use VALUES (?, ?)"
                    " ON CONFLICT (digest) DO UPDATE SET last_use = max(last_use, excluded.last_use)",
                    (name, newest(db)[0]),
                )
            db.execute("INSERT OR REPLACE INTO piece VALUES (?, ?, ?)", (name, number - 1, piece))
        if number % _FOLDED_PIECES == 0:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        time.sleep(_PAUSE_S)  # whoever waits for the lock has it now
    return number


def _cut(name: str, raw: bytes | LargeOctets) -> Iterator[bytes]:
    """
    A blob a megabyte at a time; what comes from a file must be what it is called.
    """
    if not isinstance(raw, LargeOctets):
        for begin in range(0, len(raw), _PIECE_OCTETS):
            yield raw[begin : begin + _PIECE_OCTETS]
        return
    digest = sha256()
    for piece in raw.pieces():
        digest.update(piece)
        yield piece
    if digest.hexdigest() != name:
        msg = f"the octets of {name[:16]} are others now"
        raise UnreadableOctetsError(msg)


def size_of(db: sqlite3.Connection, digest: str) -> int:
    """
    The size of a blob in its first form.

    Raises:
        AbandonedError: there is none.
        DamagedVersionError: it is empty, or larger than any version.

    """
    row = db.execute("SELECT length(raw) FROM blob WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        raise AbandonedError
    (pieces,) = db.execute(
        "SELECT coalesce(sum(length(raw)), 0) FROM piece WHERE digest = ?", (digest,)
    ).fetchone()
    size = int(row[0] or pieces)
    if not 0 < size <= MAX_BLOB:
        raise DamagedVersionError(digest, digest, f"{size} octets are none or too many")
    return size


def pieces_of(db: sqlite3.Connection, digest: str) -> Iterator[bytes]:
    """
    A blob in its first form, a megabyte at a time. No view of the database stays open while others write.

    Raises:
        AbandonedError: it was let go of meanwhile.

    """
    row = db.execute("SELECT rowid, length(raw) FROM blob WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        raise AbandonedError
    rowid, length = row
    for begin in range(0, length, MAX_CHUNK):
        try:
            with db.blobopen("blob", "raw", rowid, readonly=True) as raw:
                raw.seek(begin)
                piece = raw.read(MAX_CHUNK)
        except sqlite3.OperationalError as exc:
            raise AbandonedError from exc
        yield piece
    number = 0
    while not length:
        found = db.execute(
            "SELECT raw FROM piece WHERE digest = ? AND number = ?", (digest, number)
        ).fetchone()
        if found is None:
            return
        yield octets_of(found[0])
        number += 1


def delete_first_form(db: sqlite3.Connection, digest: str) -> Iterator[None]:
    """
    Delete a blob's first form, the last piece first; then it waits for nothing any more.

    Yields:
        After each piece.

    Raises:
        AbandonedError: its version was let go of meanwhile: what is there now came afterwards.

    """
    with transaction(db):
        _need_version(db, digest)
        db.execute("UPDATE blob SET raw = x'' WHERE digest = ? AND length(raw) > 0", (digest,))
    while True:
        with transaction(db):
            _need_version(db, digest)
            (last,) = db.execute("SELECT max(number) FROM piece WHERE digest = ?", (digest,)).fetchone()
            if last is None:
                db.execute("DELETE FROM waiting WHERE digest = ?", (digest,))
                return
            db.execute("DELETE FROM piece WHERE digest = ? AND number = ?", (digest, last))
        yield


def _need_version(db: sqlite3.Connection, digest: str) -> None:
    """
    Make sure that a blob can do without its first form. Inside a transaction.
    """
    if whole_version(db, digest) is None:
        raise AbandonedError


def fill_waiting(db: sqlite3.Connection) -> None:
    """
    Note, once for each ledger, the large blobs that were kept before there were differences.

    Raises:
        sqlite3.Error: the database cannot be written.

    """
    (known,) = db.execute("PRAGMA user_version").fetchone()
    if known:
        return
    with transaction(db):
        db.execute(
            "INSERT OR IGNORE INTO waiting SELECT digest FROM blob WHERE length(raw) >= ?1"
            " OR (length(raw) = 0 AND digest IN (SELECT digest FROM piece WHERE number = 0))",
            (LEAST_OCTETS,),
        )
        db.execute("PRAGMA user_version = 1")
