"""
OCSP answers: bad news, error statuses, delegates, nonces, stored statements, and bytes that nobody signed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509 import ocsp as pyca
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import NonceMode
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.ocsp import NON_ISSUED, build_request, judge_ocsp
from cftpki_ext.revocation.ocsp_response import RESPONSE_STATUS
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki
from tests.support.pki import NOW, Revoked, Single, issue, make_crl, make_ocsp_response
from tests.unit.revocation.test_ocsp_forged import (
    WORLDS,
    answer,
    context_of,
    delegated,
    judge,
    singles,
    statement,
)

HOUR = timedelta(hours=1)
W = WORLDS["ec"]


def crl_statement(raw: bytes) -> Statement:
    return Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=raw)


# -- the pitfalls, by their numbers --------------------------------------------------------------------------


def test_pitfall_01_certificate_of_the_judged_chain_cannot_sign_its_own_answer():
    """
    Even a leaf that its CA has made an OCSP delegate says nothing about itself.
    """
    leaf = issue(W.ca, "self-praise", eku=["OCSPSigning", "clientAuth"], nocheck=True)
    raw = make_ocsp_response(W.ca, leaf, signer=leaf)
    finding = judge(W, raw, context=context_of(W, leaf=leaf))
    assert (Cause.BAD_SIGNATURE, None) == (finding.cause, finding.responder)
    assert "belongs to the chain" in finding.detail
    assert (
        CertificateStatus.GOOD
        == judge(W, make_ocsp_response(W.ca, leaf), context=context_of(W, leaf=leaf)).status
    )


def test_pitfall_02_delegate_is_judged_at_the_time_of_the_decision():
    delegate = W.make(not_before=NOW - 3 * HOUR, not_after=NOW + HOUR)
    raw = delegated(W, delegate)
    assert CertificateStatus.GOOD == judge(W, raw).status
    late = judge(W, raw, context=context_of(W, now=NOW + 2 * HOUR))
    assert Cause.BAD_SIGNATURE == late.cause
    assert "valid from" in late.detail


def test_pitfall_03_delegate_without_nocheck_needs_a_crl_that_says_good():
    delegate = W.make(nocheck=False)
    raw = delegated(W, delegate)
    alone = judge(W, raw)
    assert Cause.BAD_SIGNATURE == alone.cause
    assert "nocheck" in alone.detail
    assert CertificateStatus.GOOD == judge(W, raw, crls=[crl_statement(make_crl(W.ca))]).status
    revoked = judge(W, raw, crls=[crl_statement(make_crl(W.ca, [Revoked(delegate.serial)]))])
    assert Cause.BAD_SIGNATURE == revoked.cause
    assert "itself revoked" in revoked.detail
    assert Cause.BAD_SIGNATURE == judge(W, raw, crls=[crl_statement(make_crl(W.namesake))]).cause


def test_pitfall_03_delegates_status_is_never_asked_of_ocsp():
    """
    An answer about the delegate, even by the CA itself, stands in for no CRL.
    """
    delegate = W.make(nocheck=False)
    both = make_ocsp_response(
        W.ca, W.leaf, signer=delegate, singles=[Single(W.ca, W.leaf), Single(W.ca, delegate)]
    )
    assert Cause.BAD_SIGNATURE == judge(W, both).cause


@pytest.mark.parametrize("serial", [0x1234, 0x12345600, 0x00, 0x123457])
def test_pitfall_04_answer_about_another_serial_is_out_of_scope(serial):
    assert Cause.WRONG_SCOPE == judge(W, answer(W, serial=serial)).cause


def test_pitfall_04_first_single_response_is_never_taken_for_ours():
    ours_revoked = singles(W, Single(W.ca, W.sibling), Single(W.ca, W.leaf, "revoked"))
    assert CertificateStatus.REVOKED == judge(W, ours_revoked).status
    ours_good = singles(W, Single(W.ca, W.sibling, "revoked"), Single(W.ca, W.leaf))
    assert CertificateStatus.GOOD == judge(W, ours_good).status


def test_pitfall_05_null_and_absent_parameters_are_the_same():
    assert [CertificateStatus.GOOD] * 2 == [
        judge(W, answer(W, algorithm_parameters=p, hash_name="sha256")).status for p in (b"\5\0", b"")
    ]


@pytest.mark.parametrize(
    ("next_update", "age", "cause"),
    [
        (None, 0.5, None),
        (None, 1.5, Cause.STALE),
        (24, 0.5, None),
        (24 * 365, 24 * 9, None),
        (24 * 365, 24 * 11, Cause.STALE),
        (-1, 2, Cause.STALE),
        (24, -1, Cause.STALE),
    ],
)
def test_pitfall_06_freshness_with_and_without_next_update(next_update, age, cause):
    this = NOW - age * HOUR
    until = NOW + next_update * HOUR if next_update is not None else None
    finding = judge(W, answer(W, this_update=this, next_update=until, produced_at=this))
    assert cause == finding.cause, finding.detail
    assert (this, until, int(age * 3600)) == (finding.this_update, finding.next_update, finding.age_s)


def test_pitfall_07_replayed_answer_fails_by_its_nonce():
    raw = answer(W, nonce=b"a" * 32)
    assert CertificateStatus.GOOD == judge(W, raw, nonce=b"a" * 32).status
    assert Cause.BAD_SIGNATURE == judge(W, raw, nonce=b"b" * 32).cause
    assert CertificateStatus.GOOD == judge(W, answer(W), nonce=b"b" * 32).status
    off = context_of(W, nonce=NonceMode.OFF)
    assert CertificateStatus.GOOD == judge(W, raw, context=off, nonce=b"b" * 32).status


def test_pitfall_07_stored_answer_keeps_the_nonce_that_it_was_asked_with():
    require = context_of(W, nonce=NonceMode.REQUIRE)
    raw = answer(W, nonce=b"a" * 32)
    assert CertificateStatus.GOOD == judge(W, raw, context=require, origin=Origin.CACHE).status
    assert Cause.BAD_SIGNATURE == judge(W, answer(W), context=require, origin=Origin.CACHE).cause
    assert Cause.BAD_SIGNATURE == judge(W, raw, context=require, origin=Origin.STAPLED).cause


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (1, Cause.RESPONDER_ERROR),
        (2, Cause.RESPONDER_ERROR),
        (3, Cause.TRY_LATER),
        (4, Cause.UNREADABLE),
        (5, Cause.RESPONDER_ERROR),
        (6, Cause.UNAUTHORIZED),
        (7, Cause.UNREADABLE),
    ],
)
def test_pitfall_08_error_status_is_told_apart_and_never_a_verdict(code, cause):
    finding = judge(W, answer(W, response_status=code))
    assert (CertificateStatus.UNDETERMINED, cause, None) == (finding.status, finding.cause, finding.responder)
    assert code not in RESPONSE_STATUS or RESPONSE_STATUS[code] in finding.detail


def test_pitfall_09_unknown_is_not_good():
    finding = judge(W, answer(W, status="unknown"))
    assert (CertificateStatus.UNDETERMINED, Cause.UNKNOWN) == (finding.status, finding.cause)
    assert "CN=CA" == finding.responder


def test_pitfall_09_extended_revoke_of_a_certificate_never_issued_is_revoked():
    never = {"status": "revoked", "reason": 6, "revoked_at": datetime(1970, 1, 1, tzinfo=UTC)}
    finding = judge(W, answer(W, extensions=[pki.extension("1.3.6.1.5.5.7.48.1.9", b"\5\0")], **never))
    assert (CertificateStatus.REVOKED, NON_ISSUED) == (finding.status, finding.revocation_reason)
    held = judge(W, answer(W, status="revoked", reason=6))
    assert (CertificateStatus.ON_HOLD, "certificateHold") == (held.status, held.revocation_reason)


def test_pitfall_45_ca_is_its_name_and_its_key():
    for forged in (
        answer(W, signing_key=W.namesake.key),
        make_ocsp_response(W.namesake, W.leaf),
        make_ocsp_response(W.namesake, W.leaf, certificates=[W.namesake.der]),
    ):
        assert CertificateStatus.UNDETERMINED == judge(W, forged).status


def test_pitfall_45_configured_signer_counts_byte_for_byte():
    signer = issue(None, "Corporate Responder")
    twin = issue(None, "Corporate Responder", private=signer.key)
    raw = delegated(W, signer)
    assert Cause.BAD_SIGNATURE == judge(W, raw).cause
    assert CertificateStatus.GOOD == judge(W, raw, context=context_of(W, ocsp_signers=(signer.der,))).status
    assert (
        CertificateStatus.GOOD
        == judge(
            W, delegated(W, signer, certificates=[]), context=context_of(W, ocsp_signers=(signer.der,))
        ).status
    )
    other = issue(None, "Corporate Responder")
    assert Cause.BAD_SIGNATURE == judge(W, raw, context=context_of(W, ocsp_signers=(other.der,))).cause
    assert (
        Cause.BAD_SIGNATURE
        == judge(W, delegated(W, other), context=context_of(W, ocsp_signers=(twin.der,))).cause
    )


def test_pitfall_45_configured_signer_out_of_its_time_is_refused():
    signer = issue(None, "Old Responder", not_before=NOW - 9 * HOUR, not_after=NOW - HOUR / 2)
    finding = judge(W, delegated(W, signer), context=context_of(W, ocsp_signers=(signer.der,)))
    assert Cause.BAD_SIGNATURE == finding.cause
    assert "valid from" in finding.detail


def test_pitfall_46_verified_answer_is_no_pass_for_the_same_answer_bent():
    """
    The memory of good signatures must not help an answer that shares all but one octet with a good one.
    """
    raw = answer(W, nonce=b"Q" * 32)
    assert CertificateStatus.GOOD == judge(W, raw).status
    assert Cause.BAD_SIGNATURE == judge(W, raw.replace(b"Q" * 32, b"Q" * 31 + b"R")).cause
    assert CertificateStatus.GOOD == judge(W, raw).status


def test_pitfall_46_verified_answer_is_no_pass_under_another_ca_key():
    raw = answer(W)
    assert CertificateStatus.GOOD == judge(W, raw).status
    path = tuple(parse_certificate(e.der) for e in (W.leaf, W.namesake, W.root))
    base = context_of(W)
    other = type(base)(
        now=NOW, path=path, trust=base.trust, limits=base.limits, pool=(), issuer_path=base.issuer_path
    )
    assert CertificateStatus.UNDETERMINED == judge_ocsp(other, 0, statement(raw)).status


def test_pitfall_50_authentic_revoked_counts_whatever_its_age_and_nonce():
    old = NOW - 400 * 24 * HOUR
    finding = judge(
        W,
        answer(
            W,
            status="revoked",
            reason=1,
            this_update=old,
            next_update=old + HOUR,
            produced_at=old,
            nonce=b"a",
        ),
        nonce=b"b",
    )
    assert (CertificateStatus.REVOKED, "keyCompromise") == (finding.status, finding.revocation_reason)
    assert NOW - 2 * HOUR == finding.revoked_at


def test_pitfall_50_revoked_that_is_not_authentic_is_ignored():
    finding = judge(W, answer(W, status="revoked", signing_key=W.namesake.key))
    assert (CertificateStatus.UNDETERMINED, Cause.BAD_SIGNATURE) == (finding.status, finding.cause)
    assert (None, None) == (finding.revoked_at, finding.revocation_reason)


def test_pitfall_48_revoked_counts_beside_a_critical_extension_that_is_not_understood():
    strange = (pki.extension("1.2.3.4.5", b"\5\0", critical=True),)
    assert (
        CertificateStatus.REVOKED
        == judge(W, singles(W, Single(W.ca, W.leaf, "revoked", extensions=strange))).status
    )


# -- bad news and stores -------------------------------------------------------------------------------------


def test_known_revocation_outlives_the_certificate_of_its_delegate():
    delegate = W.make(not_before=NOW - 3 * HOUR, not_after=NOW + HOUR, nocheck=False)
    raw = delegated(W, delegate, status="revoked")
    later = context_of(W, now=NOW + 24 * HOUR)
    assert CertificateStatus.REVOKED == judge(W, raw, context=later, origin=Origin.KNOWN_REVOKED).status
    # It was signed while the delegate could: bad news is heard whatever its age, good news is not.
    assert CertificateStatus.REVOKED == judge(W, raw, context=later, origin=Origin.NETWORK).status
    good = delegated(W, delegate)
    assert CertificateStatus.UNDETERMINED == judge(W, good, context=later, origin=Origin.NETWORK).status


def test_good_from_a_store_does_not_outlive_its_delegate():
    delegate = W.make(not_before=NOW - 3 * HOUR, not_after=NOW + HOUR)
    later = context_of(W, now=NOW + 2 * HOUR)
    assert Cause.BAD_SIGNATURE == judge(W, delegated(W, delegate), context=later, origin=Origin.CACHE).cause


def test_answer_that_speaks_twice_of_the_certificate_counts_at_its_worst():
    twice = singles(W, Single(W.ca, W.leaf), Single(W.ca, W.leaf, "revoked", hash_name="sha256"))
    assert CertificateStatus.REVOKED == judge(W, twice).status


def test_good_of_an_expired_certificate_needs_an_archive_cutoff_that_reaches_back():
    leaf = issue(W.ca, "old", not_before=NOW - 90 * HOUR, not_after=NOW - 30 * HOUR)
    context = context_of(W, leaf=leaf)

    def cutoff(hours: float) -> bytes:
        value = pki.generalized_time(NOW - hours * HOUR)
        single = Single(W.ca, leaf, extensions=(pki.extension("1.3.6.1.5.5.7.48.1.6", value),))
        return make_ocsp_response(W.ca, leaf, singles=[single])

    assert Cause.WRONG_SCOPE == judge(W, make_ocsp_response(W.ca, leaf), context=context).cause
    assert Cause.WRONG_SCOPE == judge(W, cutoff(20), context=context).cause
    assert CertificateStatus.GOOD == judge(W, cutoff(40), context=context).status


def test_failure_to_get_an_answer_keeps_its_cause():
    finding = judge(W, None, failure=Cause.TIMED_OUT, detail="no answer", elapsed_ms=7)
    assert (Cause.TIMED_OUT, "no answer", 7, None) == (
        finding.cause,
        finding.detail,
        finding.elapsed_ms,
        finding.digest,
    )


# -- bytes that nobody signed --------------------------------------------------------------------------------

GOOD = delegated(W, W.delegate, nonce=b"n" * 32)
CONTEXT = context_of(W)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_and_are_never_a_status(raw):
    assert CertificateStatus.UNDETERMINED == judge(W, raw, context=CONTEXT).status


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_answer_with_one_octet_changed_is_never_a_status(position, change):
    """
    Any octet: the signature covers all but the delegate's own certificate, and that one has its own.
    """
    raw = GOOD[:position] + bytes((GOOD[position] ^ change,)) + GOOD[position + 1 :]
    assert CertificateStatus.UNDETERMINED == judge(W, raw, context=CONTEXT).status


@settings(max_examples=200)
@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=8))
def test_answer_cut_and_spliced_is_never_a_status(start, end, middle):
    raw = GOOD[: min(start, end)] + middle + GOOD[max(start, end) :]
    if raw != GOOD:
        assert CertificateStatus.UNDETERMINED == judge(W, raw, context=CONTEXT).status


# -- the request ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_request_names_the_certificate_whole(hash_name):
    leaf, ca = parse_certificate(W.leaf.der), parse_certificate(W.ca.der)
    request = pyca.load_der_ocsp_request(build_request(leaf, ca, nonce=b"n" * 32, hash_name=hash_name))
    assert (hash_name, leaf.serial) == (request.hash_algorithm.name, request.serial_number)
    assert b"n" * 32 == request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce


def test_request_without_nonce_has_no_extension():
    leaf, ca = parse_certificate(W.leaf.der), parse_certificate(W.ca.der)
    assert 0 == len(pyca.load_der_ocsp_request(build_request(leaf, ca, nonce=None)).extensions)


@pytest.mark.parametrize("length", [0, 129])
def test_request_with_a_nonce_of_wrong_length_is_an_input_error(length):
    leaf, ca = parse_certificate(W.leaf.der), parse_certificate(W.ca.der)
    with pytest.raises(InputError, match="outside 1 to 128"):
        build_request(leaf, ca, nonce=b"n" * length)
