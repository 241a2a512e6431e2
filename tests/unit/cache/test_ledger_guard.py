"""
A ledger that does not end as it was left: noticed before anything is appended, and told for ever after.

More than 400 lines: each attack with its twin, over one set of helpers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import timedelta

import pytest

from cftpki_cache import ledger_breaks, ledger_guard
from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import BreakKind
from tests.support.ledgers import LARGE, NOON, details, edit, entry, faults, fill, reading

DATABASE, HEAD = "ledger.sqlite3", "head"


def kinds(folder):
    with reading(folder) as reader:
        return [note.kind for note in reader.notes()]


def written(folder, count, first=0):
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, count, first=first)


def copied(folder, to):
    shutil.copytree(folder, to)
    return to


def put_back(old, folder, *names):
    """
    An older copy of files in place of those that are there; without names of the whole folder.
    """
    for name in names:
        for one in (name, f"{name}-wal", f"{name}-shm"):
            (folder / one).unlink(missing_ok=True)
        shutil.copy2(old / name, folder / name)
    if not names:
        shutil.rmtree(folder)
        shutil.copytree(old, folder)


def cut(folder, tmp_path):
    del tmp_path
    edit(folder, "DELETE FROM record WHERE seq > 3")


def rolled_back(folder, tmp_path):
    put_back(tmp_path / "old", folder, DATABASE)


def deleted(folder, tmp_path):
    del tmp_path
    (folder / DATABASE).unlink()


def emptied(folder, tmp_path):
    del tmp_path
    edit(folder, "DELETE FROM record")


def emptied_altogether(folder, tmp_path):
    del tmp_path
    for path in folder.glob(f"{DATABASE}*"):
        path.unlink()
    (folder / DATABASE).touch()


def folder_deleted(folder, tmp_path):
    del tmp_path
    shutil.rmtree(folder)


def folder_put_back(folder, tmp_path):
    put_back(tmp_path / "old", folder)


def head_deleted(folder, tmp_path):
    del tmp_path
    (folder / HEAD).unlink()


def head_damaged(folder, tmp_path):
    del tmp_path
    (folder / HEAD).write_bytes(b"0" * 20)


def head_beyond_everything(folder, tmp_path):
    del tmp_path
    (folder / HEAD).write_text(f"{10**19:020d} {'0' * 64}\n")


def replaced(folder, tmp_path):
    written(tmp_path / "another", 20, first=100)
    put_back(tmp_path / "another", folder, DATABASE)


def replaced_by_a_pruned_one(folder, tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "another")) as ledger:
        fill(ledger, 20, first=100)
        ledger.tend(before=NOON + timedelta(hours=115), max_bytes=LARGE)
    put_back(tmp_path / "another", folder, DATABASE)


ATTACKS = [
    (cut, BreakKind.CUT, (4, 8)),
    (rolled_back, BreakKind.CUT, (4, 8)),
    (deleted, BreakKind.CUT, (1, 8)),
    (emptied, BreakKind.CUT, (1, 8)),
    (emptied_altogether, BreakKind.CUT, (1, 8)),
    (folder_deleted, BreakKind.CUT, (1, 8)),
    (folder_put_back, BreakKind.CUT, (4, 8)),
    (head_deleted, BreakKind.HEAD_GONE, None),
    (head_damaged, BreakKind.HEAD_GONE, None),
    (head_beyond_everything, BreakKind.HEAD_GONE, None),
    (replaced, BreakKind.REPLACED, None),
    (replaced_by_a_pruned_one, BreakKind.REPLACED, None),
]


@pytest.mark.parametrize(
    ("attack", "kind", "missing"), ATTACKS, ids=lambda value: getattr(value, "__name__", "")
)
def test_ledger_that_was_attacked_is_told_before_and_for_ever_after(folder, tmp_path, attack, kind, missing):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    written(folder, 5, first=3)
    attack(folder, tmp_path)
    if (folder / DATABASE).exists() and (folder / DATABASE).stat().st_size:
        assert details(folder)
    else:
        with pytest.raises(StoreError, match=r"is gone: its head states records up to 8$"):
            LedgerReader(folder)
    for round_ in range(3):
        with contextlib.closing(EvidenceLedger(folder)) as ledger:
            fill(ledger, 2, first=1000 + round_ * 10)
            (found,) = ledger.reach(now=NOON).breaks
        assert (kind, [found.detail]) == (found.kind, details(folder))
        if missing is not None:
            assert f"records {missing[0]} to {missing[1]} were cut off the end, noticed 20" in found.detail
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        # Also once every record of then has been let go.
        ledger.tend(before=NOON + timedelta(days=400), max_bytes=LARGE)
        fill(ledger, 1, first=2000)
    assert [found.detail] == details(folder)


def test_ledger_numbers_are_given_out_once(folder, tmp_path):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    written(folder, 5, first=3)
    rolled_back(folder, tmp_path)
    written(folder, 1, first=50)
    with reading(folder) as reader:
        assert [1, 2, 3, 10] == [one.seq for one in reader.since()]


def test_break_names_both_hashes(folder, tmp_path):
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 3)
        copied(folder, tmp_path / "old")
        (expected,) = ledger.append((entry(7),))
    with reading(tmp_path / "old") as reader:
        found = reader.ends()[1].hash
    rolled_back(folder, tmp_path)
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        (one,) = ledger.reach(now=NOON).breaks
    assert (4, expected) == (one.seq, one.expected)
    assert one.newest <= 3
    assert one.newest < 3 or one.found == found


@pytest.mark.parametrize("gone", ["breaks", "table", "note"])
def test_break_outlives_one_of_its_places(folder, tmp_path, gone):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    written(folder, 5, first=3)
    rolled_back(folder, tmp_path)
    written(folder, 1, first=20)
    told = details(folder)
    assert 1 == len(told)
    if gone == "breaks":
        (folder / "breaks").unlink()
    elif gone == "table":
        edit(folder, "DELETE FROM breach")
    else:
        edit(folder, "DELETE FROM note")
    assert told[0] in details(folder)
    if gone != "note":
        written(folder, 1, first=30)
        assert told == details(folder)
        with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
            assert [(1,)] == database.execute("SELECT count(*) FROM breach").fetchall()
        assert (folder / "breaks").read_bytes().count(b"\n") == 1


def test_second_attack_is_a_second_break(folder, tmp_path):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    for round_ in range(3):
        written(folder, 5, first=100 + 10 * round_)
        rolled_back(folder, tmp_path)
    written(folder, 1, first=500)
    assert 3 == len(details(folder))
    assert [BreakKind.CUT] * 3 == kinds(folder)


def test_breaks_are_bounded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_breaks, "MOST_BREAKS", 3)
    written(folder, 3)
    for round_ in range(6):
        (folder / HEAD).unlink()
        written(folder, 1, first=100 + round_)
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
        assert [(3,)] == database.execute("SELECT count(*) FROM breach").fetchall()
    assert 3 <= len(details(folder)) <= 6


# -- under a ledger that is open ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "kind"),
    [(one, kind) for one, kind, _ in ATTACKS],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_ledger_that_is_attacked_while_it_is_open_goes_on_where_others_look(folder, tmp_path, attack, kind):
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 3)
        ledger.close()
    copied(folder, tmp_path / "old")
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 5, first=3)
        attack(folder, tmp_path)
        fill(ledger, 2, first=50)
        assert [kind] == kinds(folder)
        with reading(folder) as reader:
            assert [f"{n:032x}" for n in (50, 51)] == [one.id for one in reader.since()][-2:]
        (found,) = ledger.reach(now=NOON).breaks
    assert [found.detail] == details(folder)


def test_ledger_notices_without_an_append(folder, tmp_path):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 5, first=3)
        rolled_back(folder, tmp_path)
        assert [BreakKind.CUT] == [one.kind for one in ledger.reach(now=NOON).breaks]


def test_older_copy_under_a_log_that_is_there_still_takes_nothing_away(folder, tmp_path):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 5, first=3)
        shutil.copy2(tmp_path / "old" / DATABASE, folder / "new")
        (folder / "new").rename(folder / DATABASE)
        fill(ledger, 1, first=50)
    assert () == faults(folder)
    with reading(folder) as reader:
        assert 9 == reader.count()


def test_ledger_whose_log_is_taken_away_loses_nothing(folder):
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 5)
        (folder / f"{DATABASE}-wal").unlink()
        fill(ledger, 2, first=50)
        with reading(folder) as reader:
            assert 7 == reader.count()
    assert () == faults(folder)


def test_ledger_whose_log_was_lost_says_what_is_missing(folder):
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        fill(ledger, 3)
    ledger = EvidenceLedger(folder)
    fill(ledger, 5, first=3)
    lost = folder.with_name("lost")
    lost.mkdir()
    # As a kill leaves it, and somebody takes the log away.
    for name in (DATABASE, HEAD):
        shutil.copy2(folder / name, lost / name)
    ledger.close()
    assert ["records 4 to 8 were cut off the end"] == details(lost)
    written(lost, 1, first=20)
    assert [BreakKind.CUT] == kinds(lost)


# -- what is no attack -------------------------------------------------------------------------------------------------


def test_record_whose_head_was_not_written_is_no_break(folder):
    written(folder, 4)
    before = (folder / HEAD).read_bytes()
    written(folder, 1, first=4)
    (folder / HEAD).write_bytes(before)
    written(folder, 1, first=9)
    assert ([], ()) == (kinds(folder), faults(folder))


def test_first_record_whose_head_was_not_written_is_no_break(folder):
    with contextlib.closing(EvidenceLedger(folder)):
        before = (folder / HEAD).read_bytes()
    written(folder, 1)
    (folder / HEAD).write_bytes(before)
    assert () == faults(folder)
    written(folder, 1, first=9)
    assert ([], ()) == (kinds(folder), faults(folder))


def test_head_of_the_first_release_is_read(folder):
    written(folder, 4)
    (folder / HEAD).write_bytes((folder / HEAD).read_bytes()[:86])
    assert () == faults(folder)
    written(folder, 1, first=9)
    assert ([], ()) == (kinds(folder), faults(folder))


def test_ledger_without_a_copy_of_its_head_is_whole(folder):
    written(folder, 4)
    folder.with_name("evidence.head").unlink()
    written(folder, 1, first=9)
    assert ([], ()) == (kinds(folder), faults(folder))
    assert folder.with_name("evidence.head").exists()


def test_ledger_that_lets_everything_go_is_whole(folder):
    for round_ in range(3):
        with contextlib.closing(EvidenceLedger(folder)) as ledger:
            fill(ledger, 5, first=10 * round_)
            ledger.tend(before=NOON, max_bytes=0)
            fill(ledger, 2, first=10 * round_ + 5)
    assert ([], ()) == (kinds(folder), faults(folder))


def test_two_that_write_one_ledger_are_no_break(folder):
    with contextlib.closing(EvidenceLedger(folder)) as one, contextlib.closing(EvidenceLedger(folder)) as two:
        for round_ in range(5):
            fill(one, 2, first=10 * round_)
            fill(two, 3, first=10 * round_ + 5)
        one.reach(now=NOON)
        two.tend(before=NOON + timedelta(hours=20), max_bytes=LARGE)
        fill(one, 2, first=100)
    assert ([], ()) == (kinds(folder), faults(folder))


def test_records_that_a_power_cut_took_are_told_and_are_no_attack(folder, tmp_path, monkeypatch):
    written(folder, 3)
    copied(folder, tmp_path / "old")
    monkeypatch.setattr(ledger_guard, "this_boot", lambda: "aaaaaaaa-0000-4000-8000-000000000000")
    ledger = EvidenceLedger(folder)
    fill(ledger, 5, first=3)
    put_back(folder, copied(tmp_path / "old", tmp_path / "torn"), HEAD)
    ledger.close()
    monkeypatch.undo()
    torn = tmp_path / "torn"
    assert ["records 4 to 8 are missing since the machine went down"] == details(torn)
    written(torn, 1, first=20)
    assert () == faults(torn)
    with reading(torn) as reader:
        (note,) = reader.notes()
    assert BreakKind.TORN is note.kind
    assert note.detail.startswith("records 4 to 8 were answered and are missing, noticed 20")


def test_ledger_that_was_closed_is_not_torn_by_a_power_cut(folder, tmp_path, monkeypatch):
    """
    The twin: whoever closed it saw everything on the disk.
    """
    written(folder, 3)
    copied(folder, tmp_path / "old")
    monkeypatch.setattr(ledger_guard, "this_boot", lambda: "aaaaaaaa-0000-4000-8000-000000000000")
    written(folder, 5, first=3)
    monkeypatch.undo()
    rolled_back(folder, tmp_path)
    written(folder, 1, first=20)
    assert [BreakKind.CUT] == kinds(folder)


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from cftpki_cache import ledger_breaks, ledger_guard
from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.ports.evidence import EvidenceEntry
ledger = EvidenceLedger(Path(sys.argv[1]))
def entry(number):
    return EvidenceEntry(id=f"{number:032x}", kept_at=datetime.now(UTC), document=b"x" * 500, blobs={})
for number in range(5):
    ledger.append((entry(number),))
ledger_guard.HeadFile.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
ledger.append((entry(5),))
"""


def test_kill_between_a_record_and_its_head_is_no_break(folder):
    done = subprocess.run([sys.executable, "-c", KILLED, folder], check=False, timeout=60)
    assert -9 == done.returncode
    assert () == faults(folder)
    with reading(folder) as reader:
        assert 6 == reader.count()
    written(folder, 1, first=20)
    assert ([], ()) == (kinds(folder), faults(folder))


def test_ledger_is_for_its_owner_alone_with_its_breaks(folder):
    written(folder, 3)
    (folder / HEAD).unlink()
    umask = os.umask(0)
    try:
        written(folder, 1, first=9)
    finally:
        os.umask(umask)
    assert {0o600} == {
        path.stat().st_mode & 0o777 for path in (*folder.iterdir(), folder.with_name("evidence.head"))
    }
