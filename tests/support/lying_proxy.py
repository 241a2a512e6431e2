"""
A TLS proxy in front of a real CA that passes everything through and lies where it is told to::

    with lying_proxy(certificate, upstream=ca.port, port=port) as proxy:
        with proxy.lying(ANSWERS["stepca"], lambda exchange: exchange.answer._replace(body=b"")):
            …

`Host` goes through as it came, so that a CA which builds its URLs from it builds them for the proxy. A client that
shows a certificate in TLS gets one shown at the CA too: that of `proxy.held`, because the proxy has no other key.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from tests.support import pki
from tests.support.servers import write_pem

# What belongs to one connection, and is written anew for each.
_OWN = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
# Where each protocol hands out certificates.
ANSWERS = {
    "stepca": r"POST /1\.0/(sign|renew|rekey)$",
    "acme": r"POST /certZ/[0-9a-f]+$",
    "est": r"POST .*/simple(re)?enroll$",
    "vault": r"POST /v1/pki/sign/mft$",
}
Lie = Callable[["Exchange"], "Answer | None"]


class Answer(NamedTuple):
    """
    What the CA answered.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def with_header(self, *added: tuple[str, str]) -> Answer:
        """
        The same with these header fields instead of others of their names.
        """
        names = {name.lower() for name, _ in added}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return self._replace(headers=(*kept, *added))


