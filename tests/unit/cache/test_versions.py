"""
Versions of one list are kept as differences: back octet by octet, whole at each instant, and bounded whatever is stored.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_cache import cutting
from cftpki_cache.condensing import Condenser
from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.packing import MAX_CHUNK, DamagedChunkError, pack, unpack
from cftpki_cache.sqlite import connect
from cftpki_cache.versions import GROUP, MAX_STEPS, base_places, drop_version
from cftpki_ext.core.errors import StoreError
from tests.support.ledgers import LARGE, NOON, details, edit, entry, faults, reading
from tests.support.list_versions import Lists


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """
    Cuts as in a list of a million entries, in one of some thousand; and no pause.
    """
    monkeypatch.setattr(cutting, "_PAIR", b"\xa5")
    monkeypatch.setattr(cutting, "_LEAST_CHUNK", 8 * 1024)
    monkeypatch.setattr("cftpki_cache.condensing._PAUSE_S", 0.0)


class StoppedError(Exception):
    """
    What a kill is to a thread.
    """


def stop_here():
    raise StoppedError


def condense(folder, **options):
    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
        return Condenser(db, pause=lambda _: None).run(**options)


def keep(ledger, number, digest, raw):
    ledger.bring({digest: raw})
    ledger.append((replace(entry(number), present=(digest,)),))


def fill(ledger, folder, count, *, lists=None, first=1):
    """
    Keep versions of a list, each condensed before the next comes; their digests.
    """
    digests = []
    for number, (digest, raw) in enumerate((lists or Lists(3000, 3)).versions(count), start=first):
        keep(ledger, number, digest, raw)
        assert 1 == condense(folder)
        digests.append(digest)
    return digests


def query(folder, sql, *values):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        return database.execute(sql, values).fetchall()


def readable(folder, digests):
    with reading(folder) as reader:
        return [sha256(reader.blob(digest) or b"").hexdigest() == digest for digest in digests]


# -- forms -----------------------------------------------------------------------------------------------------------


def test_versions_come_back_octet_by_octet_and_nothing_is_left_of_their_first_form(ledger, folder):
    digests = fill(ledger, folder, 12)
    assert [True] * 12 == readable(folder, digests)
    assert [(0,)] == query(folder, "SELECT count(*) FROM piece")
    assert [(0,)] == query(folder, "SELECT count(*) FROM waiting")
    assert [(12, 12)] == query(folder, "SELECT count(*), sum(whole) FROM version")
    # Each a difference to the one that its place names.
    bases = query(folder, "SELECT base - 1 FROM version ORDER BY place")
    assert [next(iter(base_places(place)), None) for place in range(12)] == [base for (base,) in bases]
    assert 0 == condense(folder)
    assert () == faults(folder)


def test_ninety_days_of_an_hourly_list_take_a_twentieth_of_it(ledger, folder):
    # As 1 M entries of which a thousand come and go, at a reduced size: three groups, and what is between them.
    lists = Lists(1500, 2)
    digests = fill(ledger, folder, 2 * GROUP + 20, lists=lists)
    whole = len(digests) * len(lists.next())
    (packed,) = query(folder, "SELECT sum(length(packed) + 40) FROM chunk")[0]
    assert packed < whole / 20
    assert [True] * len(digests) == readable(folder, digests)
    assert () == faults(folder)
    assert 3 == query(folder, "SELECT count(*) FROM version WHERE base IS NULL")[0][0]


def test_place_leads_to_its_key_version_in_few_steps():
    for place in range(3 * GROUP):
        places = base_places(place)
        assert all(GROUP * (place // GROUP) <= one < place for one in places)
        assert list(places) == sorted(places, reverse=True)
        assert len(places) <= 9 < MAX_STEPS
        assert bool(places) == bool(place % GROUP)


def test_list_kept_with_its_record_is_condensed_too(ledger, folder):
    (digest, raw), (other, second) = Lists(1000, 2).versions(2)
    ledger.append((entry(1, blobs={digest: raw}), entry(2, blobs={other: second})))
    assert 2 == condense(folder)
    assert [(0, 2)] == query(folder, "SELECT sum(length(raw)), count(*) FROM blob")
    assert [True, True] == readable(folder, [digest, other])
    assert [("record", raw)] * 2 == [("record", ledger_blob(folder, digest))] * 2
    assert () == faults(folder)


def ledger_blob(folder, digest):
    with reading(folder) as reader:
        return reader.blob(digest)


def test_small_blob_stays_as_it_came(ledger, folder):
    raw = b"an answer" * 100
    ledger.append((entry(1, blobs={sha256(raw).hexdigest(): raw}),))
    assert 0 == condense(folder)
    assert raw == ledger_blob(folder, sha256(raw).hexdigest())


def test_lists_of_two_kinds_in_turn_are_each_a_difference_to_their_own(ledger, folder):
    one, two, third = Lists(2000, 2), Lists(2000, 2, seed=2), Lists(500, 2, seed=3, issuer=b"another")
    digests = []
    for turn in range(4):
        for lists in (one, two, third):
            digests += fill(ledger, folder, 1, lists=lists, first=10 * turn + 1 + len(digests))
    assert [(1, 4), (2, 4), (3, 4)] == query(folder, "SELECT family, count(*) FROM version GROUP BY family")
    assert [True] * 12 == readable(folder, digests)


def test_list_that_is_another_one_altogether_begins_anew(ledger, folder):
    fill(ledger, folder, 2)
    (digest, raw) = next(Lists(2000, 0, seed=9).versions(1))
    keep(ledger, 9, digest, raw)
    assert 1 == condense(folder)
    assert [(2,)] == query(folder, "SELECT max(family) FROM version")
    assert [True] == readable(folder, [digest])


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw,
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw + raw[:50_000],
        lambda raw: raw[60_000:] + raw[:60_000],
        lambda raw: raw[:1000] + raw[90_000:],
        lambda raw: raw[:16_384],
        lambda raw: bytes(len(raw)),
        lambda raw: raw * 30,
    ],
)
def test_anything_that_follows_comes_back(ledger, folder, change):
    ((digest, raw),) = Lists(4000, 2).versions(1)
    keep(ledger, 1, digest, raw)
    condense(folder)
    other = change(raw) + b"!"
    keep(ledger, 2, sha256(other).hexdigest(), other)
    condense(folder)
    assert [True, True] == readable(folder, [digest, sha256(other).hexdigest()])
    assert other == ledger_blob(folder, sha256(other).hexdigest())
    assert () == faults(folder)


def test_ledger_of_before_is_condensed_in_place(ledger, folder):
    versions = list(Lists(1000, 2).versions(3))
    for number, (digest, raw) in enumerate(versions[:2], start=1):
        keep(ledger, number, digest, raw)
    ledger.append((entry(3, blobs=dict(versions[2:])),))
    for table in ("version", "chunk", "waiting", "short", "whole", "growth", "counter"):
        edit(folder, f"DROP TABLE {table}")
    digests = [digest for digest, _ in versions]
    assert [True] * 3 == readable(folder, digests)
    assert () == faults(folder)
    with contextlib.closing(EvidenceLedger(folder)) as newer:
        assert 3 == newer.condense()
        assert 0 == newer.condense()
    assert [True] * 3 == readable(folder, digests)
    assert [(0,)] == query(folder, "SELECT count(*) FROM piece")
    assert () == faults(folder)


# -- letting go ------------------------------------------------------------------------------------------------------


def test_key_version_stays_for_as_long_as_anything_needs_it(ledger, folder):
    digests = fill(ledger, folder, 9)
    for gone in range(1, 9):
        assert 1 == ledger.tend(before=NOON + timedelta(hours=gone + 1), max_bytes=LARGE)
        assert [False] * gone + [True] * (9 - gone) == readable(folder, digests)
        assert () == faults(folder)
    # The ninth is a difference to the fifth, that to the first.
    assert [(0,), (4,), (8,)] == query(folder, "SELECT place FROM version ORDER BY place")
    assert 1 == ledger.tend(before=NOON + timedelta(hours=20), max_bytes=LARGE)
    assert [(0, 0)] == query(folder, "SELECT (SELECT count(*) FROM version), (SELECT count(*) FROM chunk)")


def test_list_that_comes_back_after_it_was_let_go_is_kept_again(ledger, folder):
    versions = list(Lists(1000, 2).versions(2))
    for number, (digest, raw) in enumerate(versions, start=1):
        keep(ledger, number, digest, raw)
        condense(folder)
    ledger.tend(before=NOON + timedelta(hours=2), max_bytes=LARGE)
    assert [False, True] == readable(folder, [digest for digest, _ in versions])
    keep(ledger, 3, *versions[0])
    assert 1 == condense(folder)
    assert [(2,)] == query(folder, "SELECT count(*) FROM version")
    assert [True, True] == readable(folder, [digest for digest, _ in versions])
    assert () == faults(folder)


def test_list_that_is_let_go_while_it_waits_or_is_written_leaves_nothing(ledger, folder):
    lists = Lists(3000, 2)
    (first,) = fill(ledger, folder, 1, lists=lists)
    (digest, raw), *_ = lists.versions(1)
    keep(ledger, 2, digest, raw)
    steps = []

    def let_go(_):
        steps.append(1)
        if len(steps) == 3:
            ledger.tend(before=NOON + timedelta(hours=3), max_bytes=LARGE)

    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
        assert 0 == Condenser(db, pause=let_go).run()
    ledger.tend(before=NOON, max_bytes=LARGE)
    assert [False, False] == readable(folder, [first, digest])
    counts = (
        "SELECT (SELECT count(*) FROM version), (SELECT count(*) FROM chunk), (SELECT count(*) FROM waiting)"
    )
    assert [(0, 0, 0)] == query(folder, counts)
    assert () == faults(folder)


@pytest.mark.parametrize("pieces", [True, False], ids=["in pieces", "with its record"])
def test_list_that_comes_again_while_its_first_form_is_deleted_stays_whole(
    ledger, folder, monkeypatch, pieces
):
    monkeypatch.setattr("cftpki_cache.first_form._PIECE_OCTETS", 16 * 1024)
    ((digest, raw),) = Lists(1000, 2).versions(1)
    keep(ledger, 1, digest, raw)
    again = []

    def bring_again():
        """
        Its only record is let go, and then another one has the same list.
        """
        if again:
            return
        again.append(1)
        ledger.tend(before=NOON + timedelta(days=3), max_bytes=LARGE)
        if pieces:
            keep(ledger, 2, digest, raw)
        else:
            ledger.append((entry(2, blobs={digest: raw}),))

    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
        begun = []
        # Between what makes the version count and what deletes: another process is quicker.
        db.set_trace_callback(
            lambda sql: (
                begun.append(1)
                if sql == "COMMIT" and whole(db)
                else sql == "BEGIN IMMEDIATE" and begun and bring_again()
            )
        )
        Condenser(db, pause=lambda _: None).run()
    assert [1] == again
    assert [True] == readable(folder, [digest])
    assert () == faults(folder)


def test_group_whose_versions_are_gone_is_not_gone_on_with(ledger, folder):
    lists = Lists(1000, 2)
    fill(ledger, folder, 3, lists=lists)
    edit(folder, "DELETE FROM version WHERE place = 0")
    edit(folder, "DELETE FROM version WHERE place = 1")
    ledger.tend(before=NOON, max_bytes=LARGE)
    (digest,) = fill(ledger, folder, 1, lists=lists, first=9)
    # The last one leads nowhere: whoever comes next depends on nothing.
    assert [True] == readable(folder, [digest])


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE chunk SET packed = x'00' WHERE place = (1 << 20) + 2", "part 2: it does not unpack"),
        (
            "UPDATE chunk SET packed = zeroblob(length(packed)) WHERE place = (1 << 20) + 2",
            "part 2: it does not unpack",
        ),
        (
            "UPDATE chunk SET size = size + 1 WHERE place = (1 << 20) + 2",
            "part 2: it unpacks to something else",
        ),
        (
            "UPDATE chunk SET size = size - 1 WHERE place = (1 << 20) + 2",
            "part 2: it unpacks to something else",
        ),
        ("DELETE FROM chunk WHERE place = (1 << 20) + 2", "part 2 is gone"),
        ("UPDATE chunk SET under = 2 WHERE place = (1 << 20) + 2", "part 2 is out of bounds"),
        ("UPDATE version SET size = size + 1 WHERE place = 0", "is gone"),
        ("DELETE FROM version WHERE place = 0", None),
    ],
)
def test_verify_tells_of_a_damaged_key_version_with_all_that_depends_on_it(ledger, folder, sql, why):
    digests = fill(ledger, folder, 6)
    edit(folder, sql)
    told = details(folder)
    broken = [
        digest for digest, good in zip(digests, readable_or_not(folder, digests), strict=True) if not good
    ]
    assert [digest for digest in digests if any(f"blob {digest} " in line for line in told)] == broken
    assert digests[0] in broken
    if why is not None:
        assert why in told[0]
    if "place = (1 << 20)" in sql:
        assert digests == broken
        assert all(f"it is a difference to {digests[0]}" in line for line in told[1:])


def readable_or_not(folder, digests):
    found = []
    with reading(folder) as reader:
        for digest in digests:
            try:
                found.append(sha256(reader.blob(digest) or b"").hexdigest() == digest)
            except StoreError:
                found.append(False)
    return found


def test_list_whose_base_is_damaged_is_the_key_version_of_the_next_group(ledger, folder):
    lists = Lists(3000, 2)
    fill(ledger, folder, 2, lists=lists)
    # Not one of the first chunks, by which the family is told.
    edit(folder, "UPDATE chunk SET packed = x'00' WHERE place = (1 << 20) + 5")
    (digest,) = fill(ledger, folder, 1, lists=lists, first=3)
    assert [(GROUP, None)] == query(folder, "SELECT place, base FROM version WHERE digest = ?", digest)
    assert [True] == readable(folder, [digest])
    assert 2 == len(details(folder))


def test_first_form_that_is_still_there_stands_in_for_a_damaged_version(ledger, folder):
    ((digest, raw),) = Lists(1000, 2).versions(1)
    keep(ledger, 1, digest, raw)
    stop = iter(range(100))
    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db, pytest.raises(StoppedError):
        # Killed when it counts, before anything of the first form is deleted.
        Condenser(db, pause=lambda _: whole(db) and next(stop) == 0 and stop_here()).run()
    edit(folder, "UPDATE chunk SET packed = x'00'")
    edit(folder, "INSERT OR IGNORE INTO piece VALUES (?, 0, ?)", digest, raw)
    assert [True] == readable(folder, [digest])
    assert () == faults(folder)


def whole(db):
    return db.execute("SELECT 1 FROM version WHERE whole = 1").fetchone()


# -- killed, full, hostile -------------------------------------------------------------------------------------------


def test_list_is_whole_at_each_instant_and_whoever_is_stopped_is_taken_up(ledger, folder):
    lists = Lists(1500, 2)
    digests = fill(ledger, folder, 1, lists=lists)
    step = 0
    for number in range(2, 30):
        ((digest, raw),) = lists.versions(1)
        keep(ledger, number, digest, raw)
        digests.append(digest)
        instants = iter(range(10**6))
        stopped = True
        with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
            db.set_trace_callback(None)
            try:
                Condenser(db, pause=lambda _: next(instants) == step and stop_here()).run()  # noqa: B023
                stopped = False
            except StoppedError:
                pass
        assert [True] * number == readable(folder, digests)
        assert () == faults(folder)
        condense(folder)
        if not stopped:
            break
        step += 1
    assert step > 8
    assert not stopped
    assert [(0, 0)] == query(folder, "SELECT (SELECT count(*) FROM piece), (SELECT count(*) FROM waiting)")
    assert [True] * len(digests) == readable(folder, digests)


_CONDENSING = """
import sys
from pathlib import Path
from cftpki_cache import cutting
from cftpki_cache.condensing import Condenser
from cftpki_cache.sqlite import connect
cutting._PAIR, cutting._LEAST_CHUNK = bytes([0xa5]), 8 * 1024
db = connect(Path(sys.argv[1]) / "ledger.sqlite3")
def pause(_):
    print("step", flush=True)
