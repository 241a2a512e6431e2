"""
What a certificate is asked about by: the same as in a certificate that is read whole, and no more.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_ext.revocation.ocsp_request import build_request
from cftpki_ext.x509 import MalformedCertificateError, parse_certificate
from cftpki_ext.x509.certificate import CERTIFICATE_BYTES
from cftpki_ext.x509.outline import AskedAbout, outline, outline_of_ca
from tests.support.pki import issue, make_root, reserial

ROOT = make_root("Outline Root")
CA = issue(ROOT, "Outline CA", ca=True)
LEAF = issue(CA, "partner", san=["dns:a.example"])


def said(one: AskedAbout) -> tuple[bytes, bytes, int, bytes, bytes]:
    return one.der, one.digest, one.serial, one.issuer.der, one.key_bits


@pytest.mark.parametrize("der", [ROOT.der, CA.der, LEAF.der], ids=["root", "ca", "leaf"])
def test_outline_says_what_the_whole_certificate_says(der):
    assert said(parse_certificate(der)) == said(outline(der))


@pytest.mark.parametrize(("content", "serial"), [(b"\1", 1), (b"\0\x80", 0x80), (b"\xff", -1), (b"\0", 0)])
def test_outline_of_any_serial_number_is_the_certificates(content, serial):
    assert serial == outline(reserial(LEAF, content, CA.key)).serial


def test_request_by_outlines_is_the_one_by_certificates():
    leaf, ca = parse_certificate(LEAF.der), parse_certificate(CA.der)
    assert build_request(leaf, ca, nonce=None) == build_request(
        outline(LEAF.der), outline(CA.der), nonce=None
    )


def test_outline_of_a_ca_is_read_once():
    assert outline_of_ca(CA.der) is outline_of_ca(bytes(bytearray(CA.der)))


@pytest.mark.parametrize(
    ("der", "rule"),
    [
        (b"", "X.690 (DER)"),
        (b"\x30\x00", "RFC 5280 4.1.2"),
        (b"\x30\x02\x30\x00", "RFC 5280 4.1.2"),
        (LEAF.der[:-1], "X.690 (DER)"),
        (LEAF.der + b"\0", "X.690 (DER)"),
        (bytes(CERTIFICATE_BYTES + 1), "limits.certificate_bytes"),
    ],
    ids=["nothing", "empty", "no fields", "cut", "trailing", "too long"],
)
def test_outline_of_what_is_no_certificate_is_refused(der, rule):
    with pytest.raises(MalformedCertificateError) as caught:
        outline(der)
    assert rule == caught.value.fault.rule


@settings(max_examples=200)
@given(st.integers(0, len(LEAF.der)), st.integers(0, len(LEAF.der)), st.binary(max_size=8))
def test_outline_of_what_was_spliced_is_the_certificates_or_refused(start, end, middle):
    der = LEAF.der[: min(start, end)] + middle + LEAF.der[max(start, end) :]
    with contextlib.suppress(MalformedCertificateError):
        whole = parse_certificate(der)
        assert said(whole) == said(outline(der))
    with contextlib.suppress(MalformedCertificateError):
        outline(der)
