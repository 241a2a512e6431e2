"""
An index that is begun while its list comes counts once the list is whole, and is given up where the rest does not come.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

from cftpki_cache.lists import list_directory
from cftpki_ext.checking import large_lists, lists_ahead
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.large_lists import Indexed, IndexWriting
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.ports import StatusQuestion
from cftpki_ext.revocation import clear_memos, list_indexing
from cftpki_ext.revocation.list_indexing import Indexing
from cftpki_ext.revocation.list_sorting import Scratch
from cftpki_ext.support.file_octets import read_at, write_all
from tests.support.indexed_lists import index_of
from tests.support.pki import NOW, Revoked, make_crl
from tests.unit.checking.test_large_lists import LEAF, OTHERS, ROOT, Counting, Web, World, names

GOOD = make_crl(ROOT, [Revoked(serial) for serial in range(1, 400)], number=1)
BAD = make_crl(ROOT, [*(Revoked(n) for n in range(1, 400)), LEAF.serial], number=2)
PIECE = 2048


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_lists, "LARGE_LIST_OCTETS", 100)
    monkeypatch.setattr(lists_ahead, "_FROM_OCTETS", PIECE)
    monkeypatch.setattr(list_indexing, "_STRETCH", 1024)
    monkeypatch.setattr(list_indexing, "LONGEST_ENTRY", 1024)


class Making:
    """
    An index that is made in this process, and what was asked of it.
    """

    def __init__(self, reading: int, writing: IndexWriting, outcome: Indexed | None) -> None:
        between = Scratch(partial(write_all, writing.scratch), partial(read_at, writing.scratch))
        self.indexing = Indexing(partial(read_at, reading), partial(write_all, writing.target), between)
        self.reading = reading
        self.outcome = outcome
        self.told: list[int] = []
        self.finished = 0
        self.closed = asyncio.Event()

    def more(self, octets: int) -> None:
        self.told.append(octets)
        self.indexing.advance(octets)

    async def finish(self, raw: LargeOctets) -> tuple[Indexed, bytes]:
        self.finished += 1
        if self.outcome is not None:
            return self.outcome, b""
        return Indexed.DONE, self.indexing.finish(raw.digest, len(raw))

    async def close(self) -> None:
        os.close(self.reading)
        self.closed.set()


class Early(Counting):
    """
    Begins indexes while lists come, and knows which.
    """

    outlasts = True

    def __init__(self, ahead: Indexed | None = None) -> None:
        super().__init__()
        self.begun: list[Making] = []
        self.begins: asyncio.Queue[Making] = asyncio.Queue()
        self.ahead_outcome = ahead

    def ahead(self, reading: int, writing: IndexWriting) -> Making:
        self.begun.append(Making(reading, writing, self.ahead_outcome))
        self.begins.put_nowait(self.begun[-1])
        return self.begun[-1]


class Slowly(Web):
    """
    A source whose list comes piece by piece, up to where it breaks off.
    """

    def __init__(self, content: bytes, *, breaks_off: bool = False) -> None:
        super().__init__(content)
        self.breaks_off = breaks_off

    async def ask(self, question: StatusQuestion) -> Statement:
        self.asked += 1
        lookup, raw = question.lookup, None
        assert question.spool is not None
        spooling = await asyncio.to_thread(question.spool.begin)
        try:
            for begin in range(0, len(self.content), PIECE):
                await asyncio.to_thread(spooling.write, self.content[begin : begin + PIECE])
                await asyncio.sleep(0.005)
            if not self.breaks_off:
                raw = await asyncio.to_thread(spooling.finish)
        finally:
            spooling.close()
        return Statement(
            kind=SourceKind.CRL,
            origin=Origin.NETWORK,
            received_at=self.at,
            depth=lookup.depth,
            url=lookup.url,
            raw=raw,
            failure=Cause.UNREACHABLE if raw is None else None,
        )


async def judged(world: World, leaf=LEAF):
    clear_memos()
    return (await world.check(leaf))[0]


@pytest.mark.parametrize(("content", "alert"), [(GOOD, 0), (BAD, 44)], ids=["good", "revoked-at-the-end"])
async def test_index_that_was_begun_is_the_one_of_the_whole_list(
    tmp_path: Path, content: bytes, alert: int
) -> None:
    indexer = Early()
    world = World(tmp_path / "s", Slowly(content), indexer)
    assert alert == (await judged(world)).alert
    await world.checker.aclose()
    (making,) = indexer.begun
    assert (1, True, []) == (making.finished, making.closed.is_set(), indexer.made)
    assert len(making.told) > 2
    (path,) = list_directory(tmp_path / "s").glob("*.idx")
    octets, root = index_of(content)
    assert octets == path.read_bytes()[: len(octets)]
    assert root == path.read_bytes()[len(octets) :][:32]


async def test_list_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    indexer = Early()
    world = World(tmp_path / "s", Slowly(GOOD, breaks_off=True), indexer)
    assert not (await judged(world)).accepted
    (making,) = indexer.begun
    await making.closed.wait()
    await world.checker.aclose()
    assert (0, []) == (making.finished, names(tmp_path / "s"))


async def test_index_that_fails_in_the_end_leaves_its_list_to_be_read_whole(tmp_path: Path) -> None:
    indexer = Early(Indexed.FAILED)
    world = World(tmp_path / "s", Slowly(BAD), indexer)
    assert 44 == (await judged(world)).alert
    await world.checker.aclose()
    assert ([], False) == (indexer.made, ".idx" in names(tmp_path / "s"))


async def test_list_that_is_here_already_is_not_indexed_again(tmp_path: Path) -> None:
    indexer = Early()
    world = World(tmp_path / "s", Slowly(GOOD), indexer)
    assert (await judged(world)).accepted
    await indexer.begins.get()
    lists = world.checker._store.lists
    assert lists is not None
    spooling = lists.spool().begin()
    spooling.write(GOOD)
    making = await indexer.begins.get()
    raw = spooling.finish()
    assert raw.index is not None
    await making.closed.wait()
    assert 0 == making.finished
    await world.checker.aclose()


async def test_list_that_nobody_judges_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_ahead, "_UNCLAIMED_S", 0.01)
    indexer = Early()
    world = World(tmp_path / "s", Slowly(GOOD), indexer)
    lists = world.checker._store.lists
    assert lists is not None
    spooling = lists.spool().begin()
    spooling.write(GOOD)
    making = await indexer.begins.get()
    raw = spooling.finish()
    await making.closed.wait()
    # Whoever wants it then has it indexed as one that is whole.
    assert await lists.prepare(raw)
    assert ([raw.digest], 0) == (indexer.made, making.finished)
    await world.checker.aclose()


async def test_second_list_at_the_same_time_is_indexed_once_it_is_whole(tmp_path: Path) -> None:
    indexer = Early()
    world = World(tmp_path / "s", Slowly(GOOD), indexer)
    lists = world.checker._store.lists
    assert lists is not None
    first, second = lists.spool().begin(), lists.spool().begin()
    first.write(GOOD)
    making = await indexer.begins.get()
    second.write(BAD)
    raws = second.finish(), first.finish()
    await asyncio.sleep(0)
    for raw in raws:
        assert await lists.prepare(raw)
        assert raw.index is not None
    assert ([raws[0].digest], [making], 1) == (indexer.made, indexer.begun, making.finished)
    await world.checker.aclose()


async def test_disk_without_room_for_an_index_takes_the_list_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexer = Early()
    world = World(tmp_path / "s", Slowly(BAD), indexer)

    def full() -> IndexWriting:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.store.lists, "begin_index", full)
    assert 44 == (await judged(world)).alert
    await world.checker.aclose()
    assert ([], []) == (indexer.begun, indexer.made)


async def test_other_partners_are_answered_by_the_index_that_was_begun(tmp_path: Path) -> None:
    indexer = Early()
    world = World(tmp_path / "s", Slowly(BAD), indexer)
    answers = await asyncio.gather(*(world.check(leaf) for leaf in (LEAF, *OTHERS)))
    await world.checker.aclose()
    assert [44, 0, 0, 0] == [verdict.alert for verdict, _ in answers]
    assert (1, 1, NOW) == (len(indexer.begun), indexer.begun[0].finished, world.question().at)
