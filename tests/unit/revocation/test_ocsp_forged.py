"""
Forged OCSP answers, generated: one thing bent at a time, over three kinds of key, each with its good twin.

`Bent` says what is bent and which cause must come of it; `None` stands for a harmless variation, which must
stay good. Every answer is otherwise properly signed by an entitled signer.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.ocsp import judge_ocsp
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.pki import NOW, Entity, Single, issue, make_ocsp_response, make_root

KINDS = ("rsa", "ec", "ed25519")
HOUR = timedelta(hours=1)
YEAR_1000 = datetime(1000, 1, 1, tzinfo=UTC)
YEAR_9999 = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
UNKNOWN_OID = "1.2.3.4.5"
sha1 = partial(hashlib.new, "sha1")  # the hash that RFC 6960 4.2.1 fixes for key hashes


@dataclass(frozen=True)
class World:
    """
    A CA with a leaf and a sibling, its namesake with another key, another CA, and delegates of each sort.
    """

    kind: str
    root: Entity
    ca: Entity
    leaf: Entity
    sibling: Entity
    namesake: Entity
    other: Entity
    delegate: Entity

    def make(self, **options: Any) -> Entity:
        """
        A delegate of the CA, with options as for `issue`.
        """
        options = {"eku": ["OCSPSigning"], "nocheck": True, "kind": self.kind, **options}
        return issue(self.ca, "Responder", **options)


def make_world(kind: str) -> World:
    root = make_root("Root", kind=kind)
    ca = issue(root, "CA", ca=True, kind=kind)
    return World(
        kind=kind,
        root=root,
        ca=ca,
        leaf=issue(ca, "partner", kind=kind, serial=0x123456, eku=["clientAuth"]),
        sibling=issue(ca, "sibling", kind=kind, serial=0x12345677, eku=["clientAuth"]),
        namesake=issue(root, "CA", ca=True, kind=kind),
        other=issue(root, "Other CA", ca=True, kind=kind),
        delegate=issue(ca, "Responder", kind=kind, eku=["OCSPSigning"], nocheck=True),
    )


WORLDS = {kind: make_world(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def world(request) -> World:
    return WORLDS[request.param]


def context_of(w: World, *, leaf: Entity | None = None, now=NOW, **trust: Any) -> RevocationContext:
    path = tuple(parse_certificate(e.der) for e in (leaf or w.leaf, w.ca, w.root))
    return RevocationContext(
        now=now,
        path=path,
        trust=TrustSet(name="t", anchors=(w.root.der,), **trust),
        limits=Limits(),
        pool=(),
        issuer_path=lambda *_: None,
    )


def statement(raw: bytes | None, **fields: Any) -> Statement:
    fields = {
        "origin": Origin.NETWORK,
        "depth": 0,
        "url": "http://ocsp.example/",
        "received_at": NOW,
        **fields,
    }
    return Statement(kind=SourceKind.OCSP, raw=raw, **fields)


def judge(w: World, raw: bytes | None, *, context=None, crls=(), **fields: Any):
    return judge_ocsp(context or context_of(w), 0, statement(raw, **fields), crls=crls)


@dataclass(frozen=True)
class Bent:
    what: str
    cause: Cause | None
    make: Callable[[World], bytes]


def answer(w: World, **options: Any) -> bytes:
    return make_ocsp_response(w.ca, w.leaf, **options)


def singles(w: World, *items: Single) -> bytes:
    return make_ocsp_response(w.ca, w.leaf, singles=items)


def delegated(w: World, signer: Entity, **options: Any) -> bytes:
    return make_ocsp_response(w.ca, w.leaf, signer=signer, **options)


def signature_of(raw: bytes) -> bytes:
    body = der.children(raw, der.whole(raw))[1]
    octets = der.children(raw, der.children(raw, body)[0])[1]
    basic = der.content(raw, octets)
    return der.content(basic, der.children(basic, der.whole(basic))[2])[1:]


S, B, M, W = Cause.STALE, Cause.BAD_SIGNATURE, Cause.MALFORMED, Cause.WRONG_SCOPE
OTHER_ALGORITHM = {"rsa": "ec", "ec": "ed25519", "ed25519": "rsa"}
good = Single

CASES = [
    # harmless variations: the good twins
    Bent("nothing", None, answer),
    Bent("delegate", None, lambda w: delegated(w, w.delegate)),
    Bent("delegate_by_key", None, lambda w: delegated(w, w.delegate, by_key=True)),
    Bent("ca_by_key", None, lambda w: answer(w, by_key=True)),
    *(Bent(f"certid_{h}", None, partial(answer, hash_name=h)) for h in ("sha256", "sha384", "sha512")),
    Bent("certid_without_null", None, lambda w: answer(w, algorithm_parameters=b"")),
    Bent("ours_is_second", None, lambda w: singles(w, good(w.ca, w.sibling, "revoked"), good(w.ca, w.leaf))),
    Bent("nonce_unasked", None, lambda w: answer(w, nonce=b"n" * 32)),
    Bent("unknown_extension", None, lambda w: answer(w, extensions=[pki.extension(UNKNOWN_OID, b"\5\0")])),
    Bent(
        "next_update_absent",
        None,
        lambda w: answer(w, next_update=None, this_update=NOW - HOUR / 2, produced_at=NOW - HOUR / 2),
    ),
    Bent("delegate_ku_signature", None, lambda w: delegated(w, w.make(usage=["digitalSignature"]))),
    Bent("delegate_without_ku", None, lambda w: delegated(w, w.make(usage=[]))),
    Bent(
        "stray_certificates",
        None,
        lambda w: delegated(w, w.delegate, certificates=[w.other.der, w.delegate.der]),
    ),
    Bent(
        "clock_within_skew",
        None,
        lambda w: answer(w, this_update=NOW + HOUR / 90, produced_at=NOW + HOUR / 90),
    ),
    # signature
    Bent("signature_bit", B, lambda w: _flipped(answer(w))),
    Bent("signature_empty", B, lambda w: _with_signature(answer(w), b"")),
    Bent(
        "signature_of_another_answer",
        B,
        lambda w: _with_signature(answer(w), signature_of(answer(w, hash_name="sha256"))),
    ),
    Bent(
        "algorithm_of_another_kind",
        B,
        lambda w: answer(w, outer_algorithm=pki.signature_algorithm(pki.key(OTHER_ALGORITHM[w.kind]))),
    ),
    Bent(
        "algorithm_unknown",
        B,
        lambda w: answer(w, outer_algorithm=der.encode(der.SEQUENCE, pki.oid(UNKNOWN_OID))),
    ),
    Bent("delegate_signature_bit", B, lambda w: delegated(w, w.delegate, signing_key=w.sibling.key)),
    # signer
    Bent("signed_by_namesake_ca", B, lambda w: answer(w, signing_key=w.namesake.key)),
    Bent(
        "signed_by_namesake_enclosed",
        B,
        lambda w: answer(w, signing_key=w.namesake.key, certificates=[w.namesake.der]),
    ),
    Bent("signed_by_other_ca", B, lambda w: delegated(w, w.other)),
    Bent("signed_by_root", B, lambda w: delegated(w, w.root)),
    Bent("signed_by_leaf", B, lambda w: delegated(w, w.leaf)),
    Bent("signed_by_sibling", B, lambda w: delegated(w, w.sibling)),
    Bent(
        "responder_id_name",
        B,
        lambda w: answer(w, responder_id=der.encode(0xA1, pki.name_der(pki.name("X")))),
    ),
    Bent("responder_id_key", B, lambda w: answer(w, responder_id=der.encode(0xA2, der.encode(4, b"k" * 20)))),
    Bent(
        "responder_id_key_prefix",
        B,
        lambda w: answer(
            w, responder_id=der.encode(0xA2, der.encode(4, sha1(pki.public_key_bits(w.ca)).digest()[:19]))
        ),
    ),
    Bent("delegate_not_enclosed", B, lambda w: delegated(w, w.delegate, certificates=[])),
    Bent(
        "delegate_of_other_ca",
        B,
        lambda w: delegated(w, issue(w.other, "Responder", kind=w.kind, eku=["OCSPSigning"], nocheck=True)),
    ),
    Bent(
        "delegate_of_namesake_ca",
        B,
        lambda w: delegated(
            w, issue(w.namesake, "Responder", kind=w.kind, eku=["OCSPSigning"], nocheck=True)
        ),
    ),
    Bent(
        "delegate_of_root",
        B,
        lambda w: delegated(w, issue(w.root, "Responder", kind=w.kind, eku=["OCSPSigning"], nocheck=True)),
    ),
    Bent(
        "delegate_issuer_name_forged",
        B,
        lambda w: delegated(
            w, issue(w.other, "Responder", kind=w.kind, issuer_name="CA", eku=["OCSPSigning"], nocheck=True)
        ),
    ),
    Bent(
        "delegate_self_signed",
        B,
        lambda w: delegated(w, issue(None, "Responder", kind=w.kind, eku=["OCSPSigning"], nocheck=True)),
    ),
    Bent(
        "delegate_below_delegate",
        B,
        lambda w: delegated(w, issue(w.delegate, "Second", kind=w.kind, eku=["OCSPSigning"], nocheck=True)),
    ),
    Bent(
        "delegate_certificate_bit",
        B,
        lambda w: delegated(w, w.delegate, certificates=[pki.break_signature(w.delegate.der)]),
    ),
    Bent("delegate_without_eku", B, lambda w: delegated(w, w.make(eku=None))),
    Bent("delegate_eku_client", B, lambda w: delegated(w, w.make(eku=["clientAuth"]))),
    Bent("delegate_eku_any", B, lambda w: delegated(w, w.make(eku=["any"]))),
    Bent("delegate_ku_encipherment", B, lambda w: delegated(w, w.make(usage=["keyEncipherment"]))),
    Bent(
        "delegate_expired",
        B,
        lambda w: delegated(w, w.make(not_before=NOW - 9 * HOUR, not_after=NOW - HOUR / 2)),
    ),
    Bent("delegate_not_yet_valid", B, lambda w: delegated(w, w.make(not_before=NOW + HOUR))),
    Bent("delegate_without_nocheck_or_crl", B, lambda w: delegated(w, w.make(nocheck=False))),
    Bent(
        "delegate_critical_extension",
        B,
        lambda w: delegated(w, w.make(extensions=[(pki.raw_extension(UNKNOWN_OID, b"\5\0"), True)])),
    ),
    Bent(
        "delegate_garbage_enclosed",
        M,
        lambda w: delegated(w, w.delegate, certificates=[b"\x30\x03\x02\x01\x01"]),
    ),
    # identity
    Bent("serial_of_sibling", W, lambda w: make_ocsp_response(w.ca, w.sibling)),
    Bent("serial_prefix", W, lambda w: answer(w, serial=0x1234)),
    Bent("serial_longer", W, lambda w: answer(w, serial=0x12345600)),
    Bent("serial_negative", W, lambda w: answer(w, serial=-0x123456)),
    Bent("name_hash", W, lambda w: answer(w, name_hash=b"n" * 20)),
    Bent("name_hash_cut", W, lambda w: answer(w, name_hash=sha1(pki.name_der(w.ca.name)).digest()[:19])),
    Bent("key_hash", W, lambda w: answer(w, key_hash=b"k" * 20)),
    Bent(
        "key_hash_of_namesake",
        W,
        lambda w: answer(w, key_hash=sha1(pki.public_key_bits(w.namesake)).digest()),
    ),
    Bent("key_hash_empty", W, lambda w: answer(w, key_hash=b"")),
    Bent("hash_oid_swapped", W, lambda w: answer(w, hash_oid="2.16.840.1.101.3.4.2.1")),
    Bent("hash_md5", W, lambda w: answer(w, hash_name="md5", hash_oid="1.2.840.113549.2.5")),
    Bent("only_others", W, lambda w: singles(w, good(w.ca, w.sibling), good(w.ca, w.delegate))),
    # what is said, and when
    Bent("status_unknown", Cause.UNKNOWN, lambda w: answer(w, status="unknown")),
    Bent(
        "twice_good_and_unknown",
        Cause.UNKNOWN,
        lambda w: singles(w, good(w.ca, w.leaf), good(w.ca, w.leaf, "unknown")),
    ),
    Bent(
        "twice_fresh_and_stale",
        S,
        lambda w: singles(
            w, good(w.ca, w.leaf), good(w.ca, w.leaf, this_update=NOW - 9 * HOUR, next_update=NOW - HOUR)
        ),
    ),
    Bent(
        "next_update_past",
        S,
        lambda w: answer(w, this_update=NOW - 9 * HOUR, next_update=NOW - HOUR, produced_at=NOW - 9 * HOUR),
    ),
    Bent("next_update_absent_old", S, lambda w: answer(w, this_update=NOW - 2 * HOUR, next_update=None)),
    Bent("this_update_future", S, lambda w: answer(w, this_update=NOW + HOUR, produced_at=NOW + HOUR)),
    Bent("this_update_too_old", S, lambda w: answer(w, this_update=NOW - 11 * 24 * HOUR)),
    Bent("produced_at_future", S, lambda w: answer(w, produced_at=NOW + HOUR)),
    Bent("produced_before_this_update", M, lambda w: answer(w, produced_at=NOW - 9 * HOUR)),
    Bent("this_update_in_year_1000", S, lambda w: answer(w, this_update=YEAR_1000, produced_at=YEAR_1000)),
    Bent("produced_in_year_1000", M, lambda w: answer(w, produced_at=YEAR_1000)),
    Bent("produced_in_year_9999", S, lambda w: answer(w, produced_at=YEAR_9999)),
    Bent(
        "this_update_in_year_9999",
        S,
        lambda w: answer(w, this_update=YEAR_9999, produced_at=YEAR_9999, next_update=YEAR_9999),
    ),
    Bent("next_update_in_year_9999", None, lambda w: answer(w, next_update=YEAR_9999)),
    Bent("next_before_this", M, lambda w: answer(w, next_update=NOW - 2 * HOUR)),
    # form
    Bent(
        "critical_response_extension",
        M,
        lambda w: answer(w, extensions=[pki.extension(UNKNOWN_OID, b"\5\0", critical=True)]),
    ),
    Bent(
        "critical_single_extension",
        M,
        lambda w: singles(
            w, good(w.ca, w.leaf, extensions=(pki.extension(UNKNOWN_OID, b"\5\0", critical=True),))
        ),
    ),
    Bent(
        "doubled_response_extension",
        M,
        lambda w: answer(w, extensions=[pki.extension(UNKNOWN_OID, b"\5\0")] * 2),
    ),
    Bent(
        "doubled_single_extension",
        M,
        lambda w: singles(w, good(w.ca, w.leaf, extensions=(pki.extension(UNKNOWN_OID, b"\5\0"),) * 2)),
    ),
    Bent(
        "doubled_nonce",
        M,
        lambda w: answer(w, nonce=b"n" * 8, extensions=[pki.extension("1.3.6.1.5.5.7.48.1.2", b"\4\1n")]),
    ),
    Bent("nonce_too_long", M, lambda w: answer(w, nonce=b"n" * 129)),
    Bent("nonce_empty", M, lambda w: answer(w, extensions=[pki.extension("1.3.6.1.5.5.7.48.1.2", b"")])),
    Bent("version_2", M, lambda w: answer(w, version=1)),
    Bent("version_default_written", M, lambda w: answer(w, version=0)),
    Bent("response_type", Cause.UNREADABLE, lambda w: answer(w, response_type="1.3.6.1.5.5.7.48.1.99")),
    Bent("no_singles", Cause.UNREADABLE, singles),
    Bent("too_many_singles", M, lambda w: singles(w, *[good(w.ca, w.leaf)] * 257)),
    Bent("certid_hash_parameters", M, lambda w: answer(w, algorithm_parameters=b"\x02\x01\x00")),
    Bent("trailing_bytes", M, lambda w: answer(w) + b"\0"),
    Bent("body_is_a_set", M, lambda w: _body_as_set(answer(w))),
    Bent("cut_off", Cause.UNREADABLE, lambda w: answer(w)[:-1]),
    Bent(
        "archive_cutoff_garbage",
        M,
        lambda w: singles(
            w, good(w.ca, w.leaf, extensions=(pki.extension("1.3.6.1.5.5.7.48.1.6", b"\5\0"),))
        ),
    ),
    Bent("too_large", Cause.TOO_LARGE, lambda w: answer(w) + b"\0" * 65536),
]


def _with_signature(raw: bytes, signature: bytes) -> bytes:
    body = der.children(raw, der.whole(raw))[1]
    octets = der.children(raw, der.children(raw, body)[0])[1]
    basic = der.content(raw, octets)
    parts = [der.encoded(basic, p) for p in der.children(basic, der.whole(basic))]
    parts[2] = der.encode(der.BIT_STRING, b"\0", signature)
    new = der.encode(
        der.SEQUENCE,
        pki.oid("1.3.6.1.5.5.7.48.1.1"),
        der.encode(der.OCTET_STRING, der.encode(der.SEQUENCE, *parts)),
    )
    return der.encode(der.SEQUENCE, b"\x0a\x01\x00", der.encode(0xA0, new))


def _body_as_set(raw: bytes) -> bytes:
    at = der.children(raw, der.children(raw, der.whole(raw))[1])[0].start
    return raw[:at] + bytes((der.SET,)) + raw[at + 1 :]


def _flipped(raw: bytes) -> bytes:
    signature = signature_of(raw)
    middle = len(signature) // 2
    return _with_signature(
        raw, signature[:middle] + bytes((signature[middle] ^ 1,)) + signature[middle + 1 :]
    )


@pytest.mark.parametrize("bent", CASES, ids=lambda b: b.what)
def test_ocsp_answer_with_one_thing_bent_has_its_cause(world, bent):
    finding = judge(world, bent.make(world))
    expected = (
        (CertificateStatus.GOOD, None) if bent.cause is None else (CertificateStatus.UNDETERMINED, bent.cause)
    )
    assert expected == (finding.status, finding.cause), finding.detail
    authentic = bent.cause in (None, Cause.UNKNOWN, Cause.STALE)
    assert not authentic or finding.responder is not None
    assert bent.cause is None or finding.detail


def test_revocation_in_a_body_of_the_wrong_type_counts(world):
    finding = judge(world, _body_as_set(answer(world, status="revoked")))
    assert CertificateStatus.REVOKED == finding.status


@pytest.mark.parametrize("digest", ["md5", "sha1"])
def test_pitfall_14_weak_digest_is_refused_even_where_the_certid_may_use_it(digest):
    w = WORLDS["rsa"]
    assert Cause.BAD_SIGNATURE == judge(w, answer(w, digest=digest)).cause
    assert CertificateStatus.GOOD == judge(w, answer(w, digest="sha256", hash_name="sha1")).status


def test_pitfall_14_weak_delegate_key_is_refused():
    w = WORLDS["rsa"]
    assert Cause.BAD_SIGNATURE == judge(w, delegated(w, w.make(kind="rsa1024"))).cause


def test_required_nonce_is_compared_and_its_absence_refuses(world):
    require = context_of(world, nonce=NonceMode.REQUIRE)
    nonce = b"n" * 32
    with_nonce, without = answer(world, nonce=nonce), answer(world)
    assert CertificateStatus.GOOD == judge(world, with_nonce, context=require, nonce=nonce).status
    for raw, sent in ((with_nonce, b"m" * 32), (without, nonce), (with_nonce, None)):
        assert Cause.BAD_SIGNATURE == judge(world, raw, context=require, nonce=sent).cause
