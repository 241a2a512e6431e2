"""
Evidence in two shares: a stranger's records push out those of strangers, and the size is kept to while they come.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_shares import SharedLedger
from cftpki_cache.ledger_shares_reader import SharedLedgerReader
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import BreakKind
from cftpki_ext.ports.evidence import EvidenceEntry, Share
from tests.support.ledgers import DIGEST, LARGE, NOON, RAW, edit, entry

MAX = 8 * 1024 * 1024


def of_stranger(number, *, octets=0, blobs=None):
    return EvidenceEntry(
        id=f"{'f' * 8}{number:024x}",
        kept_at=NOON + timedelta(seconds=number),
        document=os.urandom(octets) or b"stranger %d" % number,
        blobs=blobs or {},
        share=Share.STRANGERS,
    )


@contextlib.contextmanager
def reading(folder):
    with contextlib.closing(SharedLedgerReader(folder)) as reader:
        yield reader


def on_disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def shared(folder):
    with contextlib.closing(SharedLedger(folder, max_bytes=MAX)) as made:
        yield made


def test_both_shares_are_read_as_one_by_time(shared, folder):
    first = shared.append((entry(1), of_stranger(5), entry(2, blobs={DIGEST: RAW})))
    second = shared.append((of_stranger(7000, blobs={DIGEST: RAW}),))
    with reading(folder) as reader:
        found = list(reader.since())
        assert [Share.STRANGERS, Share.PARTNERS, Share.STRANGERS, Share.PARTNERS] == [
            one.share for one in found
        ]
        assert [first[1], first[0], second[0], first[2]] == [one.hash for one in found]
        assert [1, 1, 2, 2] == [one.seq for one in found]
        assert (4, RAW) == (reader.count(), reader.blob(DIGEST))
        assert [found[0], found[-1]] == list(reader.ends())
        assert (found[2],) == reader.find("ffffffff" + f"{7000:024x}")
        assert 2 == len(reader.find("ffffffff"))
        assert [found[3]] == list(reader.since(NOON + timedelta(hours=2)))
        assert found[2:] == list(reader.newest(1))
        assert found == list(reader.newest(9))
        assert () == reader.verify()
        assert () == reader.notes()


def test_strangers_have_no_ledger_before_the_first_comes(shared, folder):
    shared.append((entry(1),))
    assert not (folder / "strangers").exists()
    with reading(folder) as reader:
        assert (1, ()) == (reader.count(), reader.verify())


def test_flood_of_strangers_pushes_out_no_partner_and_keeps_the_size(shared, folder):
    shared.append([entry(n) for n in range(20)])
    # Twenty times what they may take, with nobody to tend it.
    largest = 0
    for round_ in range(80):
        shared.append([of_stranger(round_ * 10 + n, octets=6500) for n in range(10)])
        largest = max(largest, shared.reach(now=NOON).used_bytes)
    assert largest < MAX * 0.25
    # With its write-ahead logs.
    assert on_disk(folder) < MAX
    with reading(folder) as reader:
        found = list(reader.since())
        assert [f"{n:032x}" for n in range(20)] == [one.id for one in found if one.share is Share.PARTNERS]
        strangers = [one for one in found if one.share is Share.STRANGERS]
        assert 60 < len(strangers) < 160
        assert strangers[-1].id == of_stranger(799).id
        assert () == reader.verify()


def test_flood_of_partners_keeps_the_size_between_two_tends(shared, folder):
    shared.append((of_stranger(1),))
    largest = 0
    for round_ in range(80):
        entries = [replace(entry(round_ * 10 + n), document=os.urandom(20_000)) for n in range(10)]
        shared.append(entries)
        largest = max(largest, shared.reach(now=NOON).used_bytes)
    assert largest < MAX
    with reading(folder) as reader:
        assert 200 < reader.count() < 500
        assert reader.find(of_stranger(1).id)
        assert () == reader.verify()


def test_ledger_without_a_bound_keeps_to_the_last_one_that_it_was_tended_by(folder):
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        for round_ in range(30):
            ledger.append([replace(entry(round_ * 10 + n), document=os.urandom(6500)) for n in range(10)])
        assert ledger.reach(now=NOON).used_bytes > 1_800_000
        ledger.tend(before=NOON, max_bytes=600_000)
        for round_ in range(30, 60):
            ledger.append([replace(entry(round_ * 10 + n), document=os.urandom(6500)) for n in range(10)])
            assert ledger.reach(now=NOON).used_bytes < 900_000


def test_records_that_go_before_their_time_are_counted(shared, folder):
    shared.append([replace(entry(n), document=os.urandom(6500)) for n in range(200)])
    shared.append([of_stranger(n, octets=6500) for n in range(30)])
    shared.tend(before=NOON + timedelta(hours=50), max_bytes=MAX)
    before = shared.reach(now=NOON)
    assert (0, None, 0) == (before.early, before.early_newest, before.strangers_early)
    shared.tend(before=NOON + timedelta(hours=50), max_bytes=MAX // 8)
    after = shared.reach(now=NOON)
    assert 0 < after.early < 150
    assert after.early_newest is not None
    assert timedelta(hours=50) <= after.early_newest - NOON < timedelta(hours=200)
    with reading(folder) as reader:
        assert (after.early, after.early_newest, after.strangers_early) == reader.early()


def test_tend_by_age_counts_nothing_as_early(shared):
    shared.append([entry(n) for n in range(20)])
    assert 10 == shared.tend(before=NOON + timedelta(hours=10), max_bytes=MAX)
    assert 0 == shared.reach(now=NOON).early


@pytest.mark.parametrize("damage", ["emptied", "deleted", "no database"])
def test_strangers_ledger_that_was_touched_costs_no_partner(folder, damage):
    with contextlib.closing(SharedLedger(folder, max_bytes=MAX)) as made:
        made.append((entry(1), of_stranger(1), of_stranger(2)))
    theirs = folder / "strangers"
    if damage == "emptied":
        edit(theirs, "DELETE FROM record")
    elif damage == "deleted":
        shutil.rmtree(theirs)
    else:
        (theirs / "ledger.sqlite3").write_bytes(b"no database at all" * 99)
    with reading(folder) as reader:
        (fault,) = reader.verify()
        assert (Share.STRANGERS, True) == (fault.share, fault.detail.startswith("strangers: "))
        assert reader.find(entry(1).id)
    with contextlib.closing(SharedLedger(folder, max_bytes=MAX)) as made:
        made.append((entry(2),))
        if damage == "no database":
            with pytest.raises(StoreError, match="not a database"):
                made.append((entry(3), of_stranger(3)))
        else:
            made.append((of_stranger(3),))
            assert [BreakKind.CUT] == [one.kind for one in made.reach(now=NOON).breaks]
    with reading(folder) as reader:
        assert reader.find(entry(2).id)
        (fault,) = reader.verify()
        assert Share.STRANGERS is fault.share


def test_both_are_told_where_they_were_broken(folder):
    with contextlib.closing(SharedLedger(folder, max_bytes=MAX)) as made:
        made.append((entry(1), of_stranger(1)))
    for place in (folder, folder / "strangers"):
        (place / "head").unlink()
    with contextlib.closing(SharedLedger(folder, max_bytes=MAX)) as made:
        assert [BreakKind.HEAD_GONE] * 2 == [one.kind for one in made.noticed]
    with reading(folder) as reader:
        assert [Share.PARTNERS, Share.STRANGERS] == [one.share for one in reader.verify()]


def test_old_ledger_is_gone_on_with(folder):
    """
    One that knows no shares: its strangers stay where they are.
    """
    with contextlib.closing(EvidenceLedger(folder)) as ledger:
        ledger.append((entry(1), replace(of_stranger(1), share=Share.PARTNERS)))
    with contextlib.closing(SharedLedger(folder, max_bytes=LARGE)) as made:
        made.append((of_stranger(2), entry(3)))
    with reading(folder) as reader:
        assert (4, ()) == (reader.count(), reader.verify())
