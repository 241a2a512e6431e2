"""
Enrolment or re-enrolment, and what is foreseen about the next one.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.est.request import Operation, outlook, parse_request, plan
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Held
from tests.support import pki
from tests.support.orders import make_order

NAME = "mft.corp.example"
CA = pki.make_root("CA")


def current(subject: str | x509.Name = f"CN={NAME}", **fields):
    fields = {"san": [f"dns:{NAME}"], "eku": ["clientAuth", "serverAuth"]} | fields
    return Held(
        chain=(pki.issue(CA, subject, private=pki.key("ec", 700), **fields).der,), key=pki.key("ec", 700)
    )


def planned(held, *names, reenroll=True, revoked=False):
    order = make_order(*(names or (NAME,)), common_name=NAME, current=held, revoked=revoked)
    return plan(order, reenroll=reenroll, now=pki.NOW)


def test_first_order_enrols_without_reasons():
    found = planned(None)

    assert (Operation.ENROLL, ()) == (found.operation, found.reasons)


@pytest.mark.parametrize(
    "fields",
    [{}, {"eku": None}, {"eku": ["any"]}, {"usage": ["digitalSignature"]}],
    ids=["plain", "no eku", "any eku", "signs"],
)
def test_same_names_re_enrol(fields):
    found = planned(current(**fields))

    assert (Operation.REENROLL, ()) == (found.operation, found.reasons)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"eku": ["serverAuth"]}, "clientAuth"),
        ({"usage": ["keyEncipherment"]}, "digitalSignature"),
        ({"san": ["dns:other.example"]}, "subjectAltName"),
        ({"san": None}, "subjectAltName"),
        ({"subject": "CN=other"}, "subject asked for"),
        (
            {
                "subject": x509.Name(
                    [
                        x509.NameAttribute(
                            x509.NameOID.COMMON_NAME, NAME, _type=x509.name._ASN1Type.PrintableString
                        )
                    ]
                )
            },
            "subject asked for",
        ),
        ({"not_after": pki.NOW - timedelta(seconds=1)}, "valid only until"),
        ({"not_before": pki.NOW + timedelta(seconds=1)}, "valid only until"),
    ],
    ids=["eku", "usage", "san", "no san", "subject", "string type", "expired", "future"],
)
def test_certificate_that_cannot_renew_itself_enrols_and_says_why(fields, reason):
    found = planned(current(**fields))

    assert Operation.ENROLL is found.operation
    assert any(reason in one for one in found.reasons), found.reasons


def test_operators_no_revocation_and_garbage_enrol():
    assert ("the configuration says `reenroll = false`",) == planned(current(), reenroll=False).reasons
    assert ("the certificate in use is revoked",) == planned(current(), revoked=True).reasons
    garbage = Held(chain=(b"garbage",), key=pki.key("ec", 700))
    assert ("the certificate in use cannot be read",) == planned(garbage).reasons


def test_order_of_alternative_names_counts_byte_for_byte():
    held = current(san=["dns:b.example", "dns:a.example"])

    assert Operation.REENROLL is planned(held, "b.example", "a.example").operation
    assert Operation.ENROLL is planned(held, "a.example", "b.example").operation


def test_parse_request_gives_the_encoded_parts():
    csr = x509.load_der_x509_csr(make_order(NAME, common_name=NAME).csr)
    found = parse_request(make_order(NAME, common_name=NAME).csr)

    assert csr.subject.public_bytes() == found.subject
    assert {"2.5.29.17"} == set(found.extensions)
    assert NAME.encode() in found.subject_alt_name


def test_parse_request_without_attributes_has_no_extensions():
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(pki.name("CN=x"))
        .sign(pki.key("ec"), hashes.SHA256())
    )
    found = parse_request(csr.public_bytes(Encoding.DER))

    assert {} == dict(found.extensions)
    assert found.subject_alt_name is None


@given(st.binary(max_size=200))
def test_parse_request_of_foreign_bytes_raises_nothing_else(data):
    with pytest.raises(InputError):
        parse_request(data)


@given(st.integers(0, 200), st.integers(0, 255))
def test_parse_request_of_damaged_bytes_raises_nothing_else(position, octet):
    csr = make_order(NAME, common_name=NAME).csr
    try:
        parse_request(csr[:position] + bytes([octet]) + csr[position + 1 :])
    except InputError:
        return


@pytest.mark.parametrize(
    ("eku", "reenroll", "others", "expected"),
    [
        (["clientAuth"], True, False, "renewal: simplereenroll"),
        (["clientAuth"], False, True, "renewal: simpleenroll with the configured credentials"),
        (["serverAuth"], True, True, "renewal: simpleenroll with the configured credentials"),
        (["serverAuth"], True, False, "renewal: impossible as things are"),
        (["clientAuth"], False, False, "renewal: impossible as things are"),
    ],
)
def test_outlook_tells_how_to_renew(eku, reenroll, others, expected):
    assert outlook(pki.issue(CA, "leaf", eku=eku).der, reenroll=reenroll, others=others).startswith(expected)


def test_outlook_of_garbage_is_no_re_enrolment():
    assert "impossible" in outlook(b"garbage", reenroll=True, others=False)
