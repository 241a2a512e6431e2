"""The driver against a scripted CA: what is issued, what is kept, and what is told, when the world is not as hoped."""

import asyncio
import os
import ssl
import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.settings import HookRules, ManagedIdentity
from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.identity.enroller_port import Fault, RenewalHint
from cftpki_ext.identity.renewal.advice import Found
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.renewal.overview import Alarm
from cftpki_ext.identity.renewal.schedule import Why
from cftpki_ext.identity.serving.local import LocalKeys
from cftpki_ext.identity.serving.provider import Identities, KeptIdentities
from cftpki_ext.identity.store.journal import Outcome
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.identity.store.locks import BusyError, locked
from cftpki_ext.identity.store.private_keys import public_bytes
from cftpki_ext.identity.store.state import Stage, read_state
from tests.support import pki
from tests.support.scripted_ca import DAY, TestClock, make_ca

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

IDENTITY = ManagedIdentity(
    name="mft",
    enrollers=("corp",),
    common_name="mft.corp.example",
    dns=("mft.corp.example", "mft2.corp.example"),
    addresses=(),
    key=KeyKind.P256,
)


class World:
    def __init__(self, folder, identity=IDENTITY, **more):
        self.folder = folder
        self.clock = TestClock(pki.NOW)
        self.ca = make_ca(folder / "ca", self.clock)
        self.cas = {"corp": self.ca}
        self.events = []
        self.heard = {}
        self.more = more
        self.identity = identity
        self.start()

    def start(self, identity=None):
        self.identity = identity or self.identity
        self.site = site_of(self.folder, self.identity)
        self.manager = Manager(
            root=self.folder,
            identities={self.identity.name: self.identity},
            enrollers=self.cas,
            anchors=lambda name: {"corp": (self.ca.root.der,), "wrong": (self.ca.other.der,)}[name],
            clock=self.clock,
            event=self.note,
            host="host-1",
            draw=lambda: 0.5,
            **self.more,
        )

    def note(self, event, **fields):
        self.events.append((event, fields))
        if event in self.heard:
            self.heard[event].set()

    async def hear(self, event):
        self.heard[event] = asyncio.Event()
        async with asyncio.timeout(20):
            await self.heard[event].wait()

    def add_ca(self, name):
        self.cas[name] = make_ca(self.folder / name, self.clock, name=name)
        return self.cas[name]

    async def tick(self):
        return await self.manager.tick("mft")

    async def renew(self, *, force=True):
        return await self.manager.renew("mft", force=force, wait_s=0)

    def current(self):
        return self.site.generations.current()

    def number(self):
        current = self.current()
        return None if current is None else current.number

    async def live(self, span, *, step=10 * MINUTE):
        """
        Tick through a span of simulated time.
        """
        until = self.clock.now() + span
        while self.clock.now() < until:
            await self.tick()
            self.clock.advance(step)

    async def trouble(self):
        return (await self.manager.overview("mft")).trouble

    def told(self, event):
        return [fields for name, fields in self.events if name == event]


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
    world.ca.plan = ["rate_limited"]
    await world.tick()
    await world.live(170 * MINUTE)
    assert 1 == world.ca.calls
    await world.renew()
    assert 2 == world.ca.calls
    assert 1 == world.number()


@pytest.mark.parametrize(
    "fault", ["unreachable", "refused", "misconfigured", "rate_limited", "raise", "fewer_names"]
)
async def test_next_enroller_is_asked_where_one_fails(tmp_path, fault):
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    world.ca.plan = [fault]
    world.start()
    world.cas["backup"].root, world.cas["backup"].issuing = world.ca.root, world.ca.issuing
    await world.tick()
    assert (1, 1) == (world.ca.calls, backup.calls)
    assert "backup" == world.current().meta.enroller


async def test_next_enroller_is_asked_while_one_waits_only_when_time_runs_out(tmp_path):
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
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
    with pytest.raises(InputError, match="no earlier generation that is not revoked"):
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
    assert first.chain[0].spki == public_bytes(first.key.private)

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


async def test_unreadable_order_is_told_and_not_passed_over(world):
    world.ca.plan = ["pending"]
    await world.tick()
    next((world.site.directory / "journal").glob("2*.json")).write_bytes(b"{broken")
    world.clock.advance(2 * HOUR)
    with pytest.raises(StoreError, match="cannot be read"):
        await world.tick()
    assert 1 == world.ca.calls


