"""Attempts that were cut off at the narrow places: nothing is issued twice, no order is left, no wait forgotten."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from cftpki_ext.core.vocabulary import Usage
from cftpki_ext.identity.issuance import task
from cftpki_ext.identity.renewal import attempt, operator
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.identity.store.journal import Outcome
from cftpki_ext.identity.store.state import read_state, write_state
from tests.support import pki
from tests.support.managed_world import IDENTITY, World, world_with_backup
from tests.support.scripted_ca import DAY


class CutOffError(BaseException):
    """
    The end of a process, as far as the next one can tell.
    """


def issued(ca):
    return len(ca.books()["certificates"])


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def die(*_args, **_more):
    raise CutOffError


async def cut_off(world, monkeypatch, owner, name, replacement=die):
    """
    One tick that ends in the middle; then a new process.
    """
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, replacement)
        with pytest.raises(CutOffError):
            await world.tick()
    world.start()


def but_the_last_word(directory, state, *, write=write_state):
    if state.rollout is not None:
        raise CutOffError
    write(directory, state)


async def test_cut_off_after_the_order_was_closed_issues_nothing_more(world, monkeypatch):
    await cut_off(world, monkeypatch, attempt, "write_state", but_the_last_word)
    assert 1 == world.number()
    assert read_state(world.site.directory).under_way
    await world.tick()
    assert "not due before" in (await world.renew(force=False)).detail
    assert (1, 1) == (world.number(), issued(world.ca))
    assert not read_state(world.site.directory).under_way


async def test_cut_off_between_flip_and_record_closes_the_order_and_issues_nothing_more(world, monkeypatch):
    await cut_off(world, monkeypatch, task.OrderTask, "close")
    assert (1, ["corp"]) == (world.number(), list(world.site.journal.open_orders()))
    await world.tick()
    assert {} == world.site.journal.open_orders()
    assert [Outcome.ACTIVATED] == [one.outcome for one in world.site.journal.orders()]
    assert (1, 1) == (world.number(), issued(world.ca))
    assert [] == list((world.site.directory / "journal").glob("*.key.pem"))


async def test_operators_now_after_a_cut_between_flip_and_record_renews(world, monkeypatch):
    await cut_off(world, monkeypatch, task.OrderTask, "close")
    world.clock.advance(DAY)
    done = await world.renew()
    assert (True, 2) == (done.issued, done.generation)
    assert 2 == issued(world.ca)


async def test_rollback_after_a_cut_between_flip_and_record_is_not_undone(world, monkeypatch):
    await world.tick()
    world.clock.advance(21 * DAY)
    await cut_off(world, monkeypatch, task.OrderTask, "close")
    assert 2 == world.number()
    await world.manager.rollback("mft", to=1, wait_s=0)
    await world.tick()
    assert (1, {}) == (world.number(), world.site.journal.open_orders())


async def test_cut_off_before_the_flip_goes_on_with_the_same_order(world, monkeypatch):
    await world.tick()
    world.clock.advance(21 * DAY)
    await cut_off(world, monkeypatch, type(world.site.generations), "activate")
    assert (1, [1, 2]) == (world.number(), world.site.generations.numbers())
    await world.tick()
    assert (2, 2) == (world.number(), issued(world.ca))


async def test_cut_off_at_the_second_enroller_collects_there_though_the_first_is_back(tmp_path):
    world, backup = world_with_backup(tmp_path)
    world.ca.plan = ["unreachable"]
    world.start()
    backup.step = lambda where: die() if where == "finalised" else None
    with pytest.raises(CutOffError):
        await world.tick()
    backup.step = lambda _where: None
    world.start()

    await world.tick()

    assert (0, 1) == (issued(world.ca), issued(backup))
    assert "backup" == world.current().meta.enroller
    assert "backup" not in world.site.journal.open_orders()
    world.clock.advance(DAY)
    # The next one begins with the first again.
    await world.renew()
    assert ("corp", 1) == (world.current().meta.enroller, issued(world.ca))


MARK = """
import sys
from pathlib import Path

from cftpki_ext.identity.renewal.manager import Manager
from tests.support.managed_world import IDENTITY

