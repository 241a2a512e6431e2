"""
Large lists through a whole check: put into files, indexed once, found again after a restart, healed where they are damaged.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cftpki_cache.disk import DiskStore
from cftpki_cache.listed import ListedStore
from cftpki_cache.lists import ListFiles, list_directory
from cftpki_cache.memory import MemoryStore
from cftpki_cache.revocations import RevocationMemory
from cftpki_cache.tiered import TieredStore
from cftpki_ext.bootstrap.kept import keep_record
from cftpki_ext.checking import large_lists
from cftpki_ext.checking.case import HereCase, Outcome
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.large_lists import IndexInThread
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.large_lists import Indexed, IndexWriting
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record, decide_again, decode, encode
from cftpki_ext.ports.changes import StoreChanges
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.revocation import clear_memos
from cftpki_ext.stores import open_ledger
from tests.support.pki import NOW, Revoked, issue, make_crl, make_root

ROOT = make_root("Root")
LEAF = issue(ROOT, "partner", eku=["clientAuth"], crl_urls=["http://ca/crl"])
OTHERS = [issue(ROOT, f"partner {n}", eku=["clientAuth"], crl_urls=["http://ca/crl"]) for n in range(3)]
GOOD = make_crl(ROOT, [Revoked(serial) for serial in range(1, 60)], number=1)
BAD = make_crl(
    ROOT, [*(Revoked(n) for n in range(1, 60)), LEAF.serial], number=2, this_update=NOW - timedelta(minutes=5)
)
TRUST = TrustSet(name="t", anchors=(ROOT.der,), sources=(SourceKind.CRL,), allow_hosts=("ca",))
LIMITS = Limits()


class Clock:
    """
    Stands still.
    """

    def now(self):
        return NOW

    def monotonic(self):
        return 0.0


class Ticking(Clock):
    """
    Is set by hand.
    """

    def __init__(self) -> None:
        self.at = NOW

    def now(self):
        return self.at


class Web:
    """
    A source of lists that puts them where large octets go, as ours does.
    """

    def __init__(self, content: bytes, *, spools: bool = True) -> None:
        self.content = content
        self.spools = spools
        self.at = NOW
        self.asked = 0

    async def ask(self, question: StatusQuestion) -> Statement:
        self.asked += 1
        raw: bytes | LargeOctets = self.content
        if self.spools and question.spool is not None:
            spooling = question.spool.begin()
            spooling.write(self.content)
            raw = spooling.finish()
            spooling.close()
        lookup = question.lookup
        return Statement(
            kind=SourceKind.CRL,
            origin=Origin.NETWORK,
            received_at=self.at,
            depth=lookup.depth,
            url=lookup.url,
            raw=raw,
        )

    async def aclose(self) -> None:
        pass


class Counting(IndexInThread):
    """
    Knows which lists it has indexed.
    """

    def __init__(self, outcome: Indexed | None = None) -> None:
        self.made: list[str] = []
        self.outcome = outcome

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        self.made.append(raw.digest)
        if self.outcome is not None:
            return self.outcome, b""
        return await super().index(raw, writing)


class World:
    """
    A checker over one folder, which may be closed and opened again.
    """

    def __init__(self, folder: Path, web: Web, indexer: Counting, clock: Clock | None = None) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        lists = ListFiles(folder, max_bytes=1 << 30)
        self.folder = folder
        self.indexer = indexer
        self.store = ListedStore(TieredStore(MemoryStore(), DiskStore(folder / "responses")), lists)
        self.proofs = RevocationMemory(folder, lists)
        self.checker = Checker(
            sources={SourceKind.CRL: web}, store=self.store, clock=clock or Clock(), proofs=self.proofs
        )
        self.checker.index_by(indexer)

    def question(self, leaf=LEAF) -> Question:
        return Question(
            chain=(leaf.der,), trust=TRUST, limits=LIMITS, direction=Direction.SERVER, at=NOW, rule="r"
        )

    async def check(self, leaf=LEAF) -> tuple[Verdict, tuple[Statement, ...]]:
        return await self.checker.check_with_statements(self.question(leaf))

    def run(self, leaf=LEAF) -> tuple[Verdict, tuple[Statement, ...]]:
        clear_memos()

        async def once():
            try:
                return await self.check(leaf)
            finally:
                await self.checker.aclose()

        return asyncio.run(once())


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_lists, "LARGE_LIST_OCTETS", 100)


def names(folder: Path) -> list[str]:
    return sorted(path.suffix for path in list_directory(folder).iterdir())


@pytest.mark.parametrize("spools", [True, False], ids=["source-spools", "source-has-it-in-memory"])
def test_list_is_indexed_once_and_answers_after_a_restart(tmp_path: Path, spools: bool) -> None:  # noqa: FBT001
    web, indexer = Web(GOOD, spools=spools), Counting()
    verdict, statements = World(tmp_path / "s", web, indexer).run()
    assert verdict.accepted, verdict
    assert [True] == [isinstance(one.raw, LargeOctets) for one in statements]
    assert ([".crl", ".idx"], 1, 1) == (names(tmp_path / "s"), web.asked, len(indexer.made))
    again, statements = World(tmp_path / "s", web, indexer).run(OTHERS[0])
    assert again.accepted
    assert ([Origin.CACHE], 1, 1) == ([one.origin for one in statements], web.asked, len(indexer.made))


def test_thousand_that_wait_for_one_list_index_it_once(tmp_path: Path) -> None:
    web, indexer = Web(GOOD), Counting()
    world = World(tmp_path / "s", web, indexer)

    async def all_of_them():
        try:
            return await asyncio.gather(*(world.check(OTHERS[n % 3]) for n in range(60)))
        finally:
            await world.checker.aclose()

    answers = asyncio.run(all_of_them())
    assert {True} == {verdict.accepted for verdict, _ in answers}
    assert 1 == len(indexer.made)


def test_revoked_by_a_large_list_is_known_after_cache_and_list_are_gone(tmp_path: Path) -> None:
    web = Web(BAD)
    verdict, _ = World(tmp_path / "s", web, Counting()).run()
    assert (44, [".crl", ".idx", ".proof"]) == (verdict.alert, names(tmp_path / "s"))
    world = World(tmp_path / "s", web, Counting())
    world.store.lists.clear()
    for path in (tmp_path / "s" / "responses").iterdir():
        path.unlink()
    web.content = GOOD
    verdict, statements = world.run()
    assert 44 == verdict.alert
    assert Origin.KNOWN_REVOKED in {one.origin for one in statements}


def test_large_list_gives_the_verdict_that_it_gives_whole_and_replays_from_its_octets(tmp_path: Path) -> None:
    for content, alert in ((GOOD, 0), (BAD, 44), (GOOD[:-1] + bytes((GOOD[-1] ^ 1,)), 46)):
        folder = tmp_path / str(alert)
        world = World(folder, Web(content), Counting())
        verdict, statements = world.run()
        assert alert == verdict.alert
        in_memory = tuple(replace(one, raw=content) for one in statements)
        stored = encode(
            Record(
                question=world.question(), statements=statements, verdict=verdict, asked=Asked(door=Door.CLI)
            )
        )
        whole = encode(
            Record(
                question=world.question(), statements=in_memory, verdict=verdict, asked=Asked(door=Door.CLI)
            )
        )
        assert whole.document == stored.document
        clear_memos()
        record = decode(whole.document, dict(whole.blobs).get)
        assert verdict == decide_again(record)


@pytest.mark.parametrize("damaged", [".idx", ".crl", "both"])
def test_what_is_damaged_on_the_disk_is_made_anew(tmp_path: Path, damaged: str) -> None:
    web, indexer = Web(GOOD), Counting()
    World(tmp_path / "s", web, indexer).run()
    for path in list_directory(tmp_path / "s").iterdir():
        if damaged in (path.suffix, "both"):
            content = bytearray(path.read_bytes())
            content[100] ^= 1
            if damaged == "both":
                content[-1] ^= 1
            path.write_bytes(content)
    verdict, _ = World(tmp_path / "s", web, indexer).run(OTHERS[0])
    assert verdict.accepted, verdict
    # A damaged page is made up for by the list; without both the list is asked for anew.
    assert {".idx": (1, 1), ".crl": (1, 1), "both": (2, 3)}[damaged] == (web.asked, len(indexer.made))


@pytest.mark.parametrize("outcome", [Indexed.ODD, Indexed.FAILED])
def test_list_without_an_index_is_judged_whole(tmp_path: Path, outcome: Indexed) -> None:
    web, indexer = Web(GOOD), Counting(outcome)
    world = World(tmp_path / "s", web, indexer)

    async def twice():
        try:
            return [(await world.check(leaf))[0] for leaf in (LEAF, OTHERS[0])]
        finally:
            await world.checker.aclose()

    assert [True, True] == [verdict.accepted for verdict in asyncio.run(twice())]
    # That it has none is remembered.
    assert 1 == len(indexer.made)


def test_list_over_the_limit_is_too_large_however_it_is_read(tmp_path: Path) -> None:
    world = World(tmp_path / "s", Web(GOOD), Counting())
    question = replace(world.question(), limits=Limits(crl_bytes=len(GOOD) - 1))

    async def once():
        try:
            return await world.checker.check(question)
        finally:
            await world.checker.aclose()

    verdict = asyncio.run(once())
    assert [Cause.TOO_LARGE] == [finding.cause for finding in verdict.evidence.findings]


def test_list_whose_question_ran_out_of_time_is_not_indexed_again(tmp_path: Path) -> None:
    web, indexer = Web(GOOD), Counting()
    world = World(tmp_path / "s", web, indexer)

    async def once():
        # As if the answer had come after the question's end: indexed, and nothing of it kept.
        lists = world.checker._store.lists
        assert lists is not None
        late = await lists.placed(
            Statement(kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=NOW, raw=GOOD)
        )
        await lists.prepare(late.raw)
        del late
        try:
            return (await world.check())[0]
        finally:
            await world.checker.aclose()

    assert asyncio.run(once()).accepted
    assert 1 == len(indexer.made)


class Slow(Counting):
    """
    Makes no index before it may, as one of a service.
    """

    outlasts = True

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
        await self.may.wait()
        return await super().index(raw, writing)


async def give_up(world: World, check: Coroutine[Any, Any, object] | None = None) -> None:
    """
    A check whose time ends while the index of its list is being made.
    """
    lists, waits = world.checker._store.lists, asyncio.Event()
    assert lists is not None
    prepare = lists.prepare

    async def wait(raw: bytes | LargeOctets | None) -> bool:
        waits.set()
        return await prepare(raw)

    lists.prepare = wait  # type: ignore[method-assign]
    checking = asyncio.create_task(world.check() if check is None else check)
    await waits.wait()
    checking.cancel()
    await asyncio.gather(checking, return_exceptions=True)
    lists.prepare = prepare  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("content", "alerts", "asked"),
    [
        pytest.param(GOOD, [0, 0], 1, id="good: received once"),
        pytest.param(BAD, [44, 44], 1, id="revoked: received once"),
        pytest.param(
            GOOD[:-1] + bytes((GOOD[-1] ^ 1,)),
            [46, 46],
            2,
            id="not the CA's: asked for anew once it is judged",
        ),
    ],
)
def test_list_that_came_too_late_is_there_for_the_next_question(
    tmp_path: Path, content: bytes, alerts: list[int], asked: int
) -> None:
    async def scene() -> tuple[list[int], int]:
        web, indexer = Web(content), Slow()
        world = World(tmp_path / "s", web, indexer)
        for _ in range(5):
            await give_up(world)
        assert (1, []) == (web.asked, indexer.made)
        indexer.may.set()
        alerts = [(await world.check())[0].alert for _ in range(2)]
        await world.checker.aclose()
        assert 1 == len(indexer.made)
        return alerts, web.asked

    assert (alerts, asked) == asyncio.run(scene())


def test_older_list_counts_while_the_index_of_the_newer_is_made(tmp_path: Path) -> None:
    async def scene() -> tuple[list[int], list[int], int]:
        web, indexer, clock = Web(GOOD), Slow(), Ticking()
        world = World(tmp_path / "s", web, indexer, clock)
        question = replace(world.question(), limits=Limits(budget_ms=600, reserve_ms=100))
        indexer.may.set()
        first = await world.checker.check(question)
        indexer.may.clear()
        clock.at = web.at = NOW + Limits().crl_refresh
        web.content = BAD
        question = replace(question, at=clock.at)
        second, statements = await world.checker.check_with_statements(question)
        indexer.may.set()
        third = await world.checker.check(question)
        await world.checker.aclose()
        heard = [one.failure for one in statements if one.origin is Origin.NETWORK]
        assert [Cause.TIMED_OUT] == heard
        return [first.alert, second.alert, third.alert], [len(indexer.made)], web.asked

    assert ([0, 0, 44], [2], 2) == asyncio.run(scene())


def test_command_waits_for_the_index_of_the_newer_list(tmp_path: Path) -> None:
    async def scene() -> list[int]:
        web, indexer, clock = Web(GOOD), Slow(), Ticking()
        indexer.outlasts = False
        world = World(tmp_path / "s", web, indexer, clock)
        question = replace(world.question(), limits=Limits(budget_ms=200, reserve_ms=100))
        indexer.may.set()
        first = await world.checker.check(question)
        indexer.may.clear()
        clock.at = web.at = NOW + Limits().crl_refresh
        web.content = BAD
        asyncio.get_running_loop().call_later(0.5, indexer.may.set)
        second = await world.checker.check(replace(question, at=clock.at))
        await world.checker.aclose()
        return [first.alert, second.alert]

    assert [0, 44] == asyncio.run(scene())


def test_lists_wait_for_an_index_behind_few_others_and_are_read_whole_meanwhile(tmp_path: Path) -> None:
    async def scene() -> list[bool]:
        indexer = Slow()
        world = World(tmp_path / "s", Web(GOOD), indexer)
        lists = world.checker._store.lists
        assert lists is not None
        raws = []
        for n in range(9):
            content = make_crl(ROOT, [Revoked(n + 1)], number=n + 1)
            spooling = lists.store.begin()
            spooling.write(content)
            raws.append(spooling.finish())
            spooling.close()
        waiting = [asyncio.ensure_future(lists.prepare(raw)) for raw in raws[:8]]
        await asyncio.sleep(0)
        assert await lists.prepare(raws[8])
        found = [raws[8].index is None]
        indexer.may.set()
        await asyncio.gather(*waiting)
        found += [raw.index is not None for raw in raws[:8]]
        assert await lists.prepare(raws[8])
        await world.checker.aclose()
        return [*found, raws[8].index is not None]

    assert [True] * 10 == asyncio.run(scene())


@pytest.mark.parametrize("why", ["old", "flushed"])
def test_list_that_came_too_late_is_asked_for_anew_where_it_would_not_be_in_the_cache(
    tmp_path: Path, why: str
) -> None:
    async def scene() -> int:
        web, indexer, clock = Web(GOOD), Slow(), Ticking()
        world = World(tmp_path / "s", web, indexer, clock)
        await give_up(world)
        if why == "old":
            clock.at = NOW + Limits().crl_refresh
        else:
            world.checker.learn(StoreChanges(flushed=True))
        indexer.may.set()
        assert (await world.check())[0].accepted
        await world.checker.aclose()
        return web.asked

    assert 2 == asyncio.run(scene())


def test_list_that_ends_every_judge_is_given_to_three_questions(tmp_path: Path) -> None:
    async def scene() -> list[int]:
        web, asked = Web(GOOD), []
        world = World(tmp_path / "s", web, Counting())
        question = world.question()

        class Broken(HereCase):
            async def conclude(self, statements: Sequence[Statement], *, verdict_id: str) -> Outcome:
                del statements
                raise CftPkiError(verdict_id)

        for _ in range(4):
            with pytest.raises(CftPkiError):
                await world.checker.run(Broken(question, Clock().now), question)
            asked.append(web.asked)
        await world.checker.aclose()
        return asked

    assert [1, 1, 1, 2] == asyncio.run(scene())


def test_newer_list_takes_the_place_of_the_older(tmp_path: Path) -> None:
    web, indexer = Web(GOOD), Counting()
    first = World(tmp_path / "s", web, indexer)
    assert first.run()[0].accepted
    with closing(
        ListedStore(TieredStore(MemoryStore(), DiskStore(tmp_path / "s" / "responses")), first.store.lists)
    ):
        pass
    second = World(tmp_path / "s", web, indexer)
    for path in (tmp_path / "s" / "responses").iterdir():
        path.unlink()
    web.content = make_crl(ROOT, [Revoked(7)], number=3, this_update=NOW - timedelta(minutes=1))
    assert second.run()[0].accepted
    assert 2 == len(indexer.made)


def test_same_list_that_comes_twice_at_once_has_one_index(tmp_path: Path) -> None:
    indexer = Counting()
    world = World(tmp_path / "s", Web(GOOD), indexer)

    async def twice():
        lists = world.checker._store.lists
        assert lists is not None
        one = Statement(kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=NOW, raw=GOOD)
        both = [(await lists.placed(one)).raw for _ in range(2)]
        await asyncio.gather(*map(lists.prepare, both))
        await world.checker.aclose()
        return [raw.index is not None for raw in both if isinstance(raw, LargeOctets)]

    assert [True, True] == asyncio.run(twice())
    assert 1 == len(indexer.made)


def test_indexer_that_fails_in_any_way_leaves_the_list_to_be_read_whole(tmp_path: Path) -> None:
    class Broken(Counting):
        async def index(self, raw: LargeOctets, writing: IndexWriting) -> tuple[Indexed, bytes]:
            await super().index(raw, writing)
            raise MemoryError

    indexer = Broken()
    assert World(tmp_path / "s", Web(GOOD), indexer).run()[0].accepted
    assert ([".crl"], 1) == (names(tmp_path / "s"), len(indexer.made))


def test_record_of_a_command_holds_the_large_list_and_is_decided_again_from_the_ledger(
    tmp_path: Path,
) -> None:
    world = World(tmp_path / "s", Web(BAD), Counting())
    verdict, statements = world.run()
    record = Record(
        question=world.question(), statements=statements, verdict=verdict, asked=Asked(door=Door.CLI)
    )
    settings = Settings(service=ServiceSettings(state=tmp_path / "s"))
    keep_record(settings, record)
    clear_memos()
    with closing(open_ledger(tmp_path / "s")) as ledger:
        (entry,) = ledger.find(verdict.id)
        assert BAD == ledger.blob(verdict.evidence.findings[0].sources[0].digest or "")
        again = decode(entry.document, ledger.blob)
    assert verdict == decide_again(again)
    assert 44 == decide_again(again).alert
