"""
Large octets that are copied for another process in a thread: whoever gives up meanwhile leaves nothing open.
"""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from cftpki_ext.processes import copying
from cftpki_ext.processes.copying import memory_file_in_thread
from cftpki_ext.processes.memory_files import memory_file, read_memory_file
from tests.support.wall_clock import until

RAW = b"list" * 1000


async def test_copy_is_the_callers():
    number = await memory_file_in_thread(RAW)
    assert RAW == read_memory_file(number)
    os.close(number)


async def test_copy_that_nobody_waits_for_any_more_is_closed(monkeypatch):
    go, made = threading.Event(), []

    def slow(raw):
        assert go.wait(10)
        made.append(memory_file(raw))
        return made[0]

    monkeypatch.setattr(copying, "memory_file", slow)
    waiting = asyncio.ensure_future(memory_file_in_thread(RAW))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await asyncio.to_thread(until, lambda: made and not _is_open(made[0]))


async def test_copy_that_fails_is_told_and_one_that_nobody_waits_for_is_not(monkeypatch):
    go = threading.Event()

    def full(_):
        assert go.wait(10)
        msg = "no more descriptors"
        raise OSError(msg)

    monkeypatch.setattr(copying, "memory_file", full)
    given_up, waiting = (asyncio.ensure_future(memory_file_in_thread(RAW)) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    go.set()
    with pytest.raises(OSError, match="no more descriptors"):
        await waiting


def _is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