manager = Manager(
    root=Path("none"), identities={"mft": IDENTITY}, enrollers={}, anchors=None, clock=None, event=None, host=""
)
sys.stdout.write(manager._marks["mft"])
"""


def test_next_process_knows_the_configuration_again_and_keeps_its_waits(tmp_path):
    marks = set()
    for seed in range(6):
        done = subprocess.run(
            [sys.executable, "-c", MARK],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        )
        marks.add(done.stdout)
    assert 1 == len(marks), marks
    other = World(tmp_path, replace(IDENTITY, usages=frozenset({Usage.SERVER})))
    assert marks != set(other.manager._marks.values())


async def test_rollback_cut_off_after_the_flip_is_not_undone_by_the_schedule(world, monkeypatch):
    await world.tick()
    world.clock.advance(15 * DAY)
    await world.renew()

    def but_the_last_word_of_it(directory, state):
        if state.going_back is None:
            raise CutOffError
        write_state(directory, state)

    with monkeypatch.context() as patch:
        patch.setattr(operator, "write_state", but_the_last_word_of_it)
        with pytest.raises(CutOffError):
            await world.manager.rollback("mft", to=1, wait_s=0)
    world.start()
    await world.live(8 * DAY, step=DAY)
    assert (1, 1) == (world.number(), read_state(world.site.directory).kept_back)


async def test_rollback_cut_off_before_the_flip_leaves_no_trace(world, monkeypatch):
    await world.tick()
    world.clock.advance(15 * DAY)
    await world.renew()
    with monkeypatch.context() as patch:
        patch.setattr(type(world.site.generations), "activate", die)
        with pytest.raises(CutOffError):
            await world.manager.rollback("mft", to=1, wait_s=0)
    world.start()
    await world.tick()
    state = read_state(world.site.directory)
    assert (2, None, None) == (world.number(), state.kept_back, state.going_back)
    await world.live(22 * DAY, step=DAY)
    assert 3 == world.number()


CONFIGURED = """
import sys
from pathlib import Path
from cftpki_ext.config import load
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.service.renewals import managed

settings = load(Path(sys.argv[1]))
sys.stdout.write(stable_text([list(settings.enrollers.values()), list(managed(settings).values())]))
"""

FULL = """
[trust.own]
anchors = ["root.pem"]
[identity.mft]
enrollers = ["drop", "public", "cmp", "est", "scep", "step"]
names = ["mft.corp.example", "a.example", "10.0.0.1"]
usages = ["client", "server"]
policies = ["1.2.3", "1.2.4", "1.2.5", "1.2.6"]
windows = ["mon-fri 22:00-04:00", "sun 06:00-12:00"]
hooks = [["/bin/true", "x"]]
issuers = ["root.pem"]
observe = ["127.0.0.1:1762"]
[enroller.drop]
type = "file"
chain = "c"
key = "k"
[enroller.public]
type = "acme"
directory = "https://ca.example/directory"
terms_agreed = true
challenges = ["dns-01", "http-01"]
[enroller.public.http01]
webroot = "."
[enroller.public.dns01]
hook = ["/bin/true"]
[enroller.cmp]
type = "cmp"
url = "http://cmp.example"
roots = "root.pem"
reference = "mft01"
secret_file = "secret"
server_name = "CN=Server,O=Example"
[enroller.est]
type = "est"
url = "https://est.example"
implicit_roots = "root.pem"
[enroller.scep]
type = "scep"
url = "http://scep.example"
certificates = "root.pem"
challenge_file = "secret"
legacy = ["sha1", "3des"]
[enroller.step]
type = "stepca"
url = "https://step.example"
root_file = "root.pem"
provisioner = "mft"
password_file = "secret"
"""


def test_configuration_with_every_type_of_enroller_is_told_alike_in_every_process(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root("Mark Root").pem)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    config = tmp_path / "cftpki.toml"
    config.write_text(FULL)
    told = set()
    for seed in range(6):
        done = subprocess.run(
            [sys.executable, "-c", CONFIGURED, config],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        told.add(done.stdout)
    assert 1 == len(told), told
    (text,) = told
    assert all(
        name in text
        for name in ("FileOptions", "AcmeOptions", "CmpOptions", "EstOptions", "ScepOptions", "StepCaOptions")
    )
    assert " at 0x" not in text


def test_options_of_a_third_party_are_told_alike_and_differ_where_they_differ():
    class Odd:
        pass

    class Options(BaseModel, arbitrary_types_allowed=True):
        names: frozenset[str]
        table: dict[str, set[int]]
        secret: SecretStr
        odd: Odd

    def made(held="x", names=("b", "a")):
        table = {name: {1, 2} for name in names}
        return stable_text(Options(names=frozenset(names), table=table, secret=SecretStr(held), odd=Odd()))

    assert made() == made(names=("a", "b"))
    assert made() != made(held="y")
    assert made() != made(names=("a",))
