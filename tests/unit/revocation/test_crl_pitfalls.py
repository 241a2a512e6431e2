"""
The pitfalls of others that concern CRLs, each under its number.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Depth, Policy
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509 import der
from cftpki_ext.x509.signed import clear_verified
from tests.support import pki
from tests.support.forged_crl import (
    HOUR,
    INDIRECT,
    UNKNOWN_CRITICAL,
    URL,
    USERS,
    Crl,
    certificate_issuer,
    delta,
    directory,
    entry,
    idp,
    key_id,
    number,
    point,
    points,
    reason,
    reason_bits,
    some_reasons,
    time,
    uri,
    world,
)
from tests.support.pki import NOW

GOOD, REVOKED, HELD, OPEN = (
    CertificateStatus.GOOD,
    CertificateStatus.REVOKED,
    CertificateStatus.ON_HOLD,
    CertificateStatus.UNDETERMINED,
)
HOLD, REMOVE, KEY = reason(6), reason(8), reason(1)


def numbered(crl, value, *more, at=NOW - HOUR, entries=()):
    """
    The list with another number, date and entries.
    """
    return crl.but(extensions=(number(value), *more), this_update=time(at), entries=tuple(entries))


def outcome(judged):
    return judged.status, judged.cause


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


# -- 20: indirect lists --------------------------------------------------------------------------------------


def indirect_world():
    w = world()
    keeper = pki.issue(w.root, "CRL keeper", usage=["cRLSign"])
    issuer = der.encode(0xA2, directory(keeper.name))
    leaf = pki.issue(w.ca, "partner", extensions=[points([point(uri(URL)), issuer])])
    return w.but(leaf=leaf, pool=(keeper,), extra=(Crl(w.root).encode(),)), keeper


INDIRECT_IDP = idp(point(uri(URL)), INDIRECT)


def test_pitfall_20_certificate_issuer_is_carried_on_to_the_entries_behind():
    w, keeper = indirect_world()
    serial = w.leaf.serial
    behind = (entry(1, certificate_issuer(w.ca.name)), entry(2), entry(serial))
    before = (entry(serial), entry(1, certificate_issuer(w.ca.name)), entry(2))
    others = (
        entry(1, certificate_issuer(w.ca.name)),
        entry(2, certificate_issuer(w.root.name)),
        entry(serial),
    )
    lists = Crl(keeper, extensions=(number(7), INDIRECT_IDP))
    assert REVOKED is w.judge(lists.but(entries=behind)).status
    assert GOOD is w.judge(lists.but(entries=before)).status
    assert GOOD is w.judge(lists.but(entries=others)).status
    assert GOOD is w.judge(lists).status


def test_pitfall_20_list_of_a_named_issuer_that_is_not_indirect_is_out_of_scope():
    w, keeper = indirect_world()
    judged = w.judge(Crl(keeper, extensions=(number(7), idp(point(uri(URL))))))
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(judged)


def test_pitfall_20_indirect_list_by_somebody_whom_the_certificate_does_not_name_is_out_of_scope():
    w, _ = indirect_world()
    stranger = pki.issue(w.root, "Stranger", usage=["cRLSign"])
    w = w.but(pool=(stranger,))
    listed = Crl(
        stranger,
        extensions=(number(7), INDIRECT_IDP),
        entries=(entry(w.leaf.serial, certificate_issuer(w.ca.name)),),
    )
    assert (OPEN, Cause.WRONG_SCOPE) == outcome(w.judge(listed))


def test_pitfall_20_same_serial_of_another_issuer_does_not_revoke_and_twice_counts_the_worse():
    w, keeper = indirect_world()
    serial = w.leaf.serial
    lists = Crl(keeper, extensions=(number(7), INDIRECT_IDP))
    held = entry(serial, HOLD, certificate_issuer(w.ca.name))
    assert GOOD is w.judge(lists.but(entries=(entry(serial, certificate_issuer(w.root.name)),))).status
    assert HELD is w.judge(lists.but(entries=(held,))).status
    assert REVOKED is w.judge(lists.but(entries=(held, entry(serial, KEY)))).status
    assert REVOKED is w.judge(lists.but(entries=(entry(serial, certificate_issuer(w.ca.name)), held))).status


def test_pitfall_20_indirect_list_whose_certificate_issuer_is_no_name_says_nothing():
    w, keeper = indirect_world()
    nameless = pki.extension("2.5.29.29", der.encode(der.SEQUENCE, uri("http://ca.example/")), critical=True)
    judged = w.judge(
        Crl(keeper, extensions=(number(7), INDIRECT_IDP), entries=(entry(w.leaf.serial, nameless),))
    )
    assert (OPEN, Cause.MALFORMED) == outcome(judged)


def test_indirect_list_that_covers_its_own_signer_is_good_and_can_revoke_it():
    w = world()
    keeper_name = pki.name("CRL keeper")
    named = [points([point(uri(URL)), der.encode(0xA2, directory(keeper_name))])]
    keeper = pki.issue(w.ca, keeper_name, usage=["cRLSign"], extensions=named)
    w = w.but(
        leaf=pki.issue(w.ca, "partner", extensions=named), pool=(keeper,), extra=(Crl(w.root).encode(),)
    )
    lists = Crl(keeper, extensions=(number(7), INDIRECT_IDP))
    assert GOOD is w.judge(lists).status
    judged = w.judge(lists.but(entries=(entry(keeper.serial, certificate_issuer(w.ca.name)),)))
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(judged)


# -- 21, 22, 49: deltas and holds ----------------------------------------------------------------------------


def base(*entries, value=5, at=NOW - 3 * HOUR, more=()):
    return numbered(world().crl, value, *more, at=at, entries=entries)


def change(*entries, value=7, on=5, at=NOW - HOUR, more=()):
    return numbered(world().crl, value, delta(on), *more, at=at, entries=entries)


SERIAL = world().leaf.serial


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        pytest.param([base(), change()], GOOD, id="nobody"),
        pytest.param([base(), change(entry(SERIAL))], REVOKED, id="revoked by the delta"),
        pytest.param([base(entry(SERIAL)), change()], REVOKED, id="revoked by the base"),
        pytest.param([base(entry(SERIAL, HOLD)), change()], HELD, id="held by the base"),
        pytest.param([base(), change(entry(SERIAL, HOLD))], HELD, id="held by the delta"),
        pytest.param([base(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE))], GOOD, id="released"),
        pytest.param(
            [base(entry(SERIAL, HOLD)), change(entry(SERIAL, KEY))], REVOKED, id="held, then revoked"
        ),
        pytest.param(
            [base(entry(SERIAL, KEY)), change(entry(SERIAL, REMOVE))], REVOKED, id="revoked is not released"
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE), on=6)],
            HELD,
            id="release for a later base",
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD), value=8), change(entry(SERIAL, REMOVE))],
            HELD,
            id="release older by number",
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD), at=NOW - HOUR / 2), change(entry(SERIAL, REMOVE))],
            HELD,
            id="release older by date",
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE), more=(idp(USERS),))],
            HELD,
            id="release in another scope",
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE)).but(next_update=time(NOW - HOUR / 2))],
            HELD,
            id="release that is stale",
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE), more=(UNKNOWN_CRITICAL,))],
            HELD,
            id="release not understood",
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE), more=(key_id(world().ca),))],
            HELD,
            id="release with another key identifier",
        ),
        pytest.param([base(entry(SERIAL, REMOVE))], REVOKED, id="removeFromCRL in a complete list"),
        pytest.param(
            [base(entry(SERIAL, HOLD)), base(value=6, at=NOW - HOUR)], GOOD, id="gone from the next list"
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), base(value=4, at=NOW - HOUR)], HELD, id="gone, but lower number"
        ),
        pytest.param(
            [base(entry(SERIAL, HOLD)), base(value=6, at=NOW - 4 * HOUR)], HELD, id="gone, but older"
        ),
        pytest.param(
            [base(entry(SERIAL, KEY)), base(value=6, at=NOW - HOUR)], REVOKED, id="revocation stays"
        ),
        pytest.param(
            [base(), base(entry(SERIAL), value=6, at=NOW - HOUR)], REVOKED, id="the newer list counts"
        ),
        pytest.param(
            [
                base(entry(SERIAL, HOLD)),
                change(entry(SERIAL, REMOVE)),
                base(entry(SERIAL, HOLD), value=8, at=NOW - HOUR / 2),
            ],
            HELD,
            id="held again by a newer list",
        ),
        pytest.param(
            [base(), change(entry(SERIAL, HOLD), value=6, at=NOW - 2 * HOUR), change(entry(SERIAL, REMOVE))],
            GOOD,
            id="held by a delta, released by the next",
        ),
        pytest.param(
            [base(), change(entry(SERIAL, HOLD)), change(entry(SERIAL, REMOVE), value=6, at=NOW - 2 * HOUR)],
            HELD,
            id="released by a delta, held by the next",
        ),
    ],
)
def test_pitfall_49_lists_together_say_the_newest_that_the_rules_allow(lists, expected):
    w = world()
    for order in (lists, lists[::-1]):
        judged = w.judge(*order)
        assert expected is judged.status, judged.detail
        assert len(lists) == len(judged.findings)
        bad = {f.status for f in judged.findings} & {REVOKED, HELD}
        assert (expected in (REVOKED, HELD)) == bool(bad)


def test_pitfall_21_expired_base_is_continued_by_a_delta_that_belongs_to_it_only():
    w = world()
    expired = base().but(next_update=time(NOW - HOUR))
    assert (OPEN, Cause.STALE) == outcome(w.judge(expired))
    assert GOOD is w.judge(expired, change()).status
    for misfit in (
        change(on=6),
        change(value=5, on=4),
        change(at=NOW - 4 * HOUR),
        change(more=(idp(USERS),)),
        change().but(next_update=time(NOW - HOUR / 2)),
    ):
        assert (OPEN, Cause.STALE) == outcome(w.judge(expired, misfit))


def test_pitfall_21_base_without_number_takes_no_delta():
    w = world()
    expired = w.crl.but(extensions=(), this_update=time(NOW - 3 * HOUR), next_update=time(NOW - HOUR))
    assert (OPEN, Cause.STALE) == outcome(w.judge(expired, change()))


def test_pitfall_22_hold_is_on_hold_with_its_reason():
    w = world()
    judged = w.judge(base(entry(w.leaf.serial, HOLD)))
    assert HELD is judged.status
    assert "certificateHold" == judged.findings[0].revocation_reason


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 255])
def test_pitfall_22_every_other_reason_and_every_unknown_one_is_a_revocation(code):
    w = world()
    assert REVOKED is w.judge(base(entry(w.leaf.serial, reason(code)))).status


# -- 23: rollback --------------------------------------------------------------------------------------------


def test_pitfall_23_silence_of_an_older_list_does_not_count_beside_an_unusable_newer_one():
    w = world()
    newer = base(value=6, at=NOW - HOUR, more=(UNKNOWN_CRITICAL,))
    assert GOOD is w.judge(base()).status
    assert (OPEN, Cause.STALE) == outcome(w.judge(base(), newer))


def test_pitfall_23_list_for_later_does_not_put_the_present_one_out_of_force():
    w = world()
    assert GOOD is w.judge(base(), base(value=6, at=NOW + 2 * HOUR)).status


# -- 24: nextUpdate ------------------------------------------------------------------------------------------


def test_pitfall_24_list_without_next_update_counts_only_by_leniency_and_for_a_time():
    w = world()
    endless = w.crl.but(next_update=b"")
    lenient = w.but(trust={"compat": frozenset({Leniency.CRL_WITHOUT_NEXT_UPDATE})})
    assert (OPEN, Cause.STALE) == outcome(w.judge(endless))
    assert GOOD is lenient.judge(endless).status
    age = lenient.limits.crl_max_age + timedelta(hours=1)
    assert (OPEN, Cause.STALE) == outcome(lenient.judge(endless.but(this_update=time(NOW - age))))


def test_pitfall_24_expired_list_still_proves_revocation_and_nothing_else():
    w = world()
    expired = base(entry(w.leaf.serial)).but(next_update=time(NOW - HOUR))
    assert REVOKED is w.judge(expired, now=NOW + timedelta(days=3650)).status
    assert (OPEN, Cause.STALE) == outcome(w.judge(base(), now=NOW + timedelta(days=3650)))


def test_crl_of_an_offline_root_counts_to_its_next_update_however_far():
    w = world()
    yearly = Crl(
        w.root, this_update=time(NOW - timedelta(days=360)), next_update=time(NOW + timedelta(days=5))
    )
    assert GOOD is w.judge(yearly, depth=1).status


# -- 25: forms -----------------------------------------------------------------------------------------------


def test_pitfall_25_pem_is_the_same_list():
    w = world()
    text = pki.pem(w.crl.but(entries=(entry(w.leaf.serial),)).encode(), label="X509 CRL")
    assert REVOKED is w.judge(text).status
    assert GOOD is w.judge(b"\r\n" + pki.pem(w.crl.encode(), label="X509 CRL")).status


@pytest.mark.parametrize(
    "serial",
    [1, 127, 128, 255, 256, 0x80000000, 2**63, 2**64 - 1, 2**127, 2**152 - 1, 2**158 + 12345],
)
def test_pitfall_25_serials_compare_as_whole_numbers(serial):
    w = world()
    w = w.but(leaf=pki.issue(w.ca, "partner", serial=serial))
    near = {serial - 1, serial + 1, serial >> 8, serial << 8, serial ^ 0x80, serial + 2**159} - {serial, 0}
    assert GOOD is w.judge(w.crl.but(entries=tuple(entry(n) for n in near))).status
    assert REVOKED is w.judge(w.crl.but(entries=(*(entry(n) for n in near), entry(serial)))).status


def test_pitfall_25_serial_that_stands_inside_another_entry_is_not_listed():
    w = world()
    w = w.but(leaf=pki.issue(w.ca, "partner", serial=0x11))
    inside = entry(int.from_bytes(b"\x02\x01\x11\x02\x01\x11", "big"))
    assert GOOD is w.judge(w.crl.but(entries=(inside,))).status
    assert REVOKED is w.judge(w.crl.but(entries=(inside, entry(0x11)))).status


def test_pitfall_25_negative_serial_is_another_than_the_positive_one_of_the_same_octets():
    w = world().but(trust={"compat": frozenset({Leniency.NEGATIVE_SERIAL})})
    negative, positive = -113, 143
    assert (
        GOOD
        is w.but(leaf=pki.issue(w.ca, "p", serial=positive))
        .judge(w.crl.but(entries=(entry(negative),)))
        .status
    )
    plain = pki.issue(w.ca, "n")
    bent = pki.Entity(plain.certificate, plain.key, pki.reserial(plain, b"\x8f", w.ca.key))
    w = w.but(leaf=bent)
    assert GOOD is w.judge(w.crl.but(entries=(entry(positive),))).status
    assert REVOKED is w.judge(w.crl.but(entries=(entry(positive), entry(negative)))).status


# -- 26: nothing at all --------------------------------------------------------------------------------------


def test_pitfall_26_no_list_at_all_is_not_good():
    judged = world().judge()
    assert (OPEN, Cause.NO_SOURCE) == outcome(judged)
    assert () == judged.findings


# -- 46, 47, 48, 50 ------------------------------------------------------------------------------------------


def test_pitfall_46_list_verified_before_does_not_vouch_for_one_with_the_same_signature():
    w = world()
    listed = w.crl.but(entries=(entry(w.leaf.serial),)).encode()
    assert REVOKED is w.judge(listed).status
    bent = pki.mutate_tbs(listed, pki.integer(w.leaf.serial), pki.integer(w.leaf.serial + 1))
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(w.judge(bent))
    assert REVOKED is w.judge(listed).status


def test_pitfall_46_list_verified_for_one_ca_is_not_verified_for_another():
    w = world()
    assert GOOD is w.judge(w.crl).status
    other = pki.issue(w.root, w.ca.name, ca=True)
    elsewhere = w.but(ca=other, leaf=pki.issue(other, "partner"))
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(elsewhere.judge(w.crl.but(extensions=(number(7),))))


def test_pitfall_47_length_that_der_does_not_allow_is_unreadable():
    w = world()
    raw = w.crl.but(entries=tuple(entry(n) for n in range(1, 20))).encode()
    assert raw.startswith(b"\x30\x82")
    assert GOOD is w.judge(raw).status
    assert (OPEN, Cause.UNREADABLE) == outcome(w.judge(b"\x30\x80" + raw[4:] + b"\0\0"))
    assert (OPEN, Cause.UNREADABLE) == outcome(w.judge(b"\x30\x83\x00" + raw[2:]))


def test_pitfall_47_large_list_is_read_once_and_answered_from_then_on():
    w = world("rsa")
    raw = w.crl.but(entries=tuple(entry((n << 40) + 1) for n in range(1, 20_000))).encode()
    clear_verified()
    assert GOOD is w.judge(raw).status
    assert REVOKED is w.but(leaf=pki.issue(w.ca, "p", serial=(777 << 40) + 1)).judge(raw).status


def test_pitfall_48_inner_and_outer_algorithm_are_compared_with_their_parameters():
    w = world("rsa")
    plain = pki.signature_algorithm(w.ca.key)
    without = der.encode(der.SEQUENCE, pki.oid("1.2.840.113549.1.1.11"))
    assert plain != without
    assert (OPEN, Cause.MALFORMED) == outcome(w.judge(w.crl.but(inner=without)))
    assert GOOD is w.judge(w.crl.but(inner=without, outer=without)).status


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_pitfall_14_weak_digest_refuses_unless_allowed(kind):
    w = world(kind)
    weak = w.crl.but(digest="sha1")
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(w.judge(weak))
    lenient = w.but(trust={"compat": frozenset({Leniency.SHA1_SIGNATURE})})
    assert GOOD is lenient.judge(weak).status
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(w.judge(weak))


def test_pitfall_50_authentic_revocation_counts_beside_any_number_of_good_lists():
    w = world()
    listed = base(entry(w.leaf.serial), value=4, at=NOW - 9 * HOUR).but(next_update=time(NOW - 8 * HOUR))
    for order in ([base(), listed], [listed, base()]):
        judged = w.judge(*order)
        assert REVOKED is judged.status
        assert {REVOKED, OPEN} == {f.status for f in judged.findings}


# -- bounds and failures -------------------------------------------------------------------------------------


def test_crl_over_the_limit_is_too_large():
    w = world()
    raw = w.crl.encode()
    w = w.but(limits=type(w.limits)(crl_bytes=len(raw)))
    assert GOOD is w.judge(raw).status
    assert (OPEN, Cause.TOO_LARGE) == outcome(w.judge(raw + b"\0"))


def test_crl_finding_tells_who_said_it_and_when():
    w = world()
    finding = w.judge(w.crl, url=URL).findings[0]
    assert ("CN=Issuing CA", URL, 3600) == (finding.responder, finding.url, finding.age_s)
    assert (NOW - HOUR, NOW + 23 * HOUR) == (finding.this_update, finding.next_update)
    assert 64 == len(finding.digest)


def test_crl_entry_twice_counts_the_worse():
    w = world()
    twice = (entry(w.leaf.serial, HOLD), entry(5), entry(w.leaf.serial, KEY), entry(w.leaf.serial, HOLD))
    assert REVOKED is w.judge(w.crl.but(entries=twice)).status
    assert HELD is w.judge(w.crl.but(entries=(twice[0], twice[0]))).status


def test_crl_short_serial_that_stands_by_chance_in_many_entries_is_told_apart():
    w = world()
    w = w.but(leaf=pki.issue(w.ca, "partner", serial=5))
    chance = tuple(
        entry(int.from_bytes(b"\x41\x02\x01\x05" + n.to_bytes(2, "big"), "big")) for n in range(200)
    )
    assert GOOD is w.judge(w.crl.but(entries=chance)).status
    assert HELD is w.judge(w.crl.but(entries=(*chance, entry(5, HOLD)))).status


def test_pitfall_15_leaf_depth_asks_no_status_of_a_second_key_but_hears_its_revocation():
    w = world()
    second = pki.issue(w.root, w.ca.name, ca=True, usage=["cRLSign"])
    shallow = w.but(pool=(second,), trust={"policy": Policy(name="leaf", depth=Depth.LEAF)})
    assert GOOD is shallow.judge(Crl(second)).status
    listed = Crl(w.root, entries=(entry(second.serial),)).encode()
    assert (OPEN, Cause.BAD_SIGNATURE) == outcome(shallow.but(extra=(listed,)).judge(Crl(second)))


def test_pitfall_15_signers_that_depend_on_each_other_without_end_are_refused():
    w = world()
    names = [f"Keeper {n}" for n in range(6)]
    keepers = []
    for position, keeper in enumerate(names):
        following = pki.name(names[(position + 1) % len(names)])
        named = [points([point(uri(URL)), der.encode(0xA2, directory(following))])]
        keepers.append(pki.issue(w.ca, keeper, usage=["cRLSign"], extensions=named))
    named = [points([point(uri(URL)), der.encode(0xA2, directory(keepers[0].name))])]
    w = w.but(leaf=pki.issue(w.ca, "partner", extensions=named), pool=tuple(keepers))
    judged = w.judge(*(Crl(keeper, extensions=(number(7), INDIRECT_IDP)) for keeper in keepers))
    assert OPEN is judged.status
    assert "too deeply" in judged.findings[0].detail