async def test_hook_runs_after_activation_and_its_failure_is_repeated_without_issuing(tmp_path):
    marker = tmp_path / "allowed"
    out = tmp_path / "out"
    script = tmp_path / "hook"
    script.write_text(
        f'#!/bin/sh\n[ -e {marker} ] || {{ echo "not yet" >&2; exit 3; }}\n'
        f'echo "$CFTPKI_IDENTITY $CFTPKI_GENERATION $1 ${{HOME-none}}" > {out}\ntest -r "$CFTPKI_DIRECTORY/chain.pem"\n'
    )
    script.chmod(0o700)
    world = World(tmp_path, replace(IDENTITY, hooks=HookRules(commands=((str(script), "an arg; no shell"),))))
    await world.tick()
    assert "status 3: not yet" in await world.trouble()
    marker.touch()
    await world.tick()
    assert not out.exists()
    world.clock.advance(timedelta(seconds=11))
    await world.tick()
    assert "mft 1 an arg; no shell none\n" == out.read_text()
    assert await world.trouble() is None
    world.clock.advance(DAY)
    out.unlink()
    await world.tick()
    assert not out.exists()
    assert 1 == world.ca.calls


async def test_hook_that_hangs_is_ended_with_its_children(tmp_path):
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o700)
    rules = HookRules(commands=((str(script),),), timeout=timedelta(seconds=1))
    world = World(tmp_path, replace(IDENTITY, hooks=rules))
    await world.tick()
    assert "no end within 1 s" in await world.trouble()
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if "\nState:\tZ" in await asyncio.to_thread(Path(f"/proc/{child}/status").read_text):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("the hook's child lives on")


async def test_observed_when_the_listener_serves_it_and_not_before(tmp_path):
    world = World(tmp_path)
    await world.tick()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old = world.current().path
    context.load_cert_chain(old / "chain.pem", old / "key.pem")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    world.start(replace(IDENTITY, observe=(("127.0.0.1", port),)))
    async with server:
        await world.tick()
        assert Stage.OBSERVED is (await world.manager.overview("mft")).stage
        await world.renew()
        assert Stage.ACTIVATED is (await world.manager.overview("mft")).stage
        assert "serves" in await world.trouble()
        new = world.current().path
        context.load_cert_chain(new / "chain.pem", new / "key.pem")
        world.clock.advance(MINUTE)
        await world.tick()
        assert Stage.OBSERVED is (await world.manager.overview("mft")).stage
        assert await world.trouble() is None
    assert 2 == world.ca.calls
    world.start(replace(IDENTITY, observe=(("127.0.0.1", port),)))
    await world.renew()
    assert "nothing listens there" in await world.trouble()


async def test_run_keeps_identities_until_it_is_cancelled(world):
    task = asyncio.create_task(world.manager.run())
    await world.hear("identity_activated")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 == world.number()


async def test_state_that_cannot_be_read_is_told_and_ends_nothing(world):
    world.site.directory.mkdir(parents=True)
    (world.site.directory / "current").symlink_to("elsewhere")
    task = asyncio.create_task(world.manager.run())
    await world.hear("identity_not_kept")
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "is no generation" in world.told("identity_not_kept")[0]["error"]


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
    assert (Alarm.UNUSABLE, Why.UNUSABLE, world.clock.now()) == (
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
    assert Alarm.UNUSABLE is (await world.manager.overview("mft")).alarm
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
    assert Alarm.UNUSABLE is (await world.manager.overview("mft")).alarm
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


async def test_alarm_is_raised_at_each_step_once(world):
    alarms = []

    async def look():
        world.manager._watch(await world.manager.overview("mft"))
        alarms[:] = [fields["alarm"] for fields in world.told("identity_alarm")]

    await look()
    await look()
    assert ["nothing"] == alarms
    await world.tick()
    await look()
    world.clock.advance(26 * DAY)
    await look()
    assert ["nothing"] == alarms
    for days in (1.5, 1.6, 1):
        world.clock.advance(days * DAY)
        await look()
        await look()
    assert ["nothing", "floor", "day", "expired"] == alarms


async def test_overview_as_data_says_until_when_we_live_without_the_ca(world):
    await world.tick()
    data = (await world.manager.overview("mft")).data()
    assert datetime.fromisoformat(data["runway"]) == world.current().ends
    assert (1, "activated", None) == (data["generation"]["number"], data["stage"], data["trouble"])


async def test_open_order_that_lost_the_race_is_told_and_taken_up_again(tmp_path):
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
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
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
    world.ca.plan = ["misconfigured"]
    world.start()
    await world.tick()
    overview = await world.manager.overview("mft")
    assert ("backup", None) == (overview.current.meta.enroller, overview.trouble)
    assert ["prepared"] == [one.progress for one in overview.open_orders]


async def test_order_of_an_enroller_that_is_configured_no_more_becomes_an_orphan(tmp_path):
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
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
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
    world.ca.plan = ["unreachable"]
    world.start()
    await world.tick()
    world.start(replace(IDENTITY, enrollers=("backup",)))
    await world.tick()
    overview = await world.manager.overview("mft")
    heard = [one.submitted_at for one in world.site.journal.orders() if one.enroller == "corp"]
    assert ((), [None], ()) == (overview.open_orders, heard, overview.orphans)


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
