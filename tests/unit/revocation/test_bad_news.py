"""
Bad news is heard in any form; good news in the same form is not, but for habits of spelling that change nothing.

Each row bends one thing of an authentic statement. Its twin says "good" in the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Form, Origin, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl import judge_crls
from cftpki_ext.revocation.ocsp import judge_ocsp
from cftpki_ext.x509 import der, parse_certificate
from tests.support import pki
from tests.support.forged_crl import Crl, delta, entry, idp, key_id, number, point, time, uri
from tests.support.pki import NOW, Single, issue, make_ocsp_response, make_root

HOUR = timedelta(hours=1)
ROOT = make_root("Root")
CA = issue(ROOT, "A & B CA", ca=True)
LEAF = issue(CA, "partner", serial=0x123456)
NULL_ECDSA = der.encode(der.SEQUENCE, pki.oid("1.2.840.10045.4.3.2"), b"\x05\x00")
REASON = "2.5.29.21"


def context(form: Form = Form.COMMON) -> RevocationContext:
    path = tuple(parse_certificate(one.der) for one in (LEAF, CA, ROOT))
    return RevocationContext(
        now=NOW,
        path=path,
        trust=TrustSet(name="t", anchors=(ROOT.der,), form=form),
        limits=Limits(),
        pool=(),
        issuer_path=lambda *_: None,
    )


def said(kind: SourceKind, raw: bytes) -> Statement:
    return Statement(kind=kind, origin=Origin.NETWORK, received_at=NOW, depth=0, url="http://h/", raw=raw)


def gt(text: str) -> bytes:
    return der.encode(der.GENERALIZED_TIME, text.encode())


def parts(raw: bytes) -> list[bytes]:
    return [der.encoded(raw, one) for one in der.children(raw, der.whole(raw))]


def rebuilt(raw: bytes, bend: Callable[[list[bytes]], list[bytes]], *, null: bool = False) -> bytes:
    """
    The response with other fields in its ResponseData (responder, producedAt, singles, …), signed by the CA.
    """
    body = der.children(raw, der.whole(raw))[1]
    octets = der.children(raw, der.children(raw, body)[0])[1]
    basic = parts(der.content(raw, octets))
    tbs = der.encode(der.SEQUENCE, *bend(parts(basic[0])))
    signature = der.encode(der.BIT_STRING, b"\0", pki.sign(CA.key, tbs))
    made = der.encode(der.SEQUENCE, tbs, NULL_ECDSA if null else basic[1], signature, *basic[3:])
    wrapped = der.encode(der.SEQUENCE, pki.oid("1.3.6.1.5.5.7.48.1.1"), der.encode(der.OCTET_STRING, made))
    return der.encode(der.SEQUENCE, b"\x0a\x01\x00", der.encode(0xA0, wrapped))


def answer(status: str, **options: object) -> bytes:
    return make_ocsp_response(CA, LEAF, status, **options)


def produced(value: bytes) -> Callable[[str], bytes]:
    return lambda status: rebuilt(answer(status), lambda f: [f[0], value, *f[2:]])


def responder(value: bytes) -> Callable[[str], bytes]:
    return lambda status: rebuilt(answer(status), lambda f: [value, *f[1:]])


def single(bend: Callable[[list[bytes]], list[bytes]]) -> Callable[[str], bytes]:
    def bent(fields: list[bytes]) -> list[bytes]:
        one = der.encode(der.SEQUENCE, *bend(parts(parts(fields[2])[0])))
        return [*fields[:2], der.encode(der.SEQUENCE, one), *fields[3:]]

    return lambda status: rebuilt(answer(status), bent)


def status_with(details: bytes) -> Callable[[str], bytes]:
    """
    Only "revoked" has details; its twin has them in no way, and stays good.
    """

    def made(status: str) -> bytes:
        if status == "good":
            return answer(status, version=0)
        return single(lambda f: [f[0], der.encode(0xA1, details), *f[2:]])(status)

    return made


def odd_name(tag: int, text: bytes) -> bytes:
    attribute = der.encode(der.SEQUENCE, pki.oid("2.5.4.3"), der.encode(tag, text))
    return der.encode(0xA1, der.encode(der.SEQUENCE, der.encode(der.SET, attribute)))


NOW_TEXT = "20260601110000"
# What is bent, and whether "good" counts in the same form.
OCSP: dict[str, tuple[Callable[[str], bytes], bool]] = {
    "unbent": (answer, True),
    "producedAt with a fraction": (produced(gt(NOW_TEXT + ".123Z")), True),
    "producedAt with a comma": (produced(gt(NOW_TEXT + ",5Z")), True),
    "producedAt in a zone": (produced(gt("20260601120000+0100")), False),
    "producedAt without seconds": (produced(gt("202606011100Z")), False),
    "producedAt as UTCTime": (produced(der.encode(der.UTC_TIME, b"260601110000Z")), False),
    "producedAt unreadable": (produced(gt("yesterday")), False),
    "producedAt local": (produced(gt(NOW_TEXT)), False),
    "thisUpdate with a fraction": (single(lambda f: [*f[:2], gt(NOW_TEXT + ".5Z"), *f[3:]]), True),
    "thisUpdate unreadable": (single(lambda f: [*f[:2], gt("x"), *f[3:]]), False),
    "thisUpdate absent": (single(lambda f: f[:2]), False),
    "nextUpdate with a fraction": (
        single(lambda f: [*f[:3], der.encode(0xA0, gt("20260602110000.5Z")), *f[4:]]),
        True,
    ),
    "nextUpdate unreadable": (single(lambda f: [*f[:3], der.encode(0xA0, gt("x")), *f[4:]]), False),
    "nextUpdate before thisUpdate": (lambda s: answer(s, next_update=NOW - 2 * HOUR), False),
    "fields in another order": (single(lambda f: [*f, der.encode(0xA0, gt("20260602110000Z"))]), False),
    "unknown field": (single(lambda f: [*f, der.encode(0xA5, b"\x05\x00")]), False),
    "revocationTime with a fraction": (status_with(gt("20260601100000.25Z")), False),
    "revocationTime unreadable": (status_with(gt("once")), False),
    "no details": (status_with(b""), False),
    "reason without meaning": (status_with(gt("20260601100000Z") + b"\xa0\x03\x0a\x01\x07"), False),
    "reason of 99": (status_with(gt("20260601100000Z") + b"\xa0\x03\x0a\x01\x63"), False),
    "reason as an integer": (status_with(gt("20260601100000Z") + b"\xa0\x03\x02\x01\x01"), False),
    "reason empty": (status_with(gt("20260601100000Z") + b"\xa0\x02\x0a\x00"), False),
    "reason beside the status": (
        lambda s: make_ocsp_response(
            CA, LEAF, singles=[Single(CA, LEAF, s, extensions=(pki.extension(REASON, b"\x0a\x01\x01"),))]
        ),
        False,
    ),
    "ECDSA with NULL": (lambda s: rebuilt(answer(s), lambda f: f, null=True), True),
    "newline behind": (lambda s: answer(s) + b"\n", False),
    "page behind": (lambda s: answer(s) + b"<!-- served by nginx -->", False),
    "version written out": (lambda s: answer(s, version=0), False),
    "version 2": (lambda s: answer(s, version=1), False),
    "critical FALSE written out": (
        lambda s: answer(
            s,
            extensions=[der.encode(der.SEQUENCE, pki.oid("1.2.3.4"), b"\x01\x01\x00", b"\x04\x02\x05\x00")],
        ),
        False,
    ),
    "extension twice": (lambda s: answer(s, extensions=[pki.extension("1.2.3.4", b"\x05\x00")] * 2), False),
    "extensions empty": (
        lambda s: rebuilt(answer(s), lambda f: [*f[:3], der.encode(0xA1, b"\x30\x00")]),
        False,
    ),
    "nonce of 200 octets": (lambda s: answer(s, nonce=b"n" * 200), False),
    "critical and unknown": (
        lambda s: answer(s, extensions=[pki.extension("1.2.3.4", b"\x05\x00", critical=True)]),
        False,
    ),
    "responder in odd letters": (responder(odd_name(der.PRINTABLE_STRING, b"A & B CA")), True),
    "responder named otherwise": (responder(odd_name(der.UTF8_STRING, b"Somebody")), False),
    "responder hash bare": (responder(der.encode(0x82, b"k" * 20)), False),
    "responder unreadable": (responder(der.encode(0xA1, b"\x05\x00")), False),
    "responder of no kind": (responder(der.encode(0xA3, b"\x05\x00")), False),
    "certificate enclosed that is none": (lambda s: answer(s, certificates=[b"\x30\x00"]), False),
    "twenty certificates enclosed": (lambda s: answer(s, certificates=[ROOT.der] * 20), False),
    "parameters of the CertID's hash": (lambda s: answer(s, algorithm_parameters=b"\x02\x01\x00"), False),
    "name hash of another spelling": (lambda s: answer(s, name_hash=b"n" * 20), False),
    "another answer that cannot be read": (
        lambda s: rebuilt(
            answer(s),
            lambda f: [*f[:2], der.encode(der.SEQUENCE, b"\x30\x00", parts(f[2])[0]), *f[3:]],
        ),
        False,
    ),
    "three hundred answers": (
        lambda s: make_ocsp_response(CA, LEAF, singles=[Single(CA, LEAF, s)] * 300),
        False,
    ),
}


def ocsp(raw: bytes, form: Form = Form.COMMON):
    return judge_ocsp(context(form), 0, said(SourceKind.OCSP, raw))


@pytest.mark.parametrize("form", [Form.COMMON, Form.STRICT])
@pytest.mark.parametrize("bent", OCSP)
def test_ocsp_says_revoked_in_any_form(bent, form):
    make, _ = OCSP[bent]
    finding = ocsp(make("revoked"), form)
    assert CertificateStatus.REVOKED is finding.status, finding.detail
    assert CA.certificate.subject.rfc4514_string().replace("CN=", "") in (finding.responder or "")
    assert (bent == "unbent") == (finding.notes == ()) or bent in WITHOUT_NOTE


# Their oddity is one of content, which the judgement itself names for good news.
WITHOUT_NOTE = {"nextUpdate before thisUpdate", "critical and unknown", "reason beside the status"}


@pytest.mark.parametrize("bent", OCSP)
def test_ocsp_says_good_only_where_nothing_is_in_doubt(bent):
    make, counts = OCSP[bent]
    finding = ocsp(make("good"))
    assert counts is (CertificateStatus.GOOD is finding.status), finding.detail
    strict = ocsp(make("good"), Form.STRICT)
    assert (bent == "unbent") is (CertificateStatus.GOOD is strict.status), strict.detail


def test_revoked_that_is_not_the_cas_is_not_heard():
    stranger = issue(ROOT, "Stranger", ca=True)
    for raw in (
        make_ocsp_response(CA, LEAF, "revoked", signing_key=stranger.key),
        make_ocsp_response(CA, LEAF, "revoked", signer=stranger),
        make_ocsp_response(CA, LEAF, "revoked", serial=0x123457),
        make_ocsp_response(CA, LEAF, "revoked", key_hash=b"k" * 20),
        make_ocsp_response(
            CA, LEAF, "revoked", signer=issue(stranger, "R", eku=["OCSPSigning"], nocheck=True)
        ),
    ):
        assert CertificateStatus.UNDETERMINED is ocsp(raw).status


@pytest.mark.parametrize("raw", [b"", b"\x30", b"<html>", b"\x30\x00", answer("revoked")[:-9]])
def test_answer_in_which_nothing_can_be_read_is_told_apart(raw):
    assert Cause.UNREADABLE is ocsp(raw).cause
    judged = judge_crls(context(), 0, [said(SourceKind.CRL, raw)])
    assert (CertificateStatus.UNDETERMINED, Cause.UNREADABLE) == (judged.status, judged.cause)


# -- lists ---------------------------------------------------------------------------------------------------

BASE = Crl(CA)
NEIGHBOUR = entry(0x99, der.encode(der.SEQUENCE, pki.oid(REASON), b"\x01\x01\x00", b"\x04\x03\x0a\x01\x01"))
OTHER_KEY_ID = pki.extension("2.5.29.35", der.encode(der.SEQUENCE, der.encode(0x80, b"another" * 4)))


def extended(*extensions: bytes) -> Callable[[Crl], Crl]:
    return lambda crl: crl.but(extensions=extensions)


def but(**changes: object) -> Callable[[Crl], Crl]:
    return lambda crl: crl.but(**changes)


def beside(one: bytes) -> Callable[[Crl], Crl]:
    return lambda crl: crl.but(entries=(one, *crl.entries))


LISTS: dict[str, Callable[[Crl], Crl]] = {
    "delta with the number of its base": extended(key_id(CA), number(7), delta(7)),
    "delta with a number below its base": extended(key_id(CA), number(3), delta(7)),
    "delta without number": extended(key_id(CA), delta(7)),
    "delta whose base is negative": extended(key_id(CA), number(8), number(-1, "2.5.29.27", critical=True)),
    "delta whose base is no number": extended(
        key_id(CA), number(8), pki.extension("2.5.29.27", b"\x04\x00", critical=True)
    ),
    "number of 21 octets": extended(
        key_id(CA), pki.extension("2.5.29.20", der.encode(der.INTEGER, b"\x01" * 21))
    ),
    "number of 300 octets": extended(
        key_id(CA), pki.extension("2.5.29.20", der.encode(der.INTEGER, b"\x01" * 300))
    ),
    "number that is none": extended(key_id(CA), pki.extension("2.5.29.20", b"\x05\x00")),
    "empty scope": extended(key_id(CA), number(7), idp()),
    "scope with a default written out": extended(key_id(CA), number(7), idp(b"\x81\x01\x00")),
    "scope of two kinds": extended(key_id(CA), number(7), idp(b"\x81\x01\xff", b"\x82\x01\xff")),
    "scope out of order": extended(key_id(CA), number(7), idp(b"\x84\x01\xff", b"\x81\x01\xff")),
    "scope that is none": extended(key_id(CA), pki.extension("2.5.29.28", b"\x05\x00", critical=True)),
    "another scope": extended(key_id(CA), number(7), idp(point(uri("http://elsewhere/")))),
    "key identifier of another form": extended(OTHER_KEY_ID, number(7)),
    "extension twice": extended(key_id(CA), number(7), number(7)),
    "critical FALSE written out": extended(
        key_id(CA), der.encode(der.SEQUENCE, pki.oid("1.2.3.4"), b"\x01\x01\x00", b"\x04\x02\x05\x00")
    ),
    "extensions that are none": extended(b"\x05\x00"),
    "unknown critical extension": extended(key_id(CA), pki.extension("1.2.3.4", b"\x05\x00", critical=True)),
    "version absent": but(version=b""),
    "version 1 written out": but(version=pki.integer(0)),
    "version 7": but(version=pki.integer(6)),
    "nextUpdate before thisUpdate": but(next_update=time(NOW - 9 * HOUR)),
    "nextUpdate past": but(next_update=time(NOW - HOUR / 2)),
    "nextUpdate absent": but(next_update=b""),
    "thisUpdate to come": but(this_update=time(NOW + 9 * HOUR), next_update=time(NOW + 10 * HOUR)),
    "thisUpdate in a zone": but(this_update=der.encode(der.UTC_TIME, b"260601110000+0100")),
    "thisUpdate unreadable": but(this_update=gt("x")),
    "octets behind": but(behind=b"\n\n"),
    "another list behind": but(behind=BASE.encode()),
    "inner algorithm with NULL": but(inner=NULL_ECDSA),
    "signed with SHA-1": but(digest="sha1"),
    "neighbour with a default written out": beside(NEIGHBOUR),
    "neighbour without a date": beside(der.encode(der.SEQUENCE, pki.integer(0x99))),
    "neighbour with a fraction": beside(der.encode(der.SEQUENCE, pki.integer(0x99), gt("20260601100000.5Z"))),
    "neighbour without a serial": beside(der.encode(der.SEQUENCE, time(NOW))),
    "neighbour that is empty": beside(b"\x30\x00"),
    "neighbour with an extension that is none": beside(
        der.encode(der.SEQUENCE, pki.integer(0x99), time(NOW), der.encode(der.SEQUENCE, b"\x05\x00"))
    ),
    "neighbour with a serial that is not minimal": beside(
        der.encode(der.SEQUENCE, der.encode(der.INTEGER, b"\x00\x05"), time(NOW))
    ),
}
HABITS: dict[str, Callable[[Crl], Crl]] = {
    "unbent": lambda crl: crl,
    "ECDSA with NULL": but(inner=NULL_ECDSA, outer=NULL_ECDSA),
    "thisUpdate with a fraction": but(this_update=gt("20260601110000.5Z")),
    "nextUpdate with a fraction": but(next_update=gt("20260602110000.5Z")),
    "no number": extended(key_id(CA)),
    "key identifier that cannot be read": extended(pki.extension("2.5.29.35", b"\x05\x00"), number(7)),
}
OWN_ENTRIES: dict[str, bytes] = {
    "plain": entry(LEAF.serial),
    "date with a fraction": der.encode(der.SEQUENCE, pki.integer(LEAF.serial), gt("20260601100000.5Z")),
    "date unreadable": der.encode(der.SEQUENCE, pki.integer(LEAF.serial), gt("x")),
    "no date": der.encode(der.SEQUENCE, pki.integer(LEAF.serial)),
    "reason without meaning": entry(LEAF.serial, pki.extension(REASON, b"\x0a\x01\x07")),
    "reason unreadable": entry(LEAF.serial, pki.extension(REASON, b"\x05\x00")),
    "default written out": entry(
        LEAF.serial, der.encode(der.SEQUENCE, pki.oid(REASON), b"\x01\x01\x00", b"\x04\x03\x0a\x01\x01")
    ),
    "extensions that are none": der.encode(
        der.SEQUENCE, pki.integer(LEAF.serial), time(NOW), b"\x30\x02\x05\x00"
    ),
}


def lists(*raws: bytes, form: Form = Form.COMMON):
    return judge_crls(context(form), 0, [said(SourceKind.CRL, raw) for raw in raws])


@pytest.mark.parametrize("form", [Form.COMMON, Form.STRICT])
@pytest.mark.parametrize("bent", LISTS | HABITS)
def test_list_says_revoked_in_any_form_beside_one_that_is_silent(bent, form):
    listing = (LISTS | HABITS)[bent](BASE.but(entries=(entry(LEAF.serial),))).encode()
    for order in ((BASE.encode(), listing), (listing, BASE.encode()), (listing,)):
        judged = lists(*order, form=form)
        assert CertificateStatus.REVOKED is judged.status, judged.detail


@pytest.mark.parametrize("bent", LISTS)
def test_silence_of_a_bent_list_is_not_good_and_takes_nothing_from_another(bent):
    silent = LISTS[bent](BASE).encode()
    assert CertificateStatus.GOOD is not lists(silent).status
    assert CertificateStatus.GOOD is lists(silent, BASE.encode()).status


@pytest.mark.parametrize("bent", HABITS)
def test_silence_of_a_list_with_a_habit_is_good_where_the_letter_does_not_count(bent):
    silent = HABITS[bent](BASE).encode()
    assert CertificateStatus.GOOD is lists(silent).status, lists(silent).detail
    strict = lists(silent, form=Form.STRICT).status
    assert (bent in ("unbent", "no number")) is (CertificateStatus.GOOD is strict)


@pytest.mark.parametrize("own", OWN_ENTRIES)
def test_serial_on_the_list_is_revoked_whatever_else_its_entry_says(own):
    judged = lists(BASE.but(entries=(entry(5), OWN_ENTRIES[own], entry(7))).encode(), BASE.encode())
    assert CertificateStatus.REVOKED is judged.status, judged.detail


def test_hold_is_lifted_by_nothing_that_is_in_doubt():
    hold = entry(LEAF.serial, pki.extension(REASON, b"\x0a\x01\x06"))
    release = entry(LEAF.serial, pki.extension(REASON, b"\x0a\x01\x08"))
    held = BASE.but(entries=(hold,)).encode()
    later = BASE.but(entries=(release,), this_update=time(NOW - HOUR / 2))
    sound = later.but(extensions=(key_id(CA), number(8), delta(7))).encode()
    assert CertificateStatus.GOOD is lists(held, sound).status
    for extensions in ((key_id(CA), number(7), delta(7)), (key_id(CA), delta(7))):
        assert CertificateStatus.ON_HOLD is lists(held, later.but(extensions=extensions).encode()).status


def test_list_by_a_stranger_revokes_nobody_in_any_form():
    stranger = issue(ROOT, "Stranger", ca=True)
    for forged in (
        BASE.but(entries=(entry(LEAF.serial),), key=stranger.key),
        BASE.but(entries=(entry(LEAF.serial),), key=stranger.key, behind=b"\n"),
        Crl(stranger, entries=(entry(LEAF.serial),)),
        BASE.but(entries=(entry(LEAF.serial + 1),)),
    ):
        assert CertificateStatus.REVOKED is not lists(forged.encode(), BASE.encode()).status
