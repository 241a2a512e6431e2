"""
Documents of records are packed against those they are like, and come back octet by octet, or are told to be changed.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_cache.documents import DOCUMENTS_SCHEMA, DocumentReader, DocumentWriter
from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.evidence import BlobsMissingError, Repeated
from tests.support.ledgers import LARGE, NOON, details, edit, entry, faults, reading

CHANCE = random.Random(4)  # noqa: S311 - no secret
SETTINGS = {CHANCE.randbytes(8).hex(): CHANCE.randbytes(24).hex() for _ in range(60)}


def document(number, settings=SETTINGS):
    return json.dumps({"id": f"{number:032x}", "settings": settings, "serial": number * 7919}).encode()


def record(number, settings=SETTINGS):
    return replace(entry(number), document=document(number, settings))


def query(folder, sql, *values):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        return database.execute(sql, values).fetchall()


def repeat(of, number):
    repeated = Repeated(id=of.id, document=sha256(of.document).hexdigest())
    made = entry(number)
    return replace(made, document=repeated.head(made.id) + b"%d" % number, repeats=repeated)


def test_documents_that_are_alike_take_a_tenth_and_come_back(ledger, folder):
    hashes = [*ledger.append([record(n) for n in range(1, 21)]), *ledger.append((record(21),))]
    assert [(1,)] == query(folder, "SELECT count(*) FROM pattern")
    ((size,),) = query(folder, "SELECT max(length(document)) FROM record")
    assert size * 10 < len(document(1))
    with reading(folder) as reader:
        assert [(document(n), hashes[n - 1]) for n in range(1, 22)] == [
            (found.document, found.hash) for found in reader.since()
        ]
        assert [document(7)] == [found.document for found in reader.find(f"{7:032x}")]
        assert (document(1), document(21)) == tuple(end.document for end in reader.ends())
    assert hashes[4:6] == list(ledger.append((record(5), record(6))))
    assert () == faults(folder)


def test_kinds_of_documents_in_turn_have_a_pattern_each(ledger, folder):
    kinds = [{CHANCE.randbytes(8).hex(): CHANCE.randbytes(24).hex() for _ in range(40)} for _ in range(3)]
    ledger.append([record(n, kinds[n % 3]) for n in range(30)])
    assert [(3,)] == query(folder, "SELECT count(*) FROM pattern")
    assert () == faults(folder)
    with contextlib.closing(EvidenceLedger(folder)) as other:
        other.append([record(n, kinds[n % 3]) for n in range(30, 40)])
    assert [(3,)] == query(folder, "SELECT count(*) FROM pattern")
    with reading(folder) as reader:
        assert [document(n, kinds[n % 3]) for n in range(40)] == [found.document for found in reader.since()]


def test_pattern_stays_for_as_long_as_a_document_needs_it(ledger, folder):
    other = {CHANCE.randbytes(8).hex(): CHANCE.randbytes(24).hex() for _ in range(40)}
    ledger.append([record(1), record(2), record(3, other)])
    assert 1 == ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    assert () == faults(folder)
    assert 1 == ledger.tend(before=NOON + timedelta(hours=3), max_bytes=LARGE)
    assert [(1,)] == query(folder, "SELECT count(*) FROM pattern")
    assert () == faults(folder)
    # Whoever writes finds that it is gone, and makes it anew.
    ledger.append((record(4), record(5)))
    with reading(folder) as reader:
        assert [document(3, other), document(4), document(5)] == [found.document for found in reader.since()]
    assert () == faults(folder)


def test_document_that_is_repeated_stays_packed_and_keeps_its_pattern(ledger, folder):
    ledger.append((record(1), record(2)))
    ledger.append((repeat(record(2), 30), repeat(record(2), 31)))
    assert [(0, 1)] == query(folder, "SELECT sum(length(raw)), count(*) FROM blob")
    ledger.tend(before=NOON + timedelta(hours=30), max_bytes=LARGE)
    name = sha256(document(2)).hexdigest()
    with reading(folder) as reader:
        assert document(2) == reader.blob(name)
        assert 2 == reader.count()
    assert () == faults(folder)
    edit(folder, "UPDATE packed_blob SET stored = substr(stored, 1, 40)")
    assert [f"blob {name} was changed"] == details(folder)
    ledger.tend(before=NOON + timedelta(hours=40), max_bytes=LARGE)
    counts = "SELECT (SELECT count(*) FROM pattern), (SELECT count(*) FROM packed_blob), (SELECT count(*) FROM blob)"
    assert [(0, 0, 0)] == query(folder, counts)


def test_pattern_of_a_transaction_that_failed_is_never_used(ledger, folder):
    missing = replace(entry(9), present=("0" * 64,))
    with pytest.raises(BlobsMissingError):
        ledger.append((record(1), missing))
    other = {CHANCE.randbytes(8).hex(): CHANCE.randbytes(24).hex() for _ in range(40)}
    with contextlib.closing(EvidenceLedger(folder)) as second:
        second.append((record(2, other),))  # has the number that the other one lost
    ledger.append((record(3), record(4, other)))
    with reading(folder) as reader:
        assert [document(2, other), document(3), document(4, other)] == [
            found.document for found in reader.since()
        ]
    assert () == faults(folder)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE pattern SET document = substr(document, 2)",
        "UPDATE pattern SET document = x''",
        "UPDATE pattern SET document = zeroblob(100000000)",
        "DELETE FROM pattern",
        "UPDATE record SET document = substr(document, 1, 20)",
        "UPDATE record SET document = x'01'",
        "UPDATE record SET document = CAST(x'010000000100ffffff' || substr(document, 10) AS BLOB)",
        "UPDATE record SET document = CAST(x'01ffffffffffffffff' || substr(document, 10) AS BLOB)",
        "UPDATE record SET document = CAST(x'0100000000ffffffff' || substr(document, 10) AS BLOB)",
    ],
)
def test_verify_tells_of_documents_that_cannot_be_put_together(ledger, folder, sql):
    ledger.append((record(1), record(2)))
    edit(folder, sql)
    expected = [f"record {n} ({n:032x}) was changed or replaced" for n in (1, 2)]
    assert expected == details(folder)
    with contextlib.suppress(StoreError):
        ledger.append((record(3),))


def test_ledger_of_before_packs_what_comes_from_now_on(ledger, folder):
    ledger.append((entry(1),))
    edit(folder, "UPDATE record SET document = ?", b"document 1")
    for table in ("pattern", "packed_blob"):
        edit(folder, f"DROP TABLE {table}")
    assert () == faults(folder)
    with contextlib.closing(EvidenceLedger(folder)) as newer:
        newer.append((record(2), record(3)))
    with reading(folder) as reader:
        assert [b"document 1", document(2), document(3)] == [found.document for found in reader.since()]
    assert () == faults(folder)


@given(st.lists(st.binary(max_size=2000) | st.binary(max_size=20).map(lambda raw: b"\x01" + raw), max_size=6))
def test_any_documents_come_back(documents):
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DOCUMENTS_SCHEMA)
        writer = DocumentWriter(db)
        stored = [writer.stored(one, seq) for seq, one in enumerate(documents, start=1)]
        assert documents == [DocumentReader(db).document(one) for one in stored]


@given(st.binary(max_size=60))
def test_any_stored_octets_are_some_document(stored):
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(DOCUMENTS_SCHEMA)
        db.execute("INSERT INTO pattern VALUES (1, 1, ?)", (document(1),))
        for one in (stored, b"\x01\0\0\0\x01" + stored):
            assert isinstance(DocumentReader(db).document(one), bytes)
