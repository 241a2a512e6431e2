"""
A CMP server of ours that says what a script tells it to, honestly protected: for what no real server does, and for
foreign clients that look at what we write::

    with scripted_cmp(lambda request: request.reply(Kind.PKICONF, writing.NULL), shared(b"secret")) as server:
        server.url, server.requests
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cftpki_connectors.cmp.messages import parse_message
from cftpki_connectors.cmp.protection import Secret, Signer
from cftpki_connectors.cmp.values import Kind, Message
from tests.support.cmp_messages import protected


@dataclass(frozen=True, kw_only=True)
class Request:
    """
    What came, and the number of the message among all.
    """

    message: Message
    number: int
    means: Secret | Signer

    @property
    def kind(self) -> Kind | None:
        return self.message.kind

    def reply(
        self, kind: Kind, body: bytes, *, means: Secret | Signer | None = None, **changes: Any
    ) -> bytes:
        """
        An answer that belongs to the request, but for `changes` of its header.
        """
        header = self.message.header
        fields = {
            "transaction": header.transaction,
            "nonce": bytes([self.number + 1]) * 16,
            "answered": header.sender_nonce,
            "recipient": header.sender,
        }
        return protected(kind, body, means or self.means, **(fields | changes))


@dataclass(kw_only=True)
class ScriptedCmp:
    """
    A running server.
    """

    port: int
    requests: list[Message] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    proxied: list[str | None] = field(default_factory=list)  # Proxy-Authorization

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextlib.contextmanager
def scripted_cmp(
    script: Callable[[Request], bytes],
    means: Secret | Signer,
    *,
    status: int = 200,
    content: str = "application/pkixcmp",
) -> Iterator[ScriptedCmp]:
    """
    A server on a free port that answers each message by the script.
    """

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            message = parse_message(self.rfile.read(int(self.headers["Content-Length"])))
            running.requests.append(message)
            running.paths.append(self.path)
            running.proxied.append(self.headers["Proxy-Authorization"])
            body = script(Request(message=message, number=len(running.requests), means=means))
            self.send_response(status)
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = ScriptedCmp(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
