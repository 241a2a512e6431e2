"""What operators did: written before and after, told once, whole after a kill."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.identity.store import operator_log as module
from cftpki_ext.identity.store.operator_log import Actions, Actor, Step, this_actor
from tests.support import pki
from tests.support.managed_world import World
from tests.support.scripted_ca import DAY

BOB = Actor(uid=990, user="cftpki", sudo_user="bob")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def brief(lines):
    return [(line.command, line.step, line.failed) for line in lines]


async def test_each_command_is_written_before_and_after_with_who_and_what(world):
    await world.renew()
    world.clock.advance(DAY)
    await world.manager.renew("mft", force=True, wait_s=0, by=BOB)
    await world.manager.rollback("mft", to=1, wait_s=0, by=BOB)
    await world.manager.revoke("mft", number=2, reason="superseded", wait_s=0, by=BOB)

    lines = world.site.actions.lines()
    assert [(c, s, False) for c in ("renew", "renew", "rollback", "revoke") for s in Step] == brief(lines)
    assert [this_actor()] * 2 + [BOB] * 6 == [line.by for line in lines]
    assert list(range(1, 9)) == [line.seq for line in lines]
    assert ["to 1", "generation 1 is in force, before it 2"] == [line.detail for line in lines[4:6]]
    assert "generation 2: revoked" == lines[-1].detail
    path = world.site.directory / "actions.jsonl"
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


async def test_command_that_fails_is_written_with_its_reason(world):
    await world.tick()
    with pytest.raises(InputError):
        await world.manager.rollback("mft", to=7, wait_s=0)
    world.ca.plan = ["refused"]
    assert (await world.renew()).failed
    _, refused, _, failed = world.site.actions.lines()
    assert (True, True) == (refused.failed, failed.failed)
    assert "no generation 7" in refused.detail
    assert "policy says no" in failed.detail


async def test_command_that_cannot_be_written_down_is_not_done(world, monkeypatch):
    await world.tick()

    def full(*_arguments):
        msg = "no space left"
        raise StoreError(msg)

    monkeypatch.setattr(Actions, "_append", full)
    with pytest.raises(StoreError):
        await world.renew()
    assert (1, 1) == (world.number(), world.ca.calls)


async def test_service_tells_each_line_once_over_restarts(world):
    await world.tick()
    await world.renew()
    world.start()
    await world.manager._tell_actions("mft")
    told = world.told("operator_action")
    assert [("renew", "begun"), ("renew", "ended")] == [(one["command"], one["step"]) for one in told]
    assert {"uid", "user", "sudo_user", "at", "detail", "failed"} <= set(told[0])
    await world.manager._tell_actions("mft")
    world.start()
    await world.manager._tell_actions("mft")
    assert 2 == len(world.told("operator_action"))
    await world.manager.rollback("mft", to=1, wait_s=0)
    await world.manager._tell_actions("mft")
    assert 4 == len(world.told("operator_action"))


def test_torn_line_is_passed_over_and_the_next_one_is_whole(tmp_path):
    actions = Actions(tmp_path)
    begun = actions.begin("renew", BOB, at=pki.NOW, detail="now")
    path = tmp_path / "actions.jsonl"
    path.write_bytes(path.read_bytes() + b'{"seq":2,"action":"abc')
    assert [begun] == list(actions.lines())
    ended = actions.end(begun, at=pki.NOW, detail="done", failed=False)
    assert [begun, ended] == list(actions.lines())
    assert [1, 2] == [begun.seq, ended.seq]


def test_full_file_lets_the_oldest_go_and_numbers_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 4000)
    actions = Actions(tmp_path)
    for _ in range(40):
        actions.begin("renew", BOB, at=pki.NOW, detail="x" * 1000)
    lines = actions.lines()
    assert (tmp_path / "actions.jsonl").stat().st_size <= 4000
    assert list(range(lines[0].seq, 41)) == [line.seq for line in lines]
    assert module.MAX_DETAIL == len(lines[0].detail)
    actions.tell(lines[-1])
    (tmp_path / "actions.jsonl").unlink()
    assert 41 == actions.begin("renew", BOB, at=pki.NOW, detail="").seq


def test_actor_is_the_user_of_the_process_and_who_called_sudo(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "al\x1bice" + "x" * 100)
    actor = this_actor()
    assert os.getuid() == actor.uid
    assert "\x1b" not in actor.sudo_user
    assert module.MAX_NAME >= len(actor.sudo_user)
    monkeypatch.delenv("SUDO_USER")
    assert this_actor().sudo_user is None


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from cftpki_ext.identity.renewal import operator
from tests.support.managed_world import World

world = World(Path({folder!r}))
write = operator.write_state
def last_word(directory, state):
    if state.going_back is None:
        os.kill(os.getpid(), signal.SIGKILL)
    write(directory, state)
operator.write_state = last_word
async def work():
    await world.manager.rollback("mft", to=1, wait_s=0)
asyncio.run(work())
"""


async def test_rollback_killed_after_the_flip_is_kept_back_and_seen_in_history(world, tmp_path):
    await world.tick()
    await world.renew()
    code = KILLED.format(root=str(Path(__file__).parents[3]), folder=str(tmp_path))
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, check=False
    )
    assert -9 == done.returncode, done.stderr
    assert 1 == world.number()
    assert ("rollback", Step.BEGUN, False) == brief(world.site.actions.lines())[-1]
    world.start()
    world.clock.advance(DAY)
    await world.live(20 * DAY, step=DAY)
    assert 1 == world.number()
