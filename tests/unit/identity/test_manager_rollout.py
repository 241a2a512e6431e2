"""
The driver after an activation: hooks, the host's own listener, and running until cancelled.
"""

import asyncio
import os
import ssl
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.core.identity_settings import HookRules
from cftpki_ext.identity.store.locks import BusyError, locked
from cftpki_ext.identity.store.state import Stage
from tests.support import real_service
from tests.support.managed_world import IDENTITY, MINUTE, World
from tests.support.scripted_ca import DAY


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


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
        if not await asyncio.to_thread(real_service.runs, child):
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


async def test_state_that_cannot_be_used_is_told_and_ends_nothing(world):
    world.site.directory.mkdir(parents=True)
    world.site.directory.chmod(0o2775)
    task = asyncio.create_task(world.manager.run())
    await world.hear("identity_not_kept")
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "chmod 0700" in world.told("identity_not_kept")[0]["error"]


async def test_hooks_that_failed_under_a_command_are_told_and_run_again_by_the_next(tmp_path):
    ready = tmp_path / "ready"
    hook = ("/bin/sh", "-c", f'test -e {ready} || {{ echo "not ready"; exit 3; }}')
    world = World(tmp_path, replace(IDENTITY, hooks=HookRules(commands=(hook,))))
    done = await world.renew(force=False)
    assert (True, False, 1) == (done.issued, done.failed, done.generation)
    assert done.not_taken_over.startswith("hooks: /bin/sh: status 3")
    assert world.site.actions.lines()[-1].failed
    # Not due, nor are the hooks: the command runs them all the same.
    done = await world.renew(force=False)
    assert (False, True) == (done.issued, done.not_taken_over.startswith("hooks: /bin/sh: status 3"))
    assert 2 == len(world.told("identity_hooks_run"))
    assert "not_taken_over" in (await world.manager.row("mft")).words
    ready.touch()
    done = await world.renew(force=False)
    assert (False, None) == (done.issued, done.not_taken_over)
    await world.renew(force=False)
    assert 3 == len(world.told("identity_hooks_run"))
    assert 1 == world.ca.calls


async def test_renew_while_another_works_on_it_says_so_at_once_and_joins(world):
    await world.tick()
    async with locked(world.site.directory, wait_s=0):
        joining = asyncio.create_task(world.manager.renew("mft", force=True, wait_s=60))
        await world.hear("identity_busy")
        assert [os.getpid()] == [told["process"] for told in world.told("identity_busy")]
        # What the other one issues meanwhile counts.
        first = world.current()
        second = world.site.generations.write(
            first.chain,
            first.key(None),
            password=None,
            order="other",
            enroller="corp",
            at=world.clock.now(),
        )
        world.site.generations.activate(second.number)
    done = await joining
    assert (True, 2, "renewed by another process") == (done.issued, done.generation, done.detail)
    assert 1 == world.ca.calls


async def test_renew_that_may_not_wait_names_the_process_that_works_on_it(world):
    await world.tick()
    async with locked(world.site.directory, wait_s=0):
        with pytest.raises(BusyError, match=f"is being worked on by process {os.getpid()}; try again later"):
            await world.renew()
