"""
A real BIND on loopback, primary or secondary for some zones::

    with named(tmp_path, zones={"corp.example": "…records…"}) as primary:
        primary.port, primary.key_file, primary.texts("_acme-challenge.corp.example")
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype

from tests.support import servers
from tests.support.ports import free_port

KEY_NAME = "acme-key"
_HEAD = "$TTL 60\n@ IN SOA ns1 hostmaster 1 3600 600 86400 1\n@ IN NS ns1\nns1 IN A 127.0.0.1\n"


@dataclass(slots=True)
class Named:
    """
    A running BIND.
    """

    port: int
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def key_file(self) -> Path:
        return self.folder / "tsig.key"

    def texts(self, name: str) -> set[str]:
        """
        The TXT values at a name.
        """
        answer = dns.query.udp(dns.message.make_query(name, "TXT"), "127.0.0.1", timeout=5, port=self.port)
        records = [record for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for record in rrset]
        return {b"".join(record.strings).decode() for record in records}


def write_key(path: Path, name: str = KEY_NAME) -> Path:
    secret = base64.b64encode(os.urandom(32)).decode()
    path.write_text(f'key "{name}" {{\n\talgorithm hmac-sha256;\n\tsecret "{secret}";\n}};\n')
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def named(tmp_path: Path, zones: Mapping[str, str], *, secondary_of: Named | None = None) -> Iterator[Named]:
    """
    BIND for `zones` (their records besides SOA and NS), which whoever has the key may change.

    With `secondary_of` the zones come from there, asked every second.
    """
    program = shutil.which("named", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        msg = "named is missing: run scripts/system-packages test"
        raise RuntimeError(msg)
    port = free_port()
    folder = tmp_path / f"named-{port}"
    folder.mkdir()
    server = Named(port, folder)
    write_key(server.key_file)
    lines = [f'include "{server.key_file}";']
    for zone, records in zones.items():
        lines.append(f'zone "{zone}" {{')
        if secondary_of is None:
            (folder / f"{zone}.db").write_text(_HEAD + records)
            lines.append(
                f'type primary; file "{folder}/{zone}.db"; update-policy {{ grant {KEY_NAME} zonesub TXT; }};'
            )
        else:
            lines.append(f'type secondary; file "{folder}/{zone}.db";')
            lines.append(f"primaries {{ 127.0.0.1 port {secondary_of.port}; }};")
        lines.append("};")
    config = folder / "named.conf"
    config.write_text(
        f"""options {{
    directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/session.key";
    managed-keys-directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion yes; dnssec-validation no; allow-transfer {{ 127.0.0.1; }}; notify no; minimal-responses yes;
    min-refresh-time 1; max-refresh-time 1; max-retry-time 1;
}};
controls {{ }};
"""
        + "\n".join(lines)
        + "\n"
    )
    log = folder / "named.log"
    command = [program, "-g", "-n", "1", "-c", config]
    with servers.running(command, port, log, udp=(port,), ready=b" running\n"):
        yield server
