"""
Records on the disk that are not whole: each is told, stops nobody else, and is healed by whoever comes next.
"""

import shutil
from dataclasses import replace

import pytest

from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.renewal.schedule import Why
from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.identity.store.journal import Outcome
from cftpki_ext.identity.store.state import GivenUp, read_state, write_state
from tests.support.managed_world import HOUR, IDENTITY, MINUTE, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def empty_chain(site, path):
    (path / "chain.pem").write_bytes(b"")


def torn_chain(site, path):
    whole = (path / "chain.pem").read_bytes()
    (path / "chain.pem").write_bytes(whole[: len(whole) // 3])


def text_for_a_chain(site, path):
    (path / "chain.pem").write_bytes(b"<html>please sign in</html>")


def no_chain(site, path):
    (path / "chain.pem").unlink()


def folder_for_a_chain(site, path):
    (path / "chain.pem").unlink()
    (path / "chain.pem").mkdir()


def no_meta(site, path):
    (path / "meta.json").unlink()


def empty_meta(site, path):
    (path / "meta.json").write_bytes(b"")


def list_for_meta(site, path):
    (path / "meta.json").write_bytes(b"[1, 2]")


def meta_of_another(site, path):
    text = (path / "meta.json").read_text()
    (path / "meta.json").write_text(text.replace('"generation": ', '"generation": 9'))


def no_folder(site, path):
    shutil.rmtree(path)


def file_for_a_folder(site, path):
    shutil.rmtree(path)
    path.write_bytes(b"")


def no_generations(site, path):
    shutil.rmtree(path.parent)


def file_for_generations(site, path):
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


def pointer_elsewhere(site, path):
    (site.directory / "current").unlink()
    (site.directory / "current").symlink_to("elsewhere")


def pointer_to_nothing(site, path):
    (site.directory / "current").unlink()
    (site.directory / "current").symlink_to("generations/0042")


def no_pointer(site, path):
    (site.directory / "current").unlink()


def file_for_a_pointer(site, path):
    (site.directory / "current").unlink()
    (site.directory / "current").write_bytes(b"generations/0001")


def folder_for_a_pointer(site, path):
    (site.directory / "current").unlink()
    shutil.copytree(path, site.directory / "current")


HARMS = [
    empty_chain,
    torn_chain,
    text_for_a_chain,
    no_chain,
    folder_for_a_chain,
    no_meta,
    empty_meta,
    list_for_meta,
    meta_of_another,
    no_folder,
    file_for_a_folder,
    no_generations,
    file_for_generations,
    pointer_elsewhere,
    pointer_to_nothing,
    no_pointer,
    file_for_a_pointer,
    folder_for_a_pointer,
]


async def by_the_service(world):
    await world.tick()


async def by_renew(world):
    assert (await world.renew(force=False)).issued


async def by_renew_now(world):
    assert (await world.renew()).issued


@pytest.mark.parametrize("heal", [by_the_service, by_renew, by_renew_now])
@pytest.mark.parametrize("harm", HARMS)
async def test_generation_that_is_not_whole_is_missing_and_healed(world, harm, heal):
    await world.tick()
    harm(world.site, world.current().path)
    row = await world.manager.row("mft")
    assert (Standing.DAMAGED, Standing.DAMAGED) == (row.words[0], row.alarm)
    assert Standing.MISSING in row.words
    assert row.trouble.startswith("DAMAGED (")
    assert row.data()["state"] == "damaged"
    await heal(world)
    row = await world.manager.row("mft")
    assert ((Standing.HEALTHY,), None, None) == (row.words, row.alarm, row.trouble)
    assert world.current().leaf.not_after > world.clock.now()
    calls = world.ca.calls
    await world.live(HOUR, step=MINUTE)
    assert calls == world.ca.calls


@pytest.mark.parametrize("harm", HARMS)
async def test_number_of_a_generation_that_was_lost_is_not_given_again(world, harm):
    await world.tick()
    await world.renew()
    await world.renew()
    harm(world.site, world.current().path)
    await world.renew()
    assert world.number() > 3


@pytest.mark.parametrize(
    "harm", [harm for harm in HARMS if harm not in {no_generations, file_for_generations, pointer_to_nothing}]
)
async def test_earlier_generation_stands_in_at_once_while_the_ca_is_away(world, harm):
    await world.tick()
    await world.renew()
    world.ca.plan = ["unreachable"] * 50
    harm(world.site, world.current().path)
    await world.tick()
    # Where the pointer alone was lost, the newest is whole.
    kept = 2 if harm in {pointer_elsewhere, no_pointer, file_for_a_pointer, folder_for_a_pointer} else 1
    assert kept == world.number()
    (told,) = world.told("identity_fell_back")
    assert kept == told["generation"]
    row = await world.manager.row("mft")
    assert (Standing.DAMAGED, Standing.DAMAGED) == (row.words[0], row.alarm)
    assert Standing.MISSING not in row.words
    assert "an earlier generation stands in for it" in row.trouble
    assert Why.DAMAGED is row.plan.why
    await world.live(HOUR, step=MINUTE)
    assert kept == world.number()
    # A usable chain is at hand, so that the CA is asked as after any failure.
    assert 4 <= world.ca.calls - 2 <= 10
    world.ca.plan = []
    await world.live(6 * HOUR)
    assert world.number() >= 3
    assert (Standing.HEALTHY,) == (await world.manager.row("mft")).words
    assert 1 == len(world.told("identity_fell_back"))


async def test_key_that_cannot_be_used_is_stood_in_for_too(world):
    await world.tick()
    await world.renew()
    world.ca.plan = ["unreachable"] * 50
    (world.current().path / "key.pem").write_bytes(b"")
    await world.tick()
    assert 1 == world.number()
    assert world.current().key(None)


async def test_what_is_revoked_or_has_ended_never_stands_in(world):
    await world.tick()
    await world.renew()
    assert await world.manager.revoke("mft", number=1, reason="keyCompromise", wait_s=0) is None
    world.ca.plan = ["unreachable"] * 50
    empty_chain(world.site, world.current().path)
    await world.tick()
    assert () == tuple(world.told("identity_fell_back"))
    assert Standing.MISSING in (await world.manager.row("mft")).words


async def test_rollback_heals_without_the_ca(world):
    await world.tick()
    await world.renew()
    await world.renew()
    empty_chain(world.site, world.site.generations.read(2).path)
    empty_chain(world.site, world.current().path)
    asked = world.ca.calls
    assert 1 == (await world.manager.rollback("mft", to=None, wait_s=0)).number
    assert (1, asked) == (world.number(), world.ca.calls)
    assert None is (await world.manager.row("mft")).alarm


async def test_rollback_to_a_generation_that_is_damaged_names_it(world):
    await world.tick()
    await world.renew()
    empty_chain(world.site, world.site.generations.read(1).path)
    with pytest.raises(InputError, match="no earlier generation that is whole"):
        await world.manager.rollback("mft", to=None, wait_s=0)
    assert 2 == world.number()


async def test_damage_of_one_identity_hides_no_other(tmp_path):
    world = World(tmp_path)
    await world.tick()
    other = replace(IDENTITY, name="other")
    both = Manager(
        root=world.folder,
        identities={"mft": IDENTITY, "other": other},
        enrollers=world.cas,
        anchors=lambda _: (world.ca.root.der,),
        clock=world.clock,
        event=world.note,
        host="host-1",
        draw=lambda: 0.5,
    )
    await both.tick("other")
    no_meta(world.site, world.current().path)
    assert {"mft": Standing.DAMAGED, "other": Standing.HEALTHY} == {
        row.name: row.words[0] for row in await both.rows()
    }


def torn(path):
    path.write_bytes(path.read_bytes()[:100])


def nothing(path):
    path.write_bytes(b"")


def of_another_form(path):
    path.write_bytes(b'{"version": 7}')


def folder(path):
    path.unlink()
    path.mkdir()


ORDERS = [torn, nothing, of_another_form, folder]


@pytest.mark.parametrize("harm", ORDERS)
async def test_closed_order_that_is_damaged_is_passed_over(world, harm):
    await world.tick()
    harm(next((world.site.directory / "journal").glob("2*.json")))
    row = await world.manager.row("mft")
    assert ((Standing.HEALTHY,), None) == (row.words, row.alarm)
    await world.tick()
    assert (await world.renew()).issued
    assert (2, None) == (world.number(), await world.trouble())
    assert [Outcome.ACTIVATED] == [one.outcome for one in world.site.journal.orders()]


@pytest.mark.parametrize("heal", [by_the_service, by_renew_now])
@pytest.mark.parametrize("harm", ORDERS)
async def test_open_order_that_is_damaged_is_told_and_another_is_begun(world, harm, heal):
    world.ca.plan = ["pending"]
    await world.tick()
    harm(next((world.site.directory / "journal").glob("2*.json")))
    row = await world.manager.row("mft")
    assert Standing.ORDER_DAMAGED in row.words
    assert "is damaged (order " in row.trouble
    world.clock.advance(2 * HOUR)
    await heal(world)
    assert 1 == world.number()
    (told,) = world.told("identity_damage_put_aside")
    assert told["orphan"]
    row = await world.manager.row("mft")
    # A certificate may have been issued for it: its key is kept for whoever looks.
    assert ((Standing.HEALTHY, Standing.ORPHANED), None) == (row.words, row.trouble)
    assert 1 == len(list((world.site.directory / "journal").glob("*.damaged")))
    assert 1 == len(list((world.site.directory / "journal").glob("*.key.pem")))


async def test_request_within_an_order_that_was_damaged_is_asked_for_anew(world):
    world.ca.plan = ["pending"]
    await world.tick()
    path = next((world.site.directory / "journal").glob("2*.json"))
    text = path.read_text()
    start = text.index('"csr": "') + len('"csr": "')
    path.write_text(text[:start] + "AAAA" + text[start + 4 :])
    world.clock.advance(2 * HOUR)
    await world.tick()
    assert 1 == world.number()


def folder_in_its_place(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def link_in_its_place(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/nowhere/at/all")


def far_too_large(path):
    with path.open("ab") as file:
        file.truncate(50_000_000)


@pytest.mark.parametrize("name", ["standing.json", "actions.jsonl", "actions.told", "lock", "journal"])
@pytest.mark.parametrize("harm", [folder_in_its_place, link_in_its_place, far_too_large])
async def test_what_stands_in_the_place_of_a_record_is_put_aside(world, name, harm):
    await world.tick()
    await world.renew()
    await world.manager._tell_actions("mft")
    path = world.site.directory / name
    if name == "journal":
        if harm is folder_in_its_place:
            return
        shutil.rmtree(path)
    harm(path)
    assert (await world.renew()).issued
    await world.tick()
    await world.manager._tell_actions("mft")
    assert 1 == len(list(world.site.directory.glob(f"damaged-{name}-*")))
    row = await world.manager.row("mft")
    assert ((Standing.HEALTHY,), None) == (row.words, row.trouble)


async def test_state_that_is_not_as_it_was_written_is_put_aside_by_the_service(world):
    await world.tick()
    (world.site.directory / "standing.json").write_bytes(b'{"failures": "many"}')
    row = await world.manager.row("mft")
    assert "standing.json is not as it was written" in row.trouble
    await world.tick()
    assert None is await world.trouble()
    assert 1 == world.ca.calls


async def test_what_stands_in_is_forgotten_by_a_rollback_and_by_a_new_generation_whose_record_was_cut_off(
    world,
):
    await world.tick()
    await world.renew()
    world.ca.plan = ["unreachable"]
    empty_chain(world.site, world.current().path)
    await world.tick()
    assert read_state(world.site.directory).given_up is not None
    await world.manager.rollback("mft", to=1, wait_s=0)
    assert (None, None) == (read_state(world.site.directory).given_up, (await world.manager.row("mft")).alarm)
    # Killed between the flip to a new one and the record of it.
    state = read_state(world.site.directory)
    given_up = GivenUp(generation=2, detail="not whole")
    await world.renew()
    changes = {"given_up": given_up, "under_way": True, "rollout": None}
    write_state(world.site.directory, state.model_copy(update=changes))
    asked = world.ca.calls
    await world.tick()
    assert (None, asked) == (read_state(world.site.directory).given_up, world.ca.calls)
