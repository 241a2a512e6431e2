"""
Our own certificate's status, asked by the driver and by an operator.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.renewal.advice import Found
from cftpki_ext.identity.renewal.schedule import Why
from cftpki_ext.identity.store.locks import locked
from tests.support.managed_world import HOUR, IDENTITY, MINUTE, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class Opinion:
    """
    Our own check, scripted: what it says, and what it was asked.
    """

    def __init__(self):
        self.says, self.ages, self.locked = Found(revoked=False, detail="good"), [], []
        self.directory = None

    async def __call__(self, _identity, _chain, max_age):
        self.ages.append(max_age)
        if self.directory is not None:
            # Nobody holds the lock while others are asked.
            async with locked(self.directory, wait_s=0):
                self.locked.append(False)
        return self.says


def checked_world(folder, **changes):
    opinion = Opinion()
    world = World(folder, replace(IDENTITY, trust="corp", **changes), own_status=opinion)
    opinion.directory = world.site.directory
    return world, opinion


async def test_own_check_is_made_in_its_interval_without_the_lock(tmp_path):
    world, opinion = checked_world(tmp_path, check_every=10 * MINUTE)
    await world.live(HOUR, step=timedelta(seconds=10))
    # Each a twentieth earlier: the draw is a half of the jitter.
    assert 6 <= len(opinion.ages) <= 7
    assert {5 * MINUTE} == set(opinion.ages)
    assert len(opinion.ages) == len(opinion.locked)


async def test_own_check_that_hears_nothing_is_repeated_soon_and_lifts_no_revocation(tmp_path):
    world, opinion = checked_world(tmp_path, check_every=10 * MINUTE)
    opinion.says = None
    await world.live(10 * MINUTE, step=timedelta(seconds=10))
    assert 9 <= len(opinion.ages) <= 11
    assert 1 == world.number()
    opinion.says = Found(revoked=True, detail="CRL says so")
    world.ca.plan = ["unreachable"]
    await world.tick()
    world.clock.advance(MINUTE)
    await world.tick()
    opinion.says = None
    assert (await world.manager.check("mft", wait_s=0)).revoked
    assert 1 == world.number()
    world.clock.advance(2 * MINUTE)
    await world.tick()
    assert 2 == world.number()


async def test_operators_check_asks_anew_and_a_revoked_one_is_replaced_at_the_next_tick(tmp_path):
    world, opinion = checked_world(tmp_path)
    await world.tick()
    await world.tick()
    old = world.current()
    good = await world.manager.check("mft", wait_s=0)
    assert (False, timedelta(0)) == (good.revoked, opinion.ages[-1])
    world.clock.advance(MINUTE)
    opinion.says = Found(revoked=True, detail="CRL says so")
    assert (await world.manager.check("mft", wait_s=0)).revoked
    assert Why.REVOKED is (await world.manager.overview("mft")).plan.why
    # Who did not hear it does not lift it.
    opinion.says = None
    assert (await world.manager.check("mft", wait_s=0)).revoked
    world.start()
    await world.tick()
    assert (2, True) == (world.number(), old.leaf.spki != world.current().leaf.spki)
    assert ["check"] * 6 == [line.command for line in world.site.actions.lines()]


async def test_operators_check_that_hears_nothing_says_so_and_changes_nothing(tmp_path):
    world, opinion = checked_world(tmp_path)
    with pytest.raises(InputError, match="no certificate"):
        await world.manager.check("mft", wait_s=0)
    await world.tick()
    opinion.says = None
    assert (await world.manager.check("mft", wait_s=0)).revoked is None
    await world.tick()
    assert 1 == world.number()
    world.start(IDENTITY)
    with pytest.raises(InputError, match=r"set identity\.mft\.trust"):
        await world.manager.check("mft", wait_s=0)


async def test_revoked_ca_above_is_told_and_not_renewed_away(tmp_path):
    world, opinion = checked_world(tmp_path)
    opinion.says = Found(revoked=False, above=True, detail="issuing CA: revoked")
    await world.live(HOUR)
    assert 1 == world.number()
    assert "a CA of the chain is revoked" in await world.trouble()
    assert 1 == len(world.told("own_chain_revoked"))
