"""
The first message of a TLS client, as OpenSSL's client writes it and as nobody should.
"""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.acme.client_hello import (
    MAX_HELLO_BYTES,
    MAX_RECORDS,
    ClientHello,
    read_client_hello,
)
from cftpki_ext.core.errors import InputError


def hello_of(*protocols, name="a.example", version=None):
    """
    What OpenSSL's client says first.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = name is not None
    context.verify_mode = ssl.CERT_NONE if name is None else ssl.CERT_REQUIRED
    if version is not None:
        context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(protocols)
    said = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return said.read()


def in_records(raw, size):
    """
    The same message in records of so many octets.
    """
    message = raw[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(raw[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2])
@pytest.mark.parametrize(
    ("protocols", "name", "expected"),
    [
        (("acme-tls/1",), "a.example", ClientHello(server_name="a.example", protocols=(b"acme-tls/1",))),
        (
            ("h2", "acme-tls/1"),
            "A.Example",
            ClientHello(server_name="a.example", protocols=(b"h2", b"acme-tls/1")),
        ),
        ((), "a.example", ClientHello(server_name="a.example", protocols=())),
        (("acme-tls/1",), None, ClientHello(server_name=None, protocols=(b"acme-tls/1",))),
    ],
)
def test_hello_of_openssl_is_read(version, protocols, name, expected):
    raw = hello_of(*protocols, name=name, version=version)
    assert expected == read_client_hello(raw)
    assert expected == read_client_hello(raw + b"whatever follows")
    assert expected == read_client_hello(in_records(raw, 100))


def test_hello_that_is_not_there_yet_is_waited_for():
    raw = in_records(hello_of("acme-tls/1"), 150)
    assert {None} == {read_client_hello(raw[:size]) for size in range(len(raw))}
    assert read_client_hello(raw) is not None


def record(message, kind=22):
    return bytes((kind, 3, 1)) + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"GET / HTTP/1.1\r\n", "no TLS handshake"),
        (b"\x80\x2e\x01", "no TLS handshake"),
        (record(b"\x01\0\0\0", kind=23), "no TLS handshake"),
        (b"\x16\x02\0\0\x05", "no TLS handshake"),
        (b"\x16\x03\x01\0\0", "TLS record of 0 bytes"),
        (b"\x16\x03\x01\xff\xff", "TLS record of 65535 bytes"),
        (record(b"\x02\0\0\0"), "handshake message 2"),
        (record(b"\x01\xff\xff\xff"), f"ClientHello of {2**24 - 1} bytes"),
        (record(b"\x01\0\0\0"), "cut off"),
        (record(b"\x01\0\0\x22" + bytes(34)), "cut off"),
        (in_records(hello_of("acme-tls/1"), 20), f"more than {MAX_RECORDS} records"),
    ],
)
def test_what_is_no_hello_is_refused(raw, said):
    with pytest.raises(InputError, match=said):
        read_client_hello(raw)


def with_extension(kind, content):
    """
    A ClientHello with one extension more.
    """
    raw = hello_of("acme-tls/1")
    more = kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    message = raw[9:]
    at = 34
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    extensions = message[at + 2 :] + more
    body = message[:at] + len(extensions).to_bytes(2, "big") + extensions
    return record(b"\x01" + len(body).to_bytes(3, "big") + body)


@pytest.mark.parametrize(
    ("kind", "content"), [(16, b"\0\x0b\x0aacme-tls/1"), (0, b"\0\x0c\0\0\x09b.example")]
)
def test_hello_that_says_a_thing_twice_is_refused(kind, content):
    with pytest.raises(InputError, match="twice"):
        read_client_hello(with_extension(kind, content))


def test_hello_with_another_extension_is_read():
    assert read_client_hello(with_extension(0xFAFA, b"\1")) == read_client_hello(hello_of("acme-tls/1"))


@given(st.binary(max_size=400))
def test_any_octets_are_read_waited_for_or_refused(data):
    with contextlib.suppress(InputError):
        assert isinstance(read_client_hello(data), ClientHello | None)


@given(st.data())
def test_hello_with_any_octet_changed_is_read_waited_for_or_refused(data):
    raw = bytearray(hello_of("acme-tls/1"))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        assert isinstance(read_client_hello(bytes(raw)), ClientHello | None)


def test_hello_over_its_size_is_refused():
    big = record(b"\x01" + (MAX_HELLO_BYTES + 1).to_bytes(3, "big") + bytes(100))
    with pytest.raises(InputError, match=f"ClientHello of {MAX_HELLO_BYTES + 1} bytes"):
        read_client_hello(big)
