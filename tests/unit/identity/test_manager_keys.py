"""
A key in force, or of an open order, that cannot be used any more.
"""

from dataclasses import replace

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.renewal.schedule import Why
from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.identity.store.private_keys import public_bytes
from cftpki_ext.identity.store.state import read_state
from tests.support import pki
from tests.support.managed_world import HOUR, IDENTITY, MINUTE, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def emptied(path):
    path.write_bytes(b"")


def readable_by_all(path):
    path.chmod(0o644)


def gone(path):
    path.unlink()


def of_another(path):
    path.write_bytes(pki.key_pem(pki.key("ec", 77)))


@pytest.mark.parametrize("harm", [emptied, readable_by_all, gone, of_another])
async def test_key_that_cannot_be_used_is_an_alarm_and_replaced_at_once(world, harm):
    await world.tick()
    assert (await world.manager.overview("mft")).alarm is None
    harm(world.current().path / "key.pem")
    overview = await world.manager.overview("mft")
    assert (Standing.UNUSABLE, Why.UNUSABLE, world.clock.now()) == (
        overview.alarm,
        overview.plan.why,
        overview.plan.at,
    )
    assert overview.trouble.startswith("UNUSABLE (key: ")
    await world.tick()
    assert (2, 2) == (world.number(), world.ca.calls)
    assert world.current().leaf.spki == public_bytes(world.current().key(None))
    assert ("unusable", 2) == [
        (told["why"], told["generation"]) for told in world.told("identity_activated")
    ][-1]
    overview = await world.manager.overview("mft")
    assert (None, None) == (overview.alarm, overview.trouble)
    await world.tick()
    assert 2 == world.ca.calls


async def test_key_whose_password_was_changed_is_replaced_by_one_with_the_new(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"old\n")
    secret.chmod(0o600)
    world = World(tmp_path, replace(IDENTITY, password_file=secret))
    await world.tick()
    secret.write_bytes(b"new\n")
    assert Standing.UNUSABLE is (await world.manager.overview("mft")).alarm
    await world.tick()
    assert 2 == world.number()
    assert world.current().leaf.spki == public_bytes(world.current().key(b"new"))


async def test_order_whose_key_was_lost_is_closed_and_another_is_begun(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"old\n")
    secret.chmod(0o600)
    world = World(tmp_path, replace(IDENTITY, password_file=secret))
    world.ca.plan = ["pending"]
    await world.tick()
    (order,) = world.site.journal.open_orders().values()
    secret.write_bytes(b"new\n")
    world.clock.advance(HOUR)
    await world.tick()
    assert 1 == world.number()
    assert world.current().meta.order != order.id
    closed = next(one for one in world.site.journal.orders() if one.id == order.id)
    assert ("superseded", True) == (
        closed.outcome,
        closed.detail.startswith("its key cannot be used: key: "),
    )


async def test_unusable_key_that_cannot_be_replaced_is_tried_again_within_minutes_and_stays_an_alarm(world):
    await world.tick()
    (world.current().path / "key.pem").chmod(0o644)
    world.ca.plan = ["unreachable"] * 100
    asked = world.ca.calls
    await world.live(HOUR, step=MINUTE)
    assert 1 == world.number()
    # At 0, 1, 3, 7 minutes, then every five or six.
    assert 9 <= world.ca.calls - asked <= 15
    assert Standing.UNUSABLE is (await world.manager.overview("mft")).alarm
    (world.current().path / "key.pem").chmod(0o600)
    overview = await world.manager.overview("mft")
    assert overview.alarm is None


async def test_what_nobody_can_tell_of_a_key_is_no_reason_to_ask_for_another(tmp_path):
    async def nobody_knows(_site, _generation):
        return None

    world = World(tmp_path, key_fault=nobody_knows)
    await world.tick()
    (world.current().path / "key.pem").chmod(0o644)
    await world.tick()
    assert (1, None) == (world.ca.calls, (await world.manager.overview("mft")).alarm)


async def test_compromised_key_takes_every_generation_with_the_same_key_with_it(tmp_path):
    world = World(tmp_path, replace(IDENTITY, reuse_key=True))
    await world.tick()
    world.start(replace(world.identity, reuse_key=False))
    await world.renew()
    world.start(replace(world.identity, reuse_key=True))
    for _ in range(2):
        await world.renew()
    assert 4 == world.number()
    serials = {n: world.site.generations.read(n).leaf.serial for n in (1, 2, 3, 4)}
    assert await world.manager.revoke("mft", number=2, reason="keyCompromise", wait_s=0) is None
    assert [serials[2], serials[3], serials[4]] == world.ca.revoked
    assert "REVOKED" in await world.trouble()
    spoilt = world.current().leaf.spki
    await world.tick()
    assert 5 == world.number()
    assert spoilt != world.current().leaf.spki
    assert 1 == (await world.manager.rollback("mft", to=None, wait_s=0)).number


async def test_rollback_goes_by_keys_and_not_by_serial_numbers(tmp_path):
    world = World(tmp_path, replace(IDENTITY, reuse_key=True))
    await world.tick()
    await world.renew()
    assert await world.manager.revoke("mft", number=1, reason="superseded", wait_s=0) is None
    await world.renew()
    with pytest.raises(InputError, match="generation 2 has the key of a revoked one"):
        await world.manager.rollback("mft", to=2, wait_s=0)
    with pytest.raises(InputError, match="no earlier generation that is whole and not revoked"):
        await world.manager.rollback("mft", to=None, wait_s=0)
    assert [1] == [n for n in (1, 2, 3) if world.site.generations.read(n).leaf.serial in world.ca.revoked]


async def test_compromised_key_is_revoked_everywhere_although_one_file_of_it_is_gone(tmp_path):
    world = World(tmp_path, replace(IDENTITY, reuse_key=True))
    for _ in range(3):
        await world.renew()
    (world.site.generations.read(1).path / "key.pem").unlink()
    failed = await world.manager.revoke("mft", number=3, reason="keyCompromise", wait_s=0)
    assert failed.detail.startswith("generation 1, of the same key: key: ")
    leaves = [world.site.generations.read(number).leaf for number in (3, 2)]
    assert sorted(int(leaf.serial_hex, 16) for leaf in leaves) == sorted(world.ca.revoked)
    assert {1, 2, 3} == read_state(world.site.directory).revoked
