"""
Targets for what browsers send to the console: whatever it is, nobody is let in, and nobody else's name is answered to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import h11

from cftpki_ext.console.connections import HEAD_BYTES
from cftpki_ext.console.doorkeepers import Peer, Tokens
from cftpki_ext.console.guarding import LOCAL, OPEN_PATHS, Admission, App, Guard
from cftpki_ext.console.rendering import moment
from cftpki_ext.console.sessions import Sessions

_OPEN = {one.encode() for one in OPEN_PATHS}
_LOCAL = [one.encode() for one in LOCAL]


class _NoLog:
    def debug(self, event: str, /, **fields: object) -> None:
        del event
        assert all(str(value).isprintable() for value in fields.values())

    info = warning = error = debug


async def _page(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _refuse(admission: Admission) -> App:
    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": int(admission.status), "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return answer


def console_request(data: bytes) -> None:
    """
    The head of a request as octets, and the door behind it.
    """
    connection = h11.Connection(h11.SERVER, HEAD_BYTES)
    connection.receive_data(data)
    event: Any = None
    with contextlib.suppress(h11.RemoteProtocolError):
        event = connection.next_event()
    if not isinstance(event, h11.Request):
        return
    raw, _, query = event.target.partition(b"?")
    scope = {
        "type": "http",
        "method": event.method.decode("ascii"),
        "path": raw.decode("latin-1"),
        "raw_path": raw,
        "query_string": query,
        "headers": [(bytes(name).lower(), bytes(value)) for name, value in event.headers],
        "scheme": "http",
        "state": {"peer": Peer(address="192.0.2.1")},
    }
    answers: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    guard = Guard(_page, Tokens(Sessions(), "cftpki-1"), hosts=LOCAL, refuse=_refuse, log=_NoLog())
    asyncio.run(guard(scope, receive, send))
    (status,) = answers
    is_open = raw in _OPEN or raw.startswith(b"/enter/")
    assert status in {401, 403, 405, 414, 421, 431} or (status == 200 and is_open)
    if status in {200, 401}:
        hosts = [bytes(value).lower() for name, value in event.headers if bytes(name).lower() == b"host"]
        assert len(hosts) == 1
        assert any(hosts[0] == one or hosts[0].startswith(one + b":") for one in _LOCAL)


def console_moment(data: bytes) -> None:
    """
    A text of a record that may be a time.
    """
    shown = str(moment(data.decode("utf-8", "surrogateescape")))
    assert shown.isprintable()
    assert ("<" in shown) == shown.startswith("<time datetime=")


_HEAD = b"GET /partners?q=a HTTP/1.1\r\nHost: localhost:8443\r\nCookie: cftpki-1=abc; a=b\r\nSec-Fetch-Site: none\r\n\r\n"

TARGETS: dict[str, Callable[[bytes], None]] = {
    "console_request": console_request,
    "console_moment": console_moment,
}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "console_request": (
        _HEAD,
        _HEAD.replace(b"/partners", b"/login").replace(b"none", b"cross-site"),
        b"POST /login HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://[::1]\r\nContent-Length: 0\r\n\r\n",
        b"GET /enter/x HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n",
    ),
    "console_moment": (b"2026-11-28T12:00:00+02:00", b"<b>9999-12-31T23:59:59-12:00"),
}
