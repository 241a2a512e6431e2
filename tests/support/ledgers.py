"""
A ledger for tests: records to keep, and what is found in it or done to it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cftpki_cache.documents import DocumentReader
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_ext.ports.evidence import EvidenceEntry

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RAW = b"a response" * 20
DIGEST = sha256(RAW).hexdigest()
LARGE = 10**9


def entry(number, *, blobs=None, at=None):
    return EvidenceEntry(
        id=f"{number:032x}",
        kept_at=at or NOON + timedelta(hours=number),
        document=b"document %d" % number,
        blobs=blobs or {},
    )


def fill(ledger, count=5, first=0):
    for number in range(first, first + count):
        ledger.append((entry(number, blobs={DIGEST: RAW} if number % 2 else {}),))


@contextlib.contextmanager
def reading(folder):
    with contextlib.closing(LedgerReader(folder)) as reader:
        yield reader


def faults(folder):
    with reading(folder) as reader:
        return reader.verify()


def details(folder):
    return [fault.detail for fault in faults(folder)]


def edit(folder, sql, *values):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)) as database:
        database.execute(sql, values)


def rewrite(folder, old, new, *, record_id=None):
    """
    Replace octets in documents of records, of one or of all, as somebody would who may write the file.
    """
    with (
        contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database,
        database,
    ):
        reader = DocumentReader(database)
        for seq, name, stored in database.execute("SELECT seq, id, document FROM record").fetchall():
            if record_id in {None, name}:
                document = reader.document(stored)
                assert old in document
                database.execute(
                    "UPDATE record SET document = ? WHERE seq = ?", (document.replace(old, new), seq)
                )
