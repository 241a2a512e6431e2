"""
Connections are bounded in number, size and time; and whoever is at the other end of a unix socket is known.
"""

import asyncio
import contextlib
import os
import socket

import pytest

from cftpki_ext.console import connections
from cftpki_ext.console.connections import CONNECTIONS, HEAD_BYTES, Connections
from cftpki_ext.console.doorkeepers import peer_of
from tests.support.logs import CapturedLog

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def say_who(scope, _receive, send):
    body = repr(peer_of(scope).uid).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Site:
    def __init__(self, path):
        self.path = str(path)

    async def connect(self):
        return await asyncio.open_unix_connection(self.path)

    async def ask(self, octets=REQUEST):
        reader, writer = await self.connect()
        writer.write(octets)
        answer = await reader.readline()
        writer.close()
        return answer


def serving(tmp_path, act, app=None):
    """
    Do something with a site while it is served.
    """
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "s"))
    bound.listen(128)

    async def run():
        until = asyncio.Event()
        served = asyncio.create_task(Connections(bound, app or say_who, None, CapturedLog()).serve(until))
        try:
            async with asyncio.timeout(60):
                await act(Site(tmp_path / "s"))
        finally:
            until.set()
            await served

    with bound:
        asyncio.run(run())


def test_peer_of_a_unix_socket_is_known_by_its_user(tmp_path):
    async def act(site):
        reader, writer = await site.connect()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200" in head
        assert str(os.geteuid()).encode() == await reader.readexactly(len(str(os.geteuid())))
        writer.close()

    serving(tmp_path, act)


@pytest.mark.parametrize(
    "octets",
    [b"", b"GET / HTTP/1.1\r\nHost: local", b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nt"],
)
def test_request_that_comes_slowly_is_given_up(tmp_path, monkeypatch, octets):
    monkeypatch.setattr(connections, "HEAD_S", 0.05)

    async def act(site):
        reader, writer = await site.connect()
        writer.write(octets)
        while not reader.at_eof():
            try:
                await reader.read(4096)
            except ConnectionError:
                break
        writer.close()
        monkeypatch.setattr(connections, "HEAD_S", 60.0)
        assert b"200" in await site.ask()

    serving(tmp_path, act, wait_for_body)


async def wait_for_body(scope, receive, send):
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def test_octets_one_by_one_do_not_make_the_time_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    async def act(site):
        reader, writer = await site.connect()
        with contextlib.suppress(ConnectionError):
            # The test ends by its own time-out where this never does.
            while not reader.at_eof():
                writer.write(b"G")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    serving(tmp_path, act)


def test_head_that_is_too_long_is_refused(tmp_path):
    async def act(site):
        long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * HEAD_BYTES * 2
        assert b"400" in await site.ask(long)
        assert b"400" in await site.ask(b"GET /" + b"a" * HEAD_BYTES * 2)
        assert b"200" in await site.ask()

    serving(tmp_path, act)


def test_many_idle_connections_keep_nobody_out(tmp_path):
    async def act(site):
        held = [await site.connect() for _ in range(CONNECTIONS + 8)]
        assert b"200" in await site.ask()
        for _, writer in held:
            writer.close()

    serving(tmp_path, act)


def test_many_busy_connections_refuse_the_next_and_end_with_the_console(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "_END_S", 0.1)
    asked, all_asked = [], asyncio.Event()

    async def never(_scope, _receive, _send):
        asked.append(1)
        if len(asked) == CONNECTIONS:
            all_asked.set()
        await asyncio.Event().wait()

    async def act(site):
        held = [await site.connect() for _ in range(CONNECTIONS)]
        for _, writer in held:
            writer.write(REQUEST)
            await writer.drain()
        await all_asked.wait()
        with contextlib.suppress(ConnectionError):
            assert b"" == await site.ask()
        assert CONNECTIONS == len(asked)
        for _, writer in held:
            writer.close()

    serving(tmp_path, act, never)


FORM = b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("octets", [FORM, REQUEST * 3], ids=["half a form", "an answer that is not taken"])
def test_connections_where_nobody_waits_for_an_answer_keep_nobody_out(tmp_path, octets):
    asked, all_asked = [], asyncio.Event()

    async def answering(scope, receive, send):
        asked.append(1)
        if scope["method"] == "POST":
            if len(asked) == CONNECTIONS:
                all_asked.set()
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # More than any socket holds: the next answer waits for whoever is to take it.
        await send({"type": "http.response.body", "body": b"x" * 4_000_000})
        if len(asked) >= CONNECTIONS:
            all_asked.set()

    async def act(site):
        held = [await site.connect() for _ in range(CONNECTIONS)]
        for _, writer in held:
            writer.transport.pause_reading()
            writer.write(octets)
        await all_asked.wait()
        assert b"200" in await site.ask()
        for _, writer in held:
            writer.transport.abort()

    serving(tmp_path, act, answering)


def test_answer_that_nobody_takes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "ANSWER_S", 0.2)
    given_up = asyncio.Event()

    async def endless(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):  # more than any socket holds; once nobody is there it goes nowhere
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        given_up.set()

    async def act(site):
        reader, writer = await site.connect()
        writer.write(REQUEST)
        assert b"200" in await reader.readline()
        writer.transport.pause_reading()
        await given_up.wait()
        writer.transport.abort()

    serving(tmp_path, act, endless)
