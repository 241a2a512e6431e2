"""
Revocation speaks of certificates, compromise of keys: an issuing CA that is cross-certified under two roots.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.other_paths import NOTHING_AGAINST_THE_KEY, paths_tried
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record, decide_again, decode, differences, encode
from cftpki_ext.x509.reasons import REASONS
from tests.support.pki import NOW, Entity, Revoked, issue, make_crl, make_root
from tests.support.virtual_world import Store, World

OLD_ROOT, NEW_ROOT = make_root("Old Root"), make_root("New Root")
OLD = issue(OLD_ROOT, "Issuing CA", ca=True, crl_urls=["http://old/crl"])
NEW = issue(NEW_ROOT, "Issuing CA", ca=True, private=OLD.key, crl_urls=["http://new/crl"])
LEAF = issue(OLD, "partner", eku=["clientAuth"], crl_urls=["http://ca/crl"])
FLAGS = {flag.value: flag for flag in x509.ReasonFlags}
BOTH = (OLD_ROOT, NEW_ROOT)


def heard(raw: bytes) -> Statement:
    """
    A list that is tried for every certificate.
    """
    return Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=raw)


def listed(root: Entity, ca: Entity, reason: str | None) -> Statement:
    entry = Revoked(ca.serial, reason=None if reason is None else FLAGS[reason])
    return heard(make_crl(root, [entry]))


def question(*chain: Entity, anchors: tuple[Entity, ...] = BOTH, **trust: Any) -> Question:
    return Question(
        chain=tuple(one.der for one in (chain or (LEAF, OLD, NEW))),
        direction=Direction.SERVER,
        trust=TrustSet(name="t", anchors=tuple(root.der for root in anchors), **trust),
        limits=Limits(),
        at=NOW,
        rule=None,
        ask=False,
    )


def decide(asked: Question, *statements: Statement) -> Verdict:
    verdict = conclude(examine(asked), statements, verdict_id="a" * 32)
    record = Record(question=asked, statements=statements, verdict=verdict, asked=Asked(door=Door.CLI))
    stored = encode(record)
    again = decide_again(decode(stored.document, stored.blobs.get))
    assert (verdict, ()) == (again, differences(verdict, again))
    return verdict


GOOD = (heard(make_crl(OLD)), heard(make_crl(OLD_ROOT)), heard(make_crl(NEW_ROOT)))


@pytest.mark.parametrize("order", [(LEAF, OLD, NEW), (LEAF, NEW, OLD)], ids=["old_first", "new_first"])
@pytest.mark.parametrize("revoked", ["old", "new"])
@pytest.mark.parametrize("reason", [*(name for name in REASONS.values() if name != "removeFromCRL"), None])
def test_cross_certificate_that_is_revoked_leaves_the_other_path_unless_the_key_is_dead(
    reason, revoked, order
):
    root, ca = {"old": (OLD_ROOT, OLD), "new": (NEW_ROOT, NEW)}[revoked]
    verdict = decide(question(*order), *GOOD, listed(root, ca, reason))
    if reason not in NOTHING_AGAINST_THE_KEY:
        assert (44, Reason.REVOKED) == (verdict.alert, verdict.reason)
        return
    assert verdict.accepted, verdict.summary
    other = {"old": NEW_ROOT, "new": OLD_ROOT}[revoked]
    assert other.certificate.subject.rfc4514_string() == verdict.evidence.path[-1].subject
    taken = [warning for warning in verdict.warnings if warning.startswith("another path was taken")]
    if taken:
        assert f"CN=Issuing CA is {'on_hold' if reason == 'certificateHold' else 'revoked'}" in taken[0]
        assert ca.serial == int(verdict.evidence.beside[0].serial, 16)


def test_both_certificates_revoked_for_anything_refuse():
    verdict = decide(
        question(), *GOOD, listed(OLD_ROOT, OLD, "superseded"), listed(NEW_ROOT, NEW, "cessationOfOperation")
    )
    assert (44, Reason.REVOKED) == (verdict.alert, verdict.reason)


def test_superseded_without_another_path_is_revoked():
    verdict = decide(question(LEAF, OLD), *GOOD, listed(OLD_ROOT, OLD, "superseded"))
    assert (44, Reason.REVOKED) == (verdict.alert, verdict.reason)
    untrusted = decide(question(anchors=(OLD_ROOT,)), *GOOD, listed(OLD_ROOT, OLD, "superseded"))
    assert 44 == untrusted.alert


def test_other_path_that_is_not_established_refuses_for_what_was_wrong_with_the_first():
    statements = (heard(make_crl(OLD)), listed(OLD_ROOT, OLD, "superseded"))
    verdict = decide(question(), *statements)
    assert (44, Reason.REVOKED) == (verdict.alert, verdict.reason)
    assert {Reason.REVOKED, Reason.STATUS_NOT_ESTABLISHED} == {
        fault.reason for fault in verdict.evidence.faults
    }


def test_key_is_dead_though_the_certificate_that_says_so_is_not_on_the_path():
    """
    The path ends at one root; the partner's other certificate of the same key is compromised under the other.
    """
    asked = question(LEAF, NEW, OLD)
    assert [NEW_ROOT.der] == [examine(asked).path[-1].der]
    verdict = decide(asked, *GOOD, listed(OLD_ROOT, OLD, "keyCompromise"))
    assert (44, Reason.REVOKED) == (verdict.alert, verdict.reason)
    assert "its key is compromised, another certificate of it" in verdict.summary
    fine = decide(asked, *GOOD, listed(OLD_ROOT, OLD, "superseded"))
    assert (0, ()) == (fine.alert, fine.warnings)


def test_certificate_of_the_key_that_no_trusted_ca_issued_says_nothing():
    stranger = make_root("Stranger")
    forged = issue(stranger, "Issuing CA", ca=True, private=OLD.key)
    verdict = decide(question(LEAF, OLD, forged), *GOOD, listed(stranger, forged, "keyCompromise"))
    assert verdict.accepted, verdict.summary


def test_dead_key_above_leaves_a_path_around_it():
    """
    The policy CA is compromised; the issuing CA has another certificate, straight from the other root.
    """
    policy_ca = issue(OLD_ROOT, "Policy CA", ca=True)
    below = issue(policy_ca, "Issuing CA", ca=True, private=OLD.key)
    statements = (*GOOD, heard(make_crl(policy_ca)), listed(OLD_ROOT, policy_ca, "keyCompromise"))
    verdict = decide(question(LEAF, below, policy_ca, NEW), *statements)
    assert verdict.accepted, verdict.summary
    assert 1 == len([w for w in verdict.warnings if w.startswith("another path was taken: CN=Policy CA")])


def test_paths_that_are_tried_are_few():
    roots = [make_root(f"Root {n}") for n in range(12)]
    cas = [issue(root, "Issuing CA", ca=True, private=OLD.key) for root in roots]
    lists = [listed(root, ca, "superseded") for root, ca in zip(roots, cas, strict=True)]
    asked = question(LEAF, *cas[:9], anchors=tuple(roots))
    assert 44 == decide(asked, *GOOD, *lists).alert
    assert 5 == len(paths_tried(examine(asked), (*GOOD, *lists)))


# -- asked of sources ----------------------------------------------------------------------------------------

LISTS = {
    "http://ca/crl": make_crl(OLD),
    "http://old/crl": make_crl(OLD_ROOT),
    "http://new/crl": make_crl(NEW_ROOT),
}


def asking(**lists: bytes | Cause) -> World:
    changed = {f"http://{name}/crl": raw for name, raw in lists.items()}
    answers = {(SourceKind.CRL, url): (0.2, raw) for url, raw in (LISTS | changed).items()}
    return World(
        answers=answers, leaf=LEAF, trust={"sources": (SourceKind.CRL,)}, chain=(LEAF, OLD, NEW), anchors=BOTH
    )


def test_other_path_is_asked_about_within_the_same_budget_and_remembered():
    superseded = make_crl(OLD_ROOT, [Revoked(OLD.serial, reason=x509.ReasonFlags.superseded)])
    world = asking(old=superseded)
    verdict = world.check()
    assert verdict.accepted, verdict.summary
    assert {"http://ca/crl", "http://old/crl", "http://new/crl"} == {
        url for url, _ in world.asked(SourceKind.CRL)
    }
    world.answers = {key: value for key, value in world.answers.items() if key[1] != "http://old/crl"}
    world.store = Store()
    again = world.check()  # the memory knows of the revocation now
    assert (True, verdict.warnings[:1]) == (again.accepted, again.warnings[:1])


@pytest.mark.parametrize("compromised", ["old", "new"])
def test_compromise_that_only_another_certificate_s_list_tells_is_asked_for(compromised):
    root, ca = {"old": (OLD_ROOT, OLD), "new": (NEW_ROOT, NEW)}[compromised]
    world = asking(**{compromised: make_crl(root, [Revoked(ca.serial)])})
    assert 44 == world.check().alert
    world.answers, world.store = asking().answers, Store()
    assert 44 == world.check().alert


def test_silent_list_of_a_certificate_beside_the_path_costs_one_hedge_at_most():
    world = asking()
    path_root = examine(question(LEAF, OLD, NEW)).path[-1].der
    beside = "http://new/crl" if path_root == OLD_ROOT.der else "http://old/crl"
    world.answers = {**world.answers, (SourceKind.CRL, beside): (float("inf"), b"")}
    verdict = world.check()
    assert (0, ()) == (verdict.alert, verdict.warnings)
    assert 0.7 == round(world.took, 1)
