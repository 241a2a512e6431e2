"""
What is held stays beyond its time, goes for want of room alone, and then is told.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest

from cftpki_cache.ledger import EvidenceLedger
from cftpki_cache.ledger_holds import holds, lay, lift, newly_broken
from cftpki_cache.sqlite import connect, transaction
from cftpki_ext.core.errors import StoreError
from tests.support.ledgers import LARGE, NOON, details, entry, fill, reading

LATER = NOON + timedelta(days=30)


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as made:
        yield made


@pytest.fixture
def change(tmp_path, ledger):
    """
    Do something in a transaction of another connection, as a command does.
    """

    def done(what, *arguments, **options):
        with contextlib.closing(connect(tmp_path / "evidence" / "ledger.sqlite3")) as db, transaction(db):
            return what(db, *arguments, **options)

    return done


def kept(tmp_path):
    with reading(tmp_path / "evidence") as reader:
        return [one.seq for one in reader.since()]


def test_hold_keeps_what_was_kept_since_a_time_and_what_is_yet_to_come(ledger, change, tmp_path):
    fill(ledger)  # one each hour since noon
    found = change(lay, "case-7", since=NOON + timedelta(hours=2), reason="letter of 1 March")
    assert ("case-7", 3, "letter of 1 March", 0) == (found.name, found.first, found.reason, found.broken)
    assert 2 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert 0 == ledger.tend(before=LATER, max_bytes=LARGE)
    fill(ledger, count=2, first=5)
    assert 0 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert [3, 4, 5, 6, 7] == kept(tmp_path)
    assert [] == details(tmp_path / "evidence")


def test_without_a_hold_everything_goes_with_its_time(ledger, tmp_path):
    fill(ledger)
    assert 5 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert [] == kept(tmp_path)


def test_hold_of_what_is_yet_to_come_lets_the_rest_go(ledger, change, tmp_path):
    fill(ledger)
    assert 6 == change(lay, "later", since=LATER, reason="r").first
    fill(ledger, count=1, first=5)
    assert 5 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert [6] == kept(tmp_path)


def test_first_hold_counts_and_a_lifted_one_does_not(ledger, change, tmp_path):
    fill(ledger)
    change(lay, "a", since=LATER, first=2, reason="r")
    change(lay, "b", since=LATER, first=4, reason="r")
    assert 1 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert (True, False) == (change(lift, "a"), change(lift, "a"))
    assert ["b"] == [one.name for one in change(holds)]
    assert 2 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert [4, 5] == kept(tmp_path)
    assert change(lift, "b")
    assert 2 == ledger.tend(before=LATER, max_bytes=LARGE)
    assert [] == kept(tmp_path) == details(tmp_path / "evidence")


def test_hold_that_is_laid_again_is_the_new_one(ledger, change):
    fill(ledger)
    change(lay, "a", since=NOON, reason="one")
    change(lay, "a", since=NOON, first=4, reason="two")
    assert [("a", 4, "two")] == [(one.name, one.first, one.reason) for one in change(holds)]


def test_ledger_without_holds_has_none(ledger, change):
    assert ((), False, None) == (change(holds), change(lift, "a"), change(newly_broken))


def test_want_of_room_breaks_a_hold_and_is_told_once(ledger, change, tmp_path):
    fill(ledger)
    change(lay, "case-7", since=NOON, first=2, reason="r")
    with pytest.raises(
        StoreError,
        match=r"records that are held were let go for want of room: 4 under 'case-7'; raise evidence.max_size",
    ):
        ledger.tend(before=NOON, max_bytes=0)
    assert [] == kept(tmp_path)
    assert [4] == [one.broken for one in change(holds)]
    assert 0 == ledger.tend(before=NOON, max_bytes=0)
    ledger.append((entry(9),))
    with pytest.raises(StoreError, match="1 under 'case-7'"):
        ledger.tend(before=NOON, max_bytes=0)
    assert [] == details(tmp_path / "evidence")


def test_hold_of_a_name_that_is_hostile_is_told_escaped(ledger, change):
    fill(ledger)
    change(lay, "a\x1b[2J\n", since=NOON, reason="r")
    with pytest.raises(StoreError) as told:
        ledger.tend(before=NOON, max_bytes=0)
    assert str(told.value).isprintable()
