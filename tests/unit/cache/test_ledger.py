"""
The evidence ledger: what was reported as kept is there, and what was touched is noticed.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from cache.ledger import EvidenceLedger, LedgerFault
from cftpki_ext.errors import StoreError

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RAW = b"a response" * 20
DIGEST = sha256(RAW).hexdigest()


@pytest.fixture
def ledger(tmp_path):
    ledger = EvidenceLedger(tmp_path / "evidence")
    yield ledger
    ledger.close()


def fill(ledger, count=5):
    for number in range(count):
        blobs = {DIGEST: RAW} if number % 2 else {}
        ledger.append(f"{number:032x}", NOON + timedelta(hours=number), b"document %d" % number, blobs)


def edit(tmp_path, sql, *values):
    database = sqlite3.connect(tmp_path / "evidence" / "ledger.sqlite3", isolation_level=None)
    database.execute(sql, values)
    database.close()


def test_ledger_append_then_get_returns_document_and_blob(ledger):
    fill(ledger)
    entry = ledger.get(f"{3:032x}")
    assert entry is not None
    assert (4, b"document 3") == (entry.seq, entry.document)
    assert ledger.blob(DIGEST) == RAW
    assert ledger.get("f" * 32) is None


def test_ledger_get_by_unique_prefix_only(ledger):
    ledger.append("aaaaaaaa1" + "0" * 23, NOON, b"one", {})
    ledger.append("aaaaaaaa2" + "0" * 23, NOON, b"two", {})
    assert ledger.get("aaaaaaaa") is None
    found = ledger.get("aaaaaaaa2")
    assert found is not None
    assert found.document == b"two"
    assert ledger.get("aaaa") is None


def test_ledger_untouched_verifies(ledger):
    fill(ledger)
    assert ledger.verify() == ()


def test_ledger_empty_verifies(ledger):
    assert ledger.verify() == ()


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        (
            "UPDATE record SET document = x'00' WHERE seq = 3",
            "record 3 (00000000000000000000000000000002) was changed",
        ),
        ("DELETE FROM record WHERE seq = 3", "record 3 to 3 removed"),
        ("DELETE FROM record WHERE seq = 1", "record 1 to 1 removed"),
        ("DELETE FROM record WHERE seq = 5", "records 5 to 5 were cut off the end"),
        ("UPDATE blob SET raw = x'00'", f"blob {DIGEST} was changed"),
        ("DELETE FROM blob", f"blob {DIGEST} of record 2 is gone"),
    ],
)
def test_ledger_touched_is_noticed(ledger, tmp_path, sql, fault):
    fill(ledger)
    edit(tmp_path, sql)
    assert fault in [found.detail for found in ledger.verify()]


def test_ledger_record_replaced_with_matching_own_hash_is_noticed(ledger, tmp_path):
    fill(ledger)
    edit(tmp_path, "UPDATE record SET previous = zeroblob(32) WHERE seq = 3")
    details = [found.detail for found in ledger.verify()]
    assert "record 3 does not follow the one before" in details


def test_ledger_head_file_gone_is_noticed(ledger, tmp_path):
    fill(ledger)
    (tmp_path / "evidence" / "head").unlink()
    assert ledger.verify() == (LedgerFault(seq=None, detail="the head file is gone or unreadable"),)


def test_ledger_prune_by_age_keeps_chain_whole(ledger):
    fill(ledger)
    assert ledger.prune(before=NOON + timedelta(hours=3), max_bytes=10**9) == 3
    assert [entry.id[-1] for entry in ledger.since(NOON)] == ["3", "4"]
    assert ledger.verify() == ()
    assert ledger.blob(DIGEST) == RAW


def test_ledger_prune_by_size_lets_unreferenced_blobs_go(ledger):
    fill(ledger)
    assert ledger.prune(before=NOON, max_bytes=0) == 5
    assert ledger.blob(DIGEST) is None
    fill_again = ledger.append("b" * 32, NOON, b"later", {})
    assert len(fill_again) == 64
    assert ledger.verify() == ()


def test_ledger_same_id_twice_is_an_error(ledger):
    fill(ledger, 1)
    with pytest.raises(StoreError, match="could not be kept"):
        ledger.append(f"{0:032x}", NOON, b"other", {})
    assert ledger.verify() == ()


def test_ledger_unusable_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        EvidenceLedger(tmp_path / "file" / "below")


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cache.ledger import EvidenceLedger
ledger = EvidenceLedger(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}{number:024x}"
    ledger.append(name, datetime.now(UTC), b"x" * 500, {})
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
    ledger = EvidenceLedger(tmp_path / "e")
    assert ledger.verify() == ()
    assert len(list(ledger.since(datetime(2026, 1, 1, tzinfo=UTC)))) == 100
    ledger.close()


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
    ledger = EvidenceLedger(tmp_path / "e")
    assert ledger.verify() == ()
    assert [name for name in reported if ledger.get(name) is None] == []
    ledger.close()
