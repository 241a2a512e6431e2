"""
The queues before the judges: nobody is lost in them, nobody fills them for others.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import WorkerBusyError
from cftpki_ext.service.judging import exchange
from cftpki_ext.service.judging import pool as pools
from cftpki_ext.service.judging.pool import Job, Pool

CASES = iter(range(1, 1 << 20))


class Judge:
    """
    A judge that answers when the test says so.
    """

    def __init__(self):
        self.is_ready, self.pid = True, 1
        self.gate = asyncio.Event()

    async def call(self, message, *, within_s):
        async with asyncio.timeout(within_s):
            await self.gate.wait()
        return Message({"number": message.value["number"]})

    def rss_bytes(self):
        return 0


@pytest.fixture
def judges(monkeypatch):
    monkeypatch.setattr(exchange, "settings_to", lambda _settings, _blobs: {})
    return []


def make_pool(judges):
    def begin(_role, **_keywords):
        judges.append(Judge())
        return judges[-1]

    pool = Pool(SimpleNamespace(begin=begin), None, log=None, count=2)
    for seat in pool._seats:
        seat.generation = 0
    return pool


def ask(pool, source, number=0, *, known=False, begun=False, octets=0):
    job = Job(known=known, source=source, case=next(CASES), begun=begun, octets=octets)
    message = Message({"number": number})
    return asyncio.ensure_future(pool.call(job, lambda _seat: message, within_s=5.0))


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def end(judges, asked):
    for judge in judges:
        judge.gate.set()
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_strangers_of_one_source_are_all_judged_also_when_they_come_while_another_is_given_a_judge(
    judges,
):
    pool = make_pool(judges)
    for judge in judges:
        judge.gate.set()  # each answers at once: a place is given while the next one asks
    asked = []
    for number in range(200):
        asked.append(ask(pool, "gateway", number))
        if number % 3 == 0:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*asked)
    assert list(range(200)) == [answer.value["number"] for answer in answers]
    assert {"judges": 3, "busy": 0, "known_waiting": 0, "strangers_waiting": 0} == pool.status()


async def test_strangers_never_have_the_last_judge(judges):
    pool = make_pool(judges)
    strangers = [ask(pool, source) for source in range(5)]
    await settle()
    assert (1, 4) == (pool.status()["busy"], pool.status()["strangers_waiting"])
    known = [ask(pool, "partner", known=True) for _ in range(2)]
    await settle()
    assert (3, 4, 0) == tuple(pool.status()[key] for key in ("busy", "strangers_waiting", "known_waiting"))
    assert 7 == sum(isinstance(answer, Message) for answer in await end(judges, [*strangers, *known]))


async def test_full_queue_takes_from_the_longest_and_lets_others_in(judges, monkeypatch):
    monkeypatch.setattr(pools, "_STRANGER_QUEUE", 8)
    monkeypatch.setattr(pools, "_STRANGERS_OF_ONE", 6)
    pool = make_pool(judges)
    flood = [ask(pool, "flood", number) for number in range(10)]  # one judged, six wait, three are too many
    await settle()
    others = [ask(pool, source) for source in ("a", "b", "c", "d")]
    await settle()
    assert 8 == pool.status()["strangers_waiting"]
    refused = [number for number, one in enumerate(flood) if one.done()]
    assert [5, 6, 7, 8, 9] == refused
    assert all(isinstance(flood[number].exception(), WorkerBusyError) for number in refused)
    assert not any(one.done() for one in others)
    answers = await end(judges, [one for one in (*flood, *others) if not one.done()])
    assert all(isinstance(answer, Message) for answer in answers)
    assert 9 == len(answers)


async def test_octets_of_all_strangers_who_wait_are_bounded(judges, monkeypatch):
    monkeypatch.setattr(pools, "_STRANGER_OCTETS", 100)
    pool = make_pool(judges)
    flood = [ask(pool, "flood", number, octets=30) for number in range(5)]  # one judged, three wait
    await settle()
    assert isinstance(flood[4].exception(), WorkerBusyError)
    other = ask(pool, "other", 9, octets=40)
    await settle()
    # The longest queue gave up its last, and no more than was needed.
    assert [False, False, False, True] == [one.done() for one in flood[:4]]
    assert not other.done()
    answers = await end(judges, [*flood[:3], other])
    assert [0, 1, 2, 9] == [answer.value["number"] for answer in answers]
    assert 0 == pool._held


async def test_queue_that_is_full_of_many_sources_refuses_the_next(judges, monkeypatch):
    monkeypatch.setattr(pools, "_STRANGER_QUEUE", 3)
    pool = make_pool(judges)
    asked = [ask(pool, source) for source in range(4)]  # one judged, three wait
    await settle()
    late = ask(pool, "late")
    await settle()
    assert isinstance(late.exception(), WorkerBusyError)
    assert 4 == sum(isinstance(answer, Message) for answer in await end(judges, asked))


@pytest.mark.parametrize("known", [False, True])
async def test_case_that_was_begun_goes_before_those_that_were_not_also_where_the_queue_is_full(
    judges, monkeypatch, known
):
    monkeypatch.setattr(pools, "_STRANGERS_OF_ONE", 4)
    monkeypatch.setattr(pools, "_KNOWN_QUEUE", 4)
    pool = make_pool(judges)
    busy = [ask(pool, "a", 100 + number, known=known) for number in range(3 if known else 1)]
    await settle()
    done = []
    asked = [ask(pool, "a", number, known=known) for number in range(4)]
    await settle()
    begun = [ask(pool, "a", number, known=known, begun=True) for number in (10, 11)]
    late = ask(pool, "a", 5, known=known)
    for one in (*asked, *begun):
        one.add_done_callback(lambda future: done.append(future.result().value["number"]))
    await settle()
    assert isinstance(late.exception(), WorkerBusyError)
    await end(judges, [*busy, *asked, *begun])
    assert {10, 11} == set(done[:2])
    assert [0, 1, 2, 3] == sorted(done[2:])


async def test_stranger_leaves_the_judge_of_the_large_lists_free_for_known_partners(judges):
    pool = make_pool(judges)
    others = [ask(pool, "", number, known=True) for number in (1, 2)]
    await settle()
    stranger = ask(pool, "192.0.2.1", 3)
    await settle()
    heavy = next(seat for seat in pool._seats if seat.heavy)
    assert None is heavy.job
    job = Job(known=True, source="", case=next(CASES), heavy=True)
    known = asyncio.ensure_future(pool.call(job, lambda _seat: Message({"number": 9}), within_s=5.0))
    await settle()
    assert job is heavy.job
    assert [1, 2, 9, 3] == [one.value["number"] for one in await end(judges, [*others, known, stranger])]
