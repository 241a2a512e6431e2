"""
What a certificate gives to a search, and what is no field.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509

from cftpki_ext.core.errors import InputError
from cftpki_ext.directory.fields import check_field, values_of
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import issue, make_root

ROOT = make_root('Corp "Root", Ltd')
UPN = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x0bmft@corp.ex")
OTHER = x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x01a")
NAME = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Partner, A (B)"),
        x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "one"),
        x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "two"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "mft"),
    ]
)
SANS = x509.SubjectAlternativeName(
    [
        x509.DNSName("a.example"),
        x509.DNSName("b.example"),
        x509.RFC822Name("mft@a.example"),
        x509.IPAddress(ip_address("192.0.2.7")),
        UPN,
        OTHER,
    ]
)
LEAF = issue(ROOT, NAME, serial=0x1234ABCD, extensions=[(SANS, False)])
CERTIFICATE = parse_certificate(LEAF.der)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("subject.CN", ("mft",)),
        ("subject.cn", ("mft",)),
        ("subject.2.5.4.3", ("mft",)),
        ("subject.O", ("Partner, A (B)",)),
        ("subject.OU", ("one", "two")),
        ("subject.UID", ()),
        ("issuer.CN", ('Corp "Root", Ltd',)),
        ("subject", (r"CN=mft,OU=two,OU=one,O=Partner\, A (B)",)),
        ("serial", ("305441741",)),
        ("serial_hex", ("1234abcd",)),
        ("serial_upper", ("1234ABCD",)),
        ("serial_colons", ("12:34:ab:cd",)),
        ("serial_reversed", ("cdab3412",)),
        ("fingerprint", (CERTIFICATE.fingerprint,)),
        (
            "certificate_exact",
            ('{ serialNumber 305441741, issuer rdnSequence:"CN=Corp \\""Root\\""\\, Ltd" }',),
        ),
        ("san.dns", ("a.example", "b.example")),
        ("san.email", ("mft@a.example",)),
        ("san.ip", ("192.0.2.7",)),
        ("san.uri", ()),
        ("san.upn", ("mft@corp.ex",)),
    ],
)
def test_field_is_what_the_certificate_has(field, expected):
    check_field(field)
    assert expected == values_of(CERTIFICATE, field)


def test_attributes_of_one_relative_name_are_each_a_field():
    both = x509.RelativeDistinguishedName(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "mft"),
            x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "4711"),
        ]
    )
    leaf = parse_certificate(issue(ROOT, x509.Name([both])).der)
    assert ("mft",) == values_of(leaf, "subject.CN")
    assert ("4711",) == values_of(leaf, "subject.serialNumber")


def test_subject_of_nothing_has_no_values():
    leaf = parse_certificate(issue(ROOT, x509.Name([]), san=["dns:a"], san_critical=True).der)
    assert () == values_of(leaf, "subject")
    assert () == values_of(leaf, "subject.CN")


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("subject.nobody", "{subject.nobody}: nobody is no attribute type; write its dotted identifier"),
        ("cn", "{cn} is no field: known are subject.PART, issuer.PART, subject, issuer, serial"),
        ("entry", "{entry} is no field: known are subject.PART"),
        ("san.other", "{san.other} is no field"),
    ],
)
def test_what_is_no_field_is_a_fault(field, why):
    with pytest.raises(InputError) as caught:
        check_field(field)
    assert str(caught.value).startswith(why)


def test_fields_of_the_entry_are_for_groups():
    check_field("entry", of_entry=True)
    check_field("entry.uid", of_entry=True)
