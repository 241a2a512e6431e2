"""
JSON lookups of a CA: bound to the certificate and the address, believed only over TLS and while young.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.judge import judge_certificate
from cftpki_ext.revocation.plan import plan_lookups
from cftpki_ext.revocation.rest import ejbca_profile, judge_rest, rest_url, step_ca_profile, vault_profile
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import NOW, issue, make_ocsp_response, pem
from tests.unit.revocation.test_ocsp_forged import WORLDS, context_of

W = WORLDS["ec"]
LEAF = parse_certificate(W.leaf.der)
VAULT = vault_profile("https://vault.example:8200/", "/pki/")
EJBCA = ejbca_profile("https://ca.example")
HOUR = timedelta(hours=1)


def judge(body: Any, profile: RestProfile = VAULT, **fields: Any):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    defaults = {"origin": Origin.NETWORK, "depth": 0, "url": rest_url(profile, LEAF), "received_at": NOW}
    statement = Statement(kind=SourceKind.REST, raw=raw, **{**defaults, **fields})
    return judge_rest(context_of(W, rest=profile), 0, statement)


def vault(revoked: Any = 0, certificate: bytes = W.leaf.der, **data: Any) -> dict[str, Any]:
    return {"data": {"certificate": pem(certificate).decode(), "revocation_time": revoked, **data}}


def ejbca(*, revoked: Any = False, serial: str = "123456", **more: Any) -> dict[str, Any]:
    return {"issuer_dn": "CN=CA", "serial_number": serial, "revoked": revoked, **more}


def test_ready_profiles_ask_about_issuer_and_serial():
    assert "https://vault.example:8200/v1/pki/cert/12-34-56" == rest_url(VAULT, LEAF)
    path = "/ejbca/ejbca-rest-api/v1/certificate/CN%3DCA/123456/revocationstatus"
    assert f"https://ca.example{path}" == rest_url(EJBCA, LEAF)
    every = RestProfile(name="x", url="{serial_hex}|{serial_colons}|{serial_decimal}|{other}")
    assert "123456|12:34:56|1193046|{other}" == rest_url(every, LEAF)


def test_issuer_name_stays_one_segment_of_the_address():
    ca = issue(W.root, "CN=a/b ?#é,O=x", ca=True)
    leaf = parse_certificate(issue(ca, "p", serial=0x1F).der)
    asked = rest_url(RestProfile(name="x", url="https://h/{issuer_dn}/{serial_hex}"), leaf)
    assert "https://h/CN%3Da%2Fb%20%3F%23%C3%A9%2CO%3Dx/1f" == asked


def test_vault_answer_says_good_by_zero_and_revoked_by_a_time():
    good = judge(vault())
    assert (CertificateStatus.GOOD, None, NOW, 0) == (good.status, good.cause, good.this_update, good.age_s)
    revoked = judge(vault(1767225600))
    assert (CertificateStatus.REVOKED, datetime(2026, 1, 1, tzinfo=UTC)) == (
        revoked.status,
        revoked.revoked_at,
    )


@pytest.mark.parametrize("value", [None, "", False, 0.0, [], {}, "0", "null", "never", "N/A"])
def test_vault_answer_without_a_time_says_nothing(value):
    assert Cause.MALFORMED == judge(vault(value)).cause


@pytest.mark.parametrize(
    "value", [True, "soon", 1767225600000, 10**30, ["2026-01-01"], {"$date": 5}, "1767225600"]
)
def test_vault_answer_with_a_time_that_cannot_be_read_is_revoked_and_notes_it(value):
    finding = judge(vault(value))
    assert (CertificateStatus.REVOKED, None, None) == (finding.status, finding.cause, finding.revoked_at)
    assert f"revocation time {str(value)[:64]!r} cannot be read" == finding.detail


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (ejbca(), CertificateStatus.GOOD),
        (ejbca(revoked=True, revocation_reason="KEY_COMPROMISE"), CertificateStatus.REVOKED),
        (ejbca(revoked=True, revocation_reason="CERTIFICATE_HOLD"), CertificateStatus.ON_HOLD),
        (ejbca(revoked=False, revocation_date="2026-05-01T00:00:00Z"), CertificateStatus.REVOKED),
        (ejbca(revoked="false"), CertificateStatus.GOOD),
        (ejbca(revoked=True, revocation_date=1767225600000), CertificateStatus.REVOKED),
        (ejbca(revoked=True, revocation_date="yesterday"), CertificateStatus.REVOKED),
        (ejbca(revoked=True, revocation_date=True), CertificateStatus.REVOKED),
        (
            ejbca(revoked=True, revocation_date="?", revocation_reason="CERTIFICATE_HOLD"),
            CertificateStatus.ON_HOLD,
        ),
        # A reason beside "good" contradicts it, and the worse part counts.
        (ejbca(revocation_reason="KEY_COMPROMISE"), CertificateStatus.REVOKED),
        (ejbca(revocation_reason="unspecified"), CertificateStatus.REVOKED),
        (ejbca(revocation_reason=1), CertificateStatus.REVOKED),
        (ejbca(revocation_reason=6), CertificateStatus.ON_HOLD),
        (ejbca(revocation_reason="certificateHold"), CertificateStatus.ON_HOLD),
        (ejbca(revocation_reason="NOT_REVOKED"), CertificateStatus.GOOD),
        (ejbca(revocation_reason="in service"), CertificateStatus.GOOD),
        (ejbca(revocation_reason="removeFromCRL"), CertificateStatus.GOOD),
        (ejbca(revocation_reason=""), CertificateStatus.GOOD),
        (ejbca(revocation_reason=0), CertificateStatus.GOOD),
        (ejbca(serial="00123456"), CertificateStatus.GOOD),
    ],
)
def test_ejbca_answer_says_its_status(body, status):
    assert status == judge(body, EJBCA).status


@pytest.mark.parametrize(
    ("body", "profile", "cause"),
    [
        (vault(certificate=W.sibling.der), VAULT, Cause.WRONG_SCOPE),
        ({"data": {"revocation_time": 0}}, VAULT, Cause.WRONG_SCOPE),
        ({"data": {"revocation_time": 0, "certificate": "!"}}, VAULT, Cause.WRONG_SCOPE),
        (ejbca(serial="12345678"), EJBCA, Cause.WRONG_SCOPE),
        (ejbca(serial="1234"), EJBCA, Cause.WRONG_SCOPE),
        (ejbca(serial=""), EJBCA, Cause.WRONG_SCOPE),
        (ejbca(revoked="maybe"), EJBCA, Cause.MALFORMED),
        (ejbca(revoked=None), EJBCA, Cause.MALFORMED),
        (ejbca(revocation_date="yesterday"), EJBCA, Cause.MALFORMED),
        (vault(), replace(VAULT, certificate=None), Cause.WRONG_SCOPE),
        (b"<html>", VAULT, Cause.MALFORMED),
        (b"\xff\xfe", VAULT, Cause.MALFORMED),
        (b'{"data":{},"data":{}}', VAULT, Cause.MALFORMED),
        (b'{"data":NaN}', VAULT, Cause.MALFORMED),
        (b"[" * 100_000, VAULT, Cause.MALFORMED),
        (b" " * (256 * 1024 + 1), VAULT, Cause.TOO_LARGE),
        ([], VAULT, Cause.WRONG_SCOPE),
    ],
)
def test_answer_that_is_not_about_this_certificate_or_says_nothing_has_its_cause(body, profile, cause):
    finding = judge(body, profile)
    assert (CertificateStatus.UNDETERMINED, cause) == (finding.status, finding.cause)
    assert finding.detail


def test_answer_from_another_address_is_out_of_scope():
    assert Cause.WRONG_SCOPE == judge(vault(), url="https://vault.example:8200/v1/pki/cert/99").cause
    assert Cause.WRONG_SCOPE == judge(vault(1767225600), url=None).cause


def test_answer_without_tls_is_believed_only_where_the_profile_says_so():
    plain = vault_profile("http://127.0.0.1:8200", "pki")
    assert Cause.BAD_SIGNATURE == judge(vault(), plain).cause
    assert Cause.BAD_SIGNATURE == judge(vault(1767225600), plain).cause
    unsafe = vault_profile("http://127.0.0.1:8200", "pki", unsafe_plain_http=True)
    assert CertificateStatus.GOOD == judge(vault(), unsafe).status


def test_good_answer_ages_and_does_not_count_out_of_a_cache():
    assert CertificateStatus.GOOD == judge(vault(), received_at=NOW - HOUR / 2).status
    assert Cause.STALE == judge(vault(), received_at=NOW - 2 * HOUR).cause
    assert Cause.STALE == judge(vault(), received_at=NOW + HOUR).cause
    assert Cause.STALE == judge(vault(), origin=Origin.CACHE).cause


def test_known_revocation_by_lookup_stays_known():
    old = {"origin": Origin.KNOWN_REVOKED, "received_at": NOW - 9000 * HOUR}
    assert CertificateStatus.REVOKED == judge(vault(1767225600), **old).status


def test_failure_and_missing_profile_keep_their_causes():
    failed = Statement(
        kind=SourceKind.REST,
        origin=Origin.NETWORK,
        received_at=NOW,
        depth=0,
        failure=Cause.UNKNOWN,
        detail="404",
    )
    finding = judge_rest(context_of(W, rest=VAULT), 0, failed)
    assert (Cause.UNKNOWN, "404", None) == (finding.cause, finding.detail, finding.digest)
    body = replace(failed, failure=None, raw=b"{}")
    assert Cause.MALFORMED == judge_rest(context_of(W), 0, body).cause


def test_revoked_by_lookup_counts_against_a_good_ocsp_answer():
    context = context_of(W, rest=VAULT)
    statements = [
        Statement(
            kind=SourceKind.OCSP,
            origin=Origin.NETWORK,
            received_at=NOW,
            depth=0,
            raw=make_ocsp_response(W.ca, W.leaf),
        ),
        Statement(
            kind=SourceKind.REST,
            origin=Origin.NETWORK,
            received_at=NOW,
            depth=0,
            url=rest_url(VAULT, LEAF),
            raw=json.dumps(vault(1767225600)).encode(),
        ),
    ]
    assert CertificateStatus.REVOKED == judge_certificate(context, 0, statements).status
    assert CertificateStatus.GOOD == judge_certificate(context, 0, statements[:1]).status


def test_plan_asks_the_lookup_where_sources_name_it():
    context = context_of(W, rest=VAULT, sources=(SourceKind.REST,))
    lookups = plan_lookups(context.path, context.trust, Limits())
    assert [(0, rest_url(VAULT, context.path[0])), (1, rest_url(VAULT, context.path[1]))] == [
        (item.depth, item.url) for item in lookups
    ]
    without = context_of(W, rest=VAULT)
    assert () == plan_lookups(without.path, without.trust, Limits())


@given(st.binary(max_size=100))
def test_arbitrary_bytes_never_raise_and_are_never_a_status(raw):
    assert CertificateStatus.UNDETERMINED == judge(raw).status


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_any_json_in_place_of_the_time_never_raises(value):
    finding = judge(json.dumps(vault(value)).encode())
    assert (finding.status is CertificateStatus.GOOD) == (type(value) is int and value == 0)


@pytest.mark.parametrize(
    ("issuer", "cause"),
    [
        ("CN=CA", None),
        ("cn = ca", None),
        ("CN=CA,O=Other", Cause.WRONG_SCOPE),
        ("", Cause.WRONG_SCOPE),
        (None, Cause.WRONG_SCOPE),
        (5, Cause.WRONG_SCOPE),
    ],
)
def test_ejbca_answer_is_bound_to_the_issuer_as_well(issuer, cause):
    assert cause == judge(ejbca() | {"issuer_dn": issuer}, EJBCA).cause


def test_nesting_is_bounded_and_brackets_in_strings_do_not_count():
    deep = json.dumps(vault()).replace(
        '"revocation_time": 0', '"revocation_time": 0, "x": ' + "[" * 40 + "]" * 40
    )
    finding = judge(deep.encode())
    assert (Cause.MALFORMED, "JSON nested more than 32 deep") == (finding.cause, finding.detail)
    assert CertificateStatus.GOOD is judge(vault(note='"' + "[" * 100 + "\\")).status


@pytest.mark.parametrize(
    "pointer", ["/data/certificates/00", "/data/certificates/-", "/data/certificates/1", "/data~1x"]
)
def test_pointer_that_leads_nowhere_finds_nothing(pointer):
    body = {"data": {"certificates": [pem(W.leaf.der).decode()], "revocation_time": 0}}
    assert CertificateStatus.GOOD is judge(body, replace(VAULT, certificate="/data/certificates/0")).status
    assert Cause.WRONG_SCOPE is judge(body, replace(VAULT, certificate=pointer)).cause


def test_known_revocation_stays_one_without_a_profile_that_can_read_it():
    raw = json.dumps(vault(1767225600)).encode()
    for profile in (None, step_ca_profile("https://ca.example")):
        context = context_of(W, rest=profile)
        statement = Statement(
            kind=SourceKind.REST,
            origin=Origin.KNOWN_REVOKED,
            depth=0,
            url="https://x",
            raw=raw,
            received_at=NOW,
        )
        assert CertificateStatus.REVOKED is judge_rest(context, 0, statement).status
        fresh = replace(statement, origin=Origin.NETWORK)
        assert CertificateStatus.UNDETERMINED is judge_rest(context, 0, fresh).status


def test_api_that_answers_with_a_crl_is_asked_for_one_in_the_place_of_rest():
    trust = TrustSet(
        name="t",
        anchors=(W.root.der,),
        sources=(SourceKind.REST, SourceKind.CRL),
        crl_urls=("http://crl.example/",),
        rest=step_ca_profile("https://ca.example"),
    )
    path = tuple(parse_certificate(e.der) for e in (W.leaf, W.ca, W.root))
    asked = [(one.kind, one.url) for one in plan_lookups(path, trust, Limits()) if one.depth == 0]
    assert (SourceKind.CRL, "https://ca.example/1.0/crl") == asked[0]
    assert SourceKind.REST not in {kind for kind, _ in asked}


def test_issuer_is_written_in_either_order():
    ca = issue(W.root, "CN=a\\,b,O=x", ca=True)
    leaf = parse_certificate(issue(ca, "p", serial=1).der)
    both = RestProfile(name="x", url="{issuer_dn}|{issuer_dn_forward}")
    assert r"CN%3Da%5C%2Cb%2CO%3Dx|O%3Dx%2CCN%3Da%5C%2Cb" == rest_url(both, leaf)


@pytest.mark.parametrize("filling", [b'\\"', b'"\\', b'"', b"[", b'\\"\\"\\'])
def test_hostile_quotes_of_full_size_are_malformed_in_one_pass(filling):
    size = Limits().rest_bytes // len(filling)
    begin = time.process_time()

    assert judge(filling * size).cause is Cause.MALFORMED
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("reason", "told"),
    [("\ud800", r"\ud800"), ("key\udfffCompromise", r"key\udfffCompromise"), ("\U0001f512", "\U0001f512")],
)
def test_reason_that_no_text_can_hold_is_escaped_and_the_revocation_counts(reason, told):
    found = judge(ejbca(revoked=True, revocation_reason=reason), EJBCA)
    assert (CertificateStatus.REVOKED, told) == (found.status, found.revocation_reason)


@pytest.mark.parametrize("value", ["\ud800", ["\udfff"], {"\ud800": "\ud800"}])
@pytest.mark.parametrize(
    "member", ["revoked", "revocation_date", "revocation_reason", "serial_number", "issuer_dn"]
)
def test_half_a_character_anywhere_leaves_nothing_that_cannot_be_written(member, value):
    found = judge(ejbca(revoked=True, serial="123456") | {member: value}, EJBCA)
    assert CertificateStatus.GOOD is not found.status
    "".join((found.revocation_reason or "", found.detail, *found.notes)).encode()
