"""
A server between nodes that is hostile, slow or broken: what it sends is not read beyond what was asked for, and nobody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_connectors.cluster.bounded import MAX_PARTS, MAX_REPLY_OCTETS, MAX_STRING_OCTETS
from cftpki_connectors.cluster.server import SharedServer
from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.cluster import Address, ClusterSettings, NodeRow, Refusal

ROW = NodeRow(node="a", version="1", position="0-0", at=datetime(2026, 6, 1, tzinfo=UTC))
# What was seen of commands so far is a server that works.
WELL = b"*5\r\n$0\r\n\r\n$0\r\n\r\n$1\r\n0\r\n:1\r\n*0\r\n"


def behaviour(replies, sent=None):
    """
    A server that takes CLIENT SETINFO and answers the first script well, and then says the same whatever it is asked.
    """

    async def behave(reader, writer):
        while line := await reader.readline():
            words = [await word(reader) for _ in range(int(line[1:]))]
            if words[0] in {b"CLIENT", b"PING"}:
                writer.write(b"+OK\r\n")
            elif words[0] == b"EVAL" and b"HVALS" in words[1]:
                writer.write(WELL)
            else:
                for piece in replies() if callable(replies) else replies:
                    writer.write(piece)
                    if sent is not None:
                        sent.append(len(piece))
                    await writer.drain()
            await writer.drain()

    return behave


async def word(reader):
    length = int((await reader.readline())[1:])
    return (await reader.readexactly(length + 2))[:-2]


@contextlib.asynccontextmanager
async def listening(behave):
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            await behave(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def with_server(behave, scene, **more):
    async with listening(behave) as port:
        settings = ClusterSettings(addresses=(Address(host="127.0.0.1", port=port),), tls=False, **more)
        shared = SharedServer(settings, SystemClock())
        try:
            assert await shared.beat(ROW) is not None
            return await scene(shared)
        finally:
            await shared.aclose()


def endless():
    yield b"$1000000000\r\n"
    while True:
        yield b"x" * 65536


@pytest.mark.parametrize(
    "replies",
    [
        endless,
        [b"$%d\r\n" % (MAX_STRING_OCTETS + 1)],
        [b"*1000000000\r\n"],
        [b"*%d\r\n" % (MAX_PARTS + 1), b":1\r\n" * (MAX_PARTS + 1)],
        [b"*1\r\n" * 100_000],
        [b"$" + b"9" * 5000 + b"\r\n"],
        [b"$-7\r\n"],
        [b"$x\r\n"],
        [b"+" + b"y" * 200_000],
        [b"?what\r\n"],
        [
            b"*64\r\n"
            + b"".join(b"$%d\r\n" % MAX_STRING_OCTETS + bytes(MAX_STRING_OCTETS) + b"\r\n" for _ in range(6))
        ],
    ],
    ids=[
        *("a gigabyte", "one too many", "a thousand million parts", "many parts", "deep", "long number"),
        *("negative", "no number", "line without end", "no protocol", "many strings"),
    ],
)
async def test_reply_that_is_larger_than_what_was_asked_for_is_not_read(replies):
    sent = []

    async def scene(shared):
        tracemalloc.start()
        try:
            return await shared.find("k"), tracemalloc.get_traced_memory()[1], shared.status()
        finally:
            tracemalloc.stop()

    found, peak, status = await with_server(behaviour(replies, sent), scene, patience=timedelta(seconds=2))
    assert found is None
    assert status["up"] is False
    assert peak < 3 * MAX_REPLY_OCTETS
    assert sum(sent) < 8 * MAX_REPLY_OCTETS


@pytest.mark.parametrize(
    "reply",
    [b":7\r\n", b"*0\r\n", b"+OK\r\n", b"$5\r\nhello\r\n", b"-ERR no\r\n", b"-OOM command not allowed\r\n"],
)
async def test_reply_of_another_kind_is_nothing(reply):
    async def scene(shared):
        found = await shared.find("k"), await shared.take("k"), await shared.heard_since("0-0")
        put = await shared.put("k", b"x", received_at=ROW.at, keep_s=60, lease=None)
        return found, put

    (answer, lease, _), put = await with_server(behaviour([reply]), scene)
    assert (None, Refusal.UNAVAILABLE, False) == (answer, lease, put)


async def test_slow_server_costs_one_patience_and_then_nothing():
    async def scene(shared):
        took = []
        for _ in range(3):
            begun = time.monotonic()
            assert await shared.find("k") is None
            took.append(time.monotonic() - begun)
        return took, shared.status()

    took, status = await with_server(behaviour([]), scene, patience=timedelta(milliseconds=200))
    assert took[0] >= 0.2
    assert max(took[1:]) < 0.1
    assert (False, 1) == (status["up"], status["late"])
    assert "no answer within 0.20 s" == status["fault"]


async def test_server_that_is_not_there_is_no_server():
    settings = ClusterSettings(addresses=(Address(host="127.0.0.1", port=1),), tls=False)
    shared = SharedServer(settings, SystemClock())
    try:
        assert await shared.beat(ROW) is None
        assert await shared.find("k") is None
        assert "connection refused" == shared.status()["fault"]
    finally:
        await shared.aclose()


async def test_many_who_wait_for_a_silent_server_wait_together():
    async def scene(shared):
        begun = time.monotonic()
        await asyncio.gather(*(shared.find(str(number)) for number in range(200)))
        return time.monotonic() - begun

    assert await with_server(behaviour([]), scene, patience=timedelta(milliseconds=300)) < 3


async def test_many_who_put_at_once_take_no_more_connections_than_there_are():
    async def scene(shared):
        done = await asyncio.gather(
            *(shared.put(str(one), b"x", received_at=ROW.at, keep_s=60, lease=None) for one in range(200)),
            *(shared.find(str(one)) for one in range(200)),
        )
        return done, shared.status()

    done, status = await with_server(behaviour([b":1\r\n"]), scene, patience=timedelta(seconds=20))
    assert [True] * 200 == done[:200]
    assert (True, 0) == (status["up"], status["late"])
