"""
What a directory says of a partner, from the octets of its answers: found, not found, ambiguous, not as it must be.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.ldap_ber import AnswerError
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.source_settings import (
    Demand,
    DirectoryProfile,
    LdapAccess,
    Matching,
    Requirement,
    Several,
)
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.directory.answer import read_answer
from cftpki_ext.directory.judge import DirectoryCase
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.directory_answers import entries
from tests.support.pki import NOW, issue, make_root

ROOT = make_root("Root")
LEAF = issue(ROOT, "partner", eku=["clientAuth"])
OTHER = issue(ROOT, "other", eku=["clientAuth"])
BASE = "ou=partners,dc=example"
NAME = f"cn=partner,{BASE}"
FOUND = (NAME, {"accountActive": "TRUE"})
ACCESS = LdapAccess(servers=("ldaps://dc1.example",))
PROFILE = DirectoryProfile(access=ACCESS, base=BASE, filter="(cn={subject.CN})")
ACTIVE = Requirement(demand=Demand.VALUE, attribute="accountActive", values=("TRUE",))
URL = "ldap:///ou=partners,dc=example?1.1?sub?(cn=partner)"
REFRESH = Limits().directory_refresh


def case(profile=PROFILE, leaf=LEAF, **limits):
    return DirectoryCase(
        profile=profile, limits=replace(Limits(), **limits), certificate=parse_certificate(leaf.der), at=NOW
    )


def said(raw, url=None, *, origin=Origin.NETWORK, age=timedelta(0)):
    failure = {} if isinstance(raw, bytes) else {"failure": raw, "detail": "no answer"}
    return Statement(
        kind=SourceKind.DIRECTORY,
        origin=origin,
        received_at=NOW - age,
        depth=0,
        url=url,
        raw=raw if isinstance(raw, bytes) else None,
        **failure,
    )


def judged(raw, profile=PROFILE, *, leaf=LEAF, **options):
    one = case(profile, leaf)
    (lookup,) = one.judge(()).lookups
    return one.judge((said(raw, lookup.url, **options),)).finding


def requiring(*requirements, **options):
    return replace(PROFILE, requirements=requirements, **options)


# -- the search ------------------------------------------------------------------------------------------------------


def test_search_is_an_ldap_url_without_a_host():
    assert [URL] == [one.url for one in case().judge(()).lookups]


def test_search_asks_for_what_is_demanded_and_nothing_else():
    profile = requiring(
        ACTIVE,
        Requirement(demand=Demand.ABSENT, attribute="pwdAccountLockedTime"),
        Requirement(demand=Demand.MEMBER, attribute="memberOf", group="cn=mft"),
        Requirement(demand=Demand.GROUP, base="dc=x", filter="(memberUid={entry.uid})"),
        certificate="userCertificate;binary",
    )
    (lookup,) = case(profile).judge(()).lookups
    wanted = "userCertificate;binary,accountActive,pwdAccountLockedTime,memberOf,uid"
    assert f"?{wanted}?" in lookup.url


def test_nobody_is_asked_where_the_certificate_has_nothing_to_search_by():
    judged_ = case(replace(PROFILE, filter="(uid={subject.UID})")).judge(())
    assert () == judged_.lookups
    assert Cause.DIRECTORY_NOT_FOUND is judged_.finding.cause
    assert "nothing to search by, the certificate has no subject.UID" == judged_.finding.detail


# -- what is found ---------------------------------------------------------------------------------------------------


def test_partner_with_an_entry_is_known():
    finding = judged(entries(FOUND))
    assert (CertificateStatus.GOOD, None) == (finding.status, finding.cause)
    assert f"found as {NAME}" == finding.detail


@pytest.mark.parametrize(
    ("raw", "cause", "detail"),
    [
        (
            entries(),
            Cause.DIRECTORY_NOT_FOUND,
            f"no entry is found by (cn=partner) under {BASE}",
        ),
        (
            entries(referred=2),
            Cause.DIRECTORY_NOT_FOUND,
            f"no entry is found by (cn=partner) under {BASE}; 2 referrals were not followed",
        ),
        (
            entries(FOUND, (f"cn=b,{BASE}", {})),
            Cause.DIRECTORY_AMBIGUOUS,
            f"{NAME} and cn=b,{BASE} are found by (cn=partner) under {BASE}",
        ),
        (entries(FOUND, code=4), Cause.DIRECTORY_AMBIGUOUS, None),
        (entries(code=4), Cause.DIRECTORY_UNUSABLE, "too many entries to look at, and none was sent"),
        (entries(code=32), Cause.DIRECTORY_UNUSABLE, f"the base {BASE} is not there, or not for us"),
        (entries(code=51), Cause.DIRECTORY_UNUSABLE, "malformed, the search ended with result code 51"),
        (b"", Cause.DIRECTORY_UNUSABLE, "malformed, the search has no end"),
        (entries(FOUND)[:-3], Cause.DIRECTORY_UNUSABLE, None),
        (entries(FOUND) + b"0", Cause.DIRECTORY_UNUSABLE, None),
        (b"HTTP/1.1 200 OK", Cause.DIRECTORY_UNUSABLE, None),
        (Cause.UNREACHABLE, Cause.DIRECTORY_UNREACHABLE, "unreachable, no answer"),
        (Cause.TIMED_OUT, Cause.DIRECTORY_UNREACHABLE, "timed_out, no answer"),
        (Cause.UNAUTHORIZED, Cause.DIRECTORY_UNUSABLE, "unauthorized, no answer"),
        (Cause.FORBIDDEN_URL, Cause.DIRECTORY_UNUSABLE, "forbidden_url, no answer"),
    ],
)
def test_what_is_not_one_entry_has_its_cause(raw, cause, detail):
    finding = judged(raw)
    assert (CertificateStatus.UNDETERMINED, cause) == (finding.status, finding.cause)
    assert detail is None or detail == finding.detail


def test_base_made_of_the_certificate_that_is_not_there_is_no_entry():
    profile = replace(PROFILE, base="ou={subject.CN},dc=example", filter="(objectClass=*)")
    assert Cause.DIRECTORY_NOT_FOUND is judged(entries(code=32), profile).cause


def test_answer_to_another_search_is_no_answer():
    finding = case().judge((said(entries(FOUND), URL.replace("partner)", "other)")),)).finding
    assert (Cause.DIRECTORY_UNREACHABLE, "unreachable, was not asked") == (finding.cause, finding.detail)


# -- requirements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted", "matching", "met"),
    [
        ("TRUE", "TRUE", Matching.CASE_IGNORE, True),
        ("true", "TRUE", Matching.CASE_IGNORE, True),
        ("  Ärger   Zwei ", "ÄRGER zwei", Matching.CASE_IGNORE, True),
        ("FALSE", "TRUE", Matching.CASE_IGNORE, False),
        ("TRUE", "TRUE", Matching.EXACT, True),
        ("true", "TRUE", Matching.EXACT, False),
        ("true", "TRUE", Matching.BOOLEAN, True),
        ("1", "TRUE", Matching.BOOLEAN, False),
        ("007", "7", Matching.INTEGER, True),
        ("-7", "7", Matching.INTEGER, False),
        ("7x", "7", Matching.INTEGER, False),
        ("9" * 5000, "7", Matching.INTEGER, False),
        ("x" * 5000, "x", Matching.CASE_IGNORE, False),
        (b"\xff\xfe", "x", Matching.CASE_IGNORE, False),
        ([b"FALSE", b"TRUE"], "TRUE", Matching.BOOLEAN, True),
    ],
)
def test_value_is_compared_by_its_rule(value, wanted, matching, met):
    profile = requiring(
        Requirement(demand=Demand.VALUE, attribute="accountActive", values=(wanted,), matching=matching)
    )
    finding = judged(entries((NAME, {"accountActive": value})), profile)
    assert (None if met else Cause.DIRECTORY_ASSERTION_FAILED) is finding.cause


@pytest.mark.parametrize(
    ("requirement", "attributes", "detail"),
    [
        (ACTIVE, {"accountActive": "FALSE"}, "accountActive is FALSE, wanted is TRUE"),
        (ACTIVE, {}, "accountActive is absent, wanted is TRUE"),
        (ACTIVE, {"accountActive": [b"a", b"b"]}, "accountActive is a and 1 more, wanted is TRUE"),
        (ACTIVE, {"accountActive": "\x1b[2J\n"}, "accountActive is \\x1b[2J\\n, wanted is TRUE"),
        (Requirement(demand=Demand.PRESENT, attribute="mail"), {}, "it has no mail"),
        (Requirement(demand=Demand.ABSENT, attribute="locked"), {"LOCKED": "x"}, "it has locked (x)"),
        (
            Requirement(demand=Demand.MEMBER, attribute="memberOf", group="cn=mft,dc=x"),
            {"memberOf": "cn=other,dc=x"},
            "its memberOf does not name cn=mft,dc=x (1 values)",
        ),
        (
            Requirement(demand=Demand.MEMBER, attribute="memberOf", group="cn=mft,dc=x"),
            {"memberOf;range=0-0": "cn=other,dc=x"},
            "its memberOf does not name cn=mft,dc=x (1 values, of which the directory sent some only)",
        ),
    ],
)
def test_entry_that_is_not_as_it_must_be_says_why(requirement, attributes, detail):
    # The attribute's name as the directory spells it does not matter.
    finding = judged(entries((NAME, attributes)), requiring(requirement))
    assert (Cause.DIRECTORY_ASSERTION_FAILED, f"{NAME}: {detail}") == (finding.cause, finding.detail)


@pytest.mark.parametrize(
    ("asked", "came"),
    [("1.3.6.1.4.1.42.2.27.8.1.17", "pwdAccountLockedTime"), ("fax", "facsimileTelephoneNumber")],
)
def test_attribute_that_comes_by_another_name_is_not_absent(asked, came):
    absent = requiring(Requirement(demand=Demand.ABSENT, attribute=asked))
    finding = judged(entries((NAME, {came: "x"})), absent)
    assert (Cause.DIRECTORY_ASSERTION_FAILED, True) == (
        finding.cause,
        finding.detail.endswith(
            f"whether it has {asked} is not known: the directory answered by the name {came.lower()}"
        ),
    )
    assert None is judged(entries((NAME, {})), absent).cause
    assert None is judged(entries((NAME, {f"{asked};x-option": ()})), absent).cause


@pytest.mark.parametrize("spelt", ["cn=mft,dc=x", "CN=MFT, DC=x", "2.5.4.3=mft,dc=x", "cn=\\6dft,dc=x"])
def test_group_is_named_in_any_spelling(spelt):
    member = Requirement(demand=Demand.MEMBER, attribute="memberOf", group="cn=mft,dc=x")
    assert None is judged(entries((NAME, {"memberOf": [b"cn=a", spelt.encode()]})), requiring(member)).cause


def test_group_is_found_behind_thousands_of_others():
    others = [b"cn=g%d,ou=groups,dc=example" % number for number in range(4000)]
    member = Requirement(demand=Demand.MEMBER, attribute="memberOf", group="cn=mft,ou=groups,dc=example")
    last = entries((NAME, {"memberOf": [*others, b"CN=mft, OU=groups, DC=example"]}))
    assert None is judged(last, requiring(member)).cause
    assert (
        Cause.DIRECTORY_ASSERTION_FAILED
        is judged(entries((NAME, {"memberOf": others})), requiring(member)).cause
    )


def test_entry_must_hold_the_very_certificate():
    profile = replace(PROFILE, certificate="userCertificate;binary")
    holds = {"userCertificate;binary": [OTHER.der, LEAF.der]}
    assert None is judged(entries((NAME, holds)), profile).cause
    finding = judged(entries((NAME, {"userCertificate;binary": OTHER.der})), profile)
    expected = f"{NAME}: its userCertificate;binary has 1 values, and none is the partner's certificate"
    assert (Cause.DIRECTORY_ASSERTION_FAILED, expected) == (finding.cause, finding.detail)


@pytest.mark.parametrize(
    ("several", "second", "met"),
    [
        (Several.REFUSE, "TRUE", False),
        (Several.ANY, "FALSE", True),
        (Several.ALL, "FALSE", False),
        (Several.ALL, "TRUE", True),
    ],
)
def test_several_entries_are_as_configured(several, second, met):
    raw = entries(FOUND, (f"cn=b,{BASE}", {"accountActive": second}))
    assert met is (judged(raw, requiring(ACTIVE, several=several)).cause is None)


def test_more_entries_than_were_sent_are_never_enough():
    profile = replace(PROFILE, several=Several.ANY)
    assert Cause.DIRECTORY_AMBIGUOUS is judged(entries(FOUND, code=4), profile).cause


# -- groups that are searched for ------------------------------------------------------------------------------------

GROUP = Requirement(demand=Demand.GROUP, base="ou=groups,dc=example", filter="(&(cn=mft)(member={entry}))")


def of_group(found, raw):
    one = case(requiring(ACTIVE, GROUP))
    first = said(entries(found), one.judge(()).lookups[0].url)
    asked = one.judge((first,))
    if len(asked.lookups) == 1:
        return asked.finding, asked.lookups
    second = said(raw, asked.lookups[1].url)
    return one.judge((first, second)).finding, asked.lookups


def test_group_is_searched_for_by_the_entry_that_was_found():
    finding, lookups = of_group(FOUND, entries(("cn=mft", {})))
    assert None is finding.cause
    expected = "ldap:///ou=groups,dc=example?1.1?sub?(&(cn=mft)(member=cn=partner,ou=partners,dc=example))"
    assert expected == lookups[1].url


def test_entry_in_no_group_is_not_as_it_must_be():
    finding, _ = of_group(FOUND, entries())
    assert Cause.DIRECTORY_ASSERTION_FAILED is finding.cause
    assert (
        "no group is found by (&(cn=mft)(member=cn=partner,ou=partners,dc=example)) under" in finding.detail
    )


def test_groups_that_are_too_many_to_look_at_are_no_group():
    finding, _ = of_group(FOUND, entries(code=4))
    assert (Cause.DIRECTORY_UNUSABLE, True) == (
        finding.cause,
        finding.detail.endswith("too many groups to look at, and none was sent"),
    )
    finding, _ = of_group(FOUND, entries(("cn=mft", {}), code=4))
    assert None is finding.cause


def test_group_of_an_entry_that_is_refused_anyway_is_not_searched_for():
    finding, lookups = of_group((NAME, {"accountActive": "FALSE"}), entries())
    assert (Cause.DIRECTORY_ASSERTION_FAILED, 1) == (finding.cause, len(lookups))


def test_hostile_name_of_an_entry_stays_one_value_of_the_groups_filter():
    _, lookups = of_group(("cn=a)(cn=*", {"accountActive": "TRUE"}), entries())
    assert "(member=cn=a%5C29%5C28cn=%5C2a))" in lookups[1].url


# -- ages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "stands"),
    [
        (timedelta(0), True),
        (REFRESH - timedelta(seconds=1), True),
        (REFRESH, False),
        (-Limits().clock_skew - timedelta(seconds=1), False),
    ],
)
def test_answer_of_the_cache_stands_alone_while_it_is_young(age, stands):
    finding = judged(entries(FOUND), origin=Origin.CACHE, age=age)
    assert (None if stands else Cause.DIRECTORY_UNREACHABLE) is finding.cause


def test_refusal_is_not_forgotten_because_the_directory_is_silent():
    one = case(requiring(ACTIVE))
    url = one.judge(()).lookups[0].url
    old = said(entries((NAME, {"accountActive": "FALSE"})), url, origin=Origin.CACHE, age=timedelta(hours=3))
    finding = one.judge((old, said(Cause.TIMED_OUT, url))).finding
    assert Cause.DIRECTORY_ASSERTION_FAILED is finding.cause
    assert finding.detail.endswith("Z; since then timed_out, no answer")
    assert None is one.good_until((old,))


def test_older_good_ends_when_it_would_have_been_asked_for_again():
    one = case()
    old = said(entries(FOUND), URL, origin=Origin.CACHE, age=timedelta(hours=3))
    assert NOW - timedelta(hours=3) + REFRESH == one.good_until((old, said(Cause.TIMED_OUT, URL)))


def test_what_the_network_said_counts_before_what_the_cache_has():
    one = case()
    cached = said(entries(FOUND), URL, origin=Origin.CACHE)
    assert Cause.DIRECTORY_NOT_FOUND is one.judge((cached, said(entries(), URL))).finding.cause


# -- hostile answers -------------------------------------------------------------------------------------------------


def test_values_without_end_are_not_read():
    raw = entries((NAME, {"memberOf": [b"x"] * 5000}))
    finding = judged(raw, requiring(ACTIVE))
    assert (Cause.DIRECTORY_UNUSABLE, "too_large, more than 4096 values") == (finding.cause, finding.detail)


def test_answer_over_the_limit_is_not_read():
    raw = entries((NAME, {"mail": b"x" * 300_000}))
    assert "too_large, " in judged(raw).detail


def test_name_of_an_entry_is_shown_escaped_and_cut():
    finding = judged(entries(("cn=\x1b[31m" + "a" * 500, {})))
    assert finding.detail.isprintable()
    assert len(finding.detail) < 200


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(raw):
    try:
        read_answer(raw, most=1 << 16)
    except AnswerError:
        return


@given(st.data())
def test_changed_answer_is_never_another_partners(data):
    raw = bytearray(entries(FOUND))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    finding = judged(bytes(raw), requiring(ACTIVE))
    assert finding.detail.isprintable()
