"""
The pitfalls of others that concern CRLs, each under its number: who may sign, scope, reasons, critical extensions.
"""

from __future__ import annotations

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.crl_outcomes import GOOD, OPEN, REVOKED, numbered, outcome
from tests.support.forged_crl import (
    HOUR,
    UNKNOWN_CRITICAL,
    URL,
    USERS,
    Crl,
    directory,
    entry,
    idp,
    number,
    point,
    points,
    reason_bits,
    some_reasons,
    time,
    uri,
    world,
)
from tests.support.pki import NOW

# -- 15, 45: the right signer --------------------------------------------------------------------------------


def test_pitfall_15_crl_by_a_ca_of_the_same_name_with_another_key_is_refused():
    w = world()
    elsewhere = pki.issue(pki.make_root("Root"), w.ca.name, ca=True)
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(w.but(pool=(elsewhere,)).judge(Crl(elsewhere)))


def test_pitfall_15_crl_by_a_second_key_of_the_ca_is_good_when_the_same_parent_vouches_for_it():
    w = world()
    second = pki.issue(w.root, w.ca.name, ca=True, usage=["cRLSign"])
    w = w.but(pool=(second,), extra=(Crl(w.root).encode(),))
    assert GOOD is w.judge(Crl(second)).status


def test_pitfall_15_crl_by_a_second_key_under_another_parent_of_the_same_root_is_refused():
    w = world()
    beside = pki.issue(w.root, "Neighbour", ca=True)
    impostor = pki.issue(beside, w.ca.name, ca=True, usage=["cRLSign"])
    w = w.but(pool=(impostor, beside), extra=(Crl(w.root).encode(), Crl(beside).encode()))
    judged = w.judge(Crl(impostor))
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(judged)
    assert "another CA vouches" in judged.detail


def test_pitfall_15_second_key_without_a_status_of_its_own_is_refused():
    w = world()
    second = pki.issue(w.root, w.ca.name, ca=True, usage=["cRLSign"])
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.but(pool=(second,)).judge(Crl(second)))


def test_pitfall_15_second_key_that_is_revoked_is_refused():
    w = world()
    second = pki.issue(w.root, w.ca.name, ca=True, usage=["cRLSign"])
    listed = Crl(w.root, entries=(entry(second.serial),)).encode()
    judged = w.but(pool=(second,), extra=(listed,)).judge(Crl(second))
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(judged)
    assert "revoked" in judged.detail


def test_pitfall_45_leaf_that_bears_the_name_of_its_ca_may_not_sign_crls():
    w = world()
    namesake = pki.issue(w.root, w.ca.name)
    w = w.but(pool=(namesake,), extra=(Crl(w.root).encode(),))
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(w.judge(Crl(namesake)))


# -- 16: cRLSign ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (["keyCertSign"], (OPEN, Cause.BAD_SIGNATURE)),
        (["keyCertSign", "cRLSign"], (GOOD, None)),
        ([], (GOOD, None)),  # no key usage limits nothing (RFC 5280 4.2.1.3)
    ],
)
def test_pitfall_16_issuer_needs_crl_sign_when_it_has_a_key_usage(usage, expected):
    w = world()
    ca = pki.issue(w.root, "CA with usage", ca=True, usage=usage)
    w = w.but(ca=ca, leaf=pki.issue(ca, "partner"))
    assert expected == outcome(w.judge(Crl(ca)))


# -- 17: scope -----------------------------------------------------------------------------------------------


def with_points(*distribution_points):
    w = world()
    return w.but(leaf=pki.issue(w.ca, "partner", extensions=[points(*distribution_points)]))


@pytest.mark.parametrize("names", [("http://a.example/1", URL), (URL, "http://a.example/1")])
def test_pitfall_17_idp_that_matches_any_of_several_distribution_points_is_in_scope(names):
    w = with_points(*([point(uri(n))] for n in names))
    assert GOOD is w.judge(w.crl.but(extensions=(number(7), idp(point(uri(URL)))))).status


def test_pitfall_17_idp_that_matches_the_second_name_of_a_distribution_point_is_in_scope():
    w = with_points([point(uri("ldap://a.example/x"), uri(URL))])
    other = idp(point(uri("http://b.example/"), uri(URL)))
    assert GOOD is w.judge(w.crl.but(extensions=(number(7), other))).status


def test_pitfall_17_idp_that_matches_no_distribution_point_is_out_of_scope_also_from_a_configured_location():
    w = world().but(trust={"crl_urls": ("http://mirror.example/crl",)})
    crl = w.crl.but(extensions=(number(7), idp(point(uri("http://mirror.example/crl")))))
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(crl, url="http://mirror.example/crl"))
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(crl))


def test_pitfall_17_handed_in_list_for_a_url_says_nothing_good_of_a_certificate_without_points():
    w = world()
    w = w.but(leaf=pki.issue(w.ca, "partner"))
    part = w.crl.but(extensions=(number(7), idp(point(uri(URL)))))
    listed = part.but(entries=(entry(w.leaf.serial),))
    refused = w.judge(part, url=None)
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(refused)
    assert "name that URL under crl in the trust set" in refused.detail
    assert CertificateStatus.REVOKED is w.judge(listed, url=None).status
    assert GOOD is w.judge(w.crl.but(extensions=(number(7),)), url=None).status
    vouched = w.but(trust={"crl_urls": (URL,)})
    assert GOOD is vouched.judge(part, url=None).status


