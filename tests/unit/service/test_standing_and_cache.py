"""
A verdict that stands, and a cache that other processes fill as well: it ends where judging would find something else.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from unittest.mock import Mock, call

import pytest

from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_ext.checking.case import Outcome, Recall
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.looked import Checked, Known, Looked
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.evidence import encode
from cftpki_ext.ports.changes import StoreChanges
from cftpki_ext.processes.worker import WorkerError
from cftpki_ext.service.judging.remote import Judged, Judges
from cftpki_ext.service.judging.standing import Standing
from tests.support import evidence_samples as samples

RECORD = samples.record(*samples.GOOD)
QUESTION = RECORD.question
NOW = QUESTION.at
LATER = replace(QUESTION, at=NOW + timedelta(seconds=30))


class Clock:
    def __init__(self):
        self.seconds = 30.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


class NoJudges:
    """
    A pool that is asked in vain.
    """

    settings = None

    async def call(self, *_, **__):
        msg = "judged anew"
        raise WorkerError(msg)


class Shared(MemoryStore):
    """
    The disk: another process writes there, too. How often it is looked at is counted.
    """

    def __init__(self):
        super().__init__(monotonic=lambda: 0.0)
        self.looked = defaultdict(int)

    def look(self, key):
        self.looked[key] += 1
        return super().look(key)


class World:
    """
    A verdict that stands: an answer of a responder was at hand, and of a list there was nothing.
    """

    def __init__(self):
        self.clock = Clock()
        self.memory = MemoryStore(monotonic=lambda: 0.0)
        self.disk = Shared()
        self.tiers = TieredStore(self.memory, self.disk)
        checker = Checker(sources={}, store=self.tiers, clock=self.clock)
        self.responses = checker._store
        self.judges = Judges(checker, NoJudges(), self.clock)
        self.tiers.put("ocsp", b"good", received_at=NOW, keep_s=60)
        self.judges._standing.add(
            Standing(
                question=QUESTION,
                verdict=RECORD.verdict,
                document="d" * 64,
                until=NOW + timedelta(minutes=5),
                ends_at=300.0,
                looked=Looked(
                    responses={"ocsp": (NOW, digest_of(b"good")), "list": None},
                    recalls=(Recall(number=0, key="leaf"),),
                    state=0,
                ),
            )
        )

    async def is_given_again(self, question=LATER):
        try:
            judged = await self.judges.judge(question, asked=RECORD.asked)
        except WorkerError:
            return False
        assert RECORD.verdict.id == judged.stored.repeats.id
        return True


@pytest.fixture
async def world():
    world = World()
    async with contextlib.aclosing(world.judges):
        yield world


async def test_disk_is_looked_at_once_in_a_while_for_what_was_not_there(world):
    for _ in range(3):
        assert await world.is_given_again()
    assert {"list": 1} == world.disk.looked
    world.clock.seconds += 21
    assert await world.is_given_again()
    assert {"list": 2} == world.disk.looked


async def test_list_that_another_process_has_put_on_the_disk_ends_it(world):
    assert await world.is_given_again()
    world.disk.put("list", b"revokes", received_at=NOW, keep_s=60)
    world.clock.seconds += 21
    assert not await world.is_given_again()
    assert 0 == world.judges._standing.count


async def test_list_that_another_question_has_read_from_the_disk_ends_it(world):
    world.disk.put("list", b"revokes", received_at=NOW, keep_s=60)
    world.tiers.get("list")
    assert not await world.is_given_again()


async def test_newer_answer_on_the_disk_ends_it_where_memory_has_let_its_own_go(world):
    assert await world.is_given_again()
    world.memory.drop("ocsp")
    assert await world.is_given_again()
    world.memory.drop("ocsp")
    world.disk.put("ocsp", b"revoked", received_at=NOW, keep_s=60)
    assert not await world.is_given_again()


async def test_answer_that_nobody_has_any_more_ends_it(world):
    world.tiers.drop("ocsp")
    assert not await world.is_given_again()


async def test_time_that_judging_took_is_part_of_the_time_that_a_verdict_stands(world):
    question = replace(QUESTION, rule="other")
    looked = Looked(responses={"ocsp": (NOW, digest_of(b"good"))}, recalls=(), state=0)

    async def run(*_, **__):
        world.clock.seconds += 3
        outcome = Outcome(verdict=RECORD.verdict, stands_until=NOW + timedelta(seconds=10))
        return Checked(outcome=outcome, statements=(), known=Known(places=(), recalls=()), looked=looked)

    world.judges._checker.run = run
    begun = world.clock.seconds
    judged = await world.judges.judge(question, asked=RECORD.asked)
    world.judges._may_stand(question, await run(), encode(RECORD), begun=begun)
    world.judges.recorded(judged, question, kept=True)
    standing = world.judges._standing
    assert None is not standing.find(replace(question, at=NOW), monotonic=begun + 10)
    assert None is standing.find(replace(question, at=NOW), monotonic=begun + 10.1)


@pytest.mark.parametrize(
    "change",
    [
        {"path_only": True},
        {"untrusted": QUESTION.chain},
        {"message": b"unread"},
        {"fault": Fault(reason=Reason.INTERNAL_ERROR, depth=None, rule="x", detail="x")},
        {"ask": False},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_question_that_no_host_puts_is_never_answered_by_it(world, change):
    assert not await world.is_given_again(replace(LATER, **change))


async def test_newer_answer_of_another_process_ends_it_at_once_and_is_the_one_that_is_used_from_now_on(world):
    later = NOW + timedelta(seconds=1)
    assert await world.is_given_again()
    world.disk.put("ocsp", b"revoked", received_at=later, keep_s=60)
    world.judges.learn(StoreChanges(responses={"ocsp": later}))
    assert (0, b"revoked") == (world.judges._standing.count, world.tiers.get("ocsp").raw)


async def test_answer_of_another_process_under_a_name_that_had_none_ends_it_at_once(world):
    assert await world.is_given_again()
    world.disk.put("list", b"revokes", received_at=NOW, keep_s=60)
    world.judges.learn(StoreChanges(responses={"list": NOW}))
    assert (0, b"revokes") == (world.judges._standing.count, (await world.responses.find("list")).raw)


@pytest.mark.parametrize(
    "changes",
    [
        StoreChanges(),
        StoreChanges(responses={"ocsp": NOW}),  # our own writing
        StoreChanges(responses={"ocsp": NOW - timedelta(seconds=1)}),  # overtaken
        StoreChanges(responses={"another": NOW}),
        StoreChanges(revoked=frozenset()),
        StoreChanges(revoked=frozenset({"another"})),
    ],
)
async def test_writing_that_changes_nothing_for_it_does_not_end_it(world, changes):
    world.judges.learn(changes)
    assert (1, b"good") == (world.judges._standing.count, world.memory.get("ocsp").raw)
    assert await world.is_given_again()


async def test_proof_of_another_process_ends_it_at_once(world):
    world.judges.learn(StoreChanges(revoked=frozenset({"leaf", "another"})))
    assert 0 == world.judges._standing.count


async def test_flush_ends_it_and_nothing_is_at_hand_any_more(world):
    world.disk.drop("ocsp")
    world.judges.learn(StoreChanges(flushed=True))
    assert (0, None) == (world.judges._standing.count, world.tiers.get("ocsp"))


async def test_verdict_whose_record_is_being_written_while_all_ends_does_not_stand_afterwards(world):
    entry = world.judges._standing.find(LATER, monotonic=1.0)
    world.judges.end_standing()
    world.judges._unkept[entry.verdict.id] = entry
    world.judges.end_standing()
    world.judges.recorded(Judged(verdict=entry.verdict, statements=()), QUESTION, kept=True)
    assert 0 == world.judges._standing.count


def test_whoever_refreshes_has_the_configuration_that_judges_have():
    checker, pool, watcher, settings = Mock(), Mock(), Mock(), Settings()
    judges = Judges(checker, pool, Clock())
    judges.replace_settings(settings)
    judges.watcher = watcher
    judges.replace_settings(settings)
    assert ([call(settings)] * 2, [call(settings)]) == (
        pool.replace_settings.mock_calls,
        watcher.replace_settings.mock_calls,
    )
