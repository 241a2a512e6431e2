"""
What servers ask for in a request: RFC 7030 4.5.2, RFC 8951 section 3.4, RFC 9908.
"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.est.attributes import MAX_ITEMS, CsrAttributes, differences, parse_csr_attributes
from cftpki_connectors.est.request import parse_request
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.orders import make_order

EC, RSA = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"
P256, P384 = "1.2.840.10045.3.1.7", "1.3.132.0.34"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
TEMPLATE, EXTENSION_TEMPLATE = "1.2.840.113549.1.9.16.2.61", "1.2.840.113549.1.9.16.2.62"
CHALLENGE = "1.2.840.113549.1.9.7"


def sequence(*parts: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *parts)


def attribute(kind: str, *values: bytes) -> bytes:
    return sequence(pki.oid(kind), der.encode(der.SET, *values))


def asked(*items: bytes) -> CsrAttributes:
    return parse_csr_attributes(sequence(*items))


def requested(kind: str = "ec"):
    return parse_request(make_order("a.example", common_name="a", private=pki.key(kind, 700)).csr)


def test_what_libest_sends_by_default_is_read():
    found = parse_csr_attributes(base64.b64decode("MCYGBysGAQEBARYGCSqGSIb3DQEJAQYFK4EEACIGCWCGSAFlAwQCAg=="))

    assert ("1.3.6.1.1.1.1.22", "1.2.840.113549.1.9.1", P384, "2.16.840.1.101.3.4.2.2") == found.listed
    assert (EC, P384, False) == (found.algorithm, found.curve, found.channel_binding)


def test_empty_list_wishes_nothing():
    assert CsrAttributes() == asked()


def test_key_of_an_attribute_is_read():
    found = asked(attribute(EC, pki.oid(P256)))
    assert (EC, P256) == (found.algorithm, found.curve)

    found = asked(attribute(RSA, pki.integer(4096)))
    assert (RSA, 4096) == (found.algorithm, found.rsa_bits)


def test_challenge_password_asks_for_channel_binding():
    assert asked(pki.oid(CHALLENGE)).channel_binding


@pytest.mark.parametrize("kind", [EXTENSION_REQUEST, EXTENSION_TEMPLATE])
def test_extensions_are_read(kind):
    usage = sequence(pki.oid("2.5.29.15"), der.encode(der.OCTET_STRING, b"\x03\x02\x05\xa0"))
    bare = sequence(pki.oid("2.5.29.17"))

    assert ("2.5.29.15", "2.5.29.17") == asked(attribute(kind, sequence(usage, bare))).extensions


def test_template_is_read():
    algorithm = sequence(pki.oid(EC), pki.oid(P384))
    inner = attribute(EXTENSION_TEMPLATE, sequence(sequence(pki.oid("2.5.29.37"))))
    template = sequence(pki.integer(0), sequence(), der.encode(0xA0, algorithm), der.encode(0xA1, inner))
    found = asked(attribute(TEMPLATE, template))

    assert (EC, P384, ("2.5.29.37",)) == (found.algorithm, found.curve, found.extensions)


def test_template_tells_rsa_size_by_its_placeholder():
    spki = pki.key("rsa3072").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    template = sequence(pki.integer(0), der.encode(0xA0, spki[der.whole(spki).content :]))

    assert (RSA, 3072) == (
        asked(attribute(TEMPLATE, template)).algorithm,
        asked(attribute(TEMPLATE, template)).rsa_bits,
    )


@pytest.mark.parametrize(
    ("items", "kind", "expected"),
    [
        ([attribute(RSA, pki.integer(2048))], "ec", "a key of RSA"),
        ([attribute(EC, pki.oid(P384))], "rsa", "a key of ECDSA P-384"),
        ([pki.oid(EC)], "rsa", "a key of ECDSA"),
        ([pki.oid(P384)], "ec", "curve P-384"),
        ([attribute(RSA, pki.integer(3072))], "rsa", "RSA key of 3072 bits"),
        ([attribute(EXTENSION_REQUEST, sequence(sequence(pki.oid("2.5.29.37"))))], "ec", "extendedKeyUsage"),
        ([attribute(EXTENSION_REQUEST, sequence(sequence(pki.oid("1.2.3.4"))))], "ec", "1.2.3.4"),
    ],
)
def test_difference_is_told(items, kind, expected):
    (found,) = differences(asked(*items), requested(kind))

    assert expected in found


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([], "ec"),
        ([pki.oid(P256), pki.oid("1.2.3.4")], "ec"),
        ([attribute(EC, pki.oid(P384))], "p384"),
        ([attribute(RSA, pki.integer(2048))], "rsa"),
        ([attribute(RSA, pki.integer(2048))], "rsa3072"),
        ([attribute(EXTENSION_REQUEST, sequence(sequence(pki.oid("2.5.29.17"))))], "ec"),
    ],
)
def test_request_that_fits_has_no_difference(items, kind):
    assert () == differences(asked(*items), requested(kind))


def test_more_items_than_anybody_asks_for_are_malformed():
    assert MAX_ITEMS == len(asked(*(pki.oid(f"1.2.3.{n}") for n in range(MAX_ITEMS))).listed)
    with pytest.raises(MalformedBodyError, match="101 items"):
        asked(*(pki.oid(f"1.2.3.{n}") for n in range(MAX_ITEMS + 1)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x02\x01\x00",
        sequence(pki.integer(1)),
        sequence(sequence(pki.oid("1.2.3"))),
        sequence(sequence(pki.oid("1.2.3"), pki.oid("1.2.3"))),
    ],
)
def test_other_structures_are_malformed(data):
    with pytest.raises(MalformedBodyError):
        parse_csr_attributes(data)


@given(st.binary(max_size=200), st.sampled_from([EC, RSA, EXTENSION_REQUEST, TEMPLATE, "1.2.3"]))
def test_foreign_values_raise_nothing_else(data, kind):
    for candidate in (
        data,
        sequence(attribute(kind, data)),
        sequence(attribute(kind, der.encode(der.SEQUENCE, data))),
    ):
        try:
            parse_csr_attributes(candidate)
        except MalformedBodyError:
            continue
