"""
A partner is found by whatever somebody calls it, and nobody else is.
"""

from __future__ import annotations

from hashlib import sha1, sha256

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.errors import InputError
from cftpki_ext.evidence import Row
from cftpki_ext.evidence.choosing import Choice, Chooser, partner_term
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki

SUBJECT = x509.Name(
    [
        x509.NameAttribute(oid, value)
        for oid, value in (
            (NameOID.COUNTRY_NAME, "FR"),
            (NameOID.ORGANIZATION_NAME, "Partner, Inc."),
            (NameOID.COMMON_NAME, "mft"),
        )
    ]
)
LEAF = pki.issue(
    pki.make_root("Root"),
    "mft",
    eku=["clientAuth"],
    san=["dns:mft.partner.example", "ip:192.0.2.7", "email:ops@partner.example"],
)
OTHER = pki.issue(pki.make_root("Root"), "mft2", eku=["clientAuth"], san=["dns:mft2.partner.example"])
READ, READ_OTHER = parse_certificate(LEAF.der), parse_certificate(OTHER.der)
DERS = {read.digest.hex(): read.der for read in (READ, READ_OTHER)}


def row(certificate=READ, **changes):
    made = {
        "id": "a" * 32,
        "at": "2026-11-28T07:00:00.000Z",
        "status": "accepted",
        "reason": None,
        "alert": 0,
        "would_refuse": None,
        "warned": False,
        "partner": certificate.subject.text,
        "serial": certificate.serial_hex,
        "fingerprint": certificate.digest.hex(),
        "rule": "in",
        "trust": "partners",
        "policy": "strict",
        "door": "exit",
        "remote": "192.0.2.1",
        "summary": "",
    }
    return Row(**made | changes)


def colons(text):
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2)).upper()


FINGERPRINT = READ.digest.hex()
THUMBPRINT = sha1(LEAF.der).hexdigest()  # noqa: S324 - what Windows shows
PIN = sha256(READ.spki).hexdigest()
SPELLINGS = {
    "rfc-4514": READ.subject.text,
    "lone-cn": "CN=mft",
    "lower-case-type": "cn=mft",
    "slashes": "/CN=mft",
    "openssl": "subject=CN = mft",
    "fingerprint": FINGERPRINT,
    "fingerprint-upper": FINGERPRINT.upper(),
    "fingerprint-colons": colons(FINGERPRINT),
    "fingerprint-openssl": f"sha256 Fingerprint={colons(FINGERPRINT)}",
    "fingerprint-blanks": " ".join(FINGERPRINT[at : at + 8] for at in range(0, 64, 8)),
    "thumbprint": THUMBPRINT.upper(),
    "thumbprint-colons": f"SHA1 Fingerprint={colons(THUMBPRINT)}",
    "public-key": PIN,
    "serial": READ.serial_hex,
    "serial-upper-0x": f"0x{READ.serial:X}",
    "serial-colons": colons(READ.serial_hex),
    "serial-openssl": f"serial={READ.serial:X}",
    "serial-decimal": str(READ.serial),
    "serial-both": f"Serial Number: {READ.serial} (0x{READ.serial:x})",
    "san": "dns:mft.partner.example",
    "san-openssl": "DNS:mft.partner.example",
    "san-bare": "MFT.partner.example",
    "san-ip": "IP Address:192.0.2.7",
    "san-ip-bare": "192.0.2.7",
    "san-email": "ops@partner.example",
    "address": "192.0.2.1",
    "part-of-the-fingerprint": FINGERPRINT[:12],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_partner_is_found_by_any_spelling_and_no_other_is(spelling):
    chooser = Chooser(Choice(partners=(partner_term(SPELLINGS[spelling]),)), DERS.get)

    assert chooser.wants(row())
    assert not chooser.wants(row(READ_OTHER, remote="192.0.2.10"))


@pytest.mark.parametrize(
    "text",
    [
        "mft",
        "cn",
        "CN=mf",
        "CN=mft,O=Partner",
        "dns:partner.example",
        "192.0.2.",
        "b" * 64,
        "12345678",
        "dns:",
    ],
)
def test_part_of_a_name_fits_where_the_text_is_no_whole_one(text):
    wanted = Chooser(Choice(partners=(partner_term(text),)), DERS.get).wants(
        row(fingerprint="0" * 64, serial="01")
    )

    assert (text in {"mft", "cn", "192.0.2."}) == wanted


def test_partner_with_several_parts_is_found_in_either_order():
    leaf = pki.issue(pki.make_root("Root"), SUBJECT, eku=["clientAuth"])
    read = parse_certificate(leaf.der)
    for text in (read.subject.text, "/C=FR/O=Partner, Inc./CN=mft", 'C = FR, O = "Partner, Inc.", CN = mft'):
        chooser = Chooser(Choice(partners=(partner_term(text),)), {read.digest.hex(): read.der}.get)
        assert (True, False) == (chooser.wants(row(read)), chooser.wants(row(READ_OTHER))), text


def test_certificate_that_is_gone_or_was_changed_is_found_by_what_the_record_says():
    for ders in ({}, {FINGERPRINT: OTHER.der}, {FINGERPRINT: b""}):
        assert Chooser(Choice(partners=(partner_term(FINGERPRINT),)), ders.get).wants(row())
        assert not Chooser(Choice(partners=(partner_term("DNS:mft.partner.example"),)), ders.get).wants(row())


@pytest.mark.parametrize(
    ("choice", "fitting", "other"),
    [
        (Choice(rules=("in", "x")), {}, {"rule": "out"}),
        (Choice(policies=("strict",)), {}, {"policy": "audit"}),
        (Choice(reasons=("revoked",)), {"status": "refused", "reason": "revoked"}, {"reason": "expired"}),
        (Choice(reasons=("revoked",)), {"would_refuse": "revoked"}, {}),
        (Choice(reasons=("silent_source",)), {"policy_rows": ("silent_source accept_warn",)}, {}),
        (Choice(refused=True), {"status": "refused"}, {}),
        (Choice(refused=True), {"would_refuse": "revoked"}, {}),
        (Choice(warned=True), {"warned": True}, {}),
        (
            Choice(exception=True),
            {"policy_rows": ("stale exception",)},
            {"policy_rows": ("stale accept_warn",)},
        ),
    ],
)
def test_verdicts_are_chosen(choice, fitting, other):
    chooser = Chooser(choice, DERS.get)

    assert (True, False) == (chooser.wants(row(**fitting)), chooser.wants(row(**other)))


def test_conditions_hold_together():
    chooser = Chooser(Choice(rules=("in",), warned=True), DERS.get)

    assert [False, False, True] == [
        chooser.wants(row(**changes)) for changes in ({}, {"warned": True, "rule": "out"}, {"warned": True})
    ]


def test_partner_without_a_name_is_refused():
    with pytest.raises(InputError, match="a partner without a name"):
        partner_term(" \t")


@given(st.text(min_size=1, max_size=200) | st.from_regex(r"[0-9a-fA-F: x=,/]{1,200}"))
def test_any_text_means_something_or_is_refused(text):
    try:
        term = partner_term(text)
    except InputError:
        assert not text.strip()
        return
    Chooser(Choice(partners=(term,)), DERS.get).wants(row())
