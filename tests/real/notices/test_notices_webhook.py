"""
Notices by a webhook: a real https server, and those that answer otherwise.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from cftpki_connectors.notify.webhook import WebhookSender
from cftpki_ext.core.errors import NotTakenError
from cftpki_ext.core.notify import (
    Condition,
    Notice,
    NoticeKind,
    NoticeMessage,
    NoticeState,
    WebhookReceiver,
)
from tests.support.pki import issue, make_root
from tests.support.receivers import server_tls, web_server
from tests.support.servers import evil

pytestmark = pytest.mark.real

ROOT = make_root("Web Root")
SERVER = issue(ROOT, "127.0.0.1", eku=["serverAuth"], san=["ip:127.0.0.1", "dns:localhost"])
STRANGER = issue(make_root("Stranger"), "127.0.0.1", eku=["serverAuth"], san=["ip:127.0.0.1"])
NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
CONDITION = Condition(kind=NoticeKind.SOURCE_DOWN, about="a", text="it is down", since=NOW)
MESSAGE = NoticeMessage(
    id="1" * 32,
    at=NOW,
    host="mft1",
    notices=(Notice(state=NoticeState.BEGUN, condition=CONDITION),),
)


async def send(within_s=60.0, **given):
    receiver = WebhookReceiver(name="chat", **{"roots": (ROOT.der,)} | given)
    async with contextlib.aclosing(WebhookSender(receiver)) as sender:
        await sender.send(MESSAGE, deadline=time.monotonic() + within_s)


async def refused(**given):
    with pytest.raises(NotTakenError) as caught:
        await send(**given)
    return str(caught.value)


def secret(tmp_path, text):
    file = tmp_path / "secret"
    file.write_text(text)
    file.chmod(0o600)
    return file


async def test_message_is_posted_as_json_with_the_token(tmp_path):
    async with web_server(server_tls(tmp_path, SERVER)) as server:
        await send(url=server.url("/hook?room=1"), token_file=secret(tmp_path, "s3cret\n"))
    ((method, target, headers, body),) = server.requests
    assert ("POST", "/hook?room=1", "application/json", "Bearer s3cret") == (
        method,
        target,
        headers["content-type"],
        headers["authorization"],
    )
    assert {
        "product": "cftpki",
        "format": 1,
        "id": "1" * 32,
        "at": "2026-06-01T12:30:00+00:00",
        "host": "mft1",
        "text": (
            "[cftpki mft1] 1 begun: it is down\nBEGUN source_down: it is down (since 2026-06-01 12:30Z)"
        ),
        "notices": [
            {
                "state": "begun",
                "kind": "source_down",
                "about": "a",
                "text": "it is down",
                "since": "2026-06-01T12:30:00+00:00",
            }
        ],
        "more": 0,
    } == body


async def test_address_that_is_a_secret_comes_from_its_file_and_is_never_told(tmp_path):
    async with web_server(server_tls(tmp_path, SERVER)) as server:
        file = secret(tmp_path, server.url("/services/T0/TOKEN") + "\n")
        await send(url_secret_file=file)
        server.answers = [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"]
        assert "127.0.0.1 did not take it: HTTP 403" == await refused(url_secret_file=file)
    assert "/services/T0/TOKEN" == server.requests[0][1]
    for text in ("TOKEN", "https://127.0.0.1/ TOKEN", "ftp://TOKEN/", "http://TOKEN/"):
        assert "TOKEN" not in await refused(url_secret_file=secret(tmp_path, text))


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", True),
        (b"HTTP/1.1 307 Moved\r\nLocation: https://127.0.0.1/elsewhere\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 302 Moved\r\nLocation: https://127.0.0.1/elsewhere\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 401 Who are you\r\nContent-Length: 0\r\n\r\n", False),
        (b"no HTTP\r\n\r\n", False),
    ],
)
async def test_any_success_is_taken_and_nothing_else(tmp_path, answer, taken):
    async with web_server(server_tls(tmp_path, SERVER)) as server:
        server.answers = [answer] * 3
        if taken:
            await send(url=server.url())
        else:
            await refused(url=server.url())
        assert {"/hook"} == {target for _, target, _, _ in server.requests}


async def test_server_that_is_not_known_or_not_allowed_is_told_nothing(tmp_path):
    async with web_server(server_tls(tmp_path, STRANGER)) as server:
        assert "certificate" in await refused(url=server.url())
        assert [] == server.requests
    async with web_server(server_tls(tmp_path, SERVER)) as server:
        url = server.url().replace("127.0.0.1", "localhost")
        assert "is not public and not in allow_networks" in await refused(url=url)
        networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        await send(url=url, allow_networks=networks)
        assert 1 == len(server.requests)


async def test_plain_http_is_for_who_asks_for_it():
    async with web_server(None) as server:
        url = server.url().replace("https", "http")
        assert "its address is not https" == await refused(url=url)
        await send(url=url, unsafe_plain_http=True)
    assert 1 == len(server.requests)


async def test_server_that_never_answers_is_given_up():
    async def silent(reader, writer):
        await reader.read()

    async with evil(silent) as server:
        url = server.url("/")
        assert "no whole answer within" in await refused(url=url, unsafe_plain_http=True, within_s=0.5)
