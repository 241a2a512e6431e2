"""
The cache as a driver uses it: who waits for the disk, and who does not.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from cftpki_cache.disk import DiskStore
from cftpki_cache.memory import MemoryStore, TwoSizesStore
from cftpki_cache.tiered import TieredStore
from cftpki_ext.checking import responses as checking_responses
from cftpki_ext.checking.responses import LARGE_OCTETS, Responses
from cftpki_ext.core.digest import clear_digests, is_hashed
from cftpki_ext.ports.responses import StoredResponse
from tests.support.wall_clock import until

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LARGE = b"x" * (LARGE_OCTETS + 1)


class Slow(MemoryStore):
    """
    A lower tier that does nothing before `go`.
    """

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.looked = 0

    def look(self, key):
        self.looked += 1
        assert self.go.wait(10)
        return super().look(key)

    def put(self, key, raw, *, received_at, keep_s):
        assert self.go.wait(10)
        super().put(key, raw, received_at=received_at, keep_s=keep_s)


@contextmanager
def tiers(lower):
    now = [0.0]
    upper = MemoryStore()
    responses = Responses(TieredStore(upper, lower), lambda: now[0])
    try:
        yield responses, upper, now
    finally:
        lower.go.set()
        responses.close()


async def test_disk_that_hangs_holds_up_its_own_question_and_nobody_elses():
    lower = Slow()
    with tiers(lower) as (responses, upper, _):
        upper.put("at hand", b"answer", received_at=NOW, keep_s=60)
        waiting = asyncio.ensure_future(responses.find("elsewhere"))
        await asyncio.sleep(0)
        assert StoredResponse(raw=b"answer", received_at=NOW) == await responses.find("at hand")
        responses.put("new", b"another", received_at=NOW, keep_s=60)
        assert StoredResponse(raw=b"another", received_at=NOW) == await responses.find("new")
        assert not waiting.done()
        lower.go.set()
        assert None is await waiting


async def test_answer_that_waits_for_the_disk_takes_the_place_of_no_newer_one():
    lower = Slow()
    with tiers(lower) as (responses, _, _):
        for number in range(100):  # more than may wait: the last are in memory alone
            responses.put("list", b"%d" % number, received_at=NOW, keep_s=60)
        lower.go.set()
        assert None is await responses.find("elsewhere")  # behind all that waited
        assert b"99" == (await responses.find("list")).raw


async def test_disk_that_hangs_is_waited_for_once_and_counts_again_when_it_is_back(monkeypatch):
    monkeypatch.setattr(checking_responses, "PATIENCE_S", 0.01)
    lower = Slow()
    with tiers(lower) as (responses, _, _):
        for name in ("a", "b", "a"):
            assert None is await responses.find(name)
            assert (False, None) == responses.at_hand(name)  # nobody knows
        assert 1 == lower.looked
        lower.go.set()
        await asyncio.to_thread(until, lambda: responses.is_awake)
        monkeypatch.undo()
        assert None is await responses.find("b")
        assert (2, (True, None)) == (lower.looked, responses.at_hand("b"))


async def test_what_waits_for_a_disk_that_hangs_is_bounded_by_octets(monkeypatch):
    monkeypatch.setattr(checking_responses, "_BEHIND_OCTETS", 25)
    lower = Slow()
    with tiers(lower) as (responses, upper, _):
        for number in range(5):
            responses.put(f"list {number}", b"x" * 10, received_at=NOW, keep_s=60)
        assert b"x" * 10 == upper.get("list 4").raw
        lower.go.set()
        assert None is await responses.find("elsewhere")  # behind all that waited
        await asyncio.sleep(0)
        responses.put("later", b"x" * 30, received_at=NOW, keep_s=60)
        assert None is await responses.find("elsewhere else")
        kept = [MemoryStore.look(lower, f"list {number}") is not None for number in range(5)]
        assert ([True, True, False, False, False], b"x" * 30) == (kept, MemoryStore.look(lower, "later").raw)


class Broken(Slow):
    def put(self, key, raw, **how):
        raise RuntimeError(key, raw, len(how))


async def test_store_that_raises_is_logged_and_what_it_was_given_is_at_hand(caplog):
    lower = Broken()
    lower.go.set()
    with tiers(lower) as (responses, _, _):
        responses.put("list", b"raw", received_at=NOW, keep_s=60)
        assert b"raw" == (await responses.find("list")).raw
        assert None is await responses.find("elsewhere")  # behind it
        await asyncio.sleep(0)
    assert ["an answer was not written: RuntimeError('list', b'raw', 2)"] == caplog.messages


async def test_what_the_disk_has_not_is_not_asked_again_at_once():
    lower = Slow()
    lower.go.set()
    with tiers(lower) as (responses, _, now):
        assert (False, None) == responses.at_hand("none")
        for _ in range(3):
            assert None is await responses.find("none")
        assert (True, None) == responses.at_hand("none")
        assert 1 == lower.looked
        now[0] = 21.0
        assert None is await responses.find("none")
        assert 2 == lower.looked
        responses.put("none", b"now", received_at=NOW, keep_s=60)
        assert b"now" == (await responses.find("none")).raw


@pytest.mark.parametrize(
    "news", [lambda responses: responses.stored("none", NOW), lambda responses: responses.flushed()]
)
async def test_what_another_process_stores_while_the_disk_is_read_is_not_missing(news):
    lower = Slow()
    with tiers(lower) as (responses, _, _):
        looking = asyncio.ensure_future(responses.find("none"))
        while not lower.looked:  # noqa: ASYNC110 - the disk's thread has no event
            await asyncio.sleep(0.001)
        news(responses)
        lower.go.set()
        assert None is await looking
        assert (False, None) == responses.at_hand("none")


async def test_what_is_put_is_on_the_disk_when_it_is_closed(tmp_path):
    responses = Responses(TieredStore(MemoryStore(), DiskStore(tmp_path / "r")), lambda: 0.0)
    responses.put("large", LARGE, received_at=NOW, keep_s=10**9)
    responses.put("small", b"x", received_at=NOW, keep_s=10**9)
    responses.close()
    again = Responses(TieredStore(MemoryStore(), DiskStore(tmp_path / "r")), lambda: 0.0)
    assert LARGE == (await again.find("large")).raw
    assert b"x" == (await again.find("small")).raw
    again.close()


async def test_large_answer_is_hashed_when_it_is_found_and_let_go_of_when_nobody_keeps_it():
    clear_digests()
    lower = Slow()
    lower.go.set()
    with tiers(lower) as (responses, upper, _):
        responses.put("list", LARGE, received_at=NOW, keep_s=60)
        found = await responses.find("list")
        assert is_hashed(found.raw)
        responses.let_go(found.raw, "list")
        assert is_hashed(found.raw)  # memory has it still
        upper.drop("list")
        assert not is_hashed(found.raw)
        other = b"y" * (LARGE_OCTETS + 1)
        responses.put("list", other, received_at=NOW, keep_s=60)
        await responses.find("list")
        responses.let_go(other, "another name")
        assert not is_hashed(other)


async def test_plain_store_is_asked_as_it_is():
    responses = Responses(MemoryStore(), lambda: 0.0)
    responses.put("a", b"1", received_at=NOW, keep_s=60)
    assert (True, StoredResponse(raw=b"1", received_at=NOW)) == responses.at_hand("a")
    assert (True, None) == responses.at_hand("b")
    assert None is await responses.find("b")
    responses.close()


@pytest.mark.parametrize("first", [b"small", b"l" * 20])
def test_large_lists_push_out_no_small_answers(first):
    store = TwoSizesStore(MemoryStore(max_bytes=2000), MemoryStore(max_bytes=1500), large_octets=10)
    store.put("small", b"answer", received_at=NOW, keep_s=60)
    for number in range(5):
        store.put(f"list {number}", b"x" * 900, received_at=NOW, keep_s=60)
    assert b"answer" == store.get("small").raw
    assert [None, None, None, None, b"x" * 900] == [
        found and found.raw for found in (store.get(f"list {number}") for number in range(5))
    ]
    # Under one name there is one answer, whatever its size was before.
    store.put("small", first, received_at=NOW, keep_s=60)
    store.put("small", b"z" * 30, received_at=NOW, keep_s=60)
    assert b"z" * 30 == store.get("small").raw
    store.put("small", b"z", received_at=NOW, keep_s=60)
    assert b"z" == store.look("small").raw
    store.drop("small")
    assert None is store.get("small")
    store.close()
    assert None is store.get("list 4")
