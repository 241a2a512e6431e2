"""
Our own look at an answer succeeds wherever the CA's would, and does not last longer than somebody waits for a word.
"""

from __future__ import annotations

import asyncio
import gzip
import socket

import pytest

from cftpki_connectors.acme import http01
from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.http01 import PREFIX, Responder, look
from cftpki_connectors.acme.listening import listening_socket
from cftpki_connectors.acme.options import ChallengeKind, TlsAlpn01
from cftpki_connectors.acme.resources import Identifier
from cftpki_connectors.acme.solver import SolverError
from cftpki_connectors.acme.tlsalpn01 import TlsAlpnSolver
from tests.support.orders import SystemClock, in_s
from tests.support.ports import free_port
from tests.support.servers import answer, evil, response

TASK = Task(
    kind=ChallengeKind.HTTP_01,
    identifier=Identifier("dns", "a.example"),
    token="token",
    authorization="token.thumb",
)


@pytest.mark.parametrize("packed", [True, False])
async def test_web_server_that_compresses_unasked_is_read(packed):
    body = gzip.compress(b"token.thumb") if packed else b"token.thumb"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    async with evil(answer(response(body, headers=headers), close=True)) as server:
        await look(f"http://127.0.0.1:{server.port}", TASK, deadline=in_s(5), clock=SystemClock())


async def test_look_that_never_succeeds_ends_within_a_minute_and_says_what_it_saw(monkeypatch):
    assert http01.LOOKED_FOR_S <= 60
    monkeypatch.setattr(http01, "LOOKED_FOR_S", 1.0)
    async with evil(answer(response(b"something"), close=True)) as server:
        with pytest.raises(SolverError, match="answers something else"):
            async with asyncio.timeout(10):
                await look(f"http://127.0.0.1:{server.port}", TASK, deadline=in_s(600), clock=SystemClock())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_responder_on_every_address_is_reached_by_both_families(host):
    port = free_port()
    responder = Responder(f"[::]:{port}")
    await responder.add("token", "token.thumb")
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {PREFIX}token HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
        assert (await reader.read()).endswith(b"token.thumb")
        writer.close()
        await writer.wait_closed()
    finally:
        await responder.aclose()


@pytest.mark.parametrize("listen", ["127.0.0.1", "[::1]", "[::]"])
async def test_tls_responder_sees_itself_at_every_address(listen):
    solver = TlsAlpnSolver(TlsAlpn01(listen=f"{listen}:{free_port()}"), SystemClock())
    task = Task(
        kind=ChallengeKind.TLS_ALPN_01,
        identifier=TASK.identifier,
        token=TASK.token,
        authorization=TASK.authorization,
    )
    await solver.present(task, deadline=in_s(5))
    try:
        await solver.ready(task, deadline=in_s(5))
    finally:
        await solver.aclose()


def test_one_address_of_ipv6_stays_one():
    with listening_socket("::1", 0) as bound:
        assert 1 == bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    with listening_socket("::", 0) as bound:
        assert 0 == bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
