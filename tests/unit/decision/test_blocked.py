"""
Who is shut out by an operator's word or by a rule's `deny`: every spelling, every certificate of the path, every policy.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.blocks import Block, encode_blocks
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.policy import AUDIT, RESILIENT, STRICT
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.blocked import fits, matching, read_blocked
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record, decode, encode
from cftpki_ext.evidence.what_if import try_again
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.evidence_samples import heard
from tests.support.pki import NOW, Revoked, issue, make_crl, make_ocsp_response, make_root

ROOT = make_root("CN=Root,O=Trust")
CA = issue(ROOT, "CN=CA,O=Trust", ca=True)
LEAF = issue(
    CA,
    "CN=Partner  One,O=Acme\\, Inc.,C=FR",
    eku=["clientAuth"],
    san=["dns:MFT.partner.example", "ip:2001:db8::7"],
)
OTHER = issue(CA, "CN=Other,O=Acme\\, Inc.,C=FR", eku=["clientAuth"], san=["dns:other.example"])
TRUST = TrustSet(name="partners", anchors=(ROOT.der,))
GOOD = (
    heard(SourceKind.OCSP, make_ocsp_response(CA, LEAF), 0),
    heard(SourceKind.CRL, make_crl(ROOT), 1),
)
PRINT = sha256(LEAF.der).hexdigest()
PIN = sha256(parse_certificate(LEAF.der).spki).hexdigest()
COLONS = ":".join(PRINT[n : n + 2] for n in range(0, 64, 2)).upper()
BASE64 = base64.b64encode(bytes.fromhex(PIN)).decode()

SPELLINGS = {
    PRINT: f"sha256:{PRINT}",
    PRINT.upper(): f"sha256:{PRINT}",
    COLONS: f"sha256:{PRINT}",
    f"  {COLONS}\n": f"sha256:{PRINT}",
    COLONS.replace(":", " "): f"sha256:{PRINT}",
    f"sha256:{PRINT}": f"sha256:{PRINT}",
    f"SHA-256: {COLONS}": f"sha256:{PRINT}",
    f"sha256 Fingerprint={COLONS}": f"fingerprint:{PRINT}",
    f"SHA256 Fingerprint={COLONS}": f"fingerprint:{PRINT}",
    f"fingerprint:{PRINT}": f"fingerprint:{PRINT}",
    f"spki:{PIN}": f"spki:{PIN}",
    f"pin: {PIN.upper()}": f"spki:{PIN}",
    f"sha256//{BASE64}": f"spki:{PIN}",
    f"sha256/{BASE64}": f"spki:{PIN}",
    f'pin-sha256="{BASE64}"': f"spki:{PIN}",
    f"spki:{BASE64}": f"spki:{PIN}",
    BASE64: f"spki:{PIN}",
    "CN=Partner One,O=Acme\\, Inc.,C=FR": "subject:CN=Partner One,O=Acme\\, Inc.,C=FR",
    'CN="Partner One",O=Acme\\, Inc.,C=FR': "subject:CN=Partner One,O=Acme\\, Inc.,C=FR",
    "/C=FR/O=Acme, Inc./CN=Partner One": "subject:CN=Partner One,O=Acme\\, Inc.,C=FR",
    "subject=CN=Partner One,O=Acme\\, Inc.,C=FR": "subject:CN=Partner One,O=Acme\\, Inc.,C=FR",
    "subject:CN=partner one": "subject:CN=partner one",
    "CN=partner one": "subject:CN=partner one",
    "DNS:MFT.Partner.example.": "dns:mft.partner.example",
    "ip:2001:0db8:0::7": "ip:2001:db8::7",
}


# The numbers name them: what is made of keys is another in each process.
@pytest.mark.parametrize(("said", "what"), SPELLINGS.items(), ids=map(str, range(len(SPELLINGS))))
def test_spelling_is_read_and_means_the_partner(said, what):
    assert what == read_blocked(said)
    # What is kept is itself a spelling of the same.
    assert what == read_blocked(what)
    assert fits(what, parse_certificate(LEAF.der))
    assert not fits(what, parse_certificate(CA.der))
    assert not fits(what, parse_certificate(OTHER.der))


UNCLEAR = {
    "": "names nobody",
    "mft.partner.example": r"names nobody.*; perhaps dns:mft\.partner\.example, or CN=mft\.partner\.example",
    "ops@partner.example": "names nobody",
    "Partner One": "names nobody",
    PRINT[:-1]: "names nobody",
    f"{PRINT}ab": "names nobody",
    "fingerprint:": "names nobody",
    "sha256//AAAA": "names nobody",
    "C = FR, O = Acme, CN = mft": "in two orders: write 'C=FR,O=Acme,CN=mft' or 'CN=mft,O=Acme,C=FR'$",
    "C=FR, O=A\\, B, CN=mft": r"write 'C=FR,O=A\\, B,CN=mft' or 'CN=mft,O=A\\, B,C=FR'$",
    f"SHA1 Fingerprint={COLONS[:59]}": r"is no SHA-256: print .* openssl x509 -noout -fingerprint -sha256",
    COLONS[:59]: "is no SHA-256",
    PRINT[:40]: "is no SHA-256",
    PRINT[:32]: "is no SHA-256",
    "dns:": "is no alternative name",
    "ip:partner": "is no alternative name",
    "email:nobody": "is no alternative name",
    "CN=": "names nobody",
    "CN=a\x1b[31m": "names nobody",
    "CN=" + "x" * 20_000: "names nobody",
}


@pytest.mark.parametrize(("said", "why"), UNCLEAR.items(), ids=map(str, range(len(UNCLEAR))))
def test_what_could_mean_several_or_nobody_is_an_error_that_says_what_to_write(said, why):
    with pytest.raises(InputError, match=why) as error:
        read_blocked(said)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


@given(st.text(max_size=100))
def test_any_text_is_read_in_one_way_or_refused(text):
    try:
        what = read_blocked(text)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - what is promised of the error
        return
    assert what == read_blocked(what)
    fits(what, parse_certificate(LEAF.der))


def test_entry_is_found_in_any_spelling_of_it():
    entries = [
        Block(what=what, reason="r", by="b", at=NOW)
        for what in (f"fingerprint:{PRINT}", f"spki:{PIN}", "subject:CN=Partner One", "dns:a.example")
    ]
    assert (entries[0],) == matching(f"sha256:{PRINT}", entries)
    assert (entries[1],) == matching(f"sha256:{PIN}", entries)
    assert (entries[2],) == matching("subject:cn=PARTNER  one", entries)
    assert (entries[3],) == matching("dns:a.example", entries)
    assert () == matching(f"spki:{PRINT}", entries)
    assert () == matching("subject:CN=Partner Two", entries)


def block(*whats, until=None):
    return encode_blocks(
        Block(what=what, reason="its key was stolen", by="root (uid 0)", at=NOW, until=until)
        for what in whats
    )


def question(*, blocks=None, deny=(), chain=(LEAF.der, CA.der), trust=TRUST, **more):
    partners = Partners(deny=deny) if deny else None
    return Question(
        chain=chain,
        direction=Direction.SERVER,
        trust=trust,
        limits=Limits(),
        at=NOW,
        rule="in",
        blocks=blocks,
        partners=partners,
        **more,
    )


def judge(statements=GOOD, **given):
    return conclude(examine(question(**given)), statements, verdict_id="a" * 32)


def sha(der):
    return sha256(der).hexdigest()


ANYWHERE = {
    "leaf": (f"fingerprint:{PRINT}", 0),
    "leaf_by_bare_digest": (f"sha256:{PRINT}", 0),
    "leaf_by_key": (f"spki:{PIN}", 0),
    "leaf_by_name": ("subject:CN=Partner One,O=Acme\\, Inc.,C=FR", 0),
    "leaf_by_alternative_name": ("dns:mft.partner.example", 0),
    "ca": (f"fingerprint:{sha(CA.der)}", 1),
    "ca_by_key": (f"spki:{sha(parse_certificate(CA.der).spki)}", 1),
    "ca_by_name": ("subject:CN=CA,O=Trust", 1),
    "anchor": (f"sha256:{sha(ROOT.der)}", 2),
}


@pytest.mark.parametrize(("what", "depth"), ANYWHERE.values(), ids=ANYWHERE)
@pytest.mark.parametrize("policy", [STRICT, RESILIENT, AUDIT])
@pytest.mark.parametrize("form", ["block", "deny"])
def test_partner_with_it_anywhere_in_its_path_is_refused_under_every_policy(what, depth, policy, form):
    given = {"blocks": block(what)} if form == "block" else {"deny": (what,)}
    verdict = judge(trust=replace(TRUST, policy=policy), **given)
    assert (Reason.BLOCKED, 49, False) == (verdict.reason, verdict.alert, verdict.accepted)
    (fault,) = verdict.evidence.faults
    assert depth == fault.depth
    if form == "block":
        assert f"block {what}" == fault.rule
        assert "blocked by root (uid 0) since 2026-06-01 12:00:00Z: its key was stolen" == fault.detail
    else:
        assert "partners.deny of rule in" == fault.rule
        assert f"the rule lets nobody in who is {what}" == fault.detail


def test_others_are_let_in():
    assert judge(blocks=block(f"fingerprint:{sha(OTHER.der)}", "dns:other.example", "CN=Other")).accepted
    assert judge(deny=(f"spki:{PRINT}",)).accepted
    assert judge().accepted


def test_block_ends_at_its_moment():
    ends = NOW + timedelta(seconds=1)
    blocks = block(f"fingerprint:{PRINT}", until=ends)
    refused = judge(blocks=blocks)
    assert Reason.BLOCKED is refused.reason
    assert "until 2026-06-01 12:00:01Z" in refused.summary
    over = conclude(examine(replace(question(blocks=blocks), at=ends)), GOOD, verdict_id="a" * 32)
    assert over.accepted


def test_nobody_is_asked_about_a_blocked_partner():
    assert examine(question()).may_fetch
    assert not examine(question(blocks=block(f"fingerprint:{PRINT}"))).may_fetch


def test_revocation_that_is_known_is_told_first_and_the_block_beside_it():
    revoked = heard(SourceKind.CRL, make_crl(CA, [Revoked(LEAF.serial)]), 0)
    verdict = judge((revoked, GOOD[1]), blocks=block(f"fingerprint:{PRINT}"))
    assert (Reason.REVOKED, 44) == (verdict.reason, verdict.alert)
    assert {Reason.REVOKED, Reason.BLOCKED} == {fault.reason for fault in verdict.evidence.faults}
    # What audits lets in whom a CA has revoked, and nobody whom an operator has shut out.
    audited = judge(
        (revoked, GOOD[1]), blocks=block(f"fingerprint:{PRINT}"), trust=replace(TRUST, policy=AUDIT)
    )
    assert (Reason.REVOKED, 44) == (audited.reason, audited.alert)
    assert judge((revoked, GOOD[1]), trust=replace(TRUST, policy=AUDIT)).accepted


def test_chain_without_a_path_is_refused_for_the_block_where_a_policy_only_audits():
    audits = TrustSet(name="partners", anchors=(make_root("Another").der,), policy=AUDIT)
    assert judge((), trust=audits).accepted
    verdict = judge((), trust=audits, blocks=block(f"fingerprint:{PRINT}"))
    assert (Reason.NO_PATH, False) == (verdict.reason, verdict.accepted)
    assert [Reason.NO_PATH, Reason.BLOCKED] == [fault.reason for fault in verdict.evidence.faults]


def test_leaf_that_cannot_be_read_has_a_fingerprint_all_the_same():
    cut = LEAF.der[:-20]
    verdict = judge((), chain=(cut,), blocks=block(f"fingerprint:{sha(cut)}"))
    assert [Reason.MALFORMED, Reason.BLOCKED] == [fault.reason for fault in verdict.evidence.faults]


def test_path_that_leads_round_a_revoked_ca_is_looked_at_as_well():
    other_root = make_root("Other Root")
    crossed = issue(other_root, "CN=CA,O=Trust", ca=True, private=CA.key)
    both = TrustSet(name="partners", anchors=(ROOT.der, other_root.der))
    superseded = Revoked(CA.serial, reason=x509.ReasonFlags.superseded)
    statements = tuple(
        Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=raw)
        for raw in (make_crl(CA), make_crl(ROOT, [superseded]), make_crl(other_root))
    )
    chain = (LEAF.der, CA.der, crossed.der)
    assert judge(statements, chain=chain, trust=both, ask=False).accepted
    blocks = block(f"fingerprint:{sha(crossed.der)}")
    verdict = judge(statements, chain=chain, trust=both, ask=False, blocks=blocks)
    assert (Reason.REVOKED, 44) == (verdict.reason, verdict.alert)
    assert [Reason.BLOCKED, Reason.REVOKED] == [fault.reason for fault in verdict.evidence.faults]


def test_list_that_cannot_be_read_refuses_everybody():
    for policy in (STRICT, AUDIT):
        verdict = judge(blocks=b"[garbage" + bytes(80), trust=replace(TRUST, policy=policy))
        assert (Reason.INTERNAL_ERROR, 80) == (verdict.reason, verdict.alert)
        assert "list of blocked partners is no JSON" in verdict.summary


def test_rule_with_nothing_but_deny_lets_the_others_in_and_lists_count_beside_it():
    fits_nobody = Partners(subjects=("CN=nobody",), deny=(f"fingerprint:{PRINT}",))
    asked = replace(question(), partners=fits_nobody)
    verdict = conclude(examine(asked), GOOD, verdict_id="a" * 32)
    assert [Reason.BLOCKED, Reason.NOT_ALLOWED] == [fault.reason for fault in verdict.evidence.faults]
    assert Reason.BLOCKED is verdict.reason


def test_record_says_who_was_blocked_by_whom_and_replays():
    asked = question(blocks=block(f"fingerprint:{PRINT}"))
    verdict = conclude(examine(asked), GOOD, verdict_id="b" * 32)
    stored = encode(Record(question=asked, statements=GOOD, verdict=verdict, asked=Asked(door=Door.EXIT)))
    assert asked.blocks in stored.blobs.values()
    read = decode(stored.document, stored.blobs.get)
    assert asked.blocks == read.question.blocks
    assert () == try_again(read).differences
    # Without the list that held then it comes out otherwise.
    unblocked = replace(read, question=replace(read.question, blocks=None))
    assert {"status", "reason", "alert"} <= {one.what for one in try_again(unblocked).differences}


def test_record_without_blocks_is_written_as_before():
    plain = Record(question=question(), statements=GOOD, verdict=judge(), asked=Asked(door=Door.EXIT))
    assert b'"blocks"' not in encode(plain).document
    assert None is decode(encode(plain).document, encode(plain).blobs.get).question.blocks
