"""
The driver against a scripted CA: what is issued, what is kept, and what is told, when the world is not as hoped.
"""

import stat
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.identity.renewal.schedule import Why
from cftpki_ext.identity.store.journal import Outcome
from cftpki_ext.identity.store.private_keys import public_bytes
from cftpki_ext.identity.store.state import read_state
from tests.support.managed_world import HOUR, IDENTITY, MINUTE, World
from tests.support.scripted_ca import DAY


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_first_tick_issues_a_whole_generation_with_private_files(world):
    plan = await world.tick()

    current = world.current()
    assert 1 == current.number
    assert [world.ca.issuing.der] == [c.der for c in current.chain[1:]]
    assert Why.LIFETIME is plan.why
    assert timedelta(days=20) - timedelta(days=1.6) < plan.at - world.clock.now() <= timedelta(days=20)
    for path in (current.path / "key.pem", current.path / "chain.pem", current.path / "meta.json"):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(current.path.stat().st_mode)
    assert current.leaf.spki == public_bytes(current.key(None))
    assert [] == list((world.site.directory / "journal").glob("*.key.pem"))


async def test_second_tick_asks_nobody(world):
    await world.tick()
    await world.tick()
    assert 1 == world.ca.calls


async def test_key_is_encrypted_at_rest_where_a_password_is_configured(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"correct horse\n")
    secret.chmod(0o600)
    world = World(tmp_path, replace(IDENTITY, password_file=secret))
    world.ca.plan = ["pending"]
    await world.tick()
    waiting = next((world.site.directory / "journal").glob("*.key.pem")).read_bytes()
    world.clock.advance(HOUR)
    await world.tick()

    raw = (world.current().path / "key.pem").read_bytes()
    assert b"ENCRYPTED PRIVATE KEY" in raw
    assert b"ENCRYPTED PRIVATE KEY" in waiting
    key = load_pem_private_key(raw, b"correct horse")
    assert world.current().leaf.spki == key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


async def test_key_is_not_written_at_all_where_the_password_cannot_be_read(tmp_path):
    world = World(tmp_path, replace(IDENTITY, password_file=tmp_path / "missing"))
    with pytest.raises(Exception, match="no such file"):
        await world.tick()
    assert [] == list(world.site.directory.rglob("*.pem"))
    assert 0 == world.ca.calls


async def test_renewal_makes_a_new_key_and_keeps_the_old_generation(world):
    await world.tick()
    old = world.current()
    await world.live(21 * DAY, step=6 * HOUR)
    assert 2 == world.number()
    assert old.leaf.spki != world.current().leaf.spki
    assert [1, 2] == world.site.generations.numbers()
    assert world.current().meta.written_at - old.leaf.not_before < 0.68 * (old.ends - old.leaf.not_before)


async def test_renewal_with_reuse_key_keeps_the_key(tmp_path):
    world = World(tmp_path, replace(IDENTITY, reuse_key=True))
    await world.tick()
    old = world.current()
    world.clock.advance(DAY)
    await world.renew()
    assert old.leaf.spki == world.current().leaf.spki
    assert old.number != world.number()


async def test_only_the_configured_number_of_generations_stays_and_the_one_in_force(tmp_path):
    world = World(tmp_path, replace(IDENTITY, keep=2))
    for _ in range(4):
        await world.renew()
    await world.manager.rollback("mft", to=3, wait_s=0)
    world.site.generations.clean(keep=1)
    assert [3, 4] == world.site.generations.numbers()
    await world.renew()
    assert 5 == world.number()
    await world.renew()
    assert [4, 5, 6] == world.site.generations.numbers()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("wrong_key", "none of 2 certificates is for our key"),
        ("fewer_names", "without dns:mft2.corp.example"),
        ("short", "lifetime: wanted"),
        ("expired", "valid until"),
        ("other_root", "does not lead to a trusted root"),
        ("refused", "policy says no"),
        ("unreachable", "connection refused"),
        ("misconfigured", "wrong password"),
        ("rate_limited", "too many"),
        ("raise", "a defect of the adapter"),
    ],
)
async def test_answer_that_is_not_what_was_asked_for_leaves_the_old_chain_and_tells_why(
    tmp_path, answer, said
):
    world = World(tmp_path, replace(IDENTITY, lifetime=30 * DAY))
    await world.tick()
    world.clock.advance(DAY)
    world.ca.plan = [answer]

    renewal = await world.renew()

    assert 1 == world.number()
    assert renewal.failed
    assert said in renewal.detail
    assert said in await world.trouble()
    world.clock.advance(DAY)
    assert not (await world.renew()).failed
    assert 2 == world.number()
    assert await world.trouble() is None


