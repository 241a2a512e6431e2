"""
A stored decision is the decision: it comes back whole, and decides the same again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.policy import RESILIENT, Action, Policy, Treatment
from cftpki_ext.core.settings import NonceMode, PolicyInputs, TrustSet
from cftpki_ext.core.verdict import Status
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.evidence import Difference, decide_again, decode, differences, encode
from tests.support.evidence_samples import CA, FAILED, GOOD, LEAF, REVOKED, ROOT, record
from tests.support.pki import NOW

TRUST = TrustSet(
    name="partners",
    anchors=(ROOT.der,),
    policy=Policy(
        name="own",
        treatments={
            Cause.STALE: Treatment(action=Action.ACCEPT_WARN, max_stale=timedelta(hours=3), until=NOW)
        },
    ),
    crl_files=(Path("a.crl"),),
    allow_networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    nonce=NonceMode.REQUIRE,
    policy_inputs=PolicyInputs(explicit_policy=True, initial_policies=frozenset({"1.2.3", "1.2.4"})),
    compat=frozenset({Leniency.RSA_1024, Leniency.LONG_SERIAL}),
)


@pytest.mark.parametrize("statements", [GOOD, REVOKED, FAILED, ()])
@pytest.mark.parametrize("trust", [TRUST, TrustSet(name="partners", anchors=(ROOT.der,), policy=RESILIENT)])
def test_record_comes_back_whole_and_decides_the_same(statements, trust):
    made = record(*statements, trust=trust)
    stored = encode(made)
    found = decode(stored.document, stored.blobs.get)
    assert made == found
    assert differences(made.verdict, decide_again(found)) == ()


def test_record_of_good_chain_is_accepted_again():
    assert record(*GOOD).verdict.status is Status.ACCEPTED
    assert decide_again(record(*GOOD)).status is Status.ACCEPTED


def test_record_same_bytes_each_time():
    assert encode(record(*GOOD)) == encode(record(*GOOD))


def test_record_certificates_and_responses_are_blobs():
    stored = encode(record(*GOOD))
    assert sorted(map(whole_of, stored.blobs.values())) == sorted(
        [LEAF.der, CA.der, ROOT.der, *(whole_of(s.raw or b"") for s in GOOD)]
    )


def test_record_names_what_proves_a_revocation_and_nothing_of_a_good_chain():
    (proven,) = encode(record(*REVOKED)).revoked
    assert (sha256(REVOKED[0].raw).hexdigest(), True) == (proven.digest, proven.final)
    assert LEAF.certificate.not_valid_after_utc == proven.ends
    assert () == encode(record(*GOOD)).revoked == encode(record(*FAILED)).revoked


def test_record_missing_blob_is_an_error():
    stored = encode(record(*GOOD))
    with pytest.raises(StoreError, match="missing or was changed"):
        decode(stored.document, lambda _: None)


def test_record_changed_blob_is_an_error():
    stored = encode(record(*GOOD))
    with pytest.raises(StoreError, match="missing or was changed"):
        decode(stored.document, lambda digest: stored.blobs[digest] + b"\0")


def test_record_of_another_format_is_an_error():
    stored = encode(record(*GOOD))
    document = json.dumps(json.loads(stored.document) | {"format": 99}).encode()
    with pytest.raises(StoreError, match="not of format 1"):
        decode(document, stored.blobs.get)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_decode_of_anything_is_a_record_or_a_store_error(document):
    with pytest.raises(StoreError):
        decode(document, lambda _: None)


def test_differences_under_a_new_policy_are_listed():
    made = record(*FAILED)
    lenient = Policy(name="lenient", treatments={c: Treatment(action=Action.ACCEPT_WARN) for c in Cause})
    question = replace(made.question, trust=replace(made.question.trust, policy=lenient))
    now = decide_again(replace(made, question=question))
    assert differences(made.verdict, now)[:3] == (
        Difference(what="status", recorded="refused", now="accepted"),
        Difference(what="reason", recorded="status_not_established", now="-"),
        Difference(what="alert", recorded="46", now="0"),
    )


def test_decide_again_gives_the_very_verdict():
    made = record(*REVOKED)
    assert decide_again(made) == made.verdict
