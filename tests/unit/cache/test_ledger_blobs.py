"""
What a ledger keeps besides plain records: those that repeat another one, and lists of many megabytes in pieces.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports import BlobsMissingError, Repeated
from tests.support.ledgers import DIGEST, LARGE, NOON, RAW, details, edit, entry, faults, fill, reading

# -- records that repeat another one ---------------------------------------------------------------------------------


BASE = entry(1, blobs={DIGEST: RAW})
REPEATED = Repeated(id=BASE.id, document=sha256(BASE.document).hexdigest())


def repeat(number):
    return replace(entry(number), repeats=REPEATED)


def test_repeated_record_is_kept_with_its_blobs_for_as_long_as_it_is_repeated(ledger, folder):
    ledger.append((BASE, repeat(5)))
    ledger.append((repeat(6), entry(7)))
    assert 2 == ledger.tend(before=NOON + timedelta(hours=6), max_bytes=LARGE)
    with reading(folder) as reader:
        assert (BASE.document, RAW) == (reader.blob(REPEATED.document), reader.blob(DIGEST))
    assert () == faults(folder)
    assert 1 == ledger.tend(before=NOON + timedelta(hours=7), max_bytes=LARGE)
    with reading(folder) as reader:
        assert (None, None) == (reader.blob(REPEATED.document), reader.blob(DIGEST))
    assert () == faults(folder)
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        assert [(0,)] == database.execute("SELECT count(*) FROM repeated").fetchall()


def test_repeated_record_is_kept_once(ledger, folder):
    ledger.append((BASE,))
    ledger.append([repeat(number) for number in range(2, 50)])
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        assert [(2,)] == database.execute("SELECT count(*) FROM blob").fetchall()
        assert [(48,)] == database.execute(
            "SELECT count(*) FROM record WHERE blobs = ?", (REPEATED.document,)
        ).fetchall()
    assert () == faults(folder)


@pytest.mark.parametrize(
    "repeated", [Repeated(id="f" * 32, document=REPEATED.document), replace(REPEATED, document="0" * 64)]
)
def test_record_that_repeats_what_is_not_there_keeps_nothing_of_its_batch(ledger, folder, repeated):
    ledger.append((BASE,))
    with pytest.raises(BlobsMissingError) as caught:
        ledger.append((entry(2), replace(entry(3), repeats=repeated)))
    assert (repeated.document,) == caught.value.digests
    with reading(folder) as reader:
        assert [BASE.id] == [found.id for found in reader.since()]


def test_repeated_record_that_was_let_go_before_it_was_repeated_cannot_be(ledger):
    ledger.append((BASE, entry(2)))
    assert 1 == ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    with pytest.raises(BlobsMissingError):
        ledger.append((repeat(3),))


def test_record_that_repeats_kept_again_gives_the_hash_that_it_has(ledger, folder):
    first = ledger.append((BASE, repeat(2)))
    assert first == ledger.append((BASE, repeat(2)))
    assert () == faults(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (DIGEST, f"blob {DIGEST} of the repeated record {REPEATED.document} is gone"),
        (REPEATED.document, f"blob {REPEATED.document} of record 2 is gone"),
    ],
)
def test_verify_tells_what_is_gone_of_a_repeated_record(ledger, folder, name, said):
    ledger.append((BASE, repeat(5)))
    ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    edit(folder, "DELETE FROM blob WHERE digest = ?", name)
    assert [said] == details(folder)


def test_verify_reads_a_ledger_that_knew_no_repeated_records(ledger, folder):
    fill(ledger)
    ledger.close()
    edit(folder, "DROP TABLE repeated")
    assert () == faults(folder)
    with contextlib.closing(EvidenceLedger(folder)) as again:
        again.append((replace(BASE, id="c" * 32), replace(repeat(9), repeats=replace(REPEATED, id="c" * 32))))
    assert () == faults(folder)


# -- large blobs -----------------------------------------------------------------------------------------------------

LIST = random.Random(1).randbytes(3_300_000)  # noqa: S311 - four pieces, no secret
LIST_DIGEST = sha256(LIST).hexdigest()


def test_large_blob_is_brought_in_pieces_and_read_whole(ledger, folder):
    ledger.bring({LIST_DIGEST: LIST})
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        assert [(4,)] == database.execute("SELECT count(*) FROM piece").fetchall()
        assert [(0,)] == database.execute("SELECT length(raw) FROM blob").fetchall()
    with reading(folder) as reader:
        assert LIST == reader.blob(LIST_DIGEST)
    assert () == faults(folder)


def test_large_blob_goes_with_the_last_record_that_names_it(ledger, folder):
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(1), present=(LIST_DIGEST,)), entry(2)))
    assert 1 == ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    with reading(folder) as reader:
        assert None is reader.blob(LIST_DIGEST)
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        assert [(0,)] == database.execute("SELECT count(*) FROM piece").fetchall()


def test_record_that_names_a_large_blob_of_which_only_pieces_are_there_is_not_kept(ledger, folder):
    ledger.bring({LIST_DIGEST: LIST})
    edit(folder, "DELETE FROM blob")
    with pytest.raises(BlobsMissingError):
        ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    assert () == faults(folder)


def count_of(folder, table):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


class KilledError(Exception):
    pass


def bring_until(ledger, monkeypatch, pieces, then):
    """
    Bring a list; after some pieces something else happens.
    """
    pauses = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr("cftpki_cache.ledger.time.sleep", lambda _: next(pauses) == pieces and then())
        ledger.bring({LIST_DIGEST: LIST})


def kill():
    raise KilledError


def test_pieces_of_a_list_whose_bringing_was_killed_go_with_the_records_of_their_time(
    ledger, folder, monkeypatch
):
    ledger.append((entry(1),))
    with pytest.raises(KilledError):
        bring_until(ledger, monkeypatch, 2, kill)
    assert 2 == count_of(folder, "piece")
    ledger.append((entry(2),))
    assert 1 == ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    assert (0, 0) == (count_of(folder, "piece"), count_of(folder, "blob_use"))
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(3), present=(LIST_DIGEST,)),))
    assert () == faults(folder)


def test_pieces_that_were_let_go_while_a_list_was_brought_make_no_list(ledger, folder, monkeypatch):
    def let_all_go():
        assert 1 == ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)

    ledger.append((entry(1),))
    with pytest.raises(StoreError):
        bring_until(ledger, monkeypatch, 2, let_all_go)
    with pytest.raises(BlobsMissingError):
        ledger.append((replace(entry(3), present=(LIST_DIGEST,)),))
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(3), present=(LIST_DIGEST,)),))
    assert () == faults(folder)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM piece WHERE number = 2",
        "UPDATE piece SET raw = x'00' WHERE number = 0",
        "UPDATE piece SET number = 9 WHERE number = 1",
    ],
)
def test_verify_tells_that_a_piece_was_changed(ledger, folder, sql):
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    edit(folder, sql)
    assert [f"blob {LIST_DIGEST} was changed"] == details(folder)


def test_records_are_appended_while_a_large_blob_is_brought(ledger, folder):
    with ThreadPoolExecutor(1) as thread:
        bringing = thread.submit(ledger.bring, {sha256(LIST * 8).hexdigest(): LIST * 8})
        count = 0
        while not bringing.done() or count == 0:
            count += 1
            ledger.append((entry(count),))
        bringing.result()
    with reading(folder) as reader:
        assert count == reader.count()
    assert count > 1
    assert () == faults(folder)


# -- the write-ahead log ---------------------------------------------------------------------------------------------


def test_log_is_folded_in_by_a_thread_once_much_has_been_written(ledger, folder):
    chance = random.Random(2)  # noqa: S311 - no secret
    database = folder / "ledger.sqlite3"
    for number in range(12):
        raw = chance.randbytes(1024 * 1024)
        ledger.append((entry(number, blobs={sha256(raw).hexdigest(): raw}),))
    threads = [one for one in threading.enumerate() if one.name == "evidence-log"]
    for thread in threads:
        thread.join(10)
    # Eight megabytes and more have left the log while the ledger is open.
    assert database.stat().st_size > 8 * 1024 * 1024
    ledger.append((entry(99),))
    assert () == faults(folder)


def test_log_of_few_records_is_left_alone(ledger, folder):
    fill(ledger)
    assert [] == [one for one in threading.enumerate() if one.name == "evidence-log"]
    assert (folder / "ledger.sqlite3").stat().st_size < 1024 * 1024
    assert () == faults(folder)
