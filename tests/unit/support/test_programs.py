"""
Programs of the operator: what they see, how long they may take, and what is left of them.
"""

import asyncio
import os
import time

import pytest

from cftpki_ext.support.programs import MAX_OUTPUT, PATH, Ended, run_program

SH = "/bin/sh"
WAIT_S = 20.0


async def run(script, *, timeout_s=WAIT_S, **environment):
    return await run_program((SH, "-c", script), environment, timeout_s=timeout_s)


async def test_end_and_last_words_are_told():
    assert Ended(0, "out err") == await run("printf 'out '; printf err >&2")
    assert Ended(3, "no such zone") == await run("echo no such zone; exit 3")
    assert -9 == (await run("kill -9 $$")).status


async def test_program_sees_a_small_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("LANG", raising=False)
    ended = await run("env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort | tr '\\n' ' '", CFTPKI_NAME="mft")
    assert f"CFTPKI_NAME=mft PATH={PATH} TZ=UTC" == ended.words


async def test_daemon_that_a_program_leaves_behind_is_not_waited_for_and_lives_on(tmp_path):
    begun = time.monotonic()
    ended = await run(f"sleep 600 & echo $! > {tmp_path}/child; echo started")
    assert Ended(0, "started") == ended
    assert time.monotonic() - begun < WAIT_S / 2
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)  # raises where it is gone


async def test_program_that_hangs_is_killed():
    with pytest.raises(TimeoutError):
        await run("sleep 600", timeout_s=0.2)


async def test_cancelled_call_kills_the_program(tmp_path):
    mark = tmp_path / "pid"
    call = asyncio.create_task(run(f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 600"))
    while not mark.exists():  # noqa: ASYNC110 - another program makes it
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


async def test_flood_keeps_the_end_only_and_escapes_it():
    ended = await run(f"head -c {50 * MAX_OUTPUT} /dev/zero; printf '\\033[31mred'")
    assert 0 == ended.status
    assert ended.words.endswith("\\x1b[31mred")
    assert len(ended.words) <= MAX_OUTPUT


async def test_missing_program_is_an_error():
    with pytest.raises(FileNotFoundError):
        await run_program(("/nowhere/hook",), {}, timeout_s=WAIT_S)
