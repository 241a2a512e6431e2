"""
The lab's process: an OCSP responder and a CRL distribution point, on two ports of the loopback interface.

Everything is signed when it is asked for, with what `lab.json` says at that moment: a revocation is seen by
the next question, and nothing grows stale while the lab runs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from cftpki_ext.core.escape import printable
from cftpki_ext.lab.authority import Member, Responder, sign_crl
from cftpki_ext.lab.layout import LabError, Layout
from cftpki_ext.lab.store import ADDRESS, load_member, load_state

# A request about one certificate has about 100 bytes; a nonce adds at most 128 (RFC 9654).
MAX_REQUEST_BYTES = 4096
# A client that says nothing is not waited for.
CLIENT_TIMEOUT_S = 10


class _Handler(BaseHTTPRequestHandler):
    """
    What both servers share: bounded requests, one log line each.
    """

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = CLIENT_TIMEOUT_S

    def answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain") -> None:
        """
        Send one whole response.
        """
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """
        Log to standard output, which `lab up` sends to lab.log.
        """
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        sys.stdout.write(f"{when} {self.server.name} {printable(format % args)}\n")
        sys.stdout.flush()


class _OcspHandler(_Handler):
    def do_GET(self) -> None:
        """
        RFC 6960 appendix A.1: the request is the rest of the path, in base64.
        """
        _, _, encoded = self.path.partition("/ocsp/")
        try:
            request = base64.b64decode(unquote(encoded), validate=True)
        except (binascii.Error, ValueError):
            self.answer(HTTPStatus.BAD_REQUEST, b"no base64\n")
            return
        self._answer_ocsp(request)

    def do_POST(self) -> None:
        """
        RFC 6960 appendix A.1: the request is the body.
        """
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            self.answer(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE if length.isdigit() else HTTPStatus.LENGTH_REQUIRED, b""
            )
            return
        self._answer_ocsp(self.rfile.read(int(length)))

    def _answer_ocsp(self, request: bytes) -> None:
        state = load_state(self.server.layout)
        response = self.server.responder.answer(
            request,
            known=frozenset(state.serials.values()),
            revoked=state.revoked,
            now=datetime.now(UTC),
        )
        self.answer(HTTPStatus.OK, response, "application/ocsp-response")


class _CrlHandler(_Handler):
    def do_GET(self) -> None:
        """
        The CRL of one of the lab's CAs, signed now.
        """
        issuer = self.server.issuers.get(self.path)
        if issuer is None:
            self.answer(HTTPStatus.NOT_FOUND, b"no such CRL\n")
            return
        revoked = load_state(self.server.layout).revoked if self.path == "/issuing.crl" else {}
        self.answer(HTTPStatus.OK, sign_crl(issuer, revoked, datetime.now(UTC)), "application/pkix-crl")


class _Server(ThreadingHTTPServer):
    """
    One listener, with what its handlers need.
    """

    daemon_threads = True

    def __init__(self, layout: Layout, name: str, port: int, handler: type[_Handler]) -> None:
        self.layout = layout
        self.name = name
        issuing = load_member(layout, "ca", "issuing")
        self.responder = Responder(issuer=issuing.certificate, signer=load_member(layout, "ca", "ocsp"))
        self.issuers: dict[str, Member] = {
            "/root.crl": load_member(layout, "ca", "root"),
            "/issuing.crl": issuing,
        }
        try:
            super().__init__((ADDRESS, port), handler)
        except OSError as exc:
            msg = (
                f"port {port} of {ADDRESS}, which the lab's certificates name, is taken: "
                f"stop what listens there, or make a new lab in another directory"
            )
            raise LabError(msg) from exc


@contextlib.contextmanager
def serving(layout: Layout) -> Iterator[None]:
    """
    Answer while the context is open.

    Args:
        layout: a lab that was made.

    Yields:
        When both ports accept connections.

    Raises:
        LabError: no lab, or a port is taken.

    """
    state = load_state(layout)
    servers: list[_Server] = []
    threads: list[threading.Thread] = []
    try:
        servers.append(_Server(layout, "ocsp", state.ocsp_port, _OcspHandler))
        servers.append(_Server(layout, "crl", state.crl_port, _CrlHandler))
        threads.extend(threading.Thread(target=server.serve_forever, args=(0.1,)) for server in servers)
        for thread in threads:
            thread.start()
        yield
    finally:
        for server, _ in zip(servers, threads, strict=False):
            server.shutdown()
        for thread in threads:
            thread.join()
        for server in servers:
            server.server_close()


def wait_for_signal() -> None:
    """
    Block until SIGTERM or SIGINT; call from the main thread, before other threads are started.
    """
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def block_signals() -> None:
    """
    Keep SIGTERM and SIGINT for `wait_for_signal`, in this thread and those started from it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
