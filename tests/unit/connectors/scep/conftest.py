"""
A front with the habits of NDES on loopback, and an enroller of ours before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cftpki_connectors.scep import ScepEnroller, ScepOptions
from cftpki_ext.identity.enroller_port import Issued, Order
from tests.support import pki
from tests.support.ca_servers import write_secret
from tests.support.orders import Saves, context, in_s, make_order
from tests.support.scep_front import ScepFront, make_front, serving

NAME = "mft.corp.example"
PASSWORD = "0123456789ABCDEF"
RSA_KEY = pki.key("rsa", "scep identity")


@dataclass
class Site:
    """
    The front, and how it is configured here.
    """

    folder: Path
    front: ScepFront
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.secret = write_secret(self.folder / "challenge", f"{PASSWORD}\n".encode())
        self.believed = self.folder / "ca.pem"
        self.believed.write_bytes(pki.pem(self.front.ca.der))
        self.believed.chmod(0o644)

    def enroller(self, name: str = "corp", **changes: Any) -> ScepEnroller:
        options: dict[str, Any] = {
            "url": self.front.url,
            "challenge_file": self.secret,
            **self.options,
            **changes,
        }
        if not {"certificates", "fingerprints"} & set(options):
            options["fingerprints"] = [self.front.fingerprint]
        options = {name: value for name, value in options.items() if value is not None}
        return ScepEnroller(ScepOptions(**options), context(self.folder, name=name))

    async def advance(self, order: Order | None = None, saves: Saves | None = None, **changes: Any) -> Any:
        saves = saves if saves is not None else Saves()
        wanted = order or rsa_order()
        return await self.enroller(**changes).advance(wanted, saves.last, saves, deadline=in_s(30))

    async def issued(self, order: Order | None = None, **changes: Any) -> Issued:
        outcome = await self.advance(order, **changes)
        assert isinstance(outcome, Issued), outcome
        return outcome


def rsa_order(**changes: Any) -> Order:
    return make_order(NAME, **({"private": RSA_KEY, "common_name": NAME} | changes))


def ec_order(**changes: Any) -> Order:
    return make_order(NAME, **({"common_name": NAME} | changes))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """
    Starts a front; `options` are the front's.
    """
    open_fronts = []

    def begin(**options: Any) -> Site:
        front = make_front(**({"passwords": {PASSWORD}} | options))
        running = serving(front)
        open_fronts.append(running)
        running.__enter__()
        return Site(tmp_path, front)

    yield begin
    for running in open_fronts:
        running.__exit__(None, None, None)
