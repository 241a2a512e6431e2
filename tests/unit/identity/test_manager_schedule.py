"""
The driver against a scripted CA: outages, other enrollers, hints, clocks, other processes.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import RenewalHint
from cftpki_ext.identity.renewal.advice import Found
from cftpki_ext.identity.renewal.schedule import Why
from cftpki_ext.identity.serving.local import LocalKeys
from cftpki_ext.identity.serving.provider import Identities, KeptIdentities
from cftpki_ext.identity.store.locks import BusyError, locked
from cftpki_ext.identity.store.private_keys import public_bytes
from tests.support.managed_world import HOUR, IDENTITY, MINUTE, World, world_with_backup
from tests.support.scripted_ca import DAY


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_outage_of_a_week_keeps_the_chain_and_asks_ever_more_often(world):
    """
    A certificate for nine days; the CA is down from the sixth on, for a week, as far as simulated time goes.
    """
    world.ca.lifetime = 9 * DAY
    await world.tick()
    first = world.current()
    await world.live(5 * DAY, step=HOUR)
    world.ca.plan = ["unreachable"] * 100_000
    before = world.ca.calls
    await world.live(7 * DAY, step=30 * MINUTE)
    asked = world.ca.calls - before

    assert 1 == world.number()
    assert first.leaf.der == world.current().leaf.der
    assert "EXPIRED" in await world.trouble()
    assert "connection refused" in await world.trouble()
    # Never rarer than six hours; the schedule's own tests bound how often.
    assert asked > 7 * 4
    # One order, not one for each attempt.
    assert 2 == len(world.site.journal.orders())

    world.ca.plan = []
    await world.live(HOUR, step=MINUTE)
    assert 2 == world.number()
    assert await world.trouble() is None


async def test_rate_limit_is_a_floor_that_only_the_operator_passes(world):
    await world.tick()
    world.clock.advance(20 * DAY)
    world.ca.plan = ["rate_limited"]
    await world.tick()
    await world.live(170 * MINUTE)
    assert 2 == world.ca.calls
    await world.renew()
    assert 3 == world.ca.calls
    assert 2 == world.number()


async def test_rate_limit_holds_for_a_quarter_of_an_hour_where_nothing_is_in_force(world):
    world.ca.plan = ["rate_limited"]
    await world.tick()
    await world.live(14 * MINUTE, step=MINUTE)
    assert 1 == world.ca.calls
    await world.live(2 * MINUTE, step=MINUTE)
    assert 1 == world.number()


@pytest.mark.parametrize(
    "fault", ["unreachable", "refused", "misconfigured", "rate_limited", "raise", "fewer_names"]
)
async def test_next_enroller_is_asked_where_one_fails(tmp_path, fault):
    world, backup = world_with_backup(tmp_path)
    world.ca.plan = [fault]
    world.start()
    await world.tick()
    assert (1, 1) == (world.ca.calls, backup.calls)
    assert "backup" == world.current().meta.enroller


async def test_next_enroller_is_asked_while_one_waits_only_when_time_runs_out(tmp_path):
    world, backup = world_with_backup(tmp_path)
    await world.tick()
    world.ca.plan = ["pending"] * 100_000
    await world.live(26 * DAY, step=5 * HOUR)
    assert (0, 1) == (backup.calls, world.number())
    await world.live(2 * DAY, step=3 * HOUR)
    assert (1, 2) == (backup.calls, world.number())
    # The order that waits stays open: nobody forgets a certificate that may come.
    assert ["corp"] == list(world.site.journal.open_orders())


async def test_without_any_anchor_nothing_is_ordered(world):
    world.ca.anchors = False
    await world.tick()
    assert 0 == world.ca.calls
    assert "set identity.mft.trust" in await world.trouble()


async def test_configured_trust_decides_and_not_the_cas_own_word(tmp_path):
    world = World(tmp_path, replace(IDENTITY, trust="wrong"))
    await world.tick()
    assert world.number() is None
    assert "does not lead to a trusted root" in await world.trouble()
    good = World(tmp_path / "good", replace(IDENTITY, trust="corp"))
    await good.tick()
    assert 1 == good.number()


async def test_cas_hint_moves_the_renewal_and_is_picked_once(world):
    await world.tick()
    start = world.clock.now() + 2 * DAY
    world.ca.hint = RenewalHint(
        start=start, end=start + DAY, explanation="https://ca.example/incident", ask_again_at=start
    )
    world.clock.advance(7 * HOUR)
    plan = await world.tick()
    assert (Why.CA, start + DAY / 2) == (plan.why, plan.at)
    world.clock.advance(7 * HOUR)
    assert plan.at == (await world.tick()).at
    assert 1 == len(world.told("renewal_hint"))
    await world.live(2 * DAY + 6 * HOUR, step=HOUR)
    assert 2 == world.number()


async def test_revoked_certificate_is_replaced_at_once_with_a_new_key(tmp_path):
    revoked = []

    async def own_status(identity, chain, max_age):
        return Found(revoked=chain[0] in revoked, detail="CRL says so")

    world = World(tmp_path, replace(IDENTITY, trust="corp", reuse_key=True), own_status=own_status)
    await world.tick()
    await world.tick()
    old = world.current()
    revoked.append(old.leaf.der)
    world.clock.advance(5 * MINUTE)
    await world.tick()
    assert 2 == world.number()
    assert old.leaf.spki != world.current().leaf.spki
    assert [True] == [order.revoked for order in world.ca.orders_seen[1:]]
    assert 1 == len(world.told("own_certificate_revoked"))
    with pytest.raises(InputError, match="no earlier generation that is whole and not revoked"):
        await world.manager.rollback("mft", to=None, wait_s=0)


async def test_operator_revokes_and_a_successor_with_a_new_key_follows(world):
    await world.tick()
    old = world.current()
    assert await world.manager.revoke("mft", number=None, reason="keyCompromise", wait_s=0) is None
    assert [old.leaf.serial] == world.ca.revoked
    assert "REVOKED" in await world.trouble()
    await world.tick()
    assert 2 == world.number()
    assert old.leaf.spki != world.current().leaf.spki


async def test_rollback_goes_back_and_is_not_undone_by_the_schedule(world):
    await world.tick()
    world.clock.advance(15 * DAY)
    await world.renew()
    back = await world.manager.rollback("mft", to=None, wait_s=0)
    assert (1, 1) == (back.number, world.number())
    await world.live(10 * DAY, step=6 * HOUR)
    assert 1 == world.number()
    await world.live(4 * DAY, step=6 * HOUR)
    assert 3 == world.number()


async def test_rollback_ends_the_attempts_that_would_undo_it(world):
    await world.tick()
    world.clock.advance(DAY)
    await world.renew()
    world.ca.plan = ["unreachable"]
    assert (await world.renew()).failed
    await world.manager.rollback("mft", to=1, wait_s=0)
    await world.live(DAY, step=2 * HOUR)
    assert (1, 3) == (world.number(), world.ca.calls)


async def test_rollback_to_what_has_ended_or_never_was_is_refused(world):
    await world.tick()
    with pytest.raises(InputError, match="no earlier generation"):
        await world.manager.rollback("mft", to=None, wait_s=0)
    with pytest.raises(InputError, match="no generation 7"):
        await world.manager.rollback("mft", to=7, wait_s=0)
    world.clock.advance(20 * DAY)
    await world.renew()
    world.clock.advance(15 * DAY)
    with pytest.raises(InputError, match="never replaces"):
        await world.manager.rollback("mft", to=1, wait_s=0)
    assert 2 == world.number()


async def test_rollback_passes_over_what_was_revoked(world):
    for _ in range(3):
        await world.renew()
    assert await world.manager.revoke("mft", number=2, reason="keyCompromise", wait_s=0) is None
    with pytest.raises(InputError, match="generation 2 is revoked"):
        await world.manager.rollback("mft", to=2, wait_s=0)
    assert 3 == world.number()
    assert 1 == (await world.manager.rollback("mft", to=None, wait_s=0)).number


async def test_clock_that_is_set_back_or_jumps_harms_nothing(world):
    await world.tick()
    world.clock.advance(-3 * DAY)
    await world.tick()
    assert (1, 1) == (world.ca.calls, world.number())
    world.clock.advance(28 * DAY)
    await world.tick()
    assert (2, 2) == (world.ca.calls, world.number())


async def test_failure_from_a_clock_in_the_future_does_not_hold_back_for_long(world):
    world.clock.advance(365 * DAY)
    world.ca.plan = ["unreachable"]
    await world.tick()
    world.clock.advance(-365 * DAY)
    await world.live(10 * MINUTE, step=MINUTE)
    assert 1 == world.number()


@pytest.mark.parametrize("what", ["rate_limited", "pending"])
async def test_patience_from_a_clock_in_the_future_ends_when_it_is_set_back(world, what):
    await world.tick()
    world.clock.advance(365 * DAY)
    world.ca.plan = [what]
    await world.tick()
    calls = world.ca.calls
    await world.tick()
    assert calls == world.ca.calls
    world.clock.advance(-345 * DAY)
    await world.live(2 * MINUTE, step=MINUTE)
    assert (calls + 1, 2) == (world.ca.calls, world.number())


async def test_command_asks_the_ca_when_it_would_like_to_renew(world):
    # As a timer does it where no service runs.
    await world.manager.renew("mft", force=False, wait_s=0)
    assert not (await world.manager.renew("mft", force=False, wait_s=0)).issued
    world.clock.advance(2 * DAY)
    now = world.clock.now()
    world.ca.hint = RenewalHint(
        start=now - 2 * MINUTE, end=now - MINUTE, ask_again_at=now + DAY, explanation=None
    )
    done = await world.manager.renew("mft", force=False, wait_s=0)
    assert (True, 2) == (done.issued, done.generation)


async def test_hint_from_a_clock_in_the_future_is_asked_for_again_when_it_is_set_back(world):
    await world.tick()
    world.clock.advance(365 * DAY)
    world.ca.plan = ["unreachable"]
    await world.tick()
    world.clock.advance(-365 * DAY)
    soon = world.clock.now() + DAY
    world.ca.hint = RenewalHint(
        start=soon, end=soon + MINUTE, explanation=None, ask_again_at=soon + 365 * DAY
    )
    await world.live(3 * MINUTE, step=MINUTE)
    assert [1, 2] == [one["generation"] for one in world.told("renewal_hint")]


async def test_short_lifetimes_do_not_make_a_renewal_loop(world):
    world.ca.lifetime = 2 * MINUTE
    for _ in range(600):
        await world.tick()
        world.clock.advance(timedelta(seconds=1))
    assert world.ca.calls <= 11


async def test_busy_identity_is_left_to_the_other_process(world):
    async with locked(world.site.directory, wait_s=0):
        with pytest.raises(BusyError):
            await world.tick()
    assert 0 == world.ca.calls


async def test_two_who_renew_now_get_one_certificate(world):
    await world.tick()
    both = await asyncio.gather(
        world.manager.renew("mft", force=True, wait_s=5), world.manager.renew("mft", force=True, wait_s=5)
    )
    assert [2, 2] == [renewal.generation for renewal in both]
    assert 2 == world.ca.calls


async def test_provider_sees_the_new_chain_and_who_holds_the_old_one_keeps_it(world):
    warnings = []
    identities = {"mft": world.identity}
    keys = LocalKeys(world.folder)
    kept = KeptIdentities(
        world.folder,
        identities,
        keys=keys,
        warning=lambda _event, **fields: warnings.append(fields),
        info=lambda _event, **_fields: None,
    )
    provider = Identities(identities, keys=keys, files=kept, kept=kept)
    with pytest.raises(Exception, match="no certificate yet"):
        await provider.current("mft")
    await world.tick()
    first = await provider.current("mft")
    assert first is await provider.current("mft")
    await world.renew()
    second = await provider.current("mft")
    assert (1, 2) == (first.generation, second.generation)
    assert first.chain[0].spki == public_bytes(first.key.private)  # type: ignore[attr-defined] # a key from a file

    await world.renew()
    (world.current().path / "key.pem").chmod(0o644)
    assert second is await provider.current("mft")
    assert second is await provider.current("mft")
    assert 2 == len(warnings)
    keys.close()


async def test_half_written_generation_is_never_seen_and_is_cleaned(world):
    await world.tick()
    partial = world.site.directory / "generations" / ".new-0123"
    partial.mkdir()
    (partial / "key.pem").write_bytes(b"half")
    stray = world.site.directory / "journal" / "20260101T000000-aa.key.pem"
    stray.write_bytes(b"never shown to anybody")
    assert [1] == world.site.generations.numbers()
    await world.renew()
    assert not partial.exists()
    assert not stray.exists()
    assert 2 == world.number()


async def test_order_that_waits_does_not_hold_up_another_configuration(world):
    world.ca.plan, world.ca.pending_for = ["pending"] * 3, 20 * DAY
    await world.tick()
    calls = world.ca.calls
    world.clock.advance(MINUTE)
    await world.tick()
    assert calls == world.ca.calls
    world.ca.plan = []
    world.start(replace(world.identity, dns=("other.corp.example",), common_name=None))
    await world.tick()
    assert (1, calls + 1) == (world.number(), world.ca.calls)
    assert "superseded" in {str(one.outcome) for one in world.site.journal.orders()}
    assert (await world.manager.row("mft")).alarm is None
