"""
What libraries and the operating system say went wrong, put into words.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import socket
import ssl
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cftpki_ext.support.failures import reason_of


def raised(call, *args, **kwargs):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is the case
        call(*args, **kwargs)
    return caught.value


def below(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


def ssl_error(reason: str | None, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}] something (_ssl.c:1006)")
    error.reason = reason  # type: ignore[misc]
    return error


def unverified() -> ssl.SSLError:
    error: Any = ssl_error("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError)
    error.verify_message = "unable to get local issuer certificate"
    return error


STRUCTURE = "its structure cannot be read"
REFUSED = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")

CASES = {
    "errno": (REFUSED, "connection refused"),
    "errno-in-text": (
        OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1)"),
        "connection refused",
    ),
    "resolver": (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
    "below": (below(httpx.ConnectError("All connection attempts failed"), REFUSED), "connection refused"),
    "of-several": (
        below(OSError(""), ExceptionGroup("two", [REFUSED, ValueError("x")])),
        "connection refused",
    ),
    "outer-that-says-more": (
        below(httpx.ConnectError("ca.example cannot be resolved: not known"), REFUSED),
        "ca.example cannot be resolved: not known",
    ),
    "certificate": (
        below(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] … (_ssl.c:1006)"), unverified()),
        "certificate verify failed: unable to get local issuer certificate",
    ),
    "tls": (ssl_error("WRONG_VERSION_NUMBER"), "TLS: wrong version number"),
    "alert": (
        ssl_error("TLSV1_ALERT_UNKNOWN_CA"),
        "the peer ended the TLS session with alert unknown_ca",
    ),
    "openssl-without-words": (ssl_error(None), "OpenSSL cannot use it"),
    "json": (raised(json.loads, '{"a":\n x}'), "not JSON (line 2, column 2)"),
    "utf-8": (raised(b"ab\xff".decode), "not UTF-8 text (octet 2)"),
    "ascii": (raised("é".encode, "ascii"), "holds a character that ASCII does not have"),
    "base64": (raised(base64.b64decode, b"A"), "not base64"),
    "base64-strict": (raised(binascii.a2b_base64, b"*", strict_mode=True), "not base64"),
    "recursion": (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    "octets": (
        httpx.RemoteProtocolError("illegal status line: bytearray(b'SSH-2.0')"),
        "illegal status line",
    ),
    "sentence": (
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        "server disconnected without sending a response",
    ),
    "certificate-that-is-none": (raised(x509.load_der_x509_certificate, b"0\x03abc"), STRUCTURE),
    "pem-that-is-none": (raised(x509.load_pem_x509_certificate, b"x"), STRUCTURE),
    "key-that-is-none": (raised(load_pem_private_key, b"x", None), STRUCTURE),
    "control-characters": (ValueError("a\x1b[2Jb"), "a\\x1b[2Jb"),
    "timeout": (TimeoutError(), "timed out"),
    "silent": (EOFError(), "EOFError"),
}


@pytest.mark.parametrize(("error", "expected"), CASES.values(), ids=CASES)
def test_reason_of_a_foreign_exception_is_a_clause_in_plain_words(error, expected):
    assert expected == reason_of(error)


def test_exceptions_in_a_circle_end():
    first, second = OSError(""), OSError("")
    first.__cause__, second.__cause__ = second, first
    assert "OSError" == reason_of(first)


async def test_real_refusal_and_real_nonsense_are_named():
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-x\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.HTTPError) as caught:
            await client.get(f"http://127.0.0.1:{port}/")
        assert "illegal status line" == reason_of(caught.value)
        with pytest.raises(httpx.HTTPError) as caught:
            await client.get(f"https://127.0.0.1:{port}/")
        assert reason_of(caught.value) in {"TLS: wrong version number", "TLS: record layer failure"}
        server.close()
        await server.wait_closed()
        with pytest.raises(httpx.HTTPError) as caught:
            await client.get(f"http://127.0.0.1:{port}/")
        assert "connection refused" == reason_of(caught.value)