class Exchange(NamedTuple):
    """
    A request's path, its answer, and the client's connection for what is no HTTP any more.
    """

    path: str
    answer: Answer
    send: Callable[[bytes], None]
    stopped: threading.Event


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, port: int, context: ssl.SSLContext, upstream: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.context, self.upstream = context, upstream
        self.lies: list[tuple[re.Pattern[str], Lie]] = []
        self.held: Callable[[], Path | None] = lambda: None
        self.stopped = threading.Event()
        self.seen: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        Clients that go away in the middle are what this is about.
        """


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.request.settimeout(30)
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.request.close()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        what = f"{self.command} {self.path}"
        self.server.seen.append(what)
        answer: Answer | None = self._ask(body)
        for pattern, lie in list(self.server.lies):
            if answer is not None and answer.status < 300 and pattern.match(what):
                answer = lie(Exchange(self.path, answer, self._send, self.server.stopped))
        if answer is None:
            self.close_connection = True
            return
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.status != 204:
            lines.append(f"Content-Length: {len(answer.body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self._send(head if self.command == "HEAD" else head + answer.body)

    do_POST = do_HEAD = do_GET  # noqa: N815 - the names that http.server looks for

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)

    def _ask(self, body: bytes) -> Answer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.request.getpeercert(binary_form=True):
            folder = self.server.held()
            assert folder is not None
            context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.server.upstream, context=context, timeout=30
        )
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN:
                    connection.putheader(name, value)
            if body or self.command == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            with connection.getresponse() as answer:
                headers = tuple(pair for pair in answer.getheaders() if pair[0].lower() not in _OWN)
                return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()


class LyingProxy:
    """
    A running proxy. `seen` are the requests that came.
    """

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.seen = server.seen

    def hold(self, folder: Callable[[], Path | None]) -> None:
        """
        Where the certificate and key of the one client are.
        """
        self._server.held = folder

    @contextlib.contextmanager
    def lying(self, where: str, lie: Lie) -> Iterator[None]:
        """
        Answer requests that match `METHOD PATH` otherwise, where the CA itself said yes.
        """
        entry = re.compile(where), lie
        self._server.lies.append(entry)
        try:
            yield
        finally:
            self._server.lies.remove(entry)


@contextlib.contextmanager
def lying_proxy(
    folder: Path,
    own: pki.Entity,
    *above: pki.Entity,
    port: int,
    upstream: int,
    clients: pki.Entity | None = None,
) -> Iterator[LyingProxy]:
    """
    A proxy on `port` before the CA on `upstream`, as long as the block.

    Args:
        folder: for its files.
        own: its certificate and key.
        above: CA certificates that are sent too.
        port: where it listens.
        upstream: where the CA listens.
        clients: the root of clients that are asked for a certificate; by default none is.

    """
    file = write_pem(folder / "proxy.pem", own)
    file.write_bytes(file.read_bytes() + b"".join(one.pem for one in above))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if clients is not None:
        context.load_verify_locations(cadata=clients.pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
    server = _Server(port, context, upstream)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield LyingProxy(server)
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


# -- what a CA answers with, and what can be made of it ----------------------------------------------------------


def decode(protocol: str, body: bytes) -> list[bytes]:
    """
    The certificates (DER) in an answer.
    """
    if protocol == "est":
        info = cms.ContentInfo.load(base64.b64decode(body))
        return [one.chosen.dump() for one in info["content"]["certificates"]]
    if protocol == "acme":
        found = x509.load_pem_x509_certificates(body)
    elif protocol == "vault":
        data = json.loads(body)["data"]
        found = x509.load_pem_x509_certificates("\n".join([data["certificate"], *data["ca_chain"]]).encode())
    else:
        found = x509.load_pem_x509_certificates("".join(json.loads(body)["certChain"]).encode())
    return [one.public_bytes(Encoding.DER) for one in found]


def encode(protocol: str, ders: Sequence[bytes]) -> bytes:
    """
    An answer with these certificates in this order.
    """
    if protocol == "est":
        found = [x509.load_der_x509_certificate(der) for der in ders]
        return base64.encodebytes(pkcs7.serialize_certificates(found, Encoding.DER))
    if protocol == "acme":
        return pki.pem(*ders)
    texts = [pki.pem(der).decode() for der in ders]
    if protocol == "vault":
        data = {"certificate": texts[0], "issuing_ca": texts[-1], "ca_chain": texts[1:]}
        return json.dumps({"data": data}).encode()
    return json.dumps({"crt": texts[0], "ca": texts[-1], "certChain": texts}).encode()


class Public:
    """
    What `pki.issue` needs of a subject's key where only the public one is known.
    """

    def __init__(self, public: Any) -> None:
        self._public = public

    def public_key(self) -> Any:
        return self._public


def forged(genuine: bytes, issuer: pki.Entity, **changes: Any) -> bytes:
    """
    A certificate under `issuer` that is like a genuine one, serial number included, but for `changes`.
    """
    old = x509.load_der_x509_certificate(genuine)
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fields: dict[str, Any] = {
        "private": Public(old.public_key()),
        "serial": old.serial_number,
        "san": [f"dns:{name}" for name in names.get_values_for_type(x509.DNSName)],
        "eku": ["serverAuth", "clientAuth"],
        "usage": ["digitalSignature", "keyEncipherment"],
        "not_before": old.not_valid_before_utc,
        "not_after": old.not_valid_after_utc,
    }
    return pki.issue(issuer, "as it was asked for", **(fields | changes)).der


def endless(head: bytes, piece: bytes, *, every_s: float = 0.0) -> Lie:
    """
    Send a head, then the same piece until the client has enough.
    """

    def lie(exchange: Exchange) -> None:
        exchange.send(head)
        with contextlib.suppress(OSError):
            while not exchange.stopped.wait(every_s):
                exchange.send(piece)

    return lie


def cut(exchange: Exchange) -> None:
    """
    Promise the whole answer and break off in its middle.
    """
    body = exchange.answer.body
    lines = [f"{name}: {value}" for name, value in exchange.answer.headers]
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, f"Content-Length: {len(body)}"])
    exchange.send(head.encode("latin-1") + b"\r\n\r\n" + body[: len(body) // 2])


def late(seconds: float) -> Lie:
    """
    Answer nothing for so long, then as the CA did.
    """

    def lie(exchange: Exchange) -> Answer:
        time.sleep(seconds)
        return exchange.answer

    return lie