Condenser(db, pause=pause).run()
"""


@pytest.mark.parametrize("steps", [2, 13, 25])
def test_killed_process_leaves_the_list_whole(ledger, folder, steps):
    lists = Lists(3000, 2)
    digests = fill(ledger, folder, 1, lists=lists)
    ((digest, raw),) = lists.versions(1)
    keep(ledger, 2, digest, raw)
    with subprocess.Popen(
        [sys.executable, "-c", _CONDENSING, str(folder)], stdout=subprocess.PIPE
    ) as process:
        for _ in range(steps):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert [True, True] == readable(folder, [*digests, digest])
    assert () == faults(folder)
    condense(folder)
    assert [(2, 2)] == query(folder, "SELECT count(*), sum(whole) FROM version")
    assert [True, True] == readable(folder, [*digests, digest])


def test_two_who_condense_at_once_end_with_the_same(ledger, folder):
    lists = Lists(3000, 2)
    digests = fill(ledger, folder, 1, lists=lists)
    for number in range(2, 5):
        ((digest, raw),) = lists.versions(1)
        keep(ledger, number, digest, raw)
        digests.append(digest)
    threads = [threading.Thread(target=condense, args=(folder,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    condense(folder)
    assert [True] * 4 == readable(folder, digests)
    assert [(4, 4)] == query(folder, "SELECT count(*), sum(whole) FROM version")
    assert () == faults(folder)


def test_version_that_another_one_drops_while_it_is_compared_still_waits(ledger, folder):
    lists = Lists(3000, 2)
    digests = fill(ledger, folder, 1, lists=lists)
    ((digest, raw),) = lists.versions(1)
    keep(ledger, 2, digest, raw)
    steps = []

    def drop(took_s):
        if took_s == 0.0:  # what was written is being compared
            steps.append(len(steps))
            with contextlib.closing(connect(folder / "ledger.sqlite3")) as other, other:
                for (number,) in other.execute("SELECT number FROM version WHERE whole = 0").fetchall():
                    drop_version(other, number)

    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
        assert 0 == Condenser(db, pause=drop).run()
    assert steps
    assert [(digest,)] == query(folder, "SELECT digest FROM waiting")
    condense(folder)
    assert [True, True] == readable(folder, [*digests, digest])
    assert [(2, 2)] == query(folder, "SELECT count(*), sum(whole) FROM version")


def test_full_disk_leaves_the_list_as_it_came(ledger, folder):
    digests = fill(ledger, folder, 1)
    ((digest, raw),) = Lists(3000, 0, seed=7).versions(1)
    keep(ledger, 2, digest, raw)
    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
        db.execute("CREATE TABLE ballast (raw BLOB)")
        while db.execute("PRAGMA freelist_count").fetchone()[0]:  # what is free would be used
            db.execute("INSERT INTO ballast VALUES (zeroblob(3000))")
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            Condenser(db, pause=lambda _: None).run()
    assert [True, True] == readable(folder, [*digests, digest])
    assert () == faults(folder)
    assert 1 == condense(folder)
    assert [True, True] == readable(folder, [*digests, digest])


def hostile(folder, *statements):
    for sql in statements:
        edit(folder, sql)


LONG_LINE = (
    "WITH RECURSIVE n(i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
    " INSERT INTO version SELECT i, 'd' || i, 1, x'', 7, i, i + 1, 1 FROM n"
)


@pytest.mark.parametrize(
    "statements",
    [
        # A difference to itself, a circle, a line of more steps than there are.
        ("UPDATE version SET base = number",),
        ("UPDATE version SET base = 3 WHERE number = 1",),
        (
            LONG_LINE,
            "UPDATE version SET base = 10 WHERE number = 1",
        ),
        ("UPDATE version SET base = 99",),
        # A hundred gigabytes in few octets, and what would have to be unpacked for them.
        ("UPDATE version SET size = 100000000000",),
        ("UPDATE version SET size = -1",),
        ("UPDATE version SET size = 1 << 62",),
        ("UPDATE version SET size = 1000000000 WHERE number = 3", "UPDATE chunk SET first = 0, under = 4"),
        ("UPDATE chunk SET size = 100000000000",),
        ("UPDATE chunk SET size = -5",),
        ("UPDATE chunk SET size = 0, packed = x''",),
        ("UPDATE chunk SET under = 1000000000",),
        ("UPDATE chunk SET under = -1",),
        ("UPDATE chunk SET first = 1 << 62, under = 1",),
        ("UPDATE chunk SET first = -1 << 62, under = 1",),
        ("UPDATE version SET number = 1 << 60 WHERE number = 3",),
        ("UPDATE version SET number = -7 WHERE number = 3",),
        ("UPDATE version SET place = 9223372036854775807 - 3 + number",),
        ("UPDATE version SET family = 9223372036854775807",),
        ("UPDATE chunk SET mark = x''",),
    ],
)
def test_hostile_ledger_ends_in_an_error_and_little_work(ledger, folder, statements):
    digests = fill(ledger, folder, 3)
    hostile(folder, *statements)
    with reading(folder) as reader:
        for digest in digests[2:]:
            try:
                found = reader.blob(digest)
            except StoreError:
                continue
            assert found is None or len(found) < 10 * MAX_CHUNK
        assert all(len(fault.detail) < 400 for fault in reader.verify())
    # ... and whoever goes on writing is not led astray.
    ((digest, raw),) = Lists(1000, 0, seed=5).versions(1)
    keep(ledger, 99, digest, raw)
    with contextlib.suppress(sqlite3.Error):
        condense(folder)
    assert [True] == readable(folder, [digest])


def test_bomb_unpacks_to_no_more_than_it_should(ledger, folder):
    bomb = pack(bytes(300 * MAX_CHUNK))
    assert len(bomb) < MAX_CHUNK
    for size in (1, 1000, MAX_CHUNK):
        with pytest.raises(DamagedChunkError):
            unpack(bomb, size)


@given(st.binary(max_size=3000), st.binary(max_size=3000), st.integers(0, 3000))
def test_chunk_comes_back_whatever_it_is_packed_against(chunk, base, begin):
    for under in (base, chunk[begin:] + base, base + chunk[:begin]):
        if chunk:
            assert chunk == unpack(pack(chunk, under), len(chunk), under)


@given(st.binary(max_size=200), st.integers(-1, 5000), st.binary(max_size=100))
def test_any_octets_unpack_to_so_many_or_to_an_error(packed, size, base):
    with contextlib.suppress(DamagedChunkError):
        assert size == len(unpack(packed, size, base))


@given(st.lists(st.binary(max_size=400), max_size=8), st.integers(1, 64))
def test_cuts_lose_nothing_however_the_pieces_come(pieces, least):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_LEAST_CHUNK", least)
        patch.setattr(cutting, "MAX_CHUNK", 4 * least)
        cuts = [one.chunk for one in cutting.cut(pieces)]
        assert b"".join(pieces) == b"".join(cuts)
        assert all(0 < len(chunk) <= 4 * least for chunk in cuts)
        assert cuts == [one.chunk for one in cutting.cut([b"".join(pieces)])]


def test_condensing_is_done_while_records_are_appended(ledger, folder):
    lists = Lists(3000, 2)
    digests = fill(ledger, folder, 1, lists=lists)
    ((digest, raw),) = lists.versions(1)
    keep(ledger, 2, digest, raw)
    numbers = iter(range(10, 1000))
    with contextlib.closing(connect(folder / "ledger.sqlite3")) as db:
        Condenser(db, pause=lambda _: ledger.append((entry(next(numbers)),))).run()
    assert [True, True] == readable(folder, [*digests, digest])
    assert () == faults(folder)
