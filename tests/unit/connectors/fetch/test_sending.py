"""
What is sent of a request, as httpcore gets it.
"""

from __future__ import annotations

import asyncio
import ssl

import httpcore
import pytest

from cftpki_connectors.fetch.guard import Guard
from cftpki_connectors.fetch.network import GuardedPool
from cftpki_connectors.fetch.url import parse_url

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Stream(httpcore.AsyncMockStream):
    """
    A connection that notes what is sent.
    """

    def __init__(self) -> None:
        super().__init__([ANSWER])
        self.sent = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  # httpcore's signature
        self.sent += buffer


class Network(httpcore.AsyncMockBackend):
    """
    Has one connection.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.stream = Stream()

    async def connect_tcp(self, *_args: object, **_named: object) -> httpcore.AsyncNetworkStream:
        return self.stream


class Names:
    """
    Every name is one address.
    """

    async def resolve(self, _host: str, _port: int) -> tuple[str, ...]:
        return ("192.0.2.1",)


@pytest.mark.parametrize(
    ("headers", "host"),
    [((), b"Host: 8.8.8.8:81"), ((("host", "ca.example"),), b"host: ca.example")],
    ids=["by default", "named"],
)
def test_request_names_one_host(headers: tuple[tuple[str, str], ...], host: bytes) -> None:
    async def send() -> bytes:
        network, target = Network(), parse_url("http://8.8.8.8:81/x")
        guard = Guard(
            names=frozenset(), literals=frozenset({(target.address, 81)}), hosts=frozenset(), ranges=()
        )
        pool = GuardedPool(guard, Names(), ssl.create_default_context(), network)
        answer = await pool.send("GET", target, headers, b"", connect_s=1.0)
        await answer.aclose()
        await pool.aclose()
        return network.stream.sent

    lines = asyncio.run(send()).split(b"\r\n")
    assert [host] == [line for line in lines if line.lower().startswith(b"host:")]
