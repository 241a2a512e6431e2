"""
Distinguished names as openssl, Windows and RFC 4514 print them mean the same name.
"""

from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.x509.dn_text import names_of
from cftpki_ext.x509.name import Name, parse_name
from tests.support.pki import issue, make_root

FORWARD = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "FR"),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Partner, A & B"),
        x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "mft@partner.example"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "mft"),
    ]
)
NAME = parse_name(FORWARD.public_bytes(Encoding.DER))


def means(text: str, name: Name = NAME) -> bool:
    return name.key in {found.key for found in names_of(text)}


@pytest.mark.parametrize(
    "text",
    [
        NAME.text,
        r"CN=mft,emailAddress=mft@partner.example,O=Partner\, A & B,C=FR",
        r"CN=mft,E=mft@partner.example,O=Partner\2C A \26 B,C=FR",
        'CN=mft, E=mft@partner.example, O="Partner, A & B", C=FR',
        'C = FR, O = "Partner, A & B", emailAddress = mft@partner.example, CN = mft',
        "/C=FR/O=Partner, A & B/emailAddress=mft@partner.example/CN=mft",
        "subject=/C=FR/O=Partner, A & B/emailAddress=mft@partner.example/CN=mft",
        'subject=C = FR, O = "Partner, A & B", emailAddress = mft@partner.example, CN = mft',
        r"2.5.4.3=mft,1.2.840.113549.1.9.1=mft@partner.example,2.5.4.10=Partner\, A & B,OID.2.5.4.6=FR",
        "cn=MFT,e=mft@partner.example,o=partner\\,  a & b,c=fr",
        r"CN=#0c036d6674,E=mft@partner.example,O=Partner\, A & B,C=FR",
        'CN=mft;E=mft@partner.example;O="Partner, A & B";C=FR',
    ],
)
def test_name_is_read_as_it_is_printed_somewhere(text):
    assert means(text)


@pytest.mark.parametrize("option", ["compat", "oneline", "RFC2253", "oneline,-space_eq", "multiline,-align"])
def test_name_is_read_as_this_openssl_prints_it(option, tmp_path):
    file = tmp_path / "c.pem"
    file.write_bytes(issue(make_root("Root"), FORWARD).pem)
    command = ["openssl", "x509", "-in", str(file), "-noout", "-subject", "-nameopt", option]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=30, text=True).stdout
    if option.startswith("multiline"):
        # Nobody copies four lines into one entry.
        assert not means(printed)
    else:
        assert means(printed.strip())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mft",
        "CN",
        "CN=mft,",
        "CN=mft,,C=FR",
        "XX=mft",
        'CN=mft,O="Partner',
        "CN=#zz",
        "CN=#0c05ab",
        "CN=mft\\",
        "/",
        "/CN",
        "CN=mft+",
        "CN=" + "x" * 9000,
    ],
)
def test_what_is_no_name_means_nothing(text):
    assert () == names_of(text)


@pytest.mark.parametrize(
    "text", ["CN=mft", "CN=mft,C=FR", r"CN=mft,E=mft@partner.example,O=Partner\, A & C,C=FR", "CN=other"]
)
def test_another_name_is_not_meant(text):
    assert names_of(text)
    assert not means(text)


def test_several_attributes_in_one_part_are_one_part():
    assert [2] == [len(name.rdns) for name in names_of("CN=a+UID=b,C=FR")][:1]
    assert ["CN=a"] == [name.text for name in names_of("CN=a")]


@given(st.text(max_size=80))
def test_any_text_is_read_or_means_nothing(text):
    for name in names_of(text):
        assert name.rdns
