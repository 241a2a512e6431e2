"""
A judge is handed a large list by two descriptors, reads a few pages of its index, and says what it finds damaged.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cftpki_cache.lists import list_directory
from cftpki_ext.checking import large_lists
from cftpki_ext.core.large_lists import Indexed, IndexWriting
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.processes.worker import WorkerError
from cftpki_ext.revocation import clear_memos
from cftpki_ext.service.judging.remote import Judged, Judges
from cftpki_ext.support.file_octets import FileIndex, FileOctets
from tests.support import evidence_samples as samples
from tests.support.judge_here import JudgePool
from tests.unit.checking.test_large_lists import BAD, GOOD, LEAF, OTHERS, Clock, Counting, Web, World, give_up
from tests.unit.service.test_hostile_judge import SETTINGS


class Judging(JudgePool):
    """
    A judge in this process that is begun anew by `restart`, and what it was sent.
    """

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.sent: list[int] = []
        self.heavy: list[bool] = []

    def lacks(self, digest: str) -> bool:
        return digest not in self.seat.bodies

    async def call(self, job: Any, build: Any, *, within_s: float) -> Any:
        def counting(seat: Any) -> Any:
            message = build(seat)
            self.sent.append(len(message.descriptors))
            self.heavy.append(job.heavy)
            return message

        answer = await super().call(job, counting, within_s=within_s)
        self.seat.bodies.update(job.large)
        return answer

    def restart(self) -> None:
        clear_memos()
        self.judge._bodies.clear()
        self.seat.bodies.clear()


class Service:
    """
    What a front has: a checker over a folder, and a judge.
    """

    def __init__(self, folder: Path, content: bytes) -> None:
        clear_memos()
        self.web, self.indexer, self.pool = Web(content), Counting(), Judging()
        self.world = World(folder, self.web, self.indexer)
        self.judges = Judges(self.world.checker, self.pool, Clock())

    async def ask(self, leaf: Any = LEAF) -> Judged:
        return await self.judges.judge(self.world.question(leaf), asked=samples.record().asked)

    async def written(self) -> None:
        """
        Wait until all that was heard is on the disk.
        """
        writing = self.world.checker._store._writing
        if writing:
            await asyncio.wait(tuple(writing))

    async def close(self) -> None:
        await self.judges.aclose()


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_lists, "LARGE_LIST_OCTETS", 100)


@pytest.mark.parametrize(("content", "alert"), [(GOOD, 0), (BAD, 44)], ids=["good", "revoked"])
def test_judge_is_handed_list_and_index_once_and_the_record_names_the_list(
    tmp_path: Path, content: bytes, alert: int
) -> None:
    async def run() -> None:
        service = Service(tmp_path / "s", content)
        judged = await service.ask()
        assert alert == judged.verdict.alert
        assert judged.stored is not None
        (named,) = [raw for raw in judged.stored.blobs.values() if isinstance(raw, LargeOctets)]
        assert content == named.whole()
        assert named.digest in judged.stored.document.decode()
        await service.ask(OTHERS[0])
        assert [2] == [count for count in service.pool.sent if count]
        await service.close()

    asyncio.run(run())


def test_index_that_comes_while_its_list_is_handed_over_counts_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number_of = FileOctets.fileno

    def fileno(raw: FileOctets) -> int:
        number = number_of(raw)
        if raw.index is None:
            raw.index = FileIndex(os.dup(number), 10, bytes(32))
        return number

    async def run() -> None:
        service = Service(tmp_path / "s", GOOD)
        service.indexer.outcome = Indexed.FAILED
        monkeypatch.setattr(FileOctets, "fileno", fileno)
        assert (await service.ask()).verdict.accepted
        assert [1] == [count for count in service.pool.sent if count]
        await service.close()

    asyncio.run(run())


def test_list_whose_question_ends_before_it_is_indexed_is_judged_with_the_next(tmp_path: Path) -> None:
    async def run() -> None:
        service = Service(tmp_path / "s", GOOD)
        may, make = asyncio.Event(), service.indexer.index

        async def index(raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
            await may.wait()
            return await make(raw, writing)

        service.indexer.index = index  # type: ignore[method-assign]
        for _ in range(2):
            await give_up(service.world, service.ask())
        may.set()
        assert (await service.ask()).verdict.accepted
        assert (1, 1) == (service.web.asked, len(service.indexer.made))
        await service.close()

    asyncio.run(run())


def test_damaged_index_is_told_by_the_judge_and_made_anew(tmp_path: Path) -> None:
    async def run() -> None:
        service = Service(tmp_path / "s", GOOD)
        await service.ask()
        await service.written()
        (path,) = list_directory(tmp_path / "s").glob("*.idx")
        with path.open("r+b") as file:
            file.write(b"\xff" * 200)
        service.pool.restart()
        assert (await service.ask(OTHERS[0])).verdict.accepted
        assert not path.exists()
        service.pool.restart()
        assert (await service.ask(OTHERS[1])).verdict.accepted
        assert (1, 2) == (service.web.asked, len(service.indexer.made))
        await service.close()

    asyncio.run(run())


def test_list_that_is_damaged_with_its_index_decides_nothing_and_is_got_anew(tmp_path: Path) -> None:
    async def run() -> None:
        service = Service(tmp_path / "s", GOOD)
        await service.ask()
        await service.written()
        for path in list_directory(tmp_path / "s").iterdir():
            with path.open("r+b") as file:
                file.write(b"\xff" * 200)
        service.pool.restart()
        with pytest.raises(WorkerError, match="cannot be read"):
            await service.ask(OTHERS[0])
        assert (await service.ask(OTHERS[0])).verdict.accepted
        assert (2, 2) == (service.web.asked, len(service.indexer.made) - 1)
        await service.close()

    asyncio.run(run())


def test_list_without_an_index_is_read_whole_by_the_judge_for_such_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        service = Service(tmp_path / "s", GOOD)
        service.world.checker.index_by(Counting(Indexed.ODD))
        monkeypatch.setattr("cftpki_ext.service.judging.remote_case.HEAVY_OCTETS", 100)
        assert (await service.ask()).verdict.accepted
        assert [1] == [count for count in service.pool.sent if count]
        assert True in service.pool.heavy
        service.world.checker.index_by(Counting())
        await service.close()

    asyncio.run(run())


def test_list_over_the_limit_of_the_question_is_not_read_by_the_judge(tmp_path: Path) -> None:
    async def run() -> None:
        service = Service(tmp_path / "s", GOOD)
        question = service.world.question()
        question = replace(question, limits=replace(question.limits, crl_bytes=len(GOOD) - 1))
        judged = await service.judges.judge(question, asked=samples.record().asked)
        assert 46 == judged.verdict.alert
        await service.close()

    asyncio.run(run())
