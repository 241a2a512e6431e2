"""
Base64 and PKCS#7 as servers really write them.
"""

from __future__ import annotations

import base64
import binascii
import textwrap

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import example, given
from hypothesis import strategies as st

from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.ca.values import MAX_CERTIFICATES
from cftpki_connectors.est import encoding
from cftpki_connectors.est.encoding import certificates, decode, encode
from cftpki_ext.x509 import der as der_values
from tests.support import pki

ROOT = pki.make_root("EST Root")
LEAF = pki.issue(ROOT, "leaf")
BUNDLE = pkcs7.serialize_certificates(
    [x509.load_der_x509_certificate(one.der) for one in (LEAF, ROOT)], Encoding.DER
)
TEXT = base64.b64encode(BUNDLE)


def wrapped(width: int, end: str) -> bytes:
    return (end.join(textwrap.wrap(TEXT.decode(), width)) + end).encode()


def test_encode_writes_lines_of_64_characters_with_crlf():
    lines = encode(BUNDLE).split(b"\r\n")

    assert b"" == lines.pop()
    assert {64} == {len(line) for line in lines[:-1]}
    assert 0 < len(lines[-1]) <= 64
    assert BUNDLE == binascii.a2b_base64(b"".join(lines))


@pytest.mark.parametrize(
    "body",
    [
        TEXT,
        wrapped(64, "\r\n"),
        wrapped(64, "\n"),
        wrapped(76, "\r\n"),
        wrapped(76, "\n"),
        wrapped(4, " "),
        b"\r\n\r\n" + wrapped(64, "\t\r\n") + b"\r\n\r\n",
        b"\xef\xbb\xbf" + TEXT,
        TEXT + b"\n\x00",
    ],
    ids=["one line", "64 crlf", "64 lf", "76 crlf", "76 lf", "blanks", "padded", "mark", "nul"],
)
def test_decode_takes_every_way_of_wrapping_without_a_note(body):
    assert (BUNDLE, None) == decode(body)


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (BUNDLE, "DER without base64"),
        (pki.pem(BUNDLE, label="PKCS7"), "PEM"),
        (b"comment\r\n" + pki.pem(BUNDLE, label="CMS").replace(b"\n", b"\r\n"), "PEM"),
    ],
    ids=["der", "pem", "pem with text"],
)
def test_decode_of_what_is_not_base64_alone_says_so(body, note):
    data, said = decode(body)

    assert BUNDLE == data
    assert note in said


def test_decode_without_padding_says_so():
    data = BUNDLE + b"\x00" * ((1 - len(BUNDLE)) % 3)
    assert b"==" == base64.b64encode(data)[-2:]

    decoded, note = decode(base64.b64encode(data).rstrip(b"="))

    assert data == decoded
    assert "padding" in note


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n ",
        b"not base64!",
        TEXT[:-5] + b"*" + TEXT[-4:],
        TEXT + b"\x00x",
        b"=" * 8,
        TEXT.replace(b"/", b"_").replace(b"+", b"-") + b"-",
    ],
    ids=["empty", "blank", "text", "star", "behind", "padding", "url alphabet"],
)
def test_decode_of_something_else_is_malformed(body):
    with pytest.raises(MalformedBodyError):
        decode(body)


def test_bodies_beyond_the_cap_are_malformed():
    body = b"A" * (encoding.MAX_BODY_BYTES + 1)

    with pytest.raises(MalformedBodyError, match="bytes"):
        decode(body)
    with pytest.raises(MalformedBodyError, match="bytes"):
        certificates(pki.pem(ROOT.der) + body)


def test_certificates_of_a_pkcs7_come_in_its_order():
    found = certificates(encode(BUNDLE))

    assert {LEAF.der, ROOT.der} == set(found.ders)
    assert () == found.notes


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (encode(LEAF.der), "bare certificate"),
        (LEAF.der, "bare certificate"),
        (LEAF.pem, "PEM instead of PKCS#7"),
    ],
)
def test_certificate_without_pkcs7_is_taken_with_a_note(body, note):
    found = certificates(body)

    assert (LEAF.der,) == found.ders
    assert any(note in one for one in found.notes)


def test_certificates_given_twice_count_once():
    assert (LEAF.der,) == certificates(LEAF.pem * 3).ders


def test_too_many_certificates_are_malformed():
    many = [pki.issue(ROOT, f"leaf {number}").pem for number in range(MAX_CERTIFICATES + 1)]

    assert MAX_CERTIFICATES == len(certificates(b"".join(many[1:])).ders)
    with pytest.raises(MalformedBodyError, match="65 certificates"):
        certificates(b"".join(many))


def indefinite(der: bytes) -> bytes:
    """
    The two outer SEQUENCEs and the explicit tag of a PKCS#7 in BER, as Java's libraries write it.
    """
    outer = der_values.children(der, der_values.whole(der))
    signed = der_values.children(der, outer[1])[0]
    inner = der_values.content(der, signed)
    kind = der_values.encoded(der, outer[0])
    end = b"\x00\x00"
    return b"\x30\x80" + kind + b"\xa0\x80" + b"\x30\x80" + inner + end + end + end


def test_pkcs7_in_ber_is_read():
    found = certificates(encode(indefinite(BUNDLE)))

    assert {LEAF.der, ROOT.der} == set(found.ders)


def test_certificate_that_cryptography_refuses_is_still_handed_on():
    """
    Whether a certificate is any good is the gate's business: here it only must not hide the others.
    """
    odd = pki.mutate_tbs(LEAF.der, b"\x06\x03\x55\x04\x03", b"\x06\x03\x80\x04\x03")
    body = BUNDLE.replace(LEAF.der, odd)

    assert odd in certificates(encode(body)).ders


@pytest.mark.parametrize(
    "body",
    [
        encode(b"\x30\x03\x02\x01\x01"),
        encode(b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"),
        encode(BUNDLE[:-10]),
        b"-----BEGIN CERTIFICATE-----\nAAAA",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ],
    ids=["sequence", "data", "cut off", "open pem", "other pem"],
)
def test_bodies_without_certificates_are_malformed(body):
    with pytest.raises(MalformedBodyError):
        certificates(body)


@given(st.binary(max_size=400))
def test_decode_undoes_encode_of_every_sequence(data):
    data = b"\x30" + data

    assert (data, None) == decode(encode(data))


@given(st.binary(max_size=300), st.booleans())
def test_foreign_bytes_never_raise_anything_else(data, wrap):
    try:
        found = certificates(encode(data) if wrap else data)
    except MalformedBodyError:
        return
    assert found.ders


@given(st.integers(0, len(BUNDLE) - 1), st.integers(0, 255))
@example(235, 7)  # a string type that asn1crypto has no value for
def test_damaged_pkcs7_never_raises_anything_else(position, octet):
    damaged = BUNDLE[:position] + bytes([octet]) + BUNDLE[position + 1 :]
    try:
        found = certificates(encode(damaged))
    except MalformedBodyError:
        return
    assert found.ders