async def test_chain_out_of_order_with_root_and_duplicates_is_put_in_order(world):
    world.ca.plan = ["shuffled"]
    await world.tick()
    assert [world.ca.issuing.der] == [c.der for c in world.current().chain[1:]]


async def test_chain_with_root_is_kept_where_configured(tmp_path):
    world = World(tmp_path, replace(IDENTITY, keep_root=True))
    await world.tick()
    assert world.ca.root.der == world.current().chain[-1].der


async def test_rejected_certificate_is_reported_as_an_orphan_with_its_serial(tmp_path):
    world = World(tmp_path, replace(IDENTITY, lifetime=30 * DAY))
    world.ca.plan = ["short"]
    await world.tick()
    overview = await world.manager.overview("mft")
    assert world.number() is None
    assert 1 == len(overview.orphans)
    assert overview.orphans[0].serial is not None
    assert "no certificate yet" in overview.trouble


async def test_certificate_of_the_future_is_held_until_it_is_valid(world):
    await world.tick()
    old = world.number()
    world.clock.advance(DAY)
    world.ca.plan = ["future"]
    renewal = await world.renew()
    assert (old, False) == (world.number(), renewal.failed)
    assert "not valid before" in renewal.detail
    calls = world.ca.calls
    await world.live(HOUR)
    assert old == world.number()
    world.clock.advance(2 * HOUR)
    await world.tick()
    assert 2 == world.number()
    assert calls == world.ca.calls


async def test_pending_order_is_taken_up_again_with_the_same_key_and_request(world):
    world.ca.plan = ["pending", "pending", "issue"]
    await world.tick()
    world.start()  # a restart
    await world.live(4 * HOUR)
    first, *others = world.ca.orders_seen
    assert 3 == world.ca.calls
    assert {(first.id, first.csr)} == {(order.id, order.csr) for order in others}
    assert public_bytes(first.key) == world.current().leaf.spki
    assert 1 == len(world.ca.books()["orders"])


async def test_pending_order_is_asked_for_at_once_when_the_operator_says_so(world):
    world.ca.plan = ["pending"]
    await world.tick()
    renewal = await world.renew()
    assert (1, True) == (world.number(), renewal.issued)
    assert 1 == len(world.ca.books()["orders"])


async def test_renewal_that_is_not_due_says_when_it_is(world):
    await world.tick()
    renewal = await world.renew(force=False)
    assert (False, False) == (renewal.issued, renewal.failed)
    assert "not due before" in renewal.detail


async def test_lost_order_is_begun_anew_once(world):
    world.ca.plan = ["lost"]
    await world.tick()
    assert 1 == world.number()
    assert {Outcome.LOST, Outcome.ACTIVATED} == {record.outcome for record in world.site.journal.orders()}
    assert 1 == len((await world.manager.overview("mft")).orphans)


async def test_two_lost_orders_end_the_attempt(world):
    world.ca.plan = ["lost", "lost"]
    await world.tick()
    assert world.number() is None
    assert Fault.ORDER_LOST is read_state(world.site.directory).last_failure.fault


async def test_order_for_other_names_is_not_taken_up_after_a_change_of_configuration(world):
    world.ca.plan = ["pending"]
    await world.tick()
    world.start(replace(world.identity, dns=("mft.corp.example",)))
    await world.renew()
    assert {Outcome.SUPERSEDED, Outcome.ACTIVATED} == {r.outcome for r in world.site.journal.orders()}
    assert 1 == len((await world.manager.overview("mft")).orphans)


async def test_changed_names_renew_at_once(world):
    await world.tick()
    world.start(replace(world.identity, dns=("mft.corp.example", "third.corp.example")))
    assert Why.CHANGED is (await world.manager.overview("mft")).plan.why
    world.clock.advance(2 * MINUTE)
    await world.tick()
    assert 2 == world.number()
