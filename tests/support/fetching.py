"""
Requests to the guarded HTTP client, names from a script, and how a request fails.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from ipaddress import ip_network

import pytest

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.gate import Gate
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_ext.core.settings import TrustSet
from tests.support.servers import (
    Behaviour,
    evil,
    response,
)

LOOPBACK = ip_network("127.0.0.0/8")
OK = response(b"fine")


class Names:
    """
    A resolver that answers from a script: each name's answers in turn, the last for ever.
    """

    def __init__(self, answers: Mapping[str, list[tuple[str, ...]]]) -> None:
        self._answers = {host: list(script) for host, script in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:  # noqa: ARG002  # the port's signature
        self.asked.append(host)
        script = self._answers.get(host)
        if script is None:
            msg = "no such name"
            raise OSError(msg)
        return script.pop(0) if len(script) > 1 else script[0]


def wanted(url: str, *, within_s: float = 5.0, **changes: object) -> FetchRequest:
    trust = changes.pop("trust", None) or TrustSet(name="t", anchors=(), allow_hosts=("127.0.0.1",))
    options = {"max_bytes": 10_000, "redirects": 3, **changes}
    return FetchRequest(
        url=url,
        guard=guard_of(trust),
        deadline=time.monotonic() + within_s,
        **options,
    )


async def failure(fetcher: Fetcher, request: FetchRequest) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(request)
    return caught.value


def gate_of(fetcher: Fetcher, url: str) -> Gate:
    (reach,) = fetcher._reaches.values()
    return reach.gates.of(url.rstrip("/"))


async def failure_of(fetcher: Fetcher, behaviour: Behaviour, **options: object) -> FetchError:
    async with evil(behaviour) as server:
        return await failure(fetcher, wanted(server.url(), **options))
