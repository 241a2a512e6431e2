"""
Whom a rule lets in: each list, and how they go together.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.policy import AUDIT, RESILIENT
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.partner_lists import check_name, check_san, denied
from cftpki_ext.decision.question import Question
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import NOW, issue, make_ocsp_response, make_root

ROOT = make_root("CN=Root,O=Trust")
SANS = [
    "dns:MFT.partner.example",
    "email:Ops@Partner.example",
    "uri:urn:partner:7",
    "ip:192.0.2.7",
    "ip:2001:db8::7",
]
LEAF = issue(ROOT, "CN=Partner  One,O=Acme\\, Inc.,C=FR", eku=["clientAuth"], san=SANS)
PARTNER = parse_certificate(LEAF.der)
PIN = sha256(PARTNER.spki).hexdigest()
PRINT = sha256(LEAF.der).hexdigest()

FITS = {
    "subject": Partners(subjects=("CN=Partner One,O=Acme\\, Inc.,C=FR",)),
    "subject_in_another_case": Partners(subjects=("CN=PARTNER ONE,O=acme\\, inc.,C=fr",)),
    "subject_by_dotted_type": Partners(subjects=("2.5.4.3=Partner One,2.5.4.10=Acme\\, Inc.,2.5.4.6=FR",)),
    "common_name": Partners(subjects=("CN=partner one",)),
    "second_of_a_list": Partners(subjects=("CN=nobody", "CN=partner one")),
    "issuer": Partners(issuers=("CN=Root,O=Trust",)),
    "issuer_by_common_name": Partners(issuers=("CN=root",)),
    "dns": Partners(sans=("dns:mft.partner.example.",)),
    "email": Partners(sans=("email:Ops@partner.EXAMPLE",)),
    "uri": Partners(sans=("uri:urn:partner:7",)),
    "ip": Partners(sans=("ip:192.0.2.7",)),
    "ip_in_another_spelling": Partners(sans=("ip:2001:0db8:0::7",)),
    "fingerprint": Partners(fingerprints=(PRINT,)),
    "pin": Partners(spki_pins=(PIN,)),
    "every_kind": Partners(
        subjects=("CN=partner one",),
        issuers=("CN=root",),
        sans=("dns:x.example", "ip:192.0.2.7"),
        fingerprints=(PRINT,),
        spki_pins=(PIN,),
    ),
}
DENIED = {
    "nobody": (Partners(), "lists of partners are empty"),
    "subject_with_less": (Partners(subjects=("CN=Partner One,C=FR",)), "subjects"),
    "subject_with_more": (Partners(subjects=("CN=Partner One,O=Acme\\, Inc.,L=Paris,C=FR",)), "subjects"),
    "subject_in_another_order": (Partners(subjects=("C=FR,O=Acme\\, Inc.,CN=Partner One",)), "subjects"),
    "subject_that_is_part_of_a_name": (Partners(subjects=("CN=Partner",)), "subjects"),
    "subject_that_cannot_be_read": (Partners(subjects=("Partner One",)), "subjects"),
    "other_attribute_alone": (Partners(subjects=("C=FR",)), "subjects"),
    "issuer": (Partners(issuers=("CN=Partner One",)), "issuers"),
    "dns": (Partners(sans=("dns:partner.example",)), "sans"),
    "wildcard": (Partners(sans=("dns:*.partner.example",)), "sans"),
    "dns_as_uri": (Partners(sans=("uri:mft.partner.example",)), "sans"),
    "email_in_another_case": (Partners(sans=("email:ops@partner.example",)), "sans"),
    "ip": (Partners(sans=("ip:192.0.2.8",)), "sans"),
    "san_that_cannot_be_read": (Partners(sans=("mft.partner.example",)), "sans"),
    "fingerprint_of_the_key": (Partners(fingerprints=(PIN,)), "fingerprints"),
    "pin_of_the_certificate": (Partners(spki_pins=(PRINT,)), "spki_pins"),
    "one_kind_of_two": (Partners(subjects=("CN=partner one",), sans=("dns:x.example",)), "sans"),
}


@pytest.mark.parametrize("case", FITS)
def test_partner_on_the_lists_is_let_in(case):
    assert denied(FITS[case], PARTNER) is None


@pytest.mark.parametrize("case", DENIED)
def test_partner_not_on_every_list_is_denied_and_the_list_is_named(case):
    partners, named = DENIED[case]
    assert named in (denied(partners, PARTNER) or "")


@pytest.mark.parametrize(
    "subject", ["CN=other,CN=Partner One", "CN=Partner One,CN=other", "CN=Partner One+CN=other"]
)
def test_second_common_name_does_not_smuggle_a_partner_in(subject):
    leaf = parse_certificate(issue(ROOT, subject).der)
    assert denied(Partners(subjects=("CN=Partner One",)), leaf) is not None


def test_partner_without_alternative_names_fits_no_such_list():
    leaf = parse_certificate(issue(ROOT, "plain").der)
    assert "none" in (denied(Partners(sans=("dns:plain",)), leaf) or "")


@pytest.mark.parametrize("text", ["", "mft", "CN", "CN=", "=x", "CN=a,,O=b", "CN=a;O=b,"])
def test_name_that_cannot_be_read_is_told(text):
    with pytest.raises(InputError):
        check_name(text)


@pytest.mark.parametrize(
    "text", ["", "dns", "dns:", "host:a", "ip:1.2.3", "email:nobody", "dns: a", "dns:a\n"]
)
def test_alternative_name_that_cannot_be_read_is_told(text):
    with pytest.raises(InputError):
        check_san(text)


@given(st.text(max_size=40))
def test_any_entry_is_read_or_refused_and_never_lets_this_partner_in(text):
    wild = Partners(subjects=(text,), sans=(text,), issuers=(text,))
    assert denied(wild, PARTNER) is not None


# -- in a decision -------------------------------------------------------------------------------------------

GOOD = Statement(
    kind=SourceKind.OCSP,
    origin=Origin.NETWORK,
    received_at=NOW,
    depth=0,
    url="http://o/",
    raw=make_ocsp_response(ROOT, LEAF),
)
ALLOWED, OTHERS = FITS["common_name"], Partners(subjects=("CN=somebody else",))


def decide(partners: Partners | None, *statements: Statement, **trust: object) -> Verdict:
    question = Question(
        chain=(LEAF.der,),
        direction=Direction.SERVER,
        trust=TrustSet(**{"name": "t", "anchors": (ROOT.der,), **trust}),
        limits=Limits(),
        at=NOW,
        rule="night",
        partners=partners,
    )
    return conclude(examine(question), statements, verdict_id="v")


def test_partner_not_listed_is_refused_with_49_and_the_listed_one_let_in():
    assert (None, 0) == (decide(ALLOWED, GOOD).reason, decide(ALLOWED, GOOD).alert)
    assert (None, 0) == (decide(None, GOOD).reason, decide(None, GOOD).alert)
    verdict = decide(OTHERS, GOOD)
    assert (Reason.NOT_ALLOWED, 49) == (verdict.reason, verdict.alert)
    assert "partners of rule night" == verdict.evidence.faults[0].rule
    assert "not among the subjects of the rule: CN=Partner  One" in verdict.summary


def test_revoked_partner_that_is_not_listed_hears_44():
    revoked = replace(GOOD, raw=make_ocsp_response(ROOT, LEAF, "revoked"))
    verdict = decide(OTHERS, revoked)
    assert (Reason.REVOKED, 44) == (verdict.reason, verdict.alert)
    assert {Reason.REVOKED, Reason.NOT_ALLOWED} == {fault.reason for fault in verdict.evidence.faults}


def test_partner_that_is_not_listed_hears_49_also_where_its_status_is_not_known():
    failed = replace(GOOD, raw=None, failure=Cause.UNREACHABLE)
    assert 49 == decide(OTHERS, failed).alert
    assert 49 == decide(OTHERS, failed, policy=RESILIENT).alert


def test_stranger_with_the_right_name_stays_a_stranger():
    verdict = decide(OTHERS, GOOD, anchors=(make_root("Elsewhere").der,))
    assert (48, [Reason.NO_PATH]) == (verdict.alert, [fault.reason for fault in verdict.evidence.faults])


def test_audit_tells_who_is_not_listed_and_lets_in():
    verdict = decide(OTHERS, GOOD, policy=AUDIT)
    assert verdict.accepted
    assert "would have been refused 49 access_denied" in verdict.warnings[0]