def test_pitfall_17_scheme_and_host_compare_without_case_and_the_path_with_case():
    w = world()
    assert (
        GOOD
        is w.judge(
            w.crl.but(extensions=(number(7), idp(point(uri("HTTP://CRL.example/issuing.crl")))))
        ).status
    )
    bent = w.crl.but(extensions=(number(7), idp(point(uri("http://crl.example/ISSUING.crl")))))
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(bent))


def test_pitfall_17_relative_names_are_completed_by_the_issuer():
    relative = der.children(pki.name_der(pki.name("part 1")), der.whole(pki.name_der(pki.name("part 1"))))[0]
    rdn = pki.name_der(pki.name("part 1"))[relative.content : relative.end]
    w = with_points([point(relative=rdn)])
    full = pki.name("CN=part 1,CN=Issuing CA")
    for fitting in (point(relative=rdn), point(directory(full))):
        assert GOOD is w.judge(w.crl.but(extensions=(number(7), idp(fitting)))).status
    other = rdn.replace(b"part 1", b"part 2")
    for misfit in (point(relative=other), point(directory(pki.name("part 1")))):
        assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(w.crl.but(extensions=(number(7), idp(misfit)))))


def test_pitfall_17_list_of_user_certificates_is_for_the_leaf_and_not_for_the_ca():
    w = world()
    for_users = (number(7), idp(USERS))
    assert GOOD is w.judge(w.crl.but(extensions=for_users)).status
    judged = w.judge(Crl(w.root, extensions=for_users), depth=1)
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(judged)
    assert GOOD is w.judge(Crl(w.root), depth=1).status


def test_pitfall_17_list_without_idp_is_of_full_scope():
    assert GOOD is world().judge(world().crl).status


@pytest.mark.parametrize(
    ("trust", "url", "expected"),
    [
        ({"crl_urls": (URL,)}, URL, (GOOD, None)),
        ({"crl_urls": (URL,)}, None, (GOOD, None)),
        ({"crl_urls": ("https://ca.example/crl",)}, "https://ca.example/crl", (GOOD, None)),
        ({"crl_urls": ("https://ca.example/crl",)}, None, (OPEN, Cause.WRONG_SCOPE)),
        ({}, None, (OPEN, Cause.WRONG_SCOPE)),
        ({}, URL, (OPEN, Cause.WRONG_SCOPE)),
    ],
)
def test_crl_that_names_its_location_covers_a_certificate_that_names_none_only_if_configured(
    trust, url, expected
):
    w = world()
    w = w.but(leaf=pki.issue(w.ca, "partner"), trust=trust)
    assert expected == outcome(w.judge(w.crl.but(extensions=(number(7), idp(point(uri(URL))))), url=url))


def test_crl_without_idp_covers_a_certificate_that_names_no_location():
    w = world()
    w = w.but(leaf=pki.issue(w.ca, "partner"))
    assert GOOD is w.judge(w.crl).status


# -- 18: reasons ---------------------------------------------------------------------------------------------


def test_pitfall_18_reasons_of_several_lists_add_up():
    w = world()
    some = w.crl.but(extensions=(number(7), idp(some_reasons(1, 2, 3, 4))))
    others = w.crl.but(extensions=(number(7), idp(some_reasons(5, 6, 7, 8))))
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(some))
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(others))
    assert GOOD is w.judge(some, others).status
    assert (OPEN, Cause.STALE) == outcome(w.judge(some, others.but(next_update=time(NOW - HOUR / 2))))


def test_pitfall_18_reasons_of_the_distribution_point_limit_the_list():
    w = with_points([point(uri(URL)), der.encode(0x81, reason_bits(1, 2))])
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(
        w.judge(w.crl.but(extensions=(number(7), idp(point(uri(URL))))))
    )
    assert GOOD is w.judge(w.crl).status  # the CA's full list covers every reason


# -- 19: critical extensions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["list", "own entry", "other entry"])
def test_pitfall_19_unknown_critical_extension_spoils_not_listed_but_never_listed(where):
    w = world()
    more = (UNKNOWN_CRITICAL,) if where == "list" else ()
    own = entry(w.leaf.serial, UNKNOWN_CRITICAL) if where == "own entry" else entry(w.leaf.serial)
    other = entry(5) if where == "list" else entry(5, UNKNOWN_CRITICAL)
    assert (OPEN, Cause.MALFORMED) == outcome(w.judge(numbered(w.crl, 7, *more, entries=[other])))
    assert REVOKED is w.judge(numbered(w.crl, 7, *more, entries=[other, own])).status


def test_pitfall_19_serial_that_looks_like_a_critical_flag_spoils_nothing():
    w = world()
    lookalike = int.from_bytes(b"\x55\x01\x01\xff\x04\x01\x01\xff\x04", "big")
    assert GOOD is w.judge(w.crl.but(entries=(entry(lookalike), entry(lookalike + 1)))).status
