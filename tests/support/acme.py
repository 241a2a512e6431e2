"""
What the tests of the ACME enroller do with one.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from cftpki_connectors.acme import PLUGIN
from cftpki_connectors.acme.enroller import AcmeEnroller
from cftpki_ext.identity.enroller_port import Issued
from tests.support.orders import Saves, context, in_s, leaf_of, make_order

WAIT_S = 30.0


@asynccontextmanager
async def enroller(
    folder: Path, options: dict[str, Any], name: str = "corp", ahead: timedelta = timedelta(0)
) -> AsyncIterator[AcmeEnroller]:
    made = PLUGIN.make(PLUGIN.options(**options), context(folder, name=name, ahead=ahead))
    assert isinstance(made, AcmeEnroller)
    try:
        yield made
    finally:
        await made.aclose()


async def issue(made: AcmeEnroller, *names: str, saves: Saves | None = None, **changes: Any) -> Any:
    saves = saves if saves is not None else Saves()
    return await made.advance(make_order(*names, **changes), saves.last, saves, deadline=in_s(WAIT_S))


def names_of(issued: Issued) -> set[str]:
    alternative = leaf_of(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *alternative.get_values_for_type(x509.DNSName),
        *map(str, alternative.get_values_for_type(x509.IPAddress)),
    }


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
