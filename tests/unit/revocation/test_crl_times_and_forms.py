"""
The pitfalls of others that concern times, forms and bounds of CRLs, each under its number.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Depth, Policy
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509 import der
from cftpki_ext.x509.signed import clear_verified
from tests.support import pki
from tests.support.crl_outcomes import GOOD, HELD, HOLD, KEY, OPEN, REVOKED, outcome
from tests.support.forged_crl import (
    HOUR,
    UNKNOWN_CRITICAL,
    URL,
    Crl,
    directory,
    entry,
    number,
    point,
    points,
    time,
    uri,
    world,
)
from tests.support.pki import NOW
from tests.unit.revocation.test_crl_indirect_and_deltas import INDIRECT_IDP, base

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
