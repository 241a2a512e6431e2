"""
OpenSSL's CMP server (`openssl cmp -port`) on a free port, with a CA of its own: the real CMP server of the tests.

How to use it::

    ca = make_cmp_ca(tmp_path)
    with ca.serving(leaf) as server:                # hands out `leaf`, whatever is asked for
        server.url, ca.options(server)              # …
    with ca.issuing() as front:                     # issues for the key that is asked for

The server hands out one certificate that it is started with. `issuing` puts a small HTTP server of ours before it,
which makes the certificate of each request, and starts a server of OpenSSL's that has it for that one transaction; what
is said on the wire is OpenSSL's. The program is that of the system, or of `.tools` (`NEW`) for what only newer ones
have. It listens on every address: it is started inside the test that needs it, on a port that nobody knows, and stopped by its own process
handle.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cftpki_connectors.cmp.messages import parse_message
from cftpki_connectors.cmp.values import Kind
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.lying_proxy import Public
from tests.support.ports import free_port
from tests.support.servers import running

REFERENCE, SECRET = "mft01", "correct horse battery staple"
_UNPACKED = Path(__file__).parents[2] / ".tools" / "openssl" / "3.5"
OLD: tuple[str, ...] = ("openssl",)
NEW: tuple[str, ...] = (str(_UNPACKED / "run"), str(_UNPACKED / "bin" / "openssl"))
_REQUESTS = frozenset({Kind.IR, Kind.CR, Kind.KUR, Kind.P10CR})


@dataclass(frozen=True, slots=True, kw_only=True)
class CmpServer:
    """
    A running server.
    """

    port: int
    log: Path

    @property
    def url(self) -> str:
        """
        With the one path that OpenSSL's server knows besides `/`.
        """
        return f"http://127.0.0.1:{self.port}/pkix/"


@dataclass(slots=True, kw_only=True)
class CmpCa:
    """
    A root, two CAs below it, and who signs messages; with their files.
    """

    folder: Path
    root: pki.Entity
    policy: pki.Entity
    issuer: pki.Entity
    signer: pki.Entity
    issued: list[pki.Entity] = field(default_factory=list)

    @property
    def roots(self) -> Path:
        return self.folder / "cmp-root.pem"

    @property
    def secret(self) -> Path:
        return self.folder / "cmp-secret"

    def options(self, server: CmpServer | Front, **more: object) -> dict[str, Any]:
        """
        The enroller's table, with the shared secret.
        """
        return {
            "url": server.url,
            "roots": self.roots,
            "reference": REFERENCE,
            "secret_file": self.secret,
        } | more

    def certify(self, public: Any, **changes: Any) -> pki.Entity:
        """
        A certificate of the issuing CA for a public key.
        """
        fields: dict[str, Any] = {
            "private": Public(public),
            "san": ["dns:mft.corp.example"],
            "usage": ["digitalSignature", "keyEncipherment"],
            "eku": ["serverAuth", "clientAuth"],
        }
        made = pki.issue(self.issuer, "mft.corp.example", **(fields | changes))
        self.issued.append(made)
        return made

    @contextlib.contextmanager
    def serving(
        self,
        leaf: pki.Entity | None = None,
        *arguments: str | Path,
        program: Sequence[str] = NEW,
        extra: Sequence[pki.Entity] | None = None,
        signs: bool = True,
        knows: bool = True,
    ) -> Iterator[CmpServer]:
        """
        OpenSSL's server.

        Args:
            leaf: what it hands out.
            arguments: more of them.
            program: which OpenSSL.
            extra: what goes along with the certificate; by default the CAs above it.
            signs: whether it has a certificate to sign with.
            knows: whether it knows the shared secret.

        """
        assert shutil.which(program[0]), f"{program[0]} is missing: scripts/get-openssl"
        port = free_port()
        folder = self.folder / f"cmp-{port}"
        folder.mkdir()
        above = (self.issuer, self.policy) if extra is None else tuple(extra)
        command: list[str | Path] = [*program, "cmp", "-port", str(port), "-srv_trusted", self.roots]
        command += ["-srv_untrusted", self.folder / "cmp-above.pem"]
        if signs:
            command += [
                "-srv_cert",
                self.folder / "cmp-signer.pem",
                "-srv_key",
                self.folder / "cmp-signer.key",
            ]
        if knows:
            command += ["-srv_ref", REFERENCE, "-srv_secret", f"pass:{SECRET}"]
        if leaf is not None:
            (folder / "leaf.pem").write_bytes(leaf.pem)
            command += ["-rsp_cert", folder / "leaf.pem"]
            if above:
                (folder / "extra.pem").write_bytes(pki.pem(*(one.der for one in above)))
                command += ["-rsp_extracerts", folder / "extra.pem"]
        log = folder / "output.log"
        with running([*command, *arguments], port, log):
            yield CmpServer(port=port, log=log)

    @contextlib.contextmanager
    def issuing(
        self,
        *arguments: str | Path,
        program: Sequence[str] = NEW,
        extra: Sequence[pki.Entity] | None = None,
        **changes: Any,
    ) -> Iterator[Front]:
        """
        Servers of OpenSSL's behind one door, each with the certificate for what is asked for there.

        Args:
            arguments: more for each of them.
            program: which OpenSSL.
            extra: as with `serving`.
            changes: to the certificates.

        """
        # A server ends with the thread that started it (PR_SET_PDEATHSIG): one that lives as long as the front.
        with ThreadPoolExecutor(max_workers=1) as starting, contextlib.ExitStack() as stack:

            def begin(leaf: pki.Entity | None) -> CmpServer:
                serving = self.serving(leaf, *arguments, program=program, extra=extra)
                return starting.submit(stack.enter_context, serving).result()

            front = Front(self, begin, changes)
            thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            try:
                yield front
            finally:
                front.shutdown()
                front.server_close()
                thread.join()


class Front(ThreadingHTTPServer):
    """
    What decides which server answers. `seen` are the paths that were asked; `lie` may change an answer, or break off.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self,
        ca: CmpCa,
        begin: Callable[[pki.Entity | None], CmpServer],
        changes: dict[str, Any],
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.ca, self.changes = ca, changes
        self.seen: list[str] = []
        self.lie: Callable[[Kind | None, bytes], bytes | None] = lambda _kind, data: data
        self._turn = threading.Lock()
        self._begin = begin
        self._servers: dict[bytes, CmpServer] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def refused(self) -> list[str]:
        """
        What the servers say of certificates that were not taken.
        """
        logs = [server.log.read_text() for server in self._servers.values()]
        return [line for log in logs for line in log.splitlines() if "certificate rejected by client" in line]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        Clients that go away in the middle are what this is about.
        """

    def port_for(self, data: bytes) -> int:
        """
        Where a message is answered: by the server that its transaction began with.
        """
        message = parse_message(data)
        identifier = message.header.transaction or b""
        with self._turn:
            if identifier not in self._servers:
                made = None
                if message.kind in _REQUESTS:
                    made = self.ca.certify(public_key_of(message.kind, message.body), **self.changes)
                self._servers[identifier] = self._begin(made)
            return self._servers[identifier].port


class _Door(BaseHTTPRequestHandler):
    server: Front

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.path)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port_for(data), timeout=30)
        try:
            # OpenSSL's server forgets the transaction with a connection that was to be kept.
            fields = {"Content-Type": "application/pkixcmp", "Connection": "close"}
            connection.request("POST", "/pkix/", data, fields)
            with connection.getresponse() as answer:
                status, body = answer.status, answer.read()
        finally:
            connection.close()
        told = self.server.lie(parse_message(body).kind if status == 200 else None, body)
        if told is None:
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/pkixcmp")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


def public_key_of(kind: Kind | None, body: bytes) -> Any:
    """
    The public key that a request is for.
    """
    if kind is Kind.P10CR:
        return x509.load_der_x509_csr(body).public_key()
    message = der.children(body, der.whole(body))[0]
    request = der.children(body, message)[0]
    template = der.children(body, request)[1]
    (key,) = (part for part in der.children(body, template) if part.tag == 0xA6)
    return load_der_public_key(der.encode(der.SEQUENCE, der.content(body, key)))


def make_cmp_ca(folder: Path) -> CmpCa:
    """
    The CAs and their files in a folder.
    """
    root = pki.make_root("CMP Root")
    policy = pki.issue(root, "CMP Policy CA", ca=True)
    issuer = pki.issue(policy, "CMP Issuing CA", ca=True)
    speaks = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.27")])
    signer = pki.issue(issuer, "CMP Server", extensions=[(speaks, False)])
    ca = CmpCa(folder=folder, root=root, policy=policy, issuer=issuer, signer=signer)
    ca.roots.write_bytes(root.pem)
    (folder / "cmp-above.pem").write_bytes(pki.pem(issuer.der, policy.der))
    (folder / "cmp-signer.pem").write_bytes(pki.pem(signer.der, issuer.der, policy.der))
    (folder / "cmp-signer.key").write_bytes(signer.key_pem)
    ca.secret.write_text(f"{SECRET}\n")
    ca.secret.chmod(0o600)
    return ca


def openssl(*arguments: str | Path, program: Sequence[str] = NEW) -> str:
    """
    Run `openssl`; what it says.
    """
    done = subprocess.run(
        [*program, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr
