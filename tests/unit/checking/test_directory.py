"""
A partner that a directory must know: who is asked, what is kept, what an outage does, and when a verdict is given again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import AUDIT, RESILIENT, STRICT, Action, PartnerException, Policy, Treatment
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.source_settings import Demand, DirectoryProfile, LdapAccess, Requirement
from cftpki_ext.core.verdict import Reason
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record, decide_again, differences, encode
from cftpki_ext.evidence.record import parsed, record_from
from tests.support.directory_answers import entries
from tests.support.pki import NOW, issue
from tests.support.virtual_world import CA, EVER, GOOD, LEAF, REVOKED, ROOT, Clock, world
from tests.unit.checking.test_standing import AT_ONCE, until

DIRECTORY = SourceKind.DIRECTORY
BASE = "ou=partners,dc=example"
PROFILE = DirectoryProfile(
    access=LdapAccess(servers=("ldaps://dc1.example",)),
    base=BASE,
    filter="(cn={subject.CN})",
    requirements=(
        Requirement(demand=Demand.VALUE, attribute="accountActive", values=("TRUE",)),
        Requirement(demand=Demand.GROUP, base="ou=groups,dc=example", filter="(member={entry})"),
    ),
)
NAME = f"cn=partner,{BASE}"
ENTRY = f"ldap:///{BASE}?accountActive?sub?(cn=partner)"
GROUP = f"ldap:///ou=groups,dc=example?1.1?sub?(member={NAME})"
ACTIVE, LOCKED = (entries((NAME, {"accountActive": value})) for value in ("TRUE", "FALSE"))
IN_GROUP, ABSENT = entries(("cn=mft", {})), entries()
MINUTE = timedelta(minutes=1)


def site(entry=(0, ACTIVE), group=(0, IN_GROUP), *, trust=None, **options):
    more = {(DIRECTORY, ENTRY): entry, (DIRECTORY, GROUP): group}
    return world(more=more, trust={"directory": PROFILE, **(trust or {})}, **options)


def later(w, by, **answers):
    """
    The same stores, so much later, with other answers.
    """
    return site(store=w.store, proofs=w.proofs, clock=Clock(by), **answers)


# -- verdicts --------------------------------------------------------------------------------------------------------


def test_partner_that_the_directory_knows_is_let_in():
    w = site()
    verdict = w.check()
    assert verdict.accepted
    assert verdict.summary.endswith(f"found as {NAME}, 2 requirements met")
    assert [(ENTRY, 0), (GROUP, 0)] == w.asked(DIRECTORY)
    assert ((), ()) == (verdict.evidence.rows, verdict.warnings)


@pytest.mark.parametrize(
    ("entry", "group", "cause"),
    [
        (ABSENT, IN_GROUP, Cause.DIRECTORY_NOT_FOUND),
        (LOCKED, IN_GROUP, Cause.DIRECTORY_ASSERTION_FAILED),
        (ACTIVE, ABSENT, Cause.DIRECTORY_ASSERTION_FAILED),
        (entries((NAME, {}), ("cn=b", {})), IN_GROUP, Cause.DIRECTORY_AMBIGUOUS),
    ],
)
def test_partner_that_the_directory_does_not_know_so_is_refused_with_49(entry, group, cause):
    verdict = site((0, entry), (0, group)).check()
    assert (49, Reason.NOT_ALLOWED) == (verdict.alert, verdict.reason)
    assert [f"policy strict: {cause.value}"] == [fault.rule for fault in verdict.evidence.faults]


@pytest.mark.parametrize("failure", [Cause.UNREACHABLE, Cause.UNAUTHORIZED, b"no ldap"])
def test_directory_that_does_not_say_refuses_with_46(failure):
    verdict = site((0, failure)).check()
    assert (46, Reason.STATUS_NOT_ESTABLISHED) == (verdict.alert, verdict.reason)


def test_silent_directory_is_waited_for_within_the_one_budget():
    w = site((EVER, ACTIVE))
    verdict = w.check()
    assert 46 == verdict.alert
    assert 4.8 == round(w.took, 3)
    assert "directory_unreachable: timed_out, no answer within the budget of 5000 ms" in verdict.summary


def test_directory_is_asked_beside_the_cas():
    w = site((1.0, ACTIVE), (0.5, IN_GROUP), ocsp=(1.2, GOOD))
    assert w.check().accepted
    assert 1.5 == round(w.took, 3)


def test_revoked_partner_is_refused_for_that():
    verdict = site((0, ABSENT), ocsp=(0, REVOKED)).check()
    assert (44, Reason.REVOKED) == (verdict.alert, verdict.reason)


def test_directory_is_not_waited_for_where_the_partner_is_known_to_be_revoked():
    first = site(ocsp=(0, REVOKED))
    assert 44 == first.check().alert
    again = later(first, MINUTE, entry=(EVER, ACTIVE))
    assert 44 == again.check().alert
    assert 0 == again.took


def test_chain_that_is_not_trusted_asks_nobody():
    w = site(anchors=(issue(None, "Elsewhere", ca=True),))
    assert 48 == w.check().alert
    assert [] == w.asked(DIRECTORY)


def test_path_alone_asks_nobody():
    w = site()
    assert w.check(path_only=True).accepted
    assert [] == w.asked(DIRECTORY)


def test_partner_that_is_an_anchor_itself_must_be_known_too():
    known = site(chain=(LEAF,), anchors=(LEAF,))
    assert known.check().accepted
    assert 49 == site((0, ABSENT), chain=(LEAF,), anchors=(LEAF,)).check().alert


# -- policies --------------------------------------------------------------------------------------------------------


def test_audit_lets_in_and_says_what_would_be():
    verdict = site((0, LOCKED), trust={"policy": AUDIT}).check()
    assert verdict.accepted
    assert "audit: would have been refused 49" in verdict.summary


def test_row_of_a_policy_lets_in_with_a_warning():
    policy = Policy(name="new", treatments={Cause.DIRECTORY_NOT_FOUND: Treatment(action=Action.ACCEPT_WARN)})
    verdict = site((0, ABSENT), trust={"policy": policy}).check()
    assert verdict.accepted
    assert [Cause.DIRECTORY_NOT_FOUND] == [row.cause for row in verdict.evidence.rows]
    assert 49 == site((0, LOCKED), trust={"policy": policy}).check().alert


@pytest.mark.parametrize(
    ("failure", "alert"), [(Cause.UNREACHABLE, 0), (ABSENT, 49), (Cause.UNAUTHORIZED, 46)]
)
def test_exception_of_a_partner_lifts_an_outage_and_no_refusal(failure, alert):
    exception = PartnerException(
        fingerprint=sha256(LEAF.der).hexdigest(),
        until=NOW + timedelta(days=1),
        reason="ticket",
    )
    verdict = site((0, failure), trust={"policy": replace(STRICT, exceptions=(exception,))}).check()
    assert alert == verdict.alert


# -- the cache, and outages ------------------------------------------------------------------------------------------


def test_answer_of_the_cache_is_enough_while_it_is_young():
    first = site()
    first.check()
    again = later(first, 4 * MINUTE)
    assert again.check().accepted
    assert [] == again.asked(DIRECTORY)


def test_answer_past_its_refresh_age_is_asked_for_anew():
    first = site()
    first.check()
    again = later(first, 6 * MINUTE, entry=(0, LOCKED))
    assert 49 == again.check().alert
    assert [ENTRY] == [url for url, _ in again.asked(DIRECTORY)]


def test_partner_that_was_refused_is_asked_for_anew_at_once():
    first = site((0, LOCKED))
    assert 49 == first.check().alert
    again = later(first, MINUTE)
    assert again.check().accepted


def test_group_that_refused_is_asked_for_anew_at_once():
    first = site(group=(0, ABSENT))
    assert 49 == first.check().alert
    assert later(first, MINUTE).check().accepted


def test_outage_refuses_under_strict_and_is_bridged_for_a_day_under_resilient():
    first = site()
    first.check()
    down = {"entry": (0, Cause.UNREACHABLE), "group": (0, Cause.UNREACHABLE)}
    assert 46 == later(first, 6 * MINUTE, **down).check().alert
    resilient = {"trust": {"policy": RESILIENT}, **down}
    bridged = later(first, 6 * MINUTE, **resilient).check()
    assert bridged.accepted
    assert [Cause.DIRECTORY_UNREACHABLE] == [row.cause for row in bridged.evidence.rows]
    assert 46 == later(first, timedelta(hours=25), **resilient).check().alert


def test_partner_that_was_locked_stays_out_while_the_directory_is_down():
    first = site()
    first.check()
    locked = later(first, 6 * MINUTE, entry=(0, LOCKED))
    assert 49 == locked.check().alert
    down = later(first, 12 * MINUTE, entry=(0, Cause.UNREACHABLE), trust={"policy": RESILIENT})
    assert 49 == down.check().alert


def test_nothing_that_cannot_be_read_is_kept():
    w = site((0, b"no ldap"))
    w.check()
    assert not any(key.startswith("directory:") for key in w.store.kept)


def test_answer_is_not_shared_with_another_account():
    first = site()
    first.check()
    other = replace(PROFILE, access=replace(PROFILE.access, bind_dn="cn=x"))
    again = later(first, MINUTE, trust={"directory": other})
    again.check()
    assert [ENTRY, GROUP] == [url for url, _ in again.asked(DIRECTORY)]


def test_nobody_is_asked_where_nobody_may_be():
    w = site(kinds=())
    verdict = w.check(ask=False)
    assert "directory_unreachable" in {row.cause.value for row in verdict.evidence.rows}


# -- verdicts that are given again -----------------------------------------------------------------------------------

QUESTION = Question(
    chain=(LEAF.der, CA.der),
    direction=Direction.SERVER,
    trust=TrustSet(name="t", anchors=(ROOT.der,), directory=PROFILE),
    limits=Limits(),
    at=NOW,
    rule="in",
)
CACHE = {**AT_ONCE, (DIRECTORY, ENTRY): ACTIVE, (DIRECTORY, GROUP): IN_GROUP}


def test_verdict_stands_until_the_directory_is_asked_again():
    limits = Limits(directory_refresh=2 * MINUTE)
    found, verdict = until(replace(QUESTION, limits=limits), CACHE)
    assert verdict.accepted
    assert NOW + 2 * MINUTE - timedelta(seconds=1) == found


def test_verdict_without_the_directorys_word_does_not_stand():
    found, _ = until(QUESTION, AT_ONCE)
    assert None is found


# -- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [ACTIVE, LOCKED, Cause.UNREACHABLE])
def test_recorded_verdict_is_decided_again_alike(entry):
    verdict, statements, question = site((0, entry)).judge()
    record = Record(question=question, statements=statements, verdict=verdict, asked=Asked(door=Door.CLI))
    stored = encode(record)
    read = record_from(parsed(stored.document), stored.blobs.get)
    assert () == differences(read.verdict, decide_again(read))
    assert record.verdict.evidence.directory == read.verdict.evidence.directory
