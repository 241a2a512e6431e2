"""
EST and a CA's lookup behind Apache, which asks for the client certificate after the handshake.

The EST server behind it is a small one of its own: its answers are multi-line base64 with a Content-Transfer-Encoding.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cftpki_connectors.ca.client import CaClient, CaRequest
from cftpki_connectors.est import EstEnroller, EstOptions
from cftpki_connectors.status.api import _context
from cftpki_ext.core.source_settings import RestAccess
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued
from tests.support import pki
from tests.support.apache import apache
from tests.support.orders import Saves, SystemClock, context, in_s, leaf_of, make_order
from tests.support.servers import write_pem

pytestmark = pytest.mark.real

NAME = "mft.corp.example"
ROOT = pki.make_root("EST Root")
SERVER = pki.issue(ROOT, "est", san=["dns:localhost", "ip:127.0.0.1"], eku=["serverAuth"])
CLIENT = pki.issue(ROOT, "connector", eku=["clientAuth"], usage=["digitalSignature"])
STRANGERS = pki.make_root("Strangers")
STRANGER = pki.issue(STRANGERS, "stranger", eku=["clientAuth"], usage=["digitalSignature"])


class _Est(BaseHTTPRequestHandler):
    """
    RFC 7030 with lines of 76 characters.
    """

    def do_GET(self) -> None:
        if self.path.endswith("/cacerts"):
            self._certificates(ROOT.certificate)
        else:
            self.send_error(204)

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        request = x509.load_der_x509_csr(base64.b64decode(text))
        value = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        assert isinstance(value, str)
        name = value
        leaf = pki.issue(
            ROOT, name, private=_Public(request), san=[f"dns:{name}"], eku=["serverAuth", "clientAuth"]
        )
        self._certificates(leaf.certificate)

    def _certificates(self, *certificates: x509.Certificate) -> None:
        body = base64.encodebytes(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
        self.send_response(200)
        self.send_header("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
        self.send_header("Content-Transfer-Encoding", "base64")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Public:
    def __init__(self, request: x509.CertificateSigningRequest) -> None:
        self._key = request.public_key()

    def public_key(self) -> object:
        return self._key


@contextlib.contextmanager
def backend() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Est) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["TLSv1.3", "TLSv1.2"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    with (
        backend() as behind,
        apache(
            tmp_path,
            tls=SERVER,
            clients=ROOT,
            backend=behind,
            protected="/.well-known/est/simple",
            protocol=request.param,
        ) as port,
    ):
        yield port


def enroller(folder: Path, port: int, identity: pki.Entity | None) -> EstEnroller:
    options = {"url": f"https://localhost:{port}", "explicit_roots": folder / "roots.pem"}
    (folder / "roots.pem").write_bytes(ROOT.pem)
    if identity is not None:
        pem = write_pem(folder / "identity.pem", identity)
        pem.chmod(0o600)
        options |= {"identity_chain_file": pem, "identity_key_file": pem}
    return EstEnroller(EstOptions.model_validate(options), context(folder))


async def test_client_certificate_is_shown_after_the_handshake(tmp_path, port):
    wanted, saves = make_order(NAME, common_name=NAME), Saves()
    done = await enroller(tmp_path, port, CLIENT).advance(wanted, saves.last, saves, deadline=in_s(30))
    assert isinstance(done, Issued), done
    assert wanted.key.public_key() == leaf_of(done).public_key()


@pytest.mark.parametrize("identity", [None, STRANGER], ids=["none", "a stranger's"])
async def test_without_the_right_client_certificate_it_is_said_what_may_be_missing(tmp_path, port, identity):
    saves = Saves()
    failed = await enroller(tmp_path, port, identity).advance(
        make_order(NAME, common_name=NAME), saves.last, saves, deadline=in_s(30)
    )
    assert isinstance(failed, Failed), failed
    assert failed.fault in {Fault.MISCONFIGURED, Fault.REFUSED}
    assert "identity_chain_file" in failed.detail


async def test_lookup_of_a_ca_shows_its_client_certificate_after_the_handshake(tmp_path, port):
    pem = write_pem(tmp_path / "client.pem", CLIENT)
    made = _context(RestAccess(client_certificate=pem), (ROOT.der,))
    assert made.post_handshake_auth
    client = CaClient(clock=SystemClock(), roots=(ROOT.der,))
    client._client = type(client._client)(verify=made, trust_env=False)
    answer = await client.send(
        CaRequest(url=f"https://localhost:{port}/.well-known/est/simpleother"), deadline=in_s(20)
    )
    await client.aclose()
    assert 204 == answer.status
