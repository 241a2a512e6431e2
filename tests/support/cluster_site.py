"""
Several nodes of one cluster: services of their own state, one CA, one Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import pki, real_service, redis_server, servers
from tests.support.ports import free_port
from tests.support.wall_clock import until
from tests.support.wire_client import WireClient

_CONFIGURATION = """
[service]
socket = "s"
state = "state"
log_format = "json"

[limits]
{limits}

[trust.partners]
anchors = ["{folder}/root.pem"]
allow_hosts = ["{host}"]
allow_networks = ["{host}/32"]

[[rule]]
name = "in"
direction = "server"
trust = "partners"
"""


@dataclass
class Site:
    """
    The CA, its partners, and the nodes.
    """

    folder: Path
    partners: int = 1
    host: str = "127.0.0.1"
    # What a busy machine can judge in five seconds is another test.
    limits: str = 'budget_ms = "20s"'
    started: int = 0
    revoked: dict[int, str] = field(default_factory=dict)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))

    def __post_init__(self) -> None:
        ocsp, crl = (f"http://{self.host}:{port}/" for port in self.ports)
        begun = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        self.root = pki.make_root("Root", not_before=begun)
        self.issuing = pki.issue(self.root, "CA", ca=True, not_before=begun, crl_urls=[f"{crl}root.crl"])
        self.leaves = [
            pki.issue(self.issuing, f"partner {n}", not_before=begun, eku=["clientAuth"], ocsp_urls=[ocsp])
            for n in range(self.partners)
        ]
        # As lists of CAs are: signed an hour ago, for a day.
        self.list = pki.make_crl(self.root, this_update=begun, next_update=begun + timedelta(days=1))
        (self.folder / "root.pem").write_bytes(self.root.pem)

    def configure(self, name: str, section: str) -> Path:
        """
        The configuration of a node.
        """
        folder = self.folder / name
        folder.mkdir()
        path = folder / "c.toml"
        path.write_text(
            _CONFIGURATION.format(folder=self.folder, host=self.host, limits=self.limits) + section
        )
        return path

    @contextlib.contextmanager
    def nodes(
        self,
        redis: redis_server.Redis,
        count: int,
        *,
        secret: bool = True,
        ports: Mapping[int, int] | None = None,
        programs: Mapping[int, Sequence[str | Path]] | None = None,
        url: str | None = None,
        more: str = "",
    ) -> Iterator[list[Any]]:
        """
        Services that are part of the cluster, from when they are; some reach the server at other ports, or are begun in another way.
        """
        ports, programs = ports or {}, programs or {}
        with contextlib.ExitStack() as stack:
            found = [
                stack.enter_context(
                    real_service.running(
                        self.configure(
                            f"node{n}",
                            redis.section(
                                node=f"node{n}", secret=secret, port=ports.get(n), url=url, more=more
                            ),
                        ),
                        program=programs.get(n),
                    )
                )
                for n in range(count)
            ]
            for node in found:
                until(partial(node.events, "cluster_up"), told=node.log.read_text)
            yield found

    @contextlib.contextmanager
    def ca(self, revoked: Any = None) -> Iterator[tuple[Any, Any]]:
        """
        The responder and the list.
        """
        self.started += 1
        folder = self.folder / f"ca-{self.started}"
        folder.mkdir()
        with (
            servers.openssl_ocsp(
                folder,
                issuer=self.issuing,
                known=self.leaves,
                revoked=self.revoked | (revoked or {}),
                port=self.ports[0],
                options=("-nmin", "60"),
            ) as ocsp,
            servers.nginx(folder, {"root.crl": self.list}, host=self.host, port=self.ports[1]) as crls,
        ):
            self.responder, self.lists = ocsp, crls
            yield ocsp, crls

    def revoke(self, *numbers: int) -> None:
        """
        Have the responder that runs say of partners that they are revoked.
        """
        self.revoked |= {self.leaves[number].serial: "keyCompromise" for number in numbers}
        servers.say_anew(self.responder, self.leaves, self.revoked)
        leaf, issuer = (x509.load_der_x509_certificate(one) for one in self.chain(0))
        asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
        with contextlib.closing(
            HTTPConnection("127.0.0.1", self.responder.port, timeout=servers.START_S)
        ) as client:
            client.request(
                "POST", "/", asked.public_bytes(Encoding.DER), {"Content-Type": "application/ocsp-request"}
            )
            assert client.getresponse().read()

    def chain(self, number: int = 0) -> tuple[bytes, ...]:
        return (self.leaves[number].der, self.issuing.der)


async def check_in(service: Any, chain: tuple[bytes, ...]) -> bool:
    """
    Whether a node lets a partner in.
    """
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.CHECK, MODE=int(Mode.SERVER), CHAIN=encode_chain(chain))
        return answer.fields[Tag.RESULT] == Result.DONE


def check(service: Any, chain: tuple[bytes, ...]) -> bool:
    return asyncio.run(check_in(service, chain))


def status(service: Any) -> Any:
    """
    STATUS of a node.
    """

    async def ask() -> Any:
        async with WireClient(service.socket) as client:
            return json.loads((await client.ask(Message.STATUS)).fields[Tag.JSON])

    return asyncio.run(ask())
