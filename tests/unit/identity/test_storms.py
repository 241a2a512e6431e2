"""
A simulated day (or two) with each fault: how many orders and certificates, how many seconds without a usable chain.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.identity_settings import ChangeWindow, RenewalRules
from cftpki_ext.identity.enroller_port import RenewalHint
from cftpki_ext.identity.renewal.advice import Found
from cftpki_ext.identity.renewal.standing import Standing
from tests.support.managed_world import HOUR, IDENTITY, MINUTE, World
from tests.support.scripted_ca import DAY

SECOND = timedelta(seconds=1)
EVER = 100_000


def rules(**changes):
    return replace(IDENTITY, renewal=RenewalRules(**changes))


def counted(*cas):
    books = [ca.books() for ca in cas]
    return sum(len(one["orders"]) for one in books), sum(len(one["certificates"]) for one in books)


async def simulate(world, span=DAY, *, each=None):
    """
    Live through a span, tick by tick; at times that matter to nobody the ticks are five minutes apart.

    Returns:
        Orders, certificates, and seconds without a chain that can be used.

    """
    cas = tuple(world.cas.values())
    orders, certificates = counted(*cas)
    until, without = world.clock.now() + span, timedelta(0)
    while (now := world.clock.now()) < until:
        if each is not None:
            each(world)
        planned = await world.tick()
        step = min(max(planned.at - now, 10 * SECOND), 5 * MINUTE, until - now)
        current = world.current()
        if current is None:
            without += step
        else:
            without += min(max(now + step - current.ends, timedelta(0)), step)
        world.clock.advance(step)
    after = counted(*cas)
    return after[0] - orders, after[1] - certificates, without.total_seconds()


@pytest.mark.parametrize(
    "before",
    [30 * DAY, 24 * HOUR, 24 * HOUR - MINUTE, 23 * HOUR, 22 * HOUR],
    ids=str,
)
async def test_renew_at_that_is_longer_than_the_life_falls_back_to_the_share_and_says_so(tmp_path, before):
    world = World(tmp_path, rules(renew_before=before))
    world.ca.lifetime = DAY
    assert (2, 2, 0.0) == await simulate(world)
    assert f"renew_at is {before} before the end" in await world.trouble()
    assert "renewed at 67% of that" in await world.trouble()


async def test_renew_at_that_fits_the_life_says_nothing(tmp_path):
    world = World(tmp_path, rules(renew_before=8 * HOUR))
    world.ca.lifetime = DAY
    assert (2, 2, 0.0) == await simulate(world)
    assert await world.trouble() is None


async def test_renew_at_that_does_not_fit_is_told_once_by_the_service(tmp_path):
    world = World(tmp_path, rules(renew_before=30 * DAY))
    world.ca.lifetime = DAY
    await world.tick()
    for _ in range(3):
        await world.manager._watch("mft", None)
    assert 1 == len(world.told("identity_renewal_moved"))


@pytest.mark.parametrize("share", [0.10, 0.11, 0.12])
async def test_smallest_shares_are_not_eaten_by_the_jitter(tmp_path, share):
    world = World(tmp_path, rules(renew_at=share))
    world.ca.lifetime = DAY
    _, certificates, without = await simulate(world)
    assert certificates <= 13
    assert 0 == without


@pytest.mark.parametrize("backdate", [30 * DAY, 3 * DAY, 16 * HOUR, HOUR], ids=str)
async def test_backdated_certificates_are_renewed_by_what_is_left_when_they_come(tmp_path, backdate):
    world = World(tmp_path)
    world.ca.lifetime, world.ca.backdate = DAY, backdate
    world.ca.lifetime = DAY
    _, certificates, without = await simulate(world)
    assert certificates <= 3
    assert 0 == without


async def test_issuing_ca_that_ends_soon_is_not_run_over(tmp_path):
    world = World(tmp_path)
    world.ca.lifetime, world.ca.ends_at = DAY, world.clock.now() + 2 * HOUR
    _, certificates, _ = await simulate(world)
    assert certificates <= 16


@pytest.mark.parametrize(
    ("fault", "hours", "expected"),
    [
        # orders and certificates, with nothing in force at all
        ("fewer_names", 24, (5, 5)),
        ("fewer_names", 48, (6, 6)),
        ("wrong_key", 24, (5, 5)),
        ("other_root", 24, (5, 5)),
        ("expired", 24, (5, 5)),
        ("refused", 24, (9, 0)),
        ("lost", 24, (18, 0)),
        ("misconfigured", 8, (0, 0)),
        ("unreachable", 8, (0, 0)),
        ("raise", 8, (0, 0)),
        ("pending", 8, (1, 0)),
    ],
)
async def test_day_of_a_fault_with_nothing_in_force(tmp_path, fault, hours, expected):
    world = World(tmp_path)
    world.ca.plan = [fault] * EVER
    orders, certificates, without = await simulate(world, hours * HOUR)
    assert expected == (orders, certificates)
    assert hours * 3600 == without
    # One private key for the order that is open, none for those that are over.
    assert len(world.site.journal.open_orders()) == len(list(world.site.directory.rglob("*.key.pem")))


@pytest.mark.parametrize(
    ("fault", "first_90_minutes"),
    [("refused", 4), ("fewer_names", 2), ("lost", 8)],
)
async def test_first_ninety_minutes_of_a_fault_with_nothing_in_force(tmp_path, fault, first_90_minutes):
    world = World(tmp_path)
    world.ca.plan = [fault] * EVER
    assert first_90_minutes == (await simulate(world, 90 * MINUTE))[0]


@pytest.mark.parametrize(
    ("fault", "at_most"),
    [("fewer_names", (12, 12)), ("refused", (24, 0)), ("lost", (48, 0)), ("misconfigured", (0, 0))],
)
async def test_last_day_before_the_end_and_the_first_after_it_cost_few_orders(tmp_path, fault, at_most):
    world = World(tmp_path)
    world.ca.lifetime = 30 * DAY
    await world.tick()
    world.clock.advance(29 * DAY)
    world.ca.plan = [fault] * EVER
    orders, certificates, without = await simulate(world, 2 * DAY)
    assert orders <= at_most[0]
    assert certificates <= at_most[1]
    assert DAY.total_seconds() == pytest.approx(without, abs=300)


@pytest.mark.parametrize(
    ("fault", "at_most"),
    [("unreachable", 7), ("unavailable", 7), ("rate_limited", 19), ("pending", 19), ("misconfigured", 19)],
)
async def test_ca_that_comes_back_is_asked_within_minutes_with_nothing_in_force(tmp_path, fault, at_most):
    world = World(tmp_path)
    world.ca.retry_after = world.ca.pending_for = 30 * DAY
    world.ca.plan = [fault] * EVER
    await simulate(world, 3 * HOUR)
    world.ca.plan = []
    _, certificates, without = await simulate(world, HOUR)
    assert 1 == certificates
    assert without <= at_most * 60


async def test_patience_that_was_asked_for_ends_when_the_key_cannot_be_used(tmp_path):
    world = World(tmp_path)
    world.ca.retry_after = 30 * DAY
    await world.tick()
    world.clock.advance(18 * DAY)
    world.ca.plan = ["unavailable"]
    await world.renew()
    (world.current().path / "key.pem").chmod(0o644)
    world.clock.advance(5 * MINUTE)
    await world.tick()
    assert 2 == world.number()


async def test_person_or_configuration_ends_the_waiting(tmp_path):
    world = World(tmp_path)
    world.ca.plan = ["fewer_names"] * 5
    await simulate(world, 23 * HOUR)
    assert 5 == world.ca.calls
    await world.renew()
    assert 1 == world.number()

    other = World(tmp_path / "other")
    other.ca.plan = ["fewer_names"] * 5
    await simulate(other, 23 * HOUR)
    assert other.number() is None
    other.start(replace(IDENTITY, keep=4))
    await other.tick()
    assert 1 == other.number()


async def test_one_enroller_that_rejects_does_not_slow_the_other_nor_the_other_it(tmp_path):
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    world.start()
    world.ca.plan, backup.plan = ["fewer_names"] * EVER, ["unreachable"] * EVER
    await simulate(world, 8 * HOUR)
    assert (4, 4) == counted(world.ca)
    assert backup.calls >= 80
    backup.plan = []
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
    _, certificates, without = await simulate(world, HOUR)
    assert 1 == certificates
    assert without <= 7 * 60


async def test_certificates_that_are_revoked_as_they_come_are_replaced_ever_more_rarely(tmp_path):
    async def own_status(identity, chain, max_age):
        return Found(revoked=True, detail="OCSP says so")

    world = World(tmp_path, replace(IDENTITY, trust="corp"), own_status=own_status)
    _, certificates, _ = await simulate(world)
    assert certificates <= 10


async def test_keys_that_become_unusable_as_they_come_are_replaced_ever_more_rarely(tmp_path):
    world = World(tmp_path)

    def spoil(world):
        current = world.current()
        if current is not None:
            (current.path / "key.pem").chmod(0o644)

    _, certificates, _ = await simulate(world, each=spoil)
    assert certificates <= 10


async def test_second_revocation_much_later_is_answered_at_once(tmp_path):
    revoked = set()

    async def own_status(identity, chain, max_age):
        return Found(revoked=chain[0] in revoked, detail="OCSP says so")

    world = World(tmp_path, replace(IDENTITY, trust="corp"), own_status=own_status)
    for number in (1, 2, 3):
        await simulate(world, 7 * HOUR)
        assert number == world.number()
        revoked.add(world.current().leaf.der)
    await simulate(world, 6 * MINUTE)
    assert 4 == world.number()


async def test_hint_that_always_says_now_renews_short_lives_four_times_a_day(tmp_path):
    world = World(tmp_path)
    world.ca.lifetime = DAY
    now = world.clock.now()
    world.ca.hint = RenewalHint(start=now - HOUR, end=now + 9 * DAY, explanation=None, ask_again_at=now)
    world.ca.hint = replace(world.ca.hint, end=now - MINUTE)
    _, certificates, without = await simulate(world)
    assert certificates <= 5
    assert 0 == without


async def test_end_of_the_cas_window_ends_the_patience_of_change_windows(tmp_path):
    closed = ChangeWindow(days=frozenset({6}), begin=datetime.min.time(), end=datetime.max.time())
    world = World(tmp_path, rules(windows=(closed,)))  # Sundays; the world begins on another day
    await world.tick()
    now = world.clock.now()
    assert 6 != now.weekday()
    world.ca.hint = RenewalHint(
        start=now + 7 * HOUR, end=now + 14 * HOUR, explanation=None, ask_again_at=now + HOUR
    )
    world.clock.advance(6 * HOUR + MINUTE)
    planned = await world.tick()
    assert now + 14 * HOUR == planned.floor
    assert now + 14 * HOUR == planned.at
    world.ca.plan = ["unreachable"] * EVER
    await simulate(world, 8 * HOUR)
    overview = await world.manager.overview("mft")
    assert Standing.OVERDUE is overview.alarm
    assert "the CA wanted it renewed before" in overview.trouble
    world.ca.plan, world.ca.hint = [], None
    await simulate(world, 7 * HOUR)
    assert 2 == world.number()
    assert (await world.manager.overview("mft")).alarm is None


async def test_disk_that_refuses_in_the_middle_of_attempts_does_not_make_a_new_order_at_every_look(
    tmp_path, monkeypatch
):
    world = World(tmp_path)

    def refuse(record, issued, *, password):
        msg = "journal: no space left on device"
        raise StoreError(msg)

    monkeypatch.setattr(world.manager._sites["mft"].journal, "receive", refuse)
    calls = 0
    until = world.clock.now() + 3 * HOUR
    while world.clock.now() < until:
        before = world.ca.calls
        try:
            await world.tick()
        except StoreError:
            calls += world.ca.calls - before
        world.clock.advance(10 * SECOND)
    assert 10 <= calls <= 20
    monkeypatch.undo()
    _, _, without = await simulate(world, HOUR)
    assert without <= 16 * 60
