"""
The responder, the options and the DNS key file.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import time
from typing import Any

import httpx
import pytest
from cryptography import x509
from pydantic import ValidationError

from cftpki_connectors.acme import tlsalpn01
from cftpki_connectors.acme.dns01 import challenge_name, parse_key_file, txt_value
from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.http01 import PREFIX, Responder
from cftpki_connectors.acme.jose import digest
from cftpki_connectors.acme.listening import MAX_CONNECTIONS
from cftpki_connectors.acme.options import AcmeOptions, ChallengeKind, TlsAlpn01
from cftpki_connectors.acme.publisher import Publisher
from cftpki_connectors.acme.resources import Identifier
from cftpki_connectors.acme.solver import SolverError
from cftpki_connectors.acme.tlsalpn01 import TlsAlpnSolver, make_certificate, server_name
from cftpki_ext.core.errors import InputError
from tests.support.orders import SystemClock, in_s
from tests.support.ports import free_port


def task(value: str = "a.example", kind: str = "dns") -> Task:
    return Task(
        kind=ChallengeKind.HTTP_01,
        identifier=Identifier(kind, value),
        token="token",
        authorization="token.print",
    )


async def ask(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


async def flood(port: int) -> bytes:
    """
    What is said to a head without end; the connection may be cut before we have said it all.
    """
    with contextlib.suppress(ConnectionError):
        return await ask(port, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000)
    return b""


async def test_responder_answers_the_exact_path_and_nothing_else():
    responder = Responder(f"127.0.0.1:{free_port()}")
    await responder.add("token", "token.print")
    port = responder.bound[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        found = await client.get(PREFIX + "token")
        assert (200, b"token.print", "application/octet-stream") == (
            found.status_code,
            found.content,
            found.headers["content-type"],
        )
        head = await client.head(PREFIX + "token")
        assert (200, b"", "11") == (head.status_code, head.content, head.headers["content-length"])
        for path in (
            "/",
            PREFIX,
            PREFIX + "other",
            PREFIX + "token/",
            PREFIX + "token?x",
            "/%2e" + PREFIX + "token",
        ):
            assert 404 == (await client.get(path)).status_code, path
        assert 405 == (await client.post(PREFIX + "token")).status_code
    assert (await ask(port, b"\x16\x03\x01\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert b"HTTP" not in await flood(port)
    await responder.aclose()


async def test_responder_is_bound_from_the_first_token_to_the_last():
    responder = Responder(f"127.0.0.1:{free_port()}")
    assert responder.bound is None
    await responder.add("one", "1")
    await responder.add("two", "2")
    await responder.remove("one")
    assert responder.bound is not None
    await responder.remove("two")
    assert responder.bound is None


@pytest.mark.parametrize("steps", range(4))
async def test_connection_that_was_just_accepted_when_the_responder_ends_is_not_left_hanging(steps):
    responder = Responder(f"127.0.0.1:{free_port()}")
    await responder.add("token", "token.print")
    with socket.create_connection(responder.bound, timeout=10) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for _ in range(steps):
            await asyncio.sleep(0)
        await responder.aclose()
        # Answered, or cut off where nobody had accepted it yet; never silence.
        with contextlib.suppress(ConnectionResetError):
            said = await asyncio.to_thread(peer.recv, 1000)
            assert said == b"" or said.startswith(b"HTTP/1.1 404")
    gc.collect()  # a socket that nobody closed is a warning, which is an error


async def test_responder_that_cannot_bind_says_so_and_forgets():
    first, port = Responder(f"127.0.0.1:{free_port()}"), None
    await first.add("one", "1")
    port = first.bound[1]
    second = Responder(f"127.0.0.1:{port}")
    with pytest.raises(SolverError) as raised:
        await second.add("two", "2")
    assert not raised.value.permanent
    await first.aclose()
    await second.add("three", "3")
    assert b"404" in await ask(port, f"GET {PREFIX}two HTTP/1.1\r\n\r\n".encode())
    await second.aclose()


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("a.example", "dns", "a.example"),
        ("10.1.2.3", "ip", "3.2.1.10.in-addr.arpa"),
        ("2001:db8::1", "ip", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_tls_alpn_server_name_of_an_address_is_its_reverse_name(value, kind, expected):
    assert expected == server_name(Identifier(kind, value))


def test_tls_alpn_certificate_is_that_of_rfc_8737():
    certificate = x509.load_der_x509_certificate(make_certificate(task("10.1.2.3", "ip"), SystemClock())[0])
    shown: Any = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert shown.critical
    assert b"\x04\x20" + digest("token.print") == shown.value.value
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["10.1.2.3"] == [str(name.value) for name in alternative]


async def test_tls_alpn_listener_refuses_names_that_are_not_under_way():
    solver = TlsAlpnSolver(TlsAlpn01(listen=f"127.0.0.1:{free_port()}"), SystemClock())
    await solver.present(task(), deadline=in_s(5))
    await solver.ready(task(), deadline=in_s(5))
    with pytest.raises(SolverError):
        await solver.ready(task("b.example"), deadline=in_s(5))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_alpn_protocols(["acme-tls/1"])
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", solver._port, ssl=client, server_hostname="b.example")
    await solver.cleanup(task(), deadline=time.monotonic())
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", solver._port)


def tls_client(*protocols):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    if protocols:
        client.set_alpn_protocols(protocols)
    return client


@pytest.mark.parametrize("protocols", [(), ("h2",), ("acme-tls/1", "h2"), ("http/1.1", "acme-tls/1")])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_alpn_certificate_is_shown_to_nobody_who_does_not_speak_acme(protocols, version):
    solver = TlsAlpnSolver(TlsAlpn01(listen=f"127.0.0.1:{free_port()}"), SystemClock())
    await solver.present(task(), deadline=in_s(5))
    client = tls_client(*protocols)
    client.maximum_version = client.minimum_version = version
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await asyncio.open_connection("127.0.0.1", solver._port, ssl=client, server_hostname="a.example")
    await solver.ready(task(), deadline=in_s(5))
    await solver.aclose()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("-alpn", "acme-tls/1", "-servername", "a.example"), "ACME challenge"),
        (("-alpn", "acme-tls/1", "-servername", "A.EXAMPLE"), "ACME challenge"),
        (("-alpn", "acme-tls/1", "-servername", "b.example"), "alert number 112"),
        (("-alpn", "acme-tls/1", "-noservername"), "alert number 112"),
        (("-alpn", "http/1.1", "-servername", "a.example"), "alert number 120"),
    ],
)
async def test_tls_alpn_listener_as_openssl_sees_it(version, asked, said):
    solver = TlsAlpnSolver(TlsAlpn01(listen=f"127.0.0.1:{free_port()}"), SystemClock())
    await solver.present(task(), deadline=in_s(5))
    program = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{solver._port}", version, *asked,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await asyncio.wait_for(program.communicate(), 20))[0].decode()
    assert said in output
    assert ("ACME challenge" in output) == (said == "ACME challenge")
    await solver.aclose()


async def silent(port, count, source="127.0.0.1"):
    """
    Connections that say nothing.
    """
    return [await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)) for _ in range(count)]


async def test_silent_strangers_keep_nobody_from_the_tls_alpn_listener():
    solver = TlsAlpnSolver(TlsAlpn01(listen=f"127.0.0.1:{free_port()}"), SystemClock())
    await solver.present(task(), deadline=in_s(5))
    strangers = await silent(solver._port, MAX_CONNECTIONS + 10)
    await solver.ready(task(), deadline=in_s(5))
    assert len(solver._door) <= MAX_CONNECTIONS
    for _, writer in strangers:
        writer.close()
    await solver.aclose()


async def test_tls_alpn_handshake_that_is_not_done_in_time_is_ended(monkeypatch):
    monkeypatch.setattr(tlsalpn01, "HANDSHAKE_S", 0.3)
    solver = TlsAlpnSolver(TlsAlpn01(listen=f"127.0.0.1:{free_port()}"), SystemClock())
    await solver.present(task(), deadline=in_s(5))
    for said in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01"):
        assert b"" == await asyncio.wait_for(ask(solver._port, said), 5)
    await solver.aclose()


async def test_silent_strangers_keep_no_ca_from_the_responder():
    responder = Responder(f"127.0.0.1:{free_port()}")
    await responder.add("token", "token.print")
    port = responder.bound[1]
    strangers = await silent(port, MAX_CONNECTIONS)
    said = await asyncio.wait_for(ask(port, f"GET {PREFIX}token HTTP/1.1\r\n\r\n".encode()), 5)
    assert said.endswith(b"token.print")
    # The oldest had to go for it, and nobody else.
    assert b"" == await asyncio.wait_for(strangers[0][0].read(), 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(strangers[1][0].read(), 0.2)
    for _, writer in strangers:
        writer.close()
    await responder.aclose()


async def test_who_holds_most_connections_gives_way_first():
    responder = Responder(f"127.0.0.1:{free_port()}")
    await responder.add("token", "token.print")
    port = responder.bound[1]
    patient = await silent(port, 2, source="127.0.0.2")
    greedy = await silent(port, MAX_CONNECTIONS + 20, source="127.0.0.3")
    for reader, writer in patient:
        writer.write(f"GET {PREFIX}token HTTP/1.1\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"token.print")
    for _, writer in (*patient, *greedy):
        writer.close()
    await responder.aclose()


def test_dns_value_and_name_are_those_of_rfc_8555():
    assert "_acme-challenge.a.example." == str(challenge_name(task()))
    assert 43 == len(txt_value(task()))


KEY = 'key "acme" {\n\talgorithm hmac-sha512;\n\tsecret "c2VjcmV0IHNlY3JldCBzZWNyZXQ=";\n};\n'


def test_key_file_of_bind_is_read():
    key = parse_key_file(KEY)
    assert ("acme.", b"secret secret secret", "hmac-sha512.") == (
        str(key.name),
        key.secret,
        str(key.algorithm),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "key acme {};",
        KEY.replace("sha512", "md5"),
        KEY.replace("c2Vj", "c2V"),
        KEY.replace('"acme"', '"a..b"'),
    ],
)
def test_key_file_that_holds_no_usable_key_is_refused_without_its_secret(text):
    with pytest.raises(InputError) as raised:
        parse_key_file(text)
    assert "c2V" not in str(raised.value)


BASE = {"directory": "https://ca.example/dir"}


@pytest.mark.parametrize(
    "table",
    [
        {"directory": "http://ca.example/dir"},
        {"directory": "https://user@ca.example/dir"},
        {"unknown": 1},
        {"contact": ["pki@corp.example"]},
        {"http01": {}},
        {"http01": {"listen": "80"}},
        {"http01": {"listen": "localhost:80"}},
        {"http01": {"listen": "0.0.0.0:80", "webroot": "/srv"}},
        {"http01": {"listen": "0.0.0.0:80", "check": "ftp://x"}},
        {"dns01": {"server": "127.0.0.1", "hook": ["x"]}},
        {"dns01": {"hook": ["x"], "tsig_file": "x"}},
        {"dns01": {"hook": []}},
        {"challenges": ["dns-01"], "http01": {"listen": "0.0.0.0:80"}},
        {"preferred_issuer": "a", "preferred_root_file": "b"},
        {"proxy": "http://user:password@proxy:3128"},
        {"proxy": "http://proxy:3128", "proxy_password_file": "x"},
    ],
)
def test_options_that_contradict_themselves_are_refused(table):
    with pytest.raises(ValidationError):
        AcmeOptions(**(BASE | table))


def test_options_name_what_is_configured_in_the_order_wished_for():
    table = BASE | {"http01": {"listen": "[::]:80"}, "dns01": {"server": "10.0.0.53"}}
    assert ("http-01", "dns-01") == AcmeOptions(**table).configured
    assert ("dns-01",) == AcmeOptions(**table, challenges=["dns-01"]).configured
    assert () == AcmeOptions(**BASE).configured


async def test_answers_stay_for_their_lease_and_go_when_nobody_takes_the_order_up():
    options = AcmeOptions(**BASE, http01={"listen": f"127.0.0.1:{free_port()}"})
    publisher = Publisher(options, SystemClock())
    assert not await publisher.hold("order")
    await publisher.publish([task()], deadline=in_s(5))
    publisher.release("order", [task()], lease_s=600)
    assert publisher.busy_besides("another")
    assert not publisher.busy_besides("order")
    assert await publisher.hold("order")
    await publisher.publish([task()], deadline=in_s(5))  # still there: nothing has to be bound again
    solver: Any = publisher._solvers[ChallengeKind.HTTP_01]
    responder = solver._responder
    assert responder.bound is not None
    publisher.release("order", [task()], lease_s=0)
    lease = publisher._leases["order"]
    await lease
    assert responder.bound is None
    assert not publisher.busy_besides("another")
    await publisher.aclose()


async def test_answers_of_a_challenge_that_is_not_configured_any_more_are_told():
    publisher = Publisher(AcmeOptions(**BASE), SystemClock())
    left = await publisher.withdraw([task()])
    assert ["http-01 for a.example was left: it is not configured any more"] == list(left)
