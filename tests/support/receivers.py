"""
Those who are told of trouble, for real, on loopback: a mail server (aiosmtpd), a web server, a system log.

    with mail_server(tls=certificate, login=("u", "p")) as server:
        server.port, server.mails
    async with web_server(certificate) as server:
        server.url, server.requests
    with syslog_socket(path) as log:
        log.lines()
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.servers import Certified, write_pem

WAIT_S = 60.0


def server_tls(folder: Path, certificate: Certified) -> ssl.SSLContext:
    """
    TLS of a server with this certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(write_pem(folder / f"server-{certificate.serial}.pem", certificate))
    return context


class MailServer:
    """
    What came by mail.
    """

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[Any] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.came = threading.Event()
        self.refuse: str | None = None  # what RCPT is answered with

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.refuse is not None:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.came.set()
        return "250 taken"


@contextlib.contextmanager
def mail_server(
    *, tls: ssl.SSLContext | None = None, at_once: bool = False, login: tuple[str, str] | None = None
) -> Iterator[MailServer]:
    """
    aiosmtpd in a thread: with `tls` it offers STARTTLS and wants it, or, `at_once`, speaks TLS from the start.
    """
    from aiosmtpd.controller import Controller  # noqa: PLC0415 - where it is missing these tests fail, and no others
    from aiosmtpd.smtp import AuthResult  # noqa: PLC0415 - as above

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        told = (data.login.decode(), data.password.decode())
        return AuthResult(success=told == login, handled=False)

    handler = MailServer()
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0, "ready_timeout": WAIT_S}
    if login is not None:
        # Of TLS from the start aiosmtpd does not know that it is there.
        options |= {
            "authenticator": authenticate,
            "auth_required": not at_once,
            "auth_require_tls": not at_once,
        }
    if tls is not None and not at_once:
        options |= {"tls_context": tls, "require_starttls": True}
    if at_once:
        options |= {"ssl_context": tls}

    class Listening(Controller):  # type: ignore[misc,unused-ignore]
        def _trigger_server(self) -> None:
            """
            It waits for its first connection, which has to be at the port that it was given.
            """
            listening: Any = self.server
            handler.port = listening.sockets[0].getsockname()[1]
            socket.create_connection(("127.0.0.1", handler.port), timeout=WAIT_S).close()

    controller = Listening(handler, **options)
    controller.start()
    try:
        yield handler
    finally:
        controller.stop()


@dataclass
class WebServer:
    """
    What came to a web server: method, target, headers and body of each request.
    """

    port: int = 0
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)  # the next ones; then 204
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, target: str = "/hook") -> str:
        return f"https://127.0.0.1:{self.port}{target}"

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.requests) < count:
                self.came.clear()
                await self.came.wait()


@contextlib.asynccontextmanager
async def web_server(tls: ssl.SSLContext | None) -> AsyncIterator[WebServer]:
    """
    A server that takes POSTs of JSON, one on each connection.
    """
    server = WebServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            server.requests.append((method, target, headers, json.loads(body)))
            writer.write(server.answers.pop(0) if server.answers else b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
            server.came.set()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


@contextlib.asynccontextmanager
async def talker(
    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """
    A server that speaks first, and as `behave` wants; its port.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closing a transport takes one more round of the loop


class Syslog:
    """
    Datagrams that came.
    """

    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint
        self.port = 0 if endpoint.family == socket.AF_UNIX else endpoint.getsockname()[1]

    def line(self) -> str:
        """
        The next one.
        """
        return self._endpoint.recv(65536).decode()


@contextlib.contextmanager
def syslog_socket(path: Path | None = None) -> Iterator[Syslog]:
    """
    A system log at a unix socket, or, without one, at a UDP port.
    """
    family = socket.AF_INET if path is None else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
        endpoint.settimeout(WAIT_S)
        endpoint.bind(("127.0.0.1", 0) if path is None else str(path))
        yield Syslog(endpoint)
