"""
What a ledger keeps besides plain records: those that repeat another one, and lists of many megabytes in pieces.

More than 400 lines: one subject with all its cases, over one set of helpers.
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
from cftpki_cache.ledger_schema import link
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.ports.evidence import BlobsMissingError, Repeated
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


class Parts(LargeOctets):
    """
    Octets that are read in parts, as they are now.
    """

    def __init__(self, raw, digest, size=None):
        super().__init__(digest=digest, size=len(raw) if size is None else size)
        self._raw = raw

    def read(self, offset, count):
        return self._raw[offset : offset + count]


def test_list_in_a_file_is_kept_as_it_is_called(ledger, folder):
    ledger.bring({LIST_DIGEST: Parts(LIST, LIST_DIGEST)})
    ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    with reading(folder) as reader:
        assert LIST == reader.blob(LIST_DIGEST)
    assert () == faults(folder)


def test_list_in_a_file_that_comes_with_its_record_is_kept(ledger, folder):
    ledger.append((entry(1, blobs={LIST_DIGEST: Parts(LIST, LIST_DIGEST)}),))
    with reading(folder) as reader:
        assert LIST == reader.blob(LIST_DIGEST)
    assert () == faults(folder)
    with pytest.raises(StoreError, match="could not be kept"):
        ledger.append((entry(2, blobs={"0" * 64: Parts(LIST, "0" * 64)}),))
    assert () == faults(folder)


@pytest.mark.parametrize(
    "octets",
    [
        Parts(LIST[:-1] + b"!", LIST_DIGEST),
        Parts(LIST + b"!", LIST_DIGEST),
        Parts(LIST[:-9], LIST_DIGEST, len(LIST)),
    ],
)
def test_list_in_a_file_that_was_changed_is_not_kept_and_leaves_nothing(ledger, folder, octets):
    with pytest.raises(StoreError, match="could not be kept"):
        ledger.bring({LIST_DIGEST: octets})
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        assert [(0, 0)] == database.execute(
            "SELECT (SELECT count(*) FROM piece), (SELECT count(*) FROM blob)"
        ).fetchall()
    with pytest.raises(BlobsMissingError):
        ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    ledger.bring({LIST_DIGEST: LIST})
    ledger.append((replace(entry(1), present=(LIST_DIGEST,)),))
    assert () == faults(folder)


def bring_until(ledger, monkeypatch, pieces, then):
    """
    Bring a list; after some pieces something else happens.
    """
    pauses = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr("cftpki_cache.first_form.time.sleep", lambda _: next(pauses) == pieces and then())
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


# -- short records ---------------------------------------------------------------------------------------------------


def short(number, *, at=None):
    made = entry(number, at=at)
    return replace(made, document=REPEATED.head(made.id) + b"who %d" % number, repeats=REPEATED)


def tables(folder):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        return tuple(
            database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
            for name in ("record", "short", "whole")
        )


@pytest.mark.parametrize("form", ["short", "json"])
@pytest.mark.parametrize("size", [100, 2000], ids=["as it is", "packed"])
def test_verify_tells_what_is_gone_of_a_repeated_record_although_all_traces_are(ledger, folder, form, size):
    named = b'{"question":{"chain":[{"$sha256":"%s"}],"more":"%s"}}' % (DIGEST.encode(), b"x" * size)
    base = replace(BASE, document=named)
    repeated = Repeated(id=base.id, document=sha256(named).hexdigest())
    made = entry(5)
    head = repeated.head(made.id) if form == "short" else b'{"again":"%s",' % repeated.document.encode()
    ledger.append((base, replace(made, document=head + b"who", repeats=repeated)))
    ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    assert [] == details(folder)
    edit(folder, "DELETE FROM blob WHERE digest = ?", DIGEST)
    edit(folder, "DELETE FROM repeated WHERE digest = ?", DIGEST)
    assert [f"blob {DIGEST} of the repeated record {repeated.document} is gone"] == details(folder)


def test_short_records_have_their_place_in_the_one_chain(ledger, folder):
    entries = (BASE, short(2), entry(3), short(4), short(5), entry(6))
    hashes = [*ledger.append(entries[:3]), *ledger.append(entries[3:])]
    assert (3, 3, 1) == tables(folder)
    with reading(folder) as reader:
        assert [(n, one.id, one.document) for n, one in enumerate(entries, start=1)] == [
            (found.seq, found.id, found.document) for found in reader.since()
        ]
        assert hashes == [found.hash for found in reader.since()]
        assert [4, 5, 6] == [found.seq for found in reader.since(NOON + timedelta(hours=4))]
        assert 6 == reader.count()
        assert (1, 6) == tuple(end.seq for end in reader.ends())
        assert [short(4).document] == [found.document for found in reader.find(short(4).id)]
        assert 2 == len(reader.find("0" * 31))
        assert () == reader.find("g" * 8)
    assert () == faults(folder)


def test_walk_over_many_short_records_and_others_keeps_their_order(ledger, folder):
    ledger.append((BASE,))
    for begin in range(10, 1310, 130):
        ledger.append([short(n) if n % 3 else entry(n) for n in range(begin, begin + 130)])
    with reading(folder) as reader:
        assert list(range(1, 1302)) == [found.seq for found in reader.since()]
    assert () == faults(folder)


def test_short_record_is_the_same_for_the_chain_as_if_it_were_kept_whole(ledger, folder):
    (first, second) = ledger.append((BASE, short(2)))
    assert (
        link(
            bytes.fromhex(first),
            short(2).id,
            int(short(2).kept_at.timestamp()),
            REPEATED.document,
            short(2).document,
        ).hex()
        == second
    )


def test_short_record_kept_again_gives_the_hash_that_it_has(ledger):
    first = ledger.append((BASE, short(2)))
    assert first == ledger.append((BASE, short(2)))
    assert (first[1], first[1]) == ledger.append((short(2), short(2)))


@pytest.mark.parametrize(
    "other",
    [
        replace(short(2), document=short(2).document + b"!"),
        short(2, at=NOON),
        entry(2),
        replace(entry(2), repeats=REPEATED),
        replace(entry(1), document=REPEATED.head(entry(1).id), repeats=REPEATED),
    ],
)
def test_short_record_and_another_of_its_id_is_an_error(ledger, folder, other):
    ledger.append((BASE, short(2)))
    with pytest.raises(StoreError):
        ledger.append((entry(3), other))
    assert (1, 1, 1) == tables(folder)
    assert () == faults(folder)


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("UPDATE short SET rest = x'00' WHERE seq = 2", f"record 2 ({2:032x}) was changed or replaced"),
        ("UPDATE short SET kept_at = 0 WHERE seq = 2", f"record 2 ({2:032x}) was changed or replaced"),
        ("UPDATE short SET id = x'00' WHERE seq = 2", "record 2 (00) was changed or replaced"),
        ("DELETE FROM short WHERE seq = 2", "records 2 to 2 were removed"),
        ("DELETE FROM short WHERE seq = 3", "records 3 to 3 were cut off the end"),
        ("UPDATE short SET whole = 9 WHERE seq = 2", f"record 2 ({2:032x}) was changed or replaced"),
    ],
)
def test_verify_tells_that_a_short_record_was_touched(ledger, folder, sql, fault):
    ledger.append((BASE, short(2), short(3)))
    edit(folder, sql)
    assert details(folder)[0] == fault
    with reading(folder) as reader:
        assert {1, 2, 3} >= {found.seq for found in reader.since()}


def test_verify_tells_that_a_short_record_was_cut_off_also_after_others_have_come(ledger, folder):
    ledger.append((BASE, short(2), short(3)))
    edit(folder, "DELETE FROM short WHERE seq = 3")
    ledger.append((short(4),))
    (told,) = details(folder)
    assert told.startswith("records 3 to 3 were cut off the end, noticed 20")


def test_short_records_are_let_go_with_what_they_repeat(ledger, folder):
    ledger.append((BASE, *(short(n) for n in range(2, 40)), entry(50)))
    assert 20 == ledger.tend(before=NOON + timedelta(hours=21), max_bytes=LARGE)
    assert (1, 19, 1) == tables(folder)
    assert () == faults(folder)
    with reading(folder) as reader:
        assert (BASE.document, RAW) == (reader.blob(REPEATED.document), reader.blob(DIGEST))
    assert 19 == ledger.tend(before=NOON + timedelta(hours=41), max_bytes=LARGE)
    assert (1, 0, 0) == tables(folder)
    assert () == faults(folder)
    with reading(folder) as reader:
        assert (None, None) == (reader.blob(REPEATED.document), reader.blob(DIGEST))
    with pytest.raises(BlobsMissingError):
        ledger.append((short(60),))


def test_many_short_records_are_let_go_by_size_in_the_order_of_the_chain(ledger, folder):
    ledger.append((BASE,))
    for begin in range(10, 4010, 1000):
        ledger.append([short(n) if n % 10 else entry(n) for n in range(begin, begin + 1000)])
    # Batches end where either kind has filled its part: nothing that came later goes before.
    gone = ledger.tend(before=NOON, max_bytes=200_000)
    assert 0 < gone < 4001
    with reading(folder) as reader:
        assert list(range(gone + 1, 4002)) == [found.seq for found in reader.since()]
    assert () == faults(folder)


def test_thirty_thousand_sessions_of_a_partner_take_two_hundred_octets_each(ledger, folder):
    # The rest of a document as a session of the exit has it: `test_again` says how long it is.
    rest = bytes(36)
    moment = int(NOON.timestamp() * 1000)

    def session(number):
        verdict_id = f"{moment + number * 300:012x}{number:020x}"
        at = NOON + timedelta(seconds=number * 0.3)
        return replace(
            entry(0, at=at), id=verdict_id, document=REPEATED.head(verdict_id) + rest, repeats=REPEATED
        )

    ledger.append((BASE,))
    ledger.append([session(n) for n in range(1000)])
    ledger.tend(before=NOON, max_bytes=LARGE)
    before = (folder / "ledger.sqlite3").stat().st_size
    for begin in range(1000, 7000, 100):
        ledger.append([session(n) for n in range(begin, begin + 100)])
    ledger.tend(before=NOON, max_bytes=LARGE)
    assert (folder / "ledger.sqlite3").stat().st_size - before < 6000 * 200


def test_ledger_without_short_records_is_read_and_gone_on_with(ledger, folder):
    ledger.append((BASE, repeat(2)))
    for table in ("short", "whole"):
        edit(folder, f"DROP TABLE {table}")
    with reading(folder) as reader:
        assert (2, [1, 2], 2) == (
            reader.count(),
            [one.seq for one in reader.since()],
            len(reader.find("000000")),
        )
        assert (1, 2) == tuple(end.seq for end in reader.ends())
    assert () == faults(folder)
    with contextlib.closing(EvidenceLedger(folder)) as newer:
        newer.append((short(3),))
    assert (2, 1, 1) == tables(folder)
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
