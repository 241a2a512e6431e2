"""
What other processes put into cache and memory of revocations is seen once, soon, and with when it was received.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_cache import watch as watching
from cftpki_cache.disk import DiskStore
from cftpki_cache.revocations import RevocationMemory
from cftpki_cache.watch import StateWatch, mark_flushed
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.ports.changes import StoreChanges

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NOTHING = StoreChanges()


def proof(raw=b"a signed revocation"):
    return Statement(
        kind=SourceKind.OCSP, origin=Origin.NETWORK, received_at=NOW, depth=0, url="http://ca/ocsp", raw=raw
    )


@pytest.fixture
def seconds():
    return [1000.0]


@pytest.fixture
def disk(tmp_path, monkeypatch, seconds):
    # The cache's own time of a row.
    monkeypatch.setattr("diskcache.core.time.time", lambda: seconds[0])
    with contextlib.closing(DiskStore(tmp_path / "responses", wall=lambda: seconds[0])) as store:
        store.put("before", b"x", received_at=NOW, keep_s=600)
        yield store


@pytest.fixture
def memory(tmp_path):
    with contextlib.closing(RevocationMemory(tmp_path)) as memory:
        yield memory


@pytest.fixture
def watch(tmp_path, disk, memory, seconds):
    with contextlib.closing(StateWatch(tmp_path, tmp_path / "responses", wall=lambda: seconds[0])) as watch:
        yield watch


def test_first_look_tells_of_proofs_alone_and_the_next_of_nothing(watch, memory):
    memory.remember("leaf", proof())
    assert StoreChanges(revoked=frozenset({"leaf"})) == watch.look()
    assert NOTHING == watch.look()


def test_answer_is_told_once_with_when_it_was_received(watch, disk):
    watch.look()
    disk.put("ocsp", b"good", received_at=NOW, keep_s=60)
    assert StoreChanges(responses={"ocsp": NOW}) == watch.look()
    assert NOTHING == watch.look()
    disk.put("ocsp", b"revoked", received_at=NOW + timedelta(seconds=1), keep_s=60)
    # The same name, within the same tick of the row's clock, is one row: told as soon as the clock goes on.
    assert NOTHING == watch.look()


def test_newer_answer_under_a_name_is_told_again(watch, disk, seconds):
    watch.look()
    for number in range(3):
        seconds[0] += 0.001
        disk.put("ocsp", b"answer", received_at=NOW + timedelta(seconds=number), keep_s=60)
        assert {"ocsp": NOW + timedelta(seconds=number)} == watch.look().responses


def test_answer_whose_row_is_older_than_the_newest_is_told_too(watch, disk, seconds):
    watch.look()
    disk.put("list", b"first", received_at=NOW, keep_s=60)
    assert {"list": NOW} == watch.look().responses
    seconds[0] -= 4
    disk.put("ocsp", b"late", received_at=NOW, keep_s=60)
    assert {"ocsp": NOW} == watch.look().responses


def test_clock_that_was_set_back_hides_no_answer(watch, disk, seconds):
    watch.look()
    seconds[0] -= 500
    disk.put("ocsp", b"good", received_at=NOW, keep_s=60)
    assert {"ocsp": NOW} == watch.look().responses


def test_more_answers_than_one_look_reads_are_all_told(watch, disk, seconds, monkeypatch):
    monkeypatch.setattr(watching, "_ROWS", 3)
    watch.look()
    told = {}
    for number in range(8):
        seconds[0] += 0.1
        disk.put(f"ocsp {number}", b"good", received_at=NOW, keep_s=60)
    for _ in range(4):
        told |= watch.look().responses
    assert {f"ocsp {number}" for number in range(8)} == set(told)


def test_answers_that_are_dropped_or_not_ours_are_told_of_nobody(watch, disk, tmp_path):
    watch.look()
    disk.drop("before")
    assert NOTHING == watch.look()
    disk._run(lambda cache: cache.set("foreign", b"short", expire=60), writes=True)
    assert NOTHING == watch.look()


def test_cache_that_was_begun_anew_is_watched_again(watch, disk, tmp_path, seconds):
    watch.look()
    disk._disconnect()
    for file in (tmp_path / "responses").iterdir():
        file.unlink()
    assert NOTHING == watch.look()
    seconds[0] += 1
    disk.put("ocsp", b"good", received_at=NOW, keep_s=60)
    assert {"ocsp": NOW} == watch.look().responses


def test_state_without_cache_or_memory_has_no_news(tmp_path):
    with contextlib.closing(StateWatch(tmp_path, tmp_path / "responses")) as watch:
        assert [NOTHING, NOTHING] == [watch.look(), watch.look()]


def test_flush_is_told_once_and_not_one_of_before(watch, tmp_path):
    watch.look()
    mark_flushed(tmp_path / "responses")
    assert [True, False] == [watch.look().flushed, watch.look().flushed]
    mark_flushed(tmp_path / "responses")
    assert [True, False] == [watch.look().flushed, watch.look().flushed]
    with contextlib.closing(StateWatch(tmp_path, tmp_path / "responses")) as another:
        assert not another.look().flushed
    assert [] == list((tmp_path / "responses").glob(".flushed*"))


def test_memory_that_cannot_be_read_is_no_news_but_an_error(watch, memory, tmp_path):
    watch.look()
    memory.remember("leaf", proof())
    memory._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    memory.close()
    (tmp_path / "revocations.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="memory of revocations cannot be read"):
        watch.look()


def test_look_that_fails_takes_nothing_for_told(watch, disk, memory, tmp_path, seconds, monkeypatch):
    watch.look()
    mark_flushed(tmp_path / "responses")
    seconds[0] += 1
    disk.put("ocsp", b"revoked", received_at=NOW, keep_s=60)
    memory.remember("leaf", proof())
    with monkeypatch.context() as patched:
        patched.setattr(watch._proofs, "changed", _no_descriptors)
        with pytest.raises(StoreError, match="Too many open files"):
            watch.look()
    expected = StoreChanges(flushed=True, responses={"ocsp": NOW}, revoked=frozenset({"leaf"}))
    assert [expected, NOTHING] == [watch.look(), watch.look()]


def _no_descriptors():
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_answers_of_a_cache_that_is_begun_while_it_is_watched_are_told(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr("diskcache.core.time.time", lambda: seconds[0])
    with contextlib.closing(StateWatch(tmp_path, tmp_path / "responses", wall=lambda: seconds[0])) as watch:
        assert NOTHING == watch.look()
        seconds[0] += 60
        with contextlib.closing(DiskStore(tmp_path / "responses", wall=lambda: seconds[0])) as disk:
            disk.put("ocsp", b"revoked", received_at=NOW, keep_s=60)
            assert {"ocsp": NOW} == watch.look().responses


def test_rows_whose_time_or_name_is_none_hide_no_other(watch, disk, seconds):
    watch.look()
    seconds[0] += 1
    disk.put("ocsp", b"good", received_at=NOW, keep_s=60)

    def plant(cache):
        rows = [(f"bad {n}", at) for n, at in enumerate(("never", None, b"", float("inf")))]
        for row in (*rows, (b"name", 1001.0)):
            cache._sql("INSERT INTO Cache (key, raw, store_time, value) VALUES (?, 1, ?, zeroblob(64))", row)

    disk._run(plant, writes=True)
    for _ in range(2):
        assert {"bad 3", "ocsp"} >= set(watch.look().responses)
    seconds[0] += 1
    disk.put("list", b"good", received_at=NOW, keep_s=60)
    assert NOW == watch.look().responses["list"]


def test_memory_that_was_taken_away_knows_nobody_and_is_told_once(tmp_path, watch, memory):
    memory.remember("leaf", proof())
    assert frozenset({"leaf"}) == watch.look().revoked
    for path in tmp_path.glob("revocations.sqlite3*"):
        path.unlink()
    assert [frozenset(), None] == [watch.look().revoked for _ in range(2)]
    memory.remember("other", proof())
    assert frozenset({"leaf", "other"}) == watch.look().revoked


def test_memory_that_was_never_there_is_not_missed(tmp_path):
    with contextlib.closing(StateWatch(tmp_path / "no", tmp_path / "responses")) as watch:
        assert [None, None] == [watch.look().revoked for _ in range(2)]


def test_memory_that_this_process_wrote_to_and_somebody_emptied_between_two_looks_is_read_again(
    tmp_path, watch, memory
):
    watch.look()
    memory.remember("leaf", proof())
    emptied = sqlite3.connect(tmp_path / "revocations.sqlite3")
    with contextlib.closing(emptied), emptied:
        emptied.execute("DELETE FROM proof")
    assert frozenset() == watch.look().revoked
    assert None is watch.look().revoked
    watch.remembered()
    assert frozenset() == watch.look().revoked


def test_memory_that_this_process_wrote_to_and_somebody_deleted_between_two_looks_is_missed(tmp_path):
    with contextlib.closing(StateWatch(tmp_path, tmp_path / "responses")) as watch:
        assert None is watch.look().revoked
        watch.remembered()  # and gone it is
        assert [frozenset(), None] == [watch.look().revoked for _ in range(2)]
