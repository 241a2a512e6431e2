"""
What the driver tells of an identity: alarms, runway, orders that stay open.
"""

from dataclasses import replace
from datetime import datetime

import pytest

from cftpki_ext.identity.store.generations import Generations
from cftpki_ext.identity.store.journal import Outcome
from cftpki_ext.identity.store.owners import DeniedError
from tests.support.managed_world import IDENTITY, MINUTE, World, world_with_backup
from tests.support.scripted_ca import DAY


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_alarm_is_raised_at_each_step_once(world):
    alarms = []

    async def look():
        await world.manager._watch("mft", None)
        alarms[:] = [fields["alarm"] for fields in world.told("identity_alarm")]

    await look()
    await look()
    assert ["missing"] == alarms
    await world.tick()
    await look()
    world.clock.advance(19 * DAY)
    await look()
    assert ["missing"] == alarms
    # Due for days, and nobody does it.
    world.clock.advance(7 * DAY)
    await look()
    assert ["missing", "overdue"] == alarms
    for days in (1.5, 1.6, 1):
        world.clock.advance(days * DAY)
        await look()
        await look()
    assert ["missing", "overdue", "last_day", "expired"] == alarms


async def test_overview_as_data_says_until_when_we_live_without_the_ca(world):
    await world.tick()
    data = (await world.manager.overview("mft")).data()
    assert datetime.fromisoformat(data["runway"]) == world.current().ends
    assert (1, "activated", None) == (data["generation"]["number"], data["stage"], data["trouble"])


async def test_open_order_that_lost_the_race_is_told_and_taken_up_again(tmp_path):
    world, _backup = world_with_backup(tmp_path)
    world.ca.plan = ["pending"]
    world.start()
    await world.tick()
    assert "backup" == world.current().meta.enroller
    overview = await world.manager.overview("mft")
    (left,) = overview.data()["open_orders"]
    assert ("corp", "submitted") == (left["enroller"], left["progress"])
    assert "taken up again" in left["next"]
    assert f"corp: order {left['order']} is submitted" in overview.trouble
    world.clock.advance(MINUTE)
    await world.renew()
    assert left["order"] == world.ca.orders_seen[-1].id
    assert [] == (await world.manager.overview("mft")).data()["open_orders"]


async def test_order_that_no_ca_has_heard_of_is_no_trouble(tmp_path):
    world, _backup = world_with_backup(tmp_path)
    world.ca.plan = ["misconfigured"]
    world.start()
    await world.tick()
    overview = await world.manager.overview("mft")
    assert ("backup", None) == (overview.current.meta.enroller, overview.trouble)
    assert ["prepared"] == [one.progress for one in overview.open_orders]


async def test_order_of_an_enroller_that_is_configured_no_more_becomes_an_orphan(tmp_path):
    world, backup = world_with_backup(tmp_path)
    world.ca.plan = ["pending"]
    world.start()
    await world.tick()
    world.start(replace(IDENTITY, enrollers=("backup",)))
    (left,) = (await world.manager.overview("mft")).open_orders
    assert "gives it up" in left.next
    await world.tick()
    overview = await world.manager.overview("mft")
    assert () == overview.open_orders
    assert ["corp"] == [orphan.enroller for orphan in overview.orphans]
    assert "not configured" in overview.orphans[0].detail
    assert [Outcome.ABANDONED.value] == [
        one["outcome"] for one in world.told("identity_order_closed") if one["enroller"] == "corp"
    ]
    assert [] == list((world.site.directory / "journal").glob("*.key.pem"))
    assert (1, 1) == (world.number(), backup.calls)


async def test_order_that_no_ca_heard_of_is_no_orphan_when_its_enroller_goes(tmp_path):
    world, _backup = world_with_backup(tmp_path)
    world.ca.plan = ["unreachable"]
    world.start()
    await world.tick()
    world.start(replace(IDENTITY, enrollers=("backup",)))
    await world.tick()
    overview = await world.manager.overview("mft")
    heard = [one.submitted_at for one in world.site.journal.orders() if one.enroller == "corp"]
    assert ((), [None], ()) == (overview.open_orders, heard, overview.orphans)


async def test_identity_that_the_service_cannot_look_at_is_an_alarm(world, monkeypatch):
    await world.tick()
    await world.manager._watch("mft", None)

    def denied(_generations):
        msg = "generations belongs to user root"
        raise DeniedError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(Generations, "look", denied)
        # Who merely asks learns that nothing is known; who keeps it is in trouble.
        assert None is (await world.manager.row("mft")).alarm
        await world.manager._watch("mft", "generations belongs to user root")
    (told,) = world.told("identity_alarm")
    assert ("blocked", ["blocked", "unreadable"]) == (told["alarm"], told["states"])
    seen = world.manager.seen()["mft"].data()
    assert ("blocked", "blocked") == (seen["state"], seen["alarm"])
    assert "belongs to user root" in seen["trouble"]
    await world.manager._watch("mft", None)
    assert ["blocked"] == [fields["alarm"] for fields in world.told("identity_alarm_over")]


async def test_alarm_that_joins_a_worse_one_is_told(world):
    await world.tick()
    await world.renew()
    world.ca.plan = ["unreachable"] * 10_000
    (world.current().path / "chain.pem").write_bytes(b"")
    await world.tick()

    async def told():
        await world.manager._watch("mft", None)
        return [(fields["alarm"], fields["states"][0]) for fields in world.told("identity_alarm")]

    assert [("damaged", "damaged")] == await told()
    assert [("damaged", "damaged")] == await told()
    world.clock.advance(28 * DAY)
    assert ("overdue", "damaged") == (await told())[-1]
    world.clock.advance(3 * DAY)
    assert ["damaged", "overdue", "expired"] == [alarm for alarm, _ in await told()]
    assert 3 == len(await told())
