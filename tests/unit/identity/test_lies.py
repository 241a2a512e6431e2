"""
CAs that mean harm: certificates of the past and of the far future, patience without end, answers too large to keep.
"""

import asyncio
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Pending
from cftpki_ext.identity.issuance import order, task
from cftpki_ext.identity.issuance.gate import LONGEST_HOLD
from cftpki_ext.identity.store.journal import Outcome
from tests.support.managed_world import IDENTITY, World
from tests.support.scripted_ca import DAY, TestClock

HOUR = timedelta(hours=1)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class Says:
    """
    Answers the order of a scripted CA otherwise.
    """

    def __init__(self, world, answer):
        self.world, self.answer, self.asked, self.ask = world, answer, 0, world.ca.advance
        world.ca.advance = self

    async def __call__(self, order, state, save, *, deadline):
        self.asked += 1
        return await self.answer(await self.ask(order, state, save, deadline=deadline), save)

    def ends(self):
        self.world.ca.advance = self.ask


async def test_certificate_that_begins_after_longer_than_a_day_is_rejected_and_not_waited_for(world):
    await world.tick()
    for begins, outcome in ((LONGEST_HOLD + 2 * HOUR, Outcome.REJECTED), (LONGEST_HOLD, None)):
        world.clock.advance(HOUR)
        world.ca.clock = TestClock(world.clock.now() + begins)
        await world.renew()
        assert 1 == world.number()
        order = world.site.journal.orders()[-1]
        assert outcome is order.outcome
        assert ("got one that begins" in order.detail) == (outcome is not None)


async def test_certificate_in_force_does_not_count_as_changed_when_the_clock_is_set_back(world):
    await world.tick()
    world.clock.advance(-3 * DAY)
    await world.tick()
    assert (1, 1) == (world.ca.calls, world.number())


@pytest.mark.parametrize("generation", [1, 2])
async def test_certificate_of_an_earlier_generation_is_not_taken_for_a_new_one(tmp_path, generation):
    world = World(tmp_path, replace(IDENTITY, reuse_key=True, lifetime=30 * DAY))
    await world.renew()
    await world.renew()
    assert (2, 1) == (world.number(), len({world.site.generations.read(n).leaf.spki for n in (1, 2)}))
    old = world.site.generations.read(generation)

    async def again(issued, _save):
        return replace(issued, certificates=tuple(one.der for one in old.chain))

    told = Says(world, again)
    done = await world.renew()
    assert (True, 2) == (done.failed, world.number())
    assert f"the certificate of generation {generation} came again" in done.detail
    told.ends()
    assert (await world.renew()).issued
    assert 3 == world.number()


@pytest.mark.parametrize(
    "answer",
    [
        lambda at: Failed(fault=Fault.UNREACHABLE, detail="busy", retry_at=at),
        lambda at: Failed(fault=Fault.RATE_LIMITED, detail="too many", retry_at=at),
        lambda at: Pending(retry_at=at, detail="somebody has to approve"),
    ],
    ids=["busy", "limited", "pending"],
)
async def test_patience_that_would_outlast_the_chain_in_force_is_not_had(world, answer):
    await world.tick()
    world.clock.advance(28 * DAY)
    ends = world.current().ends

    async def never(_issued, _save):
        return answer(world.clock.now() + 300 * DAY)

    told = Says(world, never)
    await world.tick()
    assert 1 == told.asked
    # Not twice in the first hours, and often enough before the end.
    await world.live(HOUR)
    assert 1 == told.asked
    told.ends()
    while world.number() == 1 and world.clock.now() < ends:
        await world.live(HOUR)
    assert 2 == world.number()
    assert ends - world.clock.now() > 12 * HOUR


async def too_much_state(_issued, save):
    await save({"url": "https://ca.example/" + "a" * 100_000})
    return Pending(retry_at=None, detail="never had")


async def too_much_answer(issued, _save):
    return Issued(
        certificates=issued.certificates, alternates=tuple((os.urandom(900_000),) for _ in range(8))
    )


@pytest.mark.parametrize("lie", [too_much_state, too_much_answer])
async def test_answer_too_large_to_be_kept_leaves_a_journal_that_can_be_read_and_the_next_ca_its_chance(
    world, lie
):
    await world.tick()
    other = world.add_ca("other")
    world.start(replace(IDENTITY, enrollers=("corp", "other")))
    told = Says(world, lie)
    assert (await world.renew()).issued
    assert (1, 1, 2) == (told.asked, other.calls, world.number())
    told.ends()
    # What is open still can be read, and comes to its end.
    assert ["corp"] == list(world.site.journal.open_orders())
    assert (await world.renew()).issued
    assert {} == world.site.journal.open_orders()


async def test_answer_too_large_to_be_kept_is_told_where_nobody_else_can_be_asked(world):
    await world.tick()
    told = Says(world, too_much_state)
    done = await world.renew()
    told.ends()
    assert (True, 1) == (done.failed, world.number())
    assert "at most 65536 are kept" in await world.trouble()


async def test_adapter_that_never_comes_back_holds_nobody_up_for_ever(world, monkeypatch):
    async def never(*_args, **_more):
        await asyncio.Event().wait()

    for name in ("trust_anchors", "advance"):
        with monkeypatch.context() as patch:
            patch.setattr(type(world.ca), name, never)
            for owner, limit in (
                (order, "ADVANCE_S"),
                (order, "GRACE_S"),
                (task, "ANCHORS_S"),
                (task, "GRACE_S"),
            ):
                patch.setattr(owner, limit, 0.02)
            async with asyncio.timeout(20):
                await world.tick()
        world.clock.advance(HOUR)
    failed = [fields["detail"] for fields in world.told("identity_attempt_failed")]
    assert "the enroller did not come back within 0 s" == failed[-1]
    await world.tick()
    assert (1, 1) == (world.number(), len(world.ca.books()["orders"]))
