"""Attempts that were cut off at the narrow places: nothing is issued twice, no order is left, no wait forgotten."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cftpki_ext.identity import attempt, issue
from cftpki_ext.identity.journal import Outcome
from cftpki_ext.identity.standing import read_standing
from cftpki_ext.model import Usage
from tests.unit.identity.test_manager import DAY, IDENTITY, World


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


def but_the_last_word(directory, standing, *, write=attempt.write_standing):
    if standing.rollout is not None:
        raise CutOffError
    write(directory, standing)


async def test_cut_off_after_the_order_was_closed_issues_nothing_more(world, monkeypatch):
    await cut_off(world, monkeypatch, attempt, "write_standing", but_the_last_word)
    assert 1 == world.number()
    assert read_standing(world.site.directory).under_way
    await world.tick()
    assert "not due before" in (await world.renew(force=False)).detail
    assert (1, 1) == (world.number(), issued(world.ca))
    assert not read_standing(world.site.directory).under_way


async def test_cut_off_between_flip_and_record_closes_the_order_and_issues_nothing_more(world, monkeypatch):
    await cut_off(world, monkeypatch, issue.Issuer, "_close")
    assert (1, ["corp"]) == (world.number(), list(world.site.journal.open_orders()))
    await world.tick()
    assert {} == world.site.journal.open_orders()
    assert [Outcome.ACTIVATED] == [one.outcome for one in world.site.journal.orders()]
    assert (1, 1) == (world.number(), issued(world.ca))
    assert [] == list((world.site.directory / "journal").glob("*.key.pem"))


async def test_operators_now_after_a_cut_between_flip_and_record_renews(world, monkeypatch):
    await cut_off(world, monkeypatch, issue.Issuer, "_close")
    world.clock.advance(DAY)
    done = await world.renew()
    assert (True, 2) == (done.issued, done.generation)
    assert 2 == issued(world.ca)


async def test_rollback_after_a_cut_between_flip_and_record_is_not_undone(world, monkeypatch):
    await world.tick()
    world.clock.advance(21 * DAY)
    await cut_off(world, monkeypatch, issue.Issuer, "_close")
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
    world = World(tmp_path, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
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

from cftpki_ext.identity.manager import Manager
from tests.unit.identity.test_manager import IDENTITY

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
