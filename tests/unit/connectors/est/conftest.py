"""
A small EST server that answers what a test wrote down: the faults that a real one does not produce.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cftpki_connectors.est import EstEnroller, EstOptions
from cftpki_connectors.est.encoding import encode
from tests.support import pki
from tests.support.orders import context
from tests.support.servers import Server, asked, evil, response, write_pem

Answer = bytes | Callable[[bytes], bytes]


def bundle(*ders: bytes) -> bytes:
    """
    A degenerate PKCS#7 (DER).
    """
    certificates = [x509.load_der_x509_certificate(one) for one in ders]
    return pkcs7.serialize_certificates(certificates, Encoding.DER)


def certs_only(*ders: bytes, headers: dict[str, str] | None = None) -> bytes:
    """
    A whole answer with certificates.
    """
    fields = {"Content-Type": "application/pkcs7-mime; smime-type=certs-only"} | (headers or {})
    return response(encode(bundle(*ders)), headers=fields)


@dataclass(slots=True)
class Script:
    """
    The server: `answers` by operation, taken from the front, the last one for ever.
    """

    folder: Path
    root: pki.Entity
    ca: pki.Entity
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    server: Server = field(default_factory=lambda: Server(0))

    @property
    def asked(self) -> list[str]:
        """
        The operations, in order.
        """
        return [_operation(one) for one in self.server.requests]

    def on(self, operation: str, *answers: Answer) -> None:
        self.answers[operation] = list(answers)

    def leaf(self, private: Any = None, **fields: Any) -> bytes:
        fields = {"san": ["dns:mft.corp.example"], "eku": ["serverAuth", "clientAuth"]} | fields
        private = private if private is not None else pki.key("ec", 700)
        return pki.issue(self.ca, "CN=mft.corp.example", private=private, **fields).der

    def enroller(self, name: str = "corp", **options: Any) -> EstEnroller:
        if not {"fingerprint", "explicit_roots", "implicit_roots"} & set(options):
            options["implicit_roots"] = self.folder / "roots.pem"
        made = EstOptions(url=f"https://localhost:{self.server.port}", **options)
        return EstEnroller(made, context(self.folder, name=name))

    def password(self) -> dict[str, Any]:
        path = self.folder / "password"
        path.write_text("secret-word\n")
        path.chmod(0o600)
        return {"username": "operator", "password_file": path}

    async def behave(self, _: Any, writer: Any) -> None:
        request = asked.get()
        left = self.answers.get(_operation(request), [response(b"", status="404 Not Found")])
        answer = left.pop(0) if len(left) > 1 else left[0]
        writer.write(answer(request) if callable(answer) else answer)
        await writer.drain()
        writer.close()


def _operation(request: bytes) -> str:
    return request.split(b" ", 2)[1].rpartition(b"/")[2].decode()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Script]]:
    """
    Starts the server: /cacerts is right, csrattrs has none, enrolments are the test's.
    """

    @contextlib.asynccontextmanager
    async def start(
        *, client_roots: bytes | None = None, verify: ssl.VerifyMode = ssl.CERT_REQUIRED
    ) -> AsyncIterator[Script]:
        root = pki.make_root("EST Root")
        ca = pki.issue(root, "EST Issuing CA", ca=True)
        tls = pki.issue(root, "localhost", san=["dns:localhost"], eku=["serverAuth"])
        (tmp_path / "roots.pem").write_bytes(root.pem)
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(write_pem(tmp_path / "tls.pem", tls))
        if client_roots is not None:
            server_context.verify_mode = verify
            server_context.load_verify_locations(cadata=client_roots.decode())
        running = Script(folder=tmp_path, root=root, ca=ca)
        running.on("cacerts", certs_only(ca.der, root.der))
        running.on("csrattrs", response(b"", status="204 No Content"))
        async with evil(running.behave, tls=server_context) as server:
            running.server = server
            yield running

    return start
