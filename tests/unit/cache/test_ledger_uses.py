"""
Up to which record a blob is named: noted ahead where it is named again and again, and never less than it is.
"""

import contextlib
import sqlite3
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.evidence import Repeated
from tests.support.ledgers import DIGEST, LARGE, NOON, RAW, entry, faults, reading

BASE = entry(1, blobs={DIGEST: RAW})
REPEATED = Repeated(id=BASE.id, document=sha256(BASE.document).hexdigest())
# Named often enough that more than one record ahead is noted.
MANY = 200


def repeat(number):
    made = entry(number)
    return replace(made, document=REPEATED.head(made.id) + b"who", repeats=REPEATED)


def noted(folder):
    """
    The newest record, and up to which the repeated document is noted.
    """
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        ((newest,),) = database.execute("SELECT max(seq) FROM short")
        rows = database.execute("SELECT last_use FROM blob_use WHERE digest = ?", (REPEATED.document,))
        return newest, rows.fetchone()[0]


def test_document_that_is_named_again_and_again_is_seldom_noted_and_never_too_little(ledger, folder):
    ledger.append((BASE,))
    found = []
    for number in range(2, MANY):
        ledger.append((repeat(number),))
        found.append(noted(folder))

    assert all(newest <= until <= newest + MANY // 8 for newest, until in found)
    assert len({until for _, until in found}) < MANY // 4
    assert () == faults(folder)


def test_document_that_is_named_a_few_times_is_noted_as_it_is(ledger, folder):
    ledger.append((BASE,))
    for number in range(2, 9):
        ledger.append((repeat(number),))
        assert (number, number) == noted(folder)


def test_two_processes_note_the_greater_of_both(ledger, folder):
    ledger.append((BASE,))
    with contextlib.closing(EvidenceLedger(folder)) as other:
        for number in range(2, MANY, 2):
            ledger.append((repeat(number),))
            other.append((repeat(number + 1),))
            newest, until = noted(folder)
            assert newest <= until


def test_document_is_there_for_each_record_that_names_it_and_goes_some_records_later(ledger, folder):
    ledger.append((BASE,))
    for number in range(2, MANY):
        ledger.append((repeat(number),))
    newest, until = noted(folder)
    ledger.close()
    with contextlib.closing(EvidenceLedger(folder)) as again:
        # All but the last: what it repeats is whole.
        again.tend(before=NOON + timedelta(hours=MANY - 1), max_bytes=LARGE)
        with reading(folder) as reader:
            assert (BASE.document, RAW) == (reader.blob(REPEATED.document), reader.blob(DIGEST))
        assert () == faults(folder)
        again.append([entry(MANY + more) for more in range(until - newest + 1)])
        again.tend(before=NOON + timedelta(hours=2 * MANY), max_bytes=LARGE)
        with reading(folder) as reader:
            assert (None, None) == (reader.blob(REPEATED.document), reader.blob(DIGEST))
    assert () == faults(folder)


def test_what_was_noted_in_a_transaction_that_failed_is_noted_again(ledger, folder):
    ledger.append((BASE,))
    for number in range(2, 20):
        ledger.append((repeat(number),))
    _, until = noted(folder)
    # Enough for another note, and one whose id is another record's, so that none of it is kept.
    with pytest.raises(StoreError):
        ledger.append((*[repeat(number) for number in range(20, 60)], replace(repeat(2), document=b"other")))
    assert (19, until) == noted(folder)
    for number in range(20, 60):
        ledger.append((repeat(number),))
        newest, until = noted(folder)
        assert newest <= until
    assert () == faults(folder)
