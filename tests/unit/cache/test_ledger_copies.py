"""
Copies of a ledger: whole while it is written, put back and gone on with; and one that was made without its log.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from datetime import timedelta

import pytest

from cftpki_cache import ledger_copies
from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_copies import back_up, copied_without_log, end_of, not_joined
from cftpki_ext.core.errors import InputError, StoreError
from tests.support.ledgers import DIGEST, LARGE, NOON, RAW, details, edit, entry, fill, reading


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as made:
        yield made


def count(folder):
    with reading(folder) as reader:
        return reader.count()


def test_backup_of_a_ledger_that_is_open_is_whole_and_one_file(ledger, tmp_path):
    fill(ledger)
    told = []
    back_up(tmp_path / "evidence", tmp_path / "new" / "copy", lambda *pages: told.append(pages))

    copy = tmp_path / "new" / "copy"
    assert (["head", "ledger.sqlite3"], 0o700, {0o600}) == (
        sorted(one.name for one in copy.iterdir()),
        copy.stat().st_mode & 0o777,
        {one.stat().st_mode & 0o777 for one in copy.iterdir()},
    )
    assert ([], 5) == (details(copy), count(copy))
    with reading(copy) as reader:
        assert RAW == reader.blob(DIGEST)
    assert told[-1][0] == told[-1][1] > 0


def test_backup_is_of_one_moment_whoever_writes_meanwhile(ledger, tmp_path, monkeypatch):
    """
    Between any two steps of the copy somebody writes; the copy has what was there when it began.
    """
    monkeypatch.setattr(ledger_copies, "_PAGES", 4)
    fill(ledger)
    number = 5

    def write(done, _total):
        nonlocal number
        ledger.append((entry(number),))
        number += 1

    back_up(tmp_path / "evidence", tmp_path / "copy", write)

    assert number > 6
    assert ([], 5, number) == (
        details(tmp_path / "copy"),
        count(tmp_path / "copy"),
        count(tmp_path / "evidence"),
    )
    assert [] == details(tmp_path / "evidence")


def test_backup_beside_a_thread_that_writes_is_whole(ledger, tmp_path):
    fill(ledger)
    stop = threading.Event()

    def write():
        number = 5
        while not stop.is_set():
            ledger.append((entry(number),))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            back_up(tmp_path / "evidence", tmp_path / f"copy-{number}")
    finally:
        stop.set()
        thread.join()
    for number in range(3):
        assert [] == details(tmp_path / f"copy-{number}")


def test_backup_is_put_back_and_gone_on_with(ledger, tmp_path):
    """
    As docs/evidence.md says it.
    """
    fill(ledger)
    back_up(tmp_path / "evidence", tmp_path / "backup" / "evidence")
    ledger.append((entry(5),))
    ledger.close()
    (tmp_path / "away").mkdir()
    for one in tuple(tmp_path.glob("evidence*")):
        one.rename(tmp_path / "away" / one.name)
    shutil.copytree(tmp_path / "backup", tmp_path, dirs_exist_ok=True)
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as restored:
        restored.append((entry(6),))

    assert ([], 6) == (details(tmp_path / "evidence"), count(tmp_path / "evidence"))


def test_backup_of_a_broken_ledger_has_its_faults(ledger, tmp_path):
    fill(ledger)
    edit(tmp_path / "evidence", "DELETE FROM record WHERE seq IN (2, 3)")
    back_up(tmp_path / "evidence", tmp_path / "copy")

    assert ["records 2 to 3 were removed"] == details(tmp_path / "copy")


def test_ledgers_in_the_ledger_s_folder_are_copied_with_it(ledger, tmp_path):
    fill(ledger)
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence" / "strangers")) as other:
        fill(other, count=3)
        (tmp_path / "evidence" / "empty").mkdir()
        back_up(tmp_path / "evidence", tmp_path / "copy")

    assert [] == details(tmp_path / "copy" / "strangers") == details(tmp_path / "copy")
    assert (5, 3) == (count(tmp_path / "copy"), count(tmp_path / "copy" / "strangers"))
    assert not (tmp_path / "copy" / "empty").exists()


def test_backup_overwrites_nothing(ledger, tmp_path):
    fill(ledger)
    (tmp_path / "copy").mkdir()
    with pytest.raises(InputError, match="is there already"):
        back_up(tmp_path / "evidence", tmp_path / "copy")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"exists|directory"):
        back_up(tmp_path / "evidence", tmp_path / "file" / "copy")
    assert [] == list((tmp_path / "copy").iterdir())


def test_backup_of_nothing_is_said(tmp_path):
    with pytest.raises(StoreError, match="no evidence in"):
        back_up(tmp_path / "evidence", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def without_log(folder, to, *, log=False):
    to.mkdir()
    for name in ("ledger.sqlite3", "head", *(("ledger.sqlite3-wal",) if log else ())):
        shutil.copy(folder / name, to / name)
    return to


def test_copy_without_its_log_is_named(ledger, tmp_path):
    fill(ledger)
    copy = without_log(tmp_path / "evidence", tmp_path / "copy")
    expected = (
        f"{copy} has no ledger.sqlite3-wal, and records 1 to 5 are missing: a copy of ledger.sqlite3 alone lacks what was"
        " written last; copy it by cftpki audit backup, or with ledger.sqlite3-wal"
    )
    assert [expected] * 2 == [copied_without_log(copy), copied_without_log(copy)]


def test_copy_of_which_only_the_end_is_in_the_log_is_named(ledger, tmp_path):
    fill(ledger, count=3)
    ledger.close()
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as again:
        fill(again, count=2, first=3)
        copy = without_log(tmp_path / "evidence", tmp_path / "copy")

    assert "records 4 to 5 are missing" in copied_without_log(copy)
    assert details(copy)


def test_copy_with_its_log_lacks_nothing(ledger, tmp_path):
    fill(ledger)
    copy = without_log(tmp_path / "evidence", tmp_path / "copy", log=True)

    assert (None, []) == (copied_without_log(copy), details(copy))


def test_ledger_in_use_and_one_that_was_closed_lack_nothing(ledger, tmp_path):
    fill(ledger)
    assert None is copied_without_log(tmp_path / "evidence")
    ledger.close()
    assert None is copied_without_log(tmp_path / "evidence")


@pytest.mark.parametrize("what", ["nothing", "no head", "no ledger", "another file", "a folder"])
def test_what_is_no_ledger_is_no_copy_of_one(tmp_path, what):
    folder = tmp_path / "evidence"
    with contextlib.closing(EvidenceLedger(folder)) as made:
        fill(made)
    match what:
        case "nothing":
            shutil.rmtree(folder)
        case "no head":
            (folder / "head").unlink()
        case "no ledger":
            (folder / "ledger.sqlite3").unlink()
        case "another file":
            (folder / "ledger.sqlite3").write_bytes(b"no database" * 100)
        case "a folder":
            (folder / "ledger.sqlite3").unlink()
            (folder / "ledger.sqlite3").mkdir()

    assert None is copied_without_log(folder)


def test_copy_and_what_goes_on_from_it_are_joined(ledger, tmp_path):
    fill(ledger)
    back_up(tmp_path / "evidence", tmp_path / "copy")
    assert (5, 0) == (end_of(tmp_path / "copy")[0], len(details(tmp_path / "copy")))
    assert None is not_joined(tmp_path / "copy", tmp_path / "evidence")
    ledger.tend(before=NOON + timedelta(hours=3), max_bytes=LARGE)
    fill(ledger, count=2, first=5)
    assert None is not_joined(tmp_path / "copy", tmp_path / "evidence")
    ledger.tend(before=NOON + timedelta(hours=5), max_bytes=LARGE)
    assert (None, 2) == (not_joined(tmp_path / "copy", tmp_path / "evidence"), count(tmp_path / "evidence"))


def test_copy_after_which_records_went_is_not_joined(ledger, tmp_path):
    fill(ledger)
    back_up(tmp_path / "evidence", tmp_path / "copy")
    fill(ledger, count=2, first=5)
    ledger.tend(before=NOON + timedelta(hours=6), max_bytes=LARGE)
    assert f"records 6 to 6 are in neither {tmp_path}/copy nor {tmp_path}/evidence" == not_joined(
        tmp_path / "copy", tmp_path / "evidence"
    )


def test_copy_of_another_ledger_is_not_joined(ledger, tmp_path):
    fill(ledger)
    with contextlib.closing(EvidenceLedger(tmp_path / "other")) as other:
        fill(other, first=20)
        ledger.tend(before=NOON + timedelta(hours=3), max_bytes=LARGE)
        assert "record 3, which" in not_joined(tmp_path / "other", tmp_path / "evidence")
    with pytest.raises(StoreError, match="cannot be read"):
        not_joined(tmp_path / "nothing", tmp_path / "evidence")
