"""
A server that answers as EJBCA's public OpenAPI document (v1) says, for what no EJBCA can be had here for.

    with ejbca(tmp_path) as ca:
        ca.url, ca.options(), ca.approve(number), ca.revoked, ca.say("pkcs10enroll", 503, {...})

It takes whoever shows a certificate below `machines`, knows the CA `Corp CA`, the profiles `mft`, the enrolment code
`enrolment code`, and asks for approval while `approval` is true.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509

from tests.support import pki, servers
from tests.support.ca_servers import write_secret

PASSWORD = "enrolment code"
BASE = "/ejbca/ejbca-rest-api/v1"
# As an EJBCA of the community edition says.
REVISION = "EJBCA 9.3.7 Community (r1a2b3c)"


@dataclass
class Ejbca:
    folder: Path
    root: pki.Entity
    issuing: pki.Entity
    machines: pki.Entity
    port: int = 0
    approval: bool = False
    approved: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    waiting: dict[int, bytes] = field(default_factory=dict)  # CSRs
    finalized: set[int] = field(default_factory=set)
    issued: list[x509.Certificate] = field(default_factory=list)
    revoked: dict[int, str] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    scripted: dict[str, tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def subject(self) -> str:
        return self.issuing.certificate.subject.rfc4514_string()

    def options(self, **changes: Any) -> dict[str, Any]:
        machine = pki.issue(self.machines, "ra", eku=["clientAuth"])
        (self.folder / "ra.pem").write_bytes(machine.pem)
        table = {
            "url": self.url,
            "root_file": self.folder / "root.pem",
            "chain_file": self.folder / "ra.pem",
            "key_file": write_secret(self.folder / "ra.key", machine.key_pem),
            "ca": "Corp CA",
            "certificate_profile": "mft",
            "end_entity_profile": "mft",
            "password_file": write_secret(self.folder / "code", PASSWORD.encode() + b"\n"),
        } | changes
        return {name: value for name, value in table.items() if value is not None}

    def say(self, path: str, status: int, body: Any, **headers: str) -> None:
        """
        What is answered to requests whose path contains `path`, until `hush`.
        """
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.scripted[path] = status, raw, {name.replace("_", "-"): value for name, value in headers.items()}

    def hush(self) -> None:
        self.scripted.clear()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """
        What the server does by itself.
        """
        parts = urlsplit(path)
        steps = [unquote(step) for step in parts.path.removeprefix(BASE).strip("/").split("/")]
        match method, steps:
            case "GET", ["certificate", "status"]:
                return 200, {"status": "OK", "version": "1.0", "revision": REVISION}
            case "GET", ["ca"]:
                return 200, {
                    "certificate_authorities": [{"id": 1, "name": "Corp CA", "subject_dn": self.subject}]
                }
            case "GET", ["ca", subject, "certificate", "download"]:
                known = subject == self.subject
                return (200, self.issuing.pem + self.root.pem) if known else _error(404, "CA does not exist.")
            case "POST", ["certificate", "pkcs10enroll" | "certificaterequest"]:
                return self._enrol(steps[1], body)
            case "POST", ["certificate", number, "finalize"]:
                return self._finalize(int(number), body)
            case "PUT", ["certificate", issuer, serial, "revoke"]:
                return self._revoke(issuer, int(serial, 16), parse_qs(parts.query)["reason"][0])
        return _error(404, "no such resource")

    def _enrol(self, how: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["certificate_authority_name"] != "Corp CA":
            return _error(404, f"CA with name {body['certificate_authority_name']} does not exist.")
        if how == "pkcs10enroll" and body["certificate_profile_name"] != "mft":
            return _error(404, "Certificate profile does not exist.")
        if body["password"] != PASSWORD:
            return _error(403, "Wrong username or password")
        csr = body["certificate_request"].encode()
        if self.approval:
            number = 1804289383 + len(self.waiting)
            self.waiting[number] = csr
            return 202, {"status_code": 202, "info_message": f"Waiting for Approval. Request ID: {number}"}
        return self._certificate(csr)

    def _finalize(self, number: int, body: dict[str, Any]) -> tuple[int, Any]:
        if number not in self.waiting:
            return _error(400, f"Could not find request with Id '{number}'")
        if number in self.rejected:
            return _error(400, f"Request with Id '{number}' has been rejected")
        if number in self.finalized:
            return _error(400, f"Enrollment with Id '{number}' has already been finalized")
        if number not in self.approved:
            said = f"Request with Id '{number}' is still waiting for approval"
            return 202, {"status_code": 202, "info_message": said}
        if body != {"response_format": "DER", "password": PASSWORD}:
            return _error(400, "Invalid parameter: response_format")
        self.finalized.add(number)
        return self._certificate(self.waiting[number])

    def _certificate(self, pem: bytes) -> tuple[int, Any]:
        csr = x509.load_pem_x509_csr(pem)
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        san = [f"dns:{name}" for name in names.get_values_for_type(x509.DNSName)]
        begins = datetime.now(UTC) - timedelta(minutes=1)
        leaf = pki.issue(
            self.issuing,
            "",
            private=_Public(csr.public_key()),
            san=san,
            eku=["serverAuth", "clientAuth"],
            usage=["digitalSignature", "keyEncipherment"],
            not_before=begins,
            not_after=begins + timedelta(days=30),
            serial=x509.random_serial_number(),
        )
        self.issued.append(leaf.certificate)
        bare = [base64.b64encode(one.der).decode() for one in (leaf, self.issuing, self.root)]
        fields = {"certificate": bare[0], "certificate_chain": bare[1:], "response_format": "DER"}
        return 201, fields | {"serial_number": f"{leaf.serial:X}"}

    def _revoke(self, issuer: str, serial: int, reason: str) -> tuple[int, Any]:
        if issuer != self.subject:
            return _error(404, f"CA '{issuer}' does not exist.")
        if serial in self.revoked:
            return _error(409, "Certificate is already revoked")
        self.revoked[serial] = reason
        return 200, {"revoked": True, "revocation_reason": reason, "message": "Successfully revoked"}


class _Public:
    """
    What `pki.issue` needs of a subject's key: its public half.
    """

    def __init__(self, public: Any) -> None:
        self._public = public

    def public_key(self) -> Any:
        return self._public


def _error(status: int, words: str) -> tuple[int, Any]:
    return status, {"error_code": status, "error_message": words}


@contextlib.contextmanager
def ejbca(tmp_path: Path) -> Iterator[Ejbca]:
    """
    The server on a free port.
    """
    folder = tmp_path / "ejbca"
    folder.mkdir()
    root = pki.make_root("EJBCA Root")
    ca = Ejbca(folder, root, pki.issue(root, "EJBCA Issuing CA", ca=True), pki.make_root("Machines Root"))
    (folder / "root.pem").write_bytes(root.pem)
    (folder / "machines.pem").write_bytes(ca.machines.pem)
    own = servers.write_pem(folder / "tls.pem", pki.issue(root, "", san=["ip:127.0.0.1"]))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            raw = self.rfile.read(length)
            body = json.loads(raw) if raw else {}
            ca.asked.append((self.command, self.path, body))
            script = next((one for path, one in ca.scripted.items() if path in self.path), None)
            headers: dict[str, str] = {}
            if script is not None:
                status, told, headers = script
            elif not self.connection.getpeercert():  # type: ignore[attr-defined]
                words = "Error no client certificate or OAuth token received for authentication."
                status, told = _error(403, words)
            else:
                status, told = ca.answer(self.command, self.path, body)
            sent = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            kind = "application/json" if not sent.startswith(b"-----") else "application/octet-stream"
            for name, value in ({"Content-Type": kind, "Content-Length": str(len(sent))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = _do  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    context.load_verify_locations(folder / "machines.pem")
    context.verify_mode = ssl.CERT_OPTIONAL

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            connection.settimeout(30.0)
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request: object, client_address: object) -> None:
            """
            A client that goes in the middle is what some tests are about.
            """

    server = Server(("127.0.0.1", 0), Handler)
    ca.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield ca
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
