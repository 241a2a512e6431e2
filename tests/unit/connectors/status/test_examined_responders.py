"""
What strangers and a CA can do to the answers that we publish: see nothing but what is pending, and hold nothing up.
"""

import asyncio
import os
import stat

import pytest

from cftpki_connectors.acme import http01
from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.hook import Hook
from cftpki_connectors.acme.http01 import PREFIX, Responder, WebrootSolver
from cftpki_connectors.acme.listening import MAX_CONNECTIONS
from cftpki_connectors.acme.options import ChallengeKind, Http01
from cftpki_connectors.acme.resources import Identifier, parse_challenge

TOKEN = "-rf_token"


class Ticking:
    def monotonic(self):
        return 0.0


async def say(address, data, *, end=True):
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "target",
    [
        PREFIX,
        PREFIX + "other",
        PREFIX + TOKEN + "/",
        PREFIX + TOKEN + "?x",
        PREFIX + "../" + TOKEN,
        PREFIX + "%2d" + TOKEN[1:],
        "/../../etc/passwd",
        "http://host" + PREFIX + TOKEN,
        "/",
    ],
)
async def test_responder_answers_one_exact_path_only(target):
    responder = Responder("127.0.0.1:0")
    await responder.add(TOKEN, f"{TOKEN}.thumb")
    try:
        answer = await say(responder.bound, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"thumb" not in answer
        known = await say(responder.bound, f"GET {PREFIX}{TOKEN} HTTP/1.1\r\n\r\n".encode())
        assert known.endswith(f"\r\n\r\n{TOKEN}.thumb".encode())
    finally:
        await responder.aclose()


@pytest.mark.parametrize(
    "sent",
    [
        b"x" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000,
        b"\r\n\r\n",
        b"\x16\x03\x01\0\xff\r\n\r\n",
        b"G",
    ],
)
async def test_responder_lets_go_of_what_is_no_request(sent):
    responder = Responder("127.0.0.1:0")
    await responder.add(TOKEN, "value")
    try:
        assert b"value" not in await asyncio.wait_for(say(responder.bound, sent), 5)
    finally:
        await responder.aclose()


async def test_responder_of_nothing_pending_is_not_bound():
    responder = Responder("127.0.0.1:0")
    await responder.add("a", "1")
    await responder.add("b", "2")
    address = responder.bound
    await responder.remove("a")
    assert responder.bound == address
    await responder.remove("b")
    assert responder.bound is None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_responder_that_is_held_open_lets_go_in_time_and_answers_again(monkeypatch):
    monkeypatch.setattr(http01, "HEAD_S", 0.3)
    responder = Responder("127.0.0.1:0")
    await responder.add(TOKEN, "value")
    idle = [await asyncio.open_connection(*responder.bound) for _ in range(MAX_CONNECTIONS + 10)]
    try:
        # Whoever is let go sees the end; those beyond the number see it at once.
        async with asyncio.timeout(10):
            assert {await reader.read() for reader, _ in idle} == {b""}
        answer = await say(responder.bound, f"GET {PREFIX}{TOKEN} HTTP/1.1\r\n\r\n".encode())
        assert answer.endswith(b"value")
    finally:
        for _, writer in idle:
            writer.close()
        await responder.aclose()


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a/b", "a\0", "a\n", "..%2f", "é", "a" * 513, 7, None, ["a"]]
)
def test_token_that_could_be_a_path_or_a_line_is_no_challenge(token):
    assert (
        parse_challenge({"type": "http-01", "url": "https://ca/", "token": token, "status": "pending"})
        is None
    )


def task(value=f"{TOKEN}.thumb"):
    return Task(
        identifier=Identifier("dns", "a.example"),
        kind=ChallengeKind.HTTP_01,
        token=TOKEN,
        authorization=value,
    )


async def test_webroot_replaces_a_link_and_writes_nothing_through_it(tmp_path):
    folder = tmp_path / PREFIX.strip("/")
    folder.mkdir(parents=True)
    (tmp_path / "victim").write_text("untouched")
    (folder / TOKEN).symlink_to(tmp_path / "victim")
    solver = WebrootSolver(Http01(webroot=tmp_path, check=""), tmp_path, Ticking())
    await solver.present(task(), deadline=1.0)
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (folder / TOKEN).read_text() == f"{TOKEN}.thumb"
    await solver.cleanup(task(), deadline=1.0)
    assert list(folder.iterdir()) == []


async def test_webroot_can_be_read_by_the_web_server_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        solver = WebrootSolver(Http01(webroot=tmp_path, check=""), tmp_path, Ticking())
        await solver.present(task(), deadline=1.0)
    finally:
        os.umask(before)
    for path in (tmp_path / ".well-known", *(tmp_path / ".well-known").rglob("*")):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


async def test_hook_gets_words_as_they_are_and_no_environment_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("MFT_PASSWORD", "very secret")
    seen = tmp_path / "seen"
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\n(env; for one in "$@"; do echo "<$one>"; done) > {seen}\n')
    script.chmod(0o700)
    nasty = "-rf; touch pwned $(id) `id`"
    await Hook((str(script),), 10, Ticking()).run("present", "*.a.example", nasty, deadline=10.0)
    text = seen.read_text()
    assert f"<present>\n<*.a.example>\n<{nasty}>" in text
    assert "very secret" not in text
