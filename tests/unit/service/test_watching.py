"""
What the service notices by looking: changes of its stores, clocks that were set, stores that cannot be looked at.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_ext.core.errors import StoreError
from cftpki_ext.ports.changes import StoreChanges
from cftpki_ext.service.watching import Watching
from tests.support.logs import CapturedLog, FailingLog

CHANGES = StoreChanges(responses={"list": datetime(2026, 6, 1, tzinfo=UTC)})


class Clock:
    def __init__(self):
        self.wall, self.seconds = datetime(2026, 6, 1, tzinfo=UTC), 50.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.seconds

    def go_on(self, seconds):
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)


class World:
    """
    Stores, judges and clocks as the test wants them.
    """

    def __init__(self):
        self.clock = Clock()
        self.seen = CHANGES
        self.told = []
        self.logs = CapturedLog()
        self.restored = asyncio.Event()
        self.proven = frozenset()  # what the evidence proves
        self.loop: asyncio.AbstractEventLoop | None = None
        self.watching = Watching(
            self,
            self,
            clock=self.clock,
            log=self.logs,
            restore=self.restore,
        )

    def restore(self):
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.put_back)
        return self.proven

    def put_back(self):
        self.told.append("restored")
        self.restored.set()

    def look(self):
        if isinstance(self.seen, StoreError):
            raise self.seen
        return self.seen

    def remembered(self):
        self.told.append("remembered")

    def learn(self, changes):
        self.told.append(changes)

    def end_standing(self):
        self.told.append("ended")

    def close(self):
        self.told.append("closed")

    def events(self):
        return [call.kwargs["event"] for call in self.logs.calls]


@pytest.fixture
def world():
    return World()


def test_judges_are_told_of_each_look(world):
    world.watching.look()
    world.clock.go_on(0.05)
    world.watching.look()
    assert ([CHANGES, CHANGES], []) == (world.told, world.events())


@pytest.mark.parametrize("seconds", [-3600, -1, 1, 3600])
def test_clock_that_was_set_ends_all_that_stands_once(world, seconds):
    world.clock.wall += timedelta(seconds=seconds)
    world.watching.look()
    world.watching.look()
    assert (["ended", CHANGES, CHANGES], ["clock_was_set"]) == (world.told, world.events())


def test_machine_that_slept_ends_all_that_stands(world):
    # The monotonic clock stands still meanwhile.
    world.clock.wall += timedelta(hours=8)
    world.clock.seconds += 0.1
    world.watching.look()
    assert "ended" == world.told[0]


def test_long_pause_and_slow_slewing_end_nothing(world):
    world.clock.go_on(400)
    world.watching.look()
    for _ in range(20):
        world.clock.wall += timedelta(milliseconds=51)
        world.clock.seconds += 0.05
        world.watching.look()
    assert {"closed", "ended"}.isdisjoint(map(str, world.told))


def test_stores_that_cannot_be_looked_at_end_all_that_stands_each_time_and_are_told_once(world):
    world.seen = StoreError("damaged")
    world.watching.look()
    world.watching.look()
    assert (["ended", "ended"], ["stores_cannot_be_watched"]) == (world.told, world.events())
    world.seen = CHANGES
    world.watching.look()
    world.seen = StoreError("damaged")
    world.watching.look()
    assert ([CHANGES, "ended"], ["stores_cannot_be_watched"] * 2) == (world.told[2:], world.events())


def test_flush_is_told_in_the_log(world):
    world.seen = StoreChanges(flushed=True)
    world.watching.look()
    world.watching.close()
    assert ([world.seen, "closed"], ["cache_flushed"]) == (world.told, world.events())


@pytest.mark.parametrize("flushed", [True, False])
async def test_log_that_cannot_be_written_keeps_no_look_from_its_end(world, flushed):
    world.watching._log = FailingLog()
    world.seen = StoreChanges(flushed=True) if flushed else StoreError("damaged")
    world.clock.wall += timedelta(hours=1)
    looking = asyncio.create_task(world.watching.run())
    while len(world.told) < 3:
        assert not looking.done()
        await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert ("ended", flushed) == (world.told[0], world.seen in world.told)


async def test_judges_that_cannot_be_told_end_no_watching(world):
    faults = [ValueError("a fault of ours")]
    ended = world.end_standing

    def fails_once():
        if faults:
            raise faults.pop()
        ended()

    world.end_standing = fails_once
    world.seen = StoreError("damaged")
    looking = asyncio.create_task(world.watching.run())
    while not world.told:
        assert not looking.done()
        await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert "watching_failed" == world.events()[0]


async def test_revocations_that_somebody_took_away_are_told_and_put_back(world):
    world.loop = asyncio.get_running_loop()
    world.seen = StoreChanges(revoked=frozenset({"a", "b"}))
    looking = asyncio.create_task(world.watching.run())
    await asyncio.sleep(0.1)
    assert [] == world.events()
    world.seen = StoreChanges(revoked=frozenset({"b", "c"}))
    async with asyncio.timeout(30):
        await world.restored.wait()
    looking.cancel()
    assert ["revocations_gone"] == world.events()
    assert 1 == world.logs.calls[0].kwargs["certificates"]
    assert 1 == world.told.count("restored")


async def test_revocation_that_was_taken_away_before_any_look_is_told(world):
    world.loop = asyncio.get_running_loop()
    world.watching.remembered("leaf")
    assert ["remembered"] == world.told
    world.seen = StoreChanges(revoked=frozenset())
    world.watching.look()
    assert ["revocations_gone"] == world.events()


async def test_revocation_that_was_kept_here_is_not_missed_while_it_is_there(world):
    world.watching.remembered("leaf")
    for revoked in (frozenset({"leaf"}), None, frozenset({"leaf", "other"})):
        world.seen = StoreChanges(revoked=revoked)
        world.watching.look()
    assert [] == world.events()


async def test_revocation_that_was_put_back_and_taken_away_before_the_next_look_is_missed_again(world):
    world.loop = asyncio.get_running_loop()
    world.watching.remembered("leaf")
    world.watching.remembered("without a record")
    world.proven = frozenset({"leaf"})
    # Whoever takes it away does so each time before anybody looks.
    world.seen = StoreChanges(revoked=frozenset())
    looking = asyncio.create_task(world.watching.run())
    async with asyncio.timeout(30):
        while world.told.count("restored") < 3:
            assert not looking.done()
            await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    gone = [
        call.kwargs["certificates"] for call in world.logs.calls if call.kwargs["event"] == "revocations_gone"
    ]
    # What nothing proves is told once, and nobody tries to put it back.
    assert [2, 1, 1] == gone[:3]


async def test_what_nothing_proves_is_looked_for_once(world):
    world.loop = asyncio.get_running_loop()
    world.watching.remembered("without a record")
    world.seen = StoreChanges(revoked=frozenset())
    looking = asyncio.create_task(world.watching.run())
    async with asyncio.timeout(30):
        while world.told.count(world.seen) < 6:
            assert not looking.done()
            await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert (["revocations_gone"], 1) == (world.events(), world.told.count("restored"))
