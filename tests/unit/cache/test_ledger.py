"""
The evidence ledger: what was reported as kept is there, and what was touched is noticed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_cache.ledger_schema import link
from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.evidence import BlobsMissingError, EvidenceEntry, LedgerFault
from tests.support.ledgers import DIGEST, LARGE, NOON, RAW, details, edit, entry, faults, fill, reading


def test_ledger_append_then_find_returns_document_and_blob(ledger, folder):
    fill(ledger)
    with reading(folder) as reader:
        (found,) = reader.find(f"{3:032x}")
        assert (4, b"document 3", NOON + timedelta(hours=3)) == (found.seq, found.document, found.kept_at)
        assert RAW == reader.blob(DIGEST)
        assert () == reader.find("f" * 32)
        assert None is reader.blob("0" * 64)
        assert 5 == reader.count()
        assert [1, 5] == [end.seq for end in reader.ends()]


def test_ledger_append_many_gives_each_its_hash(ledger, folder):
    hashes = ledger.append((entry(1), entry(2), entry(3)))
    with reading(folder) as reader:
        assert list(hashes) == [found.hash for found in reader.since()]
    assert 3 == len(set(hashes))


def test_ledger_append_many_with_one_id_twice_keeps_none(ledger, folder):
    with pytest.raises(StoreError, match="could not be kept"):
        ledger.append((entry(1), entry(2), replace(entry(1), document=b"another")))
    with reading(folder) as reader:
        assert 0 == reader.count()
    assert () == faults(folder)


def test_ledger_append_again_gives_the_hash_that_it_has(ledger, folder):
    first, second = entry(1), entry(2, blobs={DIGEST: RAW})
    hashes = ledger.append((first, second))
    assert hashes == ledger.append((first, replace(second, blobs={}, present=(DIGEST,))))
    (third,) = ledger.append((entry(3),))
    with reading(folder) as reader:
        assert [*hashes, third] == [found.hash for found in reader.since()]
    assert () == faults(folder)


@pytest.mark.parametrize(
    "change", [{"document": b"another"}, {"kept_at": NOON + timedelta(hours=2)}, {"blobs": {DIGEST: RAW}}]
)
def test_ledger_append_again_with_something_else_is_an_error(ledger, folder, change):
    ledger.append((entry(1),))
    with pytest.raises(StoreError, match="could not be kept"):
        ledger.append((replace(entry(1), **change),))
    with reading(folder) as reader:
        assert 1 == reader.count()


def test_ledger_append_with_a_blob_that_is_there_keeps_it_alive(ledger, folder):
    ledger.append((entry(1, blobs={DIGEST: RAW}),))
    ledger.append((replace(entry(5), present=(DIGEST,)),))
    assert 1 == ledger.tend(before=NOON + timedelta(hours=2), max_bytes=10**9)
    with reading(folder) as reader:
        assert RAW == reader.blob(DIGEST)
    assert () == faults(folder)


def test_ledger_append_with_a_blob_that_is_gone_asks_for_it_and_keeps_nothing(ledger, folder):
    with pytest.raises(BlobsMissingError) as caught:
        ledger.append((entry(1, blobs={DIGEST: RAW}), replace(entry(2), present=(DIGEST, "0" * 64))))
    assert ("0" * 64,) == caught.value.digests
    with reading(folder) as reader:
        assert 0 == reader.count()
    assert () == faults(folder)


def test_ledger_find_by_prefix_gives_two_where_it_is_not_unique(ledger, folder):
    for digit in "12":
        ledger.append(
            (EvidenceEntry(id="aaaaaaaa" + digit + "0" * 23, kept_at=NOON, document=b"", blobs={}),)
        )
    with reading(folder) as reader:
        assert 2 == len(reader.find("aaaaaaaa"))
        assert ["aaaaaaaa2" + "0" * 23] == [found.id for found in reader.find("aaaaaaaa2")]
        assert () == reader.find("aaaaa")


def test_ledger_since_begins_at_a_time_and_keeps_the_order(ledger, folder):
    fill(ledger, 1200)
    with reading(folder) as reader:
        assert list(range(1001, 1201)) == [e.seq for e in reader.since(NOON + timedelta(hours=1000))]
        assert 1200 == len(list(reader.since()))
        assert [] == list(reader.since(NOON + timedelta(days=999)))


def test_ledger_blob_is_stored_once(ledger, folder):
    fill(ledger, 100)
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        assert (1,) == database.execute("SELECT count(*) FROM blob").fetchone()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_ledger_untouched_verifies(ledger, folder, count):
    fill(ledger, count)
    assert () == faults(folder)


def test_ledger_closed_is_read_and_verified_all_the_same(folder):
    ledger = EvidenceLedger(folder)
    fill(ledger)
    ledger.close()
    ledger.close()
    assert () == faults(folder)
    with reading(folder) as reader:
        assert 5 == reader.count()


def test_ledger_verify_holds_up_no_writer(ledger, folder):
    fill(ledger)
    with reading(folder) as reader:
        numbers = iter(range(5, 10**6))
        assert () == reader.verify(lambda _: ledger.append((entry(next(numbers)),)) and None)
        assert 10 == reader.count()


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        (
            "UPDATE record SET document = x'00' WHERE seq = 3",
            "record 3 (00000000000000000000000000000002) was changed or replaced",
        ),
        (
            "UPDATE record SET kept_at = kept_at + 1 WHERE seq = 3",
            "record 3 (00000000000000000000000000000002) was changed or replaced",
        ),
        (
            "UPDATE record SET blobs = '' WHERE seq = 2",
            "record 2 (00000000000000000000000000000001) was changed or replaced",
        ),
        (
            "UPDATE record SET id = 'ff' WHERE seq = 5",
            "record 5 (ff) was changed or replaced",
        ),
        ("DELETE FROM record WHERE seq = 3", "records 3 to 3 were removed"),
        ("DELETE FROM record WHERE seq = 1", "records 1 to 1 were removed"),
        ("DELETE FROM record WHERE seq >= 4", "records 4 to 5 were cut off the end"),
        ("DELETE FROM record", "records 1 to 5 were cut off the end"),
        ("UPDATE blob SET raw = x'00'", f"blob {DIGEST} was changed"),
        ("DELETE FROM blob", f"blob {DIGEST} of record 2 is gone"),
        ("INSERT INTO chain_start VALUES (1, 0, x'00')", "the start of the chain was changed"),
    ],
)
def test_ledger_touched_is_noticed(ledger, folder, sql, fault):
    fill(ledger)
    edit(folder, sql)
    assert fault in details(folder)


def test_ledger_record_replaced_with_matching_own_hash_is_noticed(ledger, folder):
    """
    Whoever computes the hash of one record anew breaks the link to the next, and of the last one the head.
    """
    fill(ledger)
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite3")) as database:
        (before,) = database.execute("SELECT hash FROM record WHERE seq = 4").fetchone()
        (kept_at,) = database.execute("SELECT kept_at FROM record WHERE seq = 5").fetchone()
    forged = link(before, "ee", kept_at, "", b"forged")
    edit(folder, "UPDATE record SET id = 'ee', document = ?, hash = ? WHERE seq = 5", b"forged", forged)
    assert ["record 5 is not the one that the head file states"] == details(folder)


def test_ledger_head_file_gone_is_noticed(ledger, folder):
    fill(ledger)
    (folder / "head").unlink()
    assert (LedgerFault(seq=None, detail="the head file is gone or unreadable"),) == faults(folder)


def test_ledger_head_that_lags_is_no_fault(ledger, folder):
    fill(ledger, 4)
    before = (folder / "head").read_bytes()
    fill(ledger, 1, first=4)
    (folder / "head").write_bytes(before)
    assert () == faults(folder)


def test_ledger_tend_by_age_keeps_chain_whole(ledger, folder):
    fill(ledger, 200)
    assert 150 == ledger.tend(before=NOON + timedelta(hours=150), max_bytes=LARGE)
    with reading(folder) as reader:
        assert list(range(150, 200)) == [int(found.id, 16) for found in reader.since()]
        assert RAW == reader.blob(DIGEST)
    assert () == faults(folder)
    assert 0 == ledger.tend(before=NOON + timedelta(hours=150), max_bytes=LARGE)


def test_ledger_tend_by_size_lets_unreferenced_blobs_go(ledger, folder):
    fill(ledger)
    assert 5 == ledger.tend(before=NOON, max_bytes=0)
    with reading(folder) as reader:
        assert None is reader.blob(DIGEST)
    fill(ledger, 2, first=9)
    assert () == faults(folder)
    with reading(folder) as reader:
        assert RAW == reader.blob(DIGEST)


def test_ledger_tend_keeps_its_bound_over_many_records(ledger, folder):
    bound = 600_000
    for round_ in range(8):
        ledger.append(
            [
                EvidenceEntry(
                    id=f"{round_ * 100 + n:032x}", kept_at=NOON, document=os.urandom(4000), blobs={}
                )
                for n in range(100)
            ]
        )
        ledger.tend(before=NOON, max_bytes=bound)
    with reading(folder) as reader:
        assert 50 < reader.count() < 150
        assert [f"{799:032x}"] == [found.id for found in reader.since()][-1:]
    assert () == faults(folder)
    assert (folder / "ledger.sqlite3").stat().st_size < 3 * bound


def test_ledger_tend_goes_by_when_it_was_kept_not_by_its_place(ledger, folder):
    ledger.append((entry(1, at=NOON), entry(2, at=NOON - timedelta(days=9)), entry(3, at=NOON)))
    assert 2 == ledger.tend(before=NOON - timedelta(days=1), max_bytes=LARGE)
    assert () == faults(folder)


def test_ledger_says_how_far_back_it_reaches_and_how_it_grows(ledger, folder):
    assert (None, 0, 0) == _reach(ledger, NOON)
    fill(ledger, 5)
    begun = ledger.reach(now=NOON).used_bytes
    for hour in range(1, 11):
        ledger.append([entry(1000 * hour + n, at=NOON + timedelta(hours=hour)) for n in range(100)])
        oldest, hours, grown = _reach(ledger, NOON + timedelta(hours=hour))
        assert (NOON, hours) == (oldest, hours)
    assert ledger.reach(now=NOON + timedelta(hours=10)).used_bytes - begun == grown
    # What is let go has come all the same.
    assert 605 == ledger.tend(before=NOON + timedelta(hours=7), max_bytes=LARGE)
    oldest, hours, still = _reach(ledger, NOON + timedelta(hours=10, minutes=59))
    assert (NOON + timedelta(hours=7), 10) == (oldest, hours)
    assert grown - 8192 <= still <= grown + 8192


def _reach(ledger, now):
    found = ledger.reach(now=now)
    return found.oldest, found.measured_hours, found.grown_bytes


def test_ledger_measures_a_week_and_forgets_a_time_that_has_not_come(ledger):
    for day in range(20):
        ledger.reach(now=NOON + timedelta(days=day))
    assert 168 == ledger.reach(now=NOON + timedelta(days=19)).measured_hours
    assert 24 == ledger.reach(now=NOON + timedelta(days=13)).measured_hours
    assert 0 == ledger.reach(now=NOON).measured_hours


def test_ledger_unusable_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        EvidenceLedger(tmp_path / "file" / "below")


def test_ledger_that_is_no_database_is_an_error(folder):
    folder.mkdir()
    (folder / "ledger.sqlite3").write_bytes(b"no database at all" * 99)
    with pytest.raises(StoreError, match="not a database"):
        EvidenceLedger(folder)
    with pytest.raises(StoreError, match="not a database"), reading(folder) as reader:
        reader.count()


def test_ledger_reader_without_ledger_says_so_and_makes_none(folder):
    with pytest.raises(StoreError, match="nothing was kept yet"):
        LedgerReader(folder)
    assert not folder.exists()


def test_ledger_is_for_its_owner_alone(ledger, folder):
    fill(ledger)
    assert 0o700 == folder.stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in folder.iterdir()}


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.ports.evidence import EvidenceEntry
ledger = EvidenceLedger(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}{number:024x}"
    ledger.append((EvidenceEntry(id=name, kept_at=datetime.now(UTC), document=b"x" * 500, blobs={}),))
    print(name, flush=True)
"""


def test_ledger_two_processes_write_one_chain(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "e", mark * 8, "50"], stdout=subprocess.DEVNULL
        )
        for mark in "ab"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert () == faults(tmp_path / "e")
    with reading(tmp_path / "e") as reader:
        assert 100 == len(list(reader.since()))


def test_ledger_killed_writer_loses_nothing_that_was_reported(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "e", "c" * 8, "100000"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    reported = [writer.stdout.readline().strip() for _ in range(30)]
    os.kill(writer.pid, signal.SIGKILL)
    reported += writer.stdout.read().split()[:-1]
    writer.stdout.close()
    writer.wait(10)
    assert () == faults(tmp_path / "e")
    with reading(tmp_path / "e") as reader:
        assert [] == [name for name in reported if not reader.find(name)]


FULL = (
    """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
"""
    + WRITER
)


def test_ledger_on_a_full_disk_says_so_and_stays_whole(tmp_path):
    writer = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "e", "d" * 8, "100000"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == writer.returncode
    assert "could not be kept" in writer.stderr
    reported = writer.stdout.split()
    assert reported
    assert () == faults(tmp_path / "e")
    with reading(tmp_path / "e") as reader:
        assert reported == [found.id for found in reader.since()]
