"""
Every field of a CRL bent, one at a time, over three kinds of keys: each refuses, with the cause that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.forged_crl import (
    ATTRIBUTES,
    CAS,
    HOUR,
    INDIRECT,
    UNKNOWN_CRITICAL,
    URL,
    Crl,
    World,
    certificate_issuer,
    delta,
    entry,
    idp,
    key_id,
    number,
    point,
    some_reasons,
    time,
    uri,
    world,
)
from tests.support.pki import NOW

KINDS = ("rsa", "ec", "ed25519")
Forge = Callable[[World], Crl | bytes]


def _extensions(w: World, *more: bytes) -> Crl:
    return w.crl.but(extensions=(key_id(w.ca), number(7), *more))


def _other_algorithm(w: World) -> bytes:
    other = "ec" if not isinstance(w.ca.key, type(pki.key("ec"))) else "rsa"
    return pki.signature_algorithm(pki.key(other, 1))


def _twin_ca(w: World) -> pki.Entity:
    """
    A CA of the same name with another key, under another root.
    """
    return pki.issue(pki.make_root("Other Root"), w.ca.name, ca=True)


def _number_octets(w: World, content: bytes) -> Crl:
    return w.crl.but(extensions=(key_id(w.ca), pki.extension("2.5.29.20", der.encode(der.INTEGER, content))))


def _cut(w: World) -> bytes:
    return w.crl.encode()[:-1]


def _flip(w: World, offset_from_end: int) -> bytes:
    raw = bytearray(w.crl.encode())
    raw[-offset_from_end] ^= 0x01
    return bytes(raw)


def _changed_number(w: World) -> bytes:
    return pki.mutate_tbs(w.crl.encode(), number(7), number(8))


def _removed_entry(w: World) -> bytes:
    listed = w.crl.but(entries=(entry(w.leaf.serial),)).encode()
    return pki.mutate_tbs(listed, pki.integer(w.leaf.serial), pki.integer(w.leaf.serial + 1))


FORGERIES: dict[str, tuple[Forge, Cause]] = {
    # who signs
    "signed by the leaf": (lambda w: w.crl.but(key=w.leaf.key), Cause.BAD_SIGNATURE),
    "signed by the root in the name of the CA": (lambda w: w.crl.but(key=w.root.key), Cause.BAD_SIGNATURE),
    "by the key of a stranger": (lambda w: w.crl.but(key=pki.key("ec", 77)), Cause.BAD_SIGNATURE),
    "by a CA of the same name elsewhere": (lambda w: Crl(_twin_ca(w)), Cause.BAD_SIGNATURE),
    "by the root in its own name": (lambda w: Crl(w.root), Cause.WRONG_SCOPE),
    "another issuer name": (
        lambda w: w.crl.but(issuer=pki.name_der(pki.name("Somebody"))),
        Cause.WRONG_SCOPE,
    ),
    "no issuer name": (lambda w: w.crl.but(issuer=b"\x30\x00"), Cause.UNREADABLE),
    "another authority key id": (
        lambda w: w.crl.but(extensions=(key_id(w.root), number(7))),
        Cause.BAD_SIGNATURE,
    ),
    "signature changed": (lambda w: pki.break_signature(w.crl.encode()), Cause.BAD_SIGNATURE),
    "number changed after signing": (_changed_number, Cause.BAD_SIGNATURE),
    "entry changed after signing": (_removed_entry, Cause.BAD_SIGNATURE),
    # algorithm
    "outer algorithm differs": (lambda w: w.crl.but(outer=_other_algorithm(w)), Cause.MALFORMED),
    "inner algorithm differs": (lambda w: w.crl.but(inner=_other_algorithm(w)), Cause.MALFORMED),
    "both algorithms of another key": (
        lambda w: w.crl.but(inner=_other_algorithm(w), outer=_other_algorithm(w)),
        Cause.BAD_SIGNATURE,
    ),
    "unknown algorithm": (
        lambda w: w.crl.but(
            inner=der.encode(der.SEQUENCE, pki.oid("1.2.3.4")),
            outer=der.encode(der.SEQUENCE, pki.oid("1.2.3.4")),
        ),
        Cause.BAD_SIGNATURE,
    ),
    # version and form
    "version 1 with extensions": (lambda w: w.crl.but(version=b""), Cause.MALFORMED),
    "version 1 written out": (lambda w: w.crl.but(version=pki.integer(0)), Cause.MALFORMED),
    "version 3": (lambda w: w.crl.but(version=pki.integer(2)), Cause.MALFORMED),
    "version not minimal": (lambda w: w.crl.but(version=b"\x02\x02\x00\x01"), Cause.MALFORMED),
    "bytes behind": (lambda w: w.crl.but(behind=b"\x00"), Cause.MALFORMED),
    "another CRL behind": (lambda w: w.crl.but(behind=w.crl.encode()), Cause.MALFORMED),
    "cut": (_cut, Cause.UNREADABLE),
    "empty": (lambda _: b"", Cause.UNREADABLE),
    "a certificate": (lambda w: w.ca.der, Cause.UNREADABLE),
    "a web page": (lambda _: b"<html>please log in</html>", Cause.UNREADABLE),
    "PEM of a certificate": (lambda w: pki.pem(w.crl.encode()), Cause.UNREADABLE),
    "PEM twice": (lambda w: 2 * pki.pem(w.crl.encode(), label="X509 CRL"), Cause.UNREADABLE),
    # times
    "thisUpdate to come": (lambda w: w.crl.but(this_update=time(NOW + HOUR)), Cause.STALE),
    "nextUpdate past": (lambda w: w.crl.but(next_update=time(NOW - timedelta(minutes=6))), Cause.STALE),
    "no nextUpdate": (lambda w: w.crl.but(next_update=b""), Cause.STALE),
    "nextUpdate before thisUpdate": (lambda w: w.crl.but(next_update=time(NOW - 2 * HOUR)), Cause.MALFORMED),
    "time without seconds": (
        lambda w: w.crl.but(this_update=der.encode(der.UTC_TIME, b"2606011100Z")),
        Cause.MALFORMED,
    ),
    "time with a zone": (
        lambda w: w.crl.but(this_update=der.encode(der.UTC_TIME, b"260601110000+0100")),
        Cause.MALFORMED,
    ),
    # numbers
    "number negative": (lambda w: _number_octets(w, b"\xff"), Cause.MALFORMED),
    "number too long": (lambda w: _number_octets(w, b"\x01" + 20 * b"\0"), Cause.MALFORMED),
    "number not minimal": (lambda w: _number_octets(w, b"\x00\x07"), Cause.MALFORMED),
    "a delta alone": (lambda w: _extensions(w, delta(3)), Cause.WRONG_SCOPE),
    "a delta without number": (
        lambda w: w.crl.but(extensions=(key_id(w.ca), delta(3))),
        Cause.MALFORMED,
    ),
    "a delta on a later base": (lambda w: _extensions(w, delta(7)), Cause.MALFORMED),
    "a delta that is not marked critical": (
        lambda w: _extensions(w, number(3, "2.5.29.27")),
        Cause.WRONG_SCOPE,
    ),
    # scope
    "another distribution point": (
        lambda w: _extensions(w, idp(point(uri(URL + "2")))),
        Cause.WRONG_SCOPE,
    ),
    "another distribution point, not critical": (
        lambda w: _extensions(w, idp(point(uri(URL + "2")), critical=False)),
        Cause.WRONG_SCOPE,
    ),
    "only CA certificates": (lambda w: _extensions(w, idp(CAS)), Cause.WRONG_SCOPE),
    "only attribute certificates": (lambda w: _extensions(w, idp(ATTRIBUTES)), Cause.WRONG_SCOPE),
    "only some reasons": (lambda w: _extensions(w, idp(some_reasons(1, 2))), Cause.WRONG_SCOPE),
    "no reasons": (lambda w: _extensions(w, idp(der.encode(0x83, b"\0"))), Cause.WRONG_SCOPE),
    "two kinds of certificates": (
        lambda w: _extensions(w, idp(der.encode(0x81, b"\xff"), CAS)),
        Cause.MALFORMED,
    ),
    "a default written out": (lambda w: _extensions(w, idp(der.encode(0x81, b"\0"))), Cause.MALFORMED),
    "an empty scope": (lambda w: _extensions(w, idp()), Cause.MALFORMED),
    "scope fields out of order": (
        lambda w: _extensions(w, idp(INDIRECT, point(uri(URL)))),
        Cause.MALFORMED,
    ),
    # extensions
    "unknown critical extension": (lambda w: _extensions(w, UNKNOWN_CRITICAL), Cause.MALFORMED),
    "unknown critical extension of another's entry": (
        lambda w: w.crl.but(entries=(entry(5), entry(6, UNKNOWN_CRITICAL), entry(7))),
        Cause.MALFORMED,
    ),
    "certificate issuer in a direct list": (
        lambda w: w.crl.but(entries=(entry(5, certificate_issuer(w.root.name)),)),
        Cause.MALFORMED,
    ),
    "extension twice": (lambda w: _extensions(w, number(7)), Cause.MALFORMED),
    "empty extensions": (
        lambda w: w.crl.but(extensions=(b"",)),
        Cause.MALFORMED,
    ),
    "an entry that is none": (lambda w: w.crl.but(entries=(entry(5), b"\x30\x00")), Cause.MALFORMED),
    "a serial that is no integer": (
        lambda w: w.crl.but(entries=(entry(der.encode(der.OCTET_STRING, b"\x05")),)),
        Cause.MALFORMED,
    ),
    "a serial that is not minimal": (
        lambda w: w.crl.but(entries=(entry(der.encode(der.INTEGER, b"\x00\x05")),)),
        Cause.MALFORMED,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_crl_unbent_is_good(kind):
    judged = world(kind).judge(world(kind).crl)
    assert CertificateStatus.GOOD is judged.status, judged.detail
    assert (CertificateStatus.GOOD,) == tuple(f.status for f in judged.findings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bent", FORGERIES)
def test_crl_bent_establishes_nothing_with_its_cause(bent, kind):
    forge, cause = FORGERIES[bent]
    w = world(kind)
    judged = w.judge(forge(w))
    assert (CertificateStatus.UNDETERMINED, cause) == (judged.status, judged.cause), judged.detail
    finding = judged.findings[0]
    assert (CertificateStatus.UNDETERMINED, cause) == (finding.status, finding.cause)
    assert finding.detail


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bent", FORGERIES)
def test_crl_bent_beside_a_good_one_does_no_harm(bent, kind):
    forge, _ = FORGERIES[bent]
    w = world(kind)
    judged = w.judge(forge(w), w.crl)
    assert CertificateStatus.GOOD is judged.status, judged.detail
    assert len(judged.findings) == 2
    assert CertificateStatus.GOOD is judged.findings[1].status


# A list that is authentic says "revoked" even when its silence would say nothing.
STILL_TELLS: dict[str, Callable[[Crl], Crl]] = {
    "unbent": lambda c: c,
    "nextUpdate past": lambda c: c.but(next_update=time(NOW - timedelta(minutes=30))),
    "no nextUpdate": lambda c: c.but(next_update=b""),
    "thisUpdate to come": lambda c: c.but(this_update=time(NOW + HOUR)),
    "unknown critical extension": lambda c: c.but(extensions=(number(7), UNKNOWN_CRITICAL)),
    "another distribution point": lambda c: c.but(extensions=(number(7), idp(point(uri(URL + "2"))))),
    "only some reasons": lambda c: c.but(extensions=(number(7), idp(some_reasons(1)))),
    "a delta alone": lambda c: c.but(extensions=(number(7), delta(3))),
    "version 1": lambda c: c.but(version=b"", extensions=()),
    "without number": lambda c: c.but(extensions=()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bent", STILL_TELLS)
def test_crl_authentic_and_listing_the_serial_revokes(bent, kind):
    w = world(kind)
    judged = w.judge(STILL_TELLS[bent](w.crl.but(entries=(entry(1), entry(w.leaf.serial), entry(2)))))
    assert CertificateStatus.REVOKED is judged.status, judged.detail
    finding = judged.findings[0]
    assert (CertificateStatus.REVOKED, None, NOW - 2 * HOUR) == (
        finding.status,
        finding.cause,
        finding.revoked_at,
    )


@pytest.mark.parametrize(
    "bent",
    [
        "signed by the leaf",
        "by the key of a stranger",
        "by a CA of the same name elsewhere",
        "both algorithms of another key",
    ],
)
def test_crl_forged_and_listing_the_serial_does_not_revoke(bent):
    w = world("ec")
    forged = FORGERIES[bent][0](w)
    assert isinstance(forged, Crl)
    judged = w.judge(forged.but(entries=(entry(w.leaf.serial),)))
    assert (CertificateStatus.UNDETERMINED, Cause.BAD_SIGNATURE) == (judged.status, judged.cause)


ODD: dict[str, Callable[[Crl], Crl]] = {
    "unknown extension": lambda c: c.but(extensions=(number(7), pki.extension("1.2.3.4", b"\x05\0"))),
    "without key identifier": lambda c: c.but(extensions=(number(7),)),
    "without number": lambda c: c.but(extensions=(key_id(c.signer),)),
    "critical number": lambda c: c.but(extensions=(key_id(c.signer), number(7, critical=True))),
    "version 1 without extensions": lambda c: c.but(version=b"", extensions=()),
    "its own distribution point": lambda c: c.but(extensions=(number(7), idp(point(uri(URL))))),
    "others on it": lambda c: c.but(entries=tuple(entry(n) for n in range(1, 50))),
    "generalized time": lambda c: c.but(this_update=pki.generalized_time(NOW - HOUR)),
    "nextUpdate within the skew": lambda c: c.but(next_update=time(NOW - timedelta(seconds=60))),
    "thisUpdate within the skew": lambda c: c.but(this_update=time(NOW + timedelta(seconds=60))),
    "the last day of the calendar": lambda c: c.but(
        next_update=der.encode(der.GENERALIZED_TIME, b"99991231235959Z")
    ),
}


@pytest.mark.parametrize("bent", ODD)
def test_crl_odd_but_allowed_is_good(bent):
    w = world("ec")
    judged = w.judge(ODD[bent](w.crl))
    assert CertificateStatus.GOOD is judged.status, judged.detail
