"""One chain of whatever a CA sends, and every difference from what was asked for."""

import itertools
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

import pytest

from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.enroller_port import Issued, Names
from cftpki_ext.identity.issuance.gate import Aspect, Wanted, compare
from cftpki_ext.identity.issuance.normalise import Chain, Unusable, normalise
from cftpki_ext.x509.certificate import parse_certificate
from tests.support import pki

NOW, DAY = pki.NOW, pki.DAY
ROOT = pki.make_root("Gate Root")
ISSUING = pki.issue(ROOT, "Gate Issuing", ca=True)
LOWER = pki.issue(ISSUING, "Gate Lower", ca=True)
STRANGER = pki.make_root("Stranger")
SAN = ("dns:mft.corp.example", "ip:10.1.2.3", "ip:2001:db8::1")
BITS = ("digitalSignature", "keyEncipherment")
NAMES = Names(
    common_name="mft.corp.example",
    dns=("mft.corp.example",),
    addresses=(ip_address("10.1.2.3"), ip_address("2001:db8::1")),
)
WANTED = Wanted(names=NAMES, usages=frozenset(Usage), key=KeyKind.P256)


def leaf(issuer=LOWER, **changes):
    options = {
        "san": SAN,
        "eku": ["serverAuth", "clientAuth"],
        "usage": BITS,
        "not_after": NOW + 29 * DAY,
        "private": pki.key("ec", "gate"),
    }
    return pki.issue(issuer, "mft.corp.example", **{**options, **changes})


LEAF = leaf()
KEY = parse_certificate(LEAF.der).spki


def made(*ders, extra=(), alternates=(), anchors=(ROOT,), now=NOW, keep_root=False):
    return normalise(
        Issued(certificates=ders, extra=extra, alternates=alternates),
        public_key=KEY,
        anchors=[parse_certificate(one.der) for one in anchors],
        now=now,
        keep_root=keep_root,
    )


def ders(chain):
    return [certificate.der for certificate in chain.certificates]


FULL = [LEAF.der, LOWER.der, ISSUING.der]


@pytest.mark.parametrize("order", list(itertools.permutations([LEAF.der, LOWER.der, ISSUING.der, ROOT.der])))
def test_chain_in_any_order_comes_out_leaf_first_without_root(order):
    assert FULL == ders(made(*order))


def test_leaf_alone_is_completed_from_extra():
    assert FULL == ders(made(LEAF.der, extra=(ISSUING.der, LOWER.der, ROOT.der)))


def test_root_is_sent_where_configured():
    assert [*FULL, ROOT.der] == ders(made(*FULL, keep_root=True))


def test_duplicates_and_strangers_are_left_out_and_told():
    chain = made(*FULL, *FULL, STRANGER.der)
    assert FULL == ders(chain)
    assert ("not part of the chain: CN=Stranger",) == chain.notes


def test_bytes_that_are_no_certificate_are_left_out_and_told():
    chain = made(*FULL, b"\x30\x03\x02\x01\x01")
    assert FULL == ders(chain)
    assert "unreadable" in chain.notes[0]


def test_alternate_is_taken_where_the_first_chain_leads_nowhere():
    other = pki.make_root("Gate Issuing", private=pki.key("ec", "not ours"))
    chain = made(LEAF.der, other.der, alternates=((LEAF.der, LOWER.der, ISSUING.der),))
    assert FULL == ders(chain)


def test_pinned_issuing_ca_as_anchor_is_sent_too():
    assert FULL == ders(made(*FULL, anchors=(ISSUING,)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "none of 0 certificates"),
        ((LOWER.der, ISSUING.der), "none of 2 certificates is for our key"),
        ((LEAF.der,), "is not among"),
        ((leaf(STRANGER).der, STRANGER.der), "is not an anchor"),
        ((b"junk",), "unreadable"),
        (tuple(pki.issue(ROOT, f"n{n}").der for n in range(41)), "more than 40"),
    ],
)
def test_answer_without_a_chain_is_unusable_and_says_why(given, said):
    found = made(*given)
    assert isinstance(found, Unusable)
    assert said in found.detail


