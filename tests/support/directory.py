"""
A directory on loopback for tests: a real slapd with a CA's entries, in a folder of its own.

    with slapd(tmp_path, [container("CN=x,DC=corp,DC=example"), point("CN=CDP,…", crl)]) as directory:
        directory.url("CN=CDP,…", "certificateRevocationList;binary")
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.support.ports import free_port
from tests.support.servers import Certified, running, write_pem

SUFFIX = "DC=corp,DC=example"
ADMIN, PASSWORD = f"CN=reader,{SUFFIX}", "s3cret of the reader"
_SCHEMA = Path("/etc/ldap/schema/core.schema")

_CONFIG = """
include {schema}
pidfile {base}/slapd.pid
argsfile {base}/slapd.args
modulepath /usr/lib/ldap
moduleload back_mdb
{tls}
database mdb
suffix "{suffix}"
directory {base}/db
maxsize 1073741824
rootdn "{admin}"
rootpw "{password}"
{access}
"""
_TLS = """
TLSCertificateFile {base}/tls.pem
TLSCertificateKeyFile {base}/tls.pem
TLSCACertificateFile {base}/clients.pem
TLSVerifyClient try
"""


@dataclass(frozen=True)
class Directory:
    """
    A running slapd: its ports for ldap and ldaps, and its log with one line for each operation.
    """

    port: int
    tls_port: int
    log: Path

    def url(self, dn: str, attributes: str = "certificateRevocationList;binary", *, more: str = "") -> str:
        return f"ldap://127.0.0.1:{self.port}/{quote(dn, safe='=,')}?{attributes}{more}"

    @property
    def server(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_server(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"


def entry(dn: str, classes: Sequence[str], **attributes: bytes | str | Sequence[bytes]) -> str:
    """
    One entry in LDIF; `__` in an attribute's name is the `;` of an option.
    """
    first = dn.partition(",")[0]
    kind, _, value = first.partition("=")
    lines = [f"dn: {dn}", *(f"objectClass: {one}" for one in classes), f"{kind.lower()}: {value}"]
    for name, given in attributes.items():
        for one in [given] if isinstance(given, bytes | str) else given:
            octets = one if isinstance(one, bytes) else one.encode()
            lines.append(f"{name.replace('__', ';')}:: {base64.b64encode(octets).decode()}")
    return "\n".join(lines) + "\n\n"


def point(dn: str, *lists: bytes, **attributes: bytes | Sequence[bytes]) -> str:
    """
    A distribution point with lists (RFC 4523 section 3).
    """
    given = {"certificateRevocationList__binary": lists} if lists else {}
    return entry(dn, ["cRLDistributionPoint"], **given, **attributes)


def container(dn: str) -> str:
    """
    What other entries are below.
    """
    return entry(dn, ["applicationProcess"])


@contextlib.contextmanager
def slapd(
    tmp_path: Path,
    entries: Sequence[str],
    *,
    certificate: Certified | None = None,
    clients: bytes = b"",
    access: str = "access to * by * read",
) -> Iterator[Directory]:
    """
    slapd with some entries below `SUFFIX`; ldaps and StartTLS where it has a certificate.

    Clients whose certificates lead to `clients` (PEM) are known by their subjects (SASL EXTERNAL). `access` is its
    own language for who may read what.
    """
    port, tls_port = free_port(), free_port()
    base = tmp_path / f"slapd-{port}"
    (base / "db").mkdir(parents=True)
    tls = ""
    if certificate is not None:
        write_pem(base / "tls.pem", certificate)
        (base / "clients.pem").write_bytes(clients or certificate.pem)
        tls = _TLS.format(base=base)
    config = base / "slapd.conf"
    config.write_text(
        _CONFIG.format(
            schema=_SCHEMA,
            base=base,
            tls=tls,
            suffix=SUFFIX,
            admin=ADMIN,
            password=PASSWORD,
            access=access,
        )
    )
    ldif = base / "entries.ldif"
    top = entry(SUFFIX, ["dcObject", "organization"], o="Corp")
    ldif.write_text(top + "".join(entries))
    program = shutil.which("slapd", path=os.environ["PATH"] + ":/usr/sbin") or "slapd"
    loaded = subprocess.run(
        [program, "-T", "add", "-q", "-f", config, "-l", ldif],
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    log = base / "output.log"
    places = [f"ldap://127.0.0.1:{port}/", *([f"ldaps://127.0.0.1:{tls_port}/"] if tls else [])]
    command = [program, "-d", "stats", "-h", " ".join(places), "-f", config]
    # Its last words before it answers.
    with running(command, port, log, more=(tls_port,) if tls else (), ready=b"slapd starting"):
        yield Directory(port, tls_port, log)
