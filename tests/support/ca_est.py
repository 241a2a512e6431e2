"""
Cisco libest's `estserver` on a free port, with a small CA of its own: the real EST server of the tests.

How to use it::

    with estserver(tmp_path, "-b") as server:                 # Basic; -h Digest, -n certificate only, …
        server.url                                            # https://localhost:PORT
        server.roots                                          # PEM file: what its TLS certificate leads to
        server.ca.certificate                                 # the CA that signs

It takes the user `estuser` with the password `estpwd`. It cannot be told to listen on 127.0.0.1 only: it is
started inside the test that needs it, on a port that nobody knows, and stopped by its own process handle.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.pki import Entity, issue, make_root, pem
from tests.support.ports import free_port
from tests.support.servers import running, write_pem

USER, PASSWORD = "estuser", "estpwd"

_UNPACKED = Path(__file__).parents[2] / ".tools" / "est"
_CA = """
[ca]
default_ca = issuing
[issuing]
dir = {base}
certs = {base}
new_certs_dir = {base}/issued
database = {base}/index.txt
serial = {base}/serial
rand_serial = yes
certificate = {base}/ca.pem
private_key = {base}/ca-key.pem
default_md = sha256
default_days = {days}
unique_subject = no
copy_extensions = copy
policy = policy
x509_extensions = extensions
email_in_dn = no
[policy]
commonName = optional
organizationName = optional
[extensions]
basicConstraints = CA:FALSE
keyUsage = digitalSignature,keyEncipherment
extendedKeyUsage = {eku}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstServer:
    """
    A running server.
    """

    port: int
    root: Entity
    ca: Entity
    roots: Path
    log: Path
    base: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def issued(self) -> int:
        """
        How many certificates the CA has signed so far.
        """
        return len((self.base / "index.txt").read_text().splitlines())


def program() -> tuple[Path, Mapping[str, str]]:
    """
    `estserver` and the environment it needs, from .tools/est or the machine itself.
    """
    unpacked = _UNPACKED / "usr/bin/estserver"
    if unpacked.exists():
        libraries = {str(path.parent) for path in _UNPACKED.rglob("libest*.so*")}
        return unpacked, {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    found = shutil.which("estserver")
    if found is None:
        msg = "estserver is missing: run scripts/get-estserver (make test does)"
        raise RuntimeError(msg)
    return Path(found), {}


@contextlib.contextmanager
def estserver(
    tmp_path: Path,
    *options: str,
    eku: str = "serverAuth,clientAuth",
    days: int = 90,
    client_roots: Sequence[Entity] = (),
    cacerts: Sequence[bytes] | None = None,
    csr_attributes: str | None = None,
    root: Entity | None = None,
    tls_root: Entity | None = None,
    port: int | None = None,
) -> Iterator[EstServer]:
    """
    A server that signs with an intermediate CA below `root`.

    `eku` is what it puts into certificates. Client certificates must come from its own CA or one of
    `client_roots`. `/cacerts` holds `cacerts` (DER), by default intermediate and root. Its own TLS certificate
    is below `tls_root`, by default the same root.
    """
    command, environment = program()
    port = port or free_port()
    base = tmp_path / f"est-{port}-{len(list(tmp_path.iterdir()))}"
    (base / "issued").mkdir(parents=True)
    root = root or make_root("EST Root")
    ca = issue(root, "EST Issuing CA", ca=True)
    server = issue(tls_root or root, "localhost", san=["dns:localhost", "ip:127.0.0.1"], eku=["serverAuth"])
    (base / "index.txt").write_text("")
    (base / "serial").write_text("01\n")
    (base / "ca.pem").write_bytes(ca.pem)
    write_pem(base / "ca-key.pem", ca)
    (base / "ca.cnf").write_text(_CA.format(base=base, days=days, eku=eku))
    (base / "roots.pem").write_bytes((tls_root or root).pem)
    trusted = pem(ca.der, root.der, *(one.der for one in client_roots))
    (base / "trusted.pem").write_bytes(trusted)
    (base / "cacerts.pem").write_bytes(pem(*(cacerts if cacerts is not None else (ca.der, root.der))))
    write_pem(base / "server-key.pem", server)
    (base / "server.pem").write_bytes(pem(server.der, root.der))
    environment = {
        **os.environ,
        **environment,
        "EST_TRUSTED_CERTS": str(base / "trusted.pem"),
        "EST_CACERTS_RESP": str(base / "cacerts.pem"),
        "EST_OPENSSL_CACONFIG": str(base / "ca.cnf"),
        **({} if csr_attributes is None else {"EST_CSR_ATTR": csr_attributes}),
    }
    arguments = ["-c", base / "server.pem", "-k", base / "server-key.pem", "-r", "estrealm", "-p", str(port)]
    log = base / "output.log"
    # `env` because a process handle of the test must be the server's own.
    variables = [f"{name}={value}" for name, value in environment.items() if name.startswith(("EST_", "LD_"))]
    with running(["env", *variables, command, *arguments, *options], port, log):
        yield EstServer(port=port, root=root, ca=ca, roots=base / "roots.pem", log=log, base=base)
