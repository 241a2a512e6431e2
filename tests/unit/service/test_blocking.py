"""
Blocks as the service knows them: what stands ends before anything is judged by another list.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_cache.blocked import LIST, BlockFile
from cftpki_cache.memory import MemoryStore
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.looked import Looked
from cftpki_ext.core.blocks import Block, decode_blocks, encode_blocks
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.processes.worker import WorkerError
from cftpki_ext.service.blocking import Blocking, digest_of_list
from cftpki_ext.service.judging.remote import Judged, Judges
from cftpki_ext.service.judging.standing import Standing
from tests.support import evidence_samples as samples
from tests.support.logs import CapturedLog

RECORD = samples.record(*samples.GOOD)
QUESTION = RECORD.question
NOW = QUESTION.at
LATER = replace(QUESTION, at=NOW + timedelta(seconds=30))
ONE = Block(what="dns:one.example", reason="stolen", by="root (uid 0)", at=NOW, until=NOW + timedelta(days=1))


def adding(block):
    return lambda book: book.with_block(block)


class Clock:
    def now(self):
        return NOW + timedelta(seconds=30)

    def monotonic(self):
        return 30.0


class NoJudges:
    """
    A pool that is asked in vain; what it is asked meanwhile changes the world.
    """

    settings = None

    def __init__(self):
        self.asked = 0
        self.meanwhile = lambda: None

    async def call(self, *_, **__):
        self.asked += 1
        self.meanwhile()
        msg = "judged anew"
        raise WorkerError(msg)


class World:
    def __init__(self, state):
        self.state = state
        self.log = CapturedLog()
        self.pool = NoJudges()
        checker = Checker(sources={}, store=MemoryStore(monotonic=lambda: 0.0), clock=Clock())
        self.judges = Judges(checker, self.pool, Clock())
        self.blocking = Blocking(BlockFile(state), self.judges.end_standing, clock=Clock(), log=self.log)
        self.judges.blocks = self.blocking.current

    def stand(self, blocks=None):
        self.judges._standing.add(
            Standing(
                question=replace(QUESTION, blocks=blocks),
                verdict=RECORD.verdict,
                document="d" * 64,
                until=NOW + timedelta(minutes=5),
                ends_at=300.0,
                looked=Looked(responses={}, recalls=(), state=0),
            )
        )

    def block(self, *blocks):
        for one in blocks:
            BlockFile(self.state).change(adding(one))

    @property
    def standing(self):
        return self.judges._standing.count

    async def is_given_again(self):
        try:
            judged = await self.judges.judge(LATER, asked=RECORD.asked)
        except WorkerError:
            return False
        return judged.stored.repeats.id == RECORD.verdict.id

    def told(self):
        return [call.kwargs["event"] for call in self.log.calls]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_look_ends_what_stands_when_somebody_is_blocked_and_when_one_is_lifted(world):
    world.stand()
    world.blocking.look()
    assert 1 == world.standing
    assert await world.is_given_again()
    world.block(ONE)
    world.blocking.look()
    assert 0 == world.standing
    world.stand(world.blocking.current())
    assert await world.is_given_again()
    BlockFile(world.state).change(lambda book: book.without(ONE.what, by="b", at=NOW, reason="r"))
    world.blocking.look()
    assert 0 == world.standing
    assert ["partner_blocked", "partner_unblocked"] == world.told()
    assert {
        "event": "partner_blocked",
        "partner": "dns:one.example",
        "reason": "stolen",
        "by": "root (uid 0)",
        "at": "2026-06-01T12:00:00+00:00",
        "until": "2026-06-02T12:00:00+00:00",
    } == world.log.calls[0].kwargs


async def test_question_sees_a_block_before_anybody_has_looked(world):
    world.stand()
    world.block(ONE)
    assert not await world.is_given_again()
    assert 0 == world.standing
    assert 1 == world.pool.asked


async def test_verdict_of_another_list_is_not_given_again(world):
    world.block(ONE)
    world.blocking.look()
    world.stand(None)
    assert not await world.is_given_again()


async def test_list_that_cannot_be_read_ends_what_stands_and_refuses_and_is_told_once(world):
    world.block(ONE)
    world.blocking.look()
    world.stand(world.blocking.current())
    kept = (world.state / LIST).read_bytes()
    (world.state / LIST).write_bytes(b"garbage")
    for _ in range(3):
        world.blocking.look()
        assert 0 == world.standing
        with pytest.raises(StoreError, match="it is not known who is blocked"):
            await world.judges.judge(LATER, asked=RECORD.asked)
    assert ["partner_blocked", "blocked_partners_unreadable"] == world.told()
    assert "not those that were written" in world.blocking.status()["fault"]
    assert 0 == world.pool.asked
    (world.state / LIST).write_bytes(kept)
    world.blocking.look()
    assert None is world.blocking.status()["fault"]
    assert ["partner_blocked", "blocked_partners_unreadable", "blocked_partners_readable"] == world.told()


async def test_fault_of_ours_while_looking_ends_what_stands_and_is_told_once(world, monkeypatch):
    def fails(_):
        msg = "ours"
        raise RuntimeError(msg)

    monkeypatch.setattr(BlockFile, "document", fails)
    for _ in range(2):
        world.stand()
        world.blocking.look()
        assert 0 == world.standing
    assert ["blocked_partners_unreadable"] == world.told()
    assert "RuntimeError('ours')" == world.blocking.status()["fault"]
    monkeypatch.undo()
    world.blocking.look()
    assert None is world.blocking.status()["fault"]


async def test_own_certificates_and_what_is_refused_unread_are_not_looked_up(world):
    (world.state / LIST).write_bytes(b"garbage")
    with pytest.raises(WorkerError):
        await world.judges.judge(replace(QUESTION, rule=None))
    fault = Fault(reason=Reason.NO_RULE, depth=None, rule="START_HANDSHAKE", detail="no rule")
    judged = await world.judges.judge(replace(QUESTION, chain=(), fault=fault))
    assert Reason.NO_RULE is judged.verdict.reason


async def test_verdict_whose_list_changed_while_its_record_was_kept_does_not_stand(world):
    world.judges._unkept[RECORD.verdict.id] = Standing(
        question=QUESTION,
        verdict=RECORD.verdict,
        document="d" * 64,
        until=NOW + timedelta(minutes=5),
        ends_at=300.0,
        looked=Looked(responses={}, recalls=(), state=0),
    )
    world.block(ONE)
    judged = Judged(verdict=RECORD.verdict, statements=())
    world.judges.recorded(judged, QUESTION, kept=True)
    assert 0 == world.standing


async def test_partner_that_was_judged_by_an_older_list_is_judged_anew(world, monkeypatch):
    """
    The block comes while the judge thinks: its acceptance is not given.
    """
    seen = []

    async def judge(question, handed_in, *, asked, remember):
        seen.append(question.blocks)
        world.block(replace(ONE, what=f"dns:{len(seen)}.example"))
        return Judged(verdict=RECORD.verdict, statements=())

    monkeypatch.setattr(world.judges, "_judge", judge)
    with pytest.raises(StoreError, match="changed again and again"):
        await world.judges.judge(LATER, asked=RECORD.asked)
    assert [0, 1, 2] == [0 if one is None else len(decode_blocks(one)) for one in seen]


async def test_list_that_changes_while_the_cache_is_looked_at_ends_what_stood(world, monkeypatch):
    world.stand()
    assert await world.is_given_again()

    async def finds_the_same(_):
        world.block(ONE)
        return True

    monkeypatch.setattr(world.judges._checker, "finds_the_same", finds_the_same)
    assert not await world.is_given_again()
    assert (0, 1) == (world.standing, world.pool.asked)


def test_status_counts_what_holds_and_what_has_ended(world):
    assert {"in_force": 0, "ended": 0, "list": None, "fault": None} == world.blocking.status()
    ended = replace(ONE, what="dns:old.example", until=NOW)
    world.block(ONE, ended)
    world.blocking.look()
    digest = digest_of_list(encode_blocks([ONE, ended]))
    assert {"in_force": 1, "ended": 1, "list": digest, "fault": None} == world.blocking.status()
