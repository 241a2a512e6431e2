"""
A real Pebble with pebble-challtestsrv as its DNS, on loopback::

    with pebble(tmp_path, environment={"PEBBLE_WFE_NONCEREJECT": "60"}) as ca:
        ca.options(http01={"listen": f"127.0.0.1:{ca.http_port}"}), ca.orders, ca.certificates

Every name is at 127.0.0.1 unless `ca.dns("add-a", …)` says otherwise. Challenges are validated at once, and only
really so: nothing is always valid. `ca.options()` is a table `[enroller.NAME]`.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import pki, servers
from tests.support.ca_servers import tool, write_secret
from tests.support.ports import free_port

EAB_KID = "kid-1"
# Of our own servers; only a failure takes so long.
ANSWER_S = 60
# Of a CA that lives for a test.
EAB_SECRET = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


@dataclass(slots=True)
class Pebble:
    """
    A running Pebble.
    """

    folder: Path
    port: int
    management_port: int
    http_port: int
    tls_port: int
    dns_port: int
    dns_management_port: int
    root: pki.Entity  # of its own TLS certificate
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def options(self, **changes: Any) -> dict[str, Any]:
        table: dict[str, Any] = {
            "directory": self.directory,
            "root_file": self.folder / "root.pem",
            "terms_agreed": True,
            "contact": ["mailto:pki@corp.example"],
            "http01": {"listen": f"127.0.0.1:{self.http_port}"},
        } | changes
        return {name: value for name, value in table.items() if value is not None}

    def external_account(self, secret: str = EAB_SECRET, kid: str = EAB_KID) -> dict[str, Any]:
        return {"kid": kid, "secret_file": write_secret(self.folder / "eab", secret.encode() + b"\n")}

    def dns(self, action: str, **values: Any) -> None:
        """
        Tell pebble-challtestsrv.
        """
        url = f"http://127.0.0.1:{self.dns_management_port}/{action}"
        with urllib.request.urlopen(url, json.dumps(values).encode(), timeout=ANSWER_S):  # our own server
            pass

    def manage(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """
        Ask Pebble's management interface.
        """
        context = ssl.create_default_context(cafile=str(self.folder / "root.pem"))
        data = None if body is None else json.dumps(body).encode()
        url = f"https://127.0.0.1:{self.management_port}/{path}"
        with urllib.request.urlopen(url, data, timeout=ANSWER_S, context=context) as answer:  # our own server
            return bytes(answer.read())

    def log_text(self) -> str:
        return (self.folder / "pebble.log").read_text(errors="replace")

    @property
    def orders(self) -> int:
        """
        How many orders were placed so far.
        """
        return len(re.findall(r"Added order \"", self.log_text()))

    @property
    def certificates(self) -> int:
        """
        How many certificates were issued so far.
        """
        return len(re.findall(r"Issued certificate serial", self.log_text()))

    @property
    def accounts(self) -> int:
        return len(re.findall(r"There are now \d+ accounts in memory", self.log_text()))

    @contextlib.contextmanager
    def running(self, environment: Mapping[str, str] | None = None) -> Iterator[Pebble]:
        """
        Pebble itself, with nothing in its memory; its DNS is somebody else's business.
        """
        config = self.folder / "pebble.json"
        tls = str(servers.write_pem(self.folder / "tls.pem", pki.issue(self.root, "", san=["ip:127.0.0.1"])))
        config.write_text(
            json.dumps(
                {
                    "pebble": {
                        "listenAddress": f"127.0.0.1:{self.port}",
                        "managementListenAddress": f"127.0.0.1:{self.management_port}",
                        "certificate": tls,
                        "privateKey": tls,
                        "httpPort": self.http_port,
                        "tlsPort": self.tls_port,
                        "ocspResponderURL": "",
                        "domainBlocklist": ["blocked.example"],
                        "externalAccountMACKeys": {EAB_KID: EAB_SECRET},
                    }
                    | self.settings
                }
            )
        )
        quiet = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        command = [tool("pebble"), "-config", config, "-dnsserver", f"127.0.0.1:{self.dns_port}"]
        arguments = ["env", *(f"{key}={value}" for key, value in (quiet | dict(environment or {})).items())]
        log = self.folder / "pebble.log"
        with servers.running([*arguments, *command], self.port, log, more=(self.management_port,)):
            yield self


@contextlib.contextmanager
def pebble(
    tmp_path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    dns_port: int | None = None,
    started: bool = True,
    **settings: Any,
) -> Iterator[Pebble]:
    """
    Pebble and its DNS; `settings` go into Pebble's configuration.

    With `dns_port` another server is its DNS, and pebble-challtestsrv is not asked. Where it is not `started`,
    `ca.running()` starts it, each time with an empty memory.
    """
    folder = tmp_path / "pebble"
    folder.mkdir()
    root = pki.make_root("Pebble TLS Root")
    (folder / "root.pem").write_bytes(root.pem)
    ca = Pebble(
        folder=folder,
        port=free_port(),
        management_port=free_port(),
        http_port=free_port(),
        tls_port=free_port(),
        dns_port=free_port(),
        dns_management_port=free_port(),
        root=root,
        settings=settings,
    )
    own_dns = ca.dns_port
    ca.dns_port = dns_port or own_dns
    nothing = ["-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-defaultIPv6", ""]
    command = [
        tool("pebble-challtestsrv"),
        *nothing,
        *("-dnsserver", f"127.0.0.1:{own_dns}"),
        *("-management", f"127.0.0.1:{ca.dns_management_port}"),
    ]
    log = folder / "challtestsrv.log"
    with contextlib.ExitStack() as stack:
        # It lives on where it cannot listen, and says so in its log alone.
        stack.enter_context(
            servers.running(command, ca.dns_management_port, log, more=(own_dns,), udp=(own_dns,))
        )
        if started:
            stack.enter_context(ca.running(environment))
        yield ca