def test_wrong_signature_is_unusable():
    forged = pki.issue(
        LOWER, "mft.corp.example", private=pki.key("ec", "gate"), signing_key=pki.key("ec", "forger"), san=SAN
    )
    found = made(forged.der, LOWER.der, ISSUING.der)
    assert isinstance(found, Unusable)
    assert f"{forged.serial:x}".zfill(4) in found.serial


def test_chain_is_judged_at_not_before_where_that_is_still_to_come():
    future = leaf(not_before=NOW + DAY, not_after=NOW + 9 * DAY)
    chain = made(future.der, LOWER.der, ISSUING.der)
    assert isinstance(chain, Chain)
    passage = compare(WANTED, chain, now=NOW)
    assert ((), NOW + DAY) == (passage.differences, passage.hold_until)


def judged(wanted=WANTED, **changes):
    issuer = changes.pop("issuer", LOWER)
    one = leaf(issuer, **changes)
    certificates = [parse_certificate(der) for der in (one.der, LOWER.der, ISSUING.der)]
    chain = Chain(certificates=tuple(certificates), anchor=parse_certificate(ROOT.der))
    return compare(wanted, chain, now=NOW)


def aspects(passage):
    return [difference.aspect for difference in passage.differences]


def test_certificate_as_asked_for_has_no_differences():
    passage = judged()
    assert ((), None) == (passage.differences, passage.hold_until)


@pytest.mark.parametrize(
    ("changes", "aspect", "said"),
    [
        ({"san": SAN[:1]}, Aspect.NAMES, "without ip:10.1.2.3"),
        ({"san": [*SAN, "dns:more.example"]}, Aspect.NAMES, "also dns:more.example"),
        ({"san": [*SAN, "email:a@b.example"]}, Aspect.NAMES, "also email"),
        ({"san": []}, Aspect.NAMES, "without dns:mft.corp.example"),
        ({"kind": "rsa", "private": None}, Aspect.KEY, "rsa2048"),
        ({"eku": ["serverAuth"]}, Aspect.USAGE, "tls_client needs"),
        ({"eku": ["clientAuth"]}, Aspect.USAGE, "tls_server needs"),
        ({"usage": ["contentCommitment"]}, Aspect.USAGE, "key usage"),
        ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, Aspect.EXPIRED, "ended"),
    ],
)
def test_each_difference_is_found_and_told(changes, aspect, said):
    passage = judged(**changes)
    assert aspect in aspects(passage)
    assert any(said in str(difference) for difference in passage.differences)


def test_names_are_compared_without_case_and_final_dot():
    assert () == judged(san=["dns:MFT.corp.example", *SAN[1:]]).differences


def test_extended_key_usage_that_is_absent_allows_everything():
    assert () == judged(eku=None).differences


def test_lifetime_below_the_share_of_what_was_asked_for_differs():
    wanted = replace(WANTED, lifetime=40 * DAY, lifetime_share=0.9)
    assert [Aspect.LIFETIME] == aspects(judged(wanted))
    assert [] == aspects(judged(replace(wanted, lifetime=30 * DAY)))


def test_lifetime_that_ends_before_the_chain_in_force_differs():
    assert [Aspect.LIFETIME] == aspects(judged(replace(WANTED, ends=NOW + 40 * DAY)))
    assert [] == aspects(judged(replace(WANTED, ends=NOW + 29 * DAY + timedelta(minutes=4))))


def test_issuer_other_than_configured_differs():
    allowed = frozenset({parse_certificate(LOWER.der).spki})
    assert [] == aspects(judged(replace(WANTED, issuers=allowed)))
    assert [Aspect.ISSUER] == aspects(judged(replace(WANTED, issuers=frozenset({b"other"}))))


def test_policy_that_is_missing_differs():
    wanted = replace(WANTED, policies=frozenset({"1.2.3"}))
    assert [Aspect.POLICY] == aspects(judged(wanted))
    assert [] == aspects(judged(wanted, extensions=[(pki.policies("1.2.3", "1.2.4"), False)]))


def test_ca_certificate_differs():
    assert Aspect.CA in aspects(judged(ca=True, usage=[*BITS, "keyCertSign"]))
