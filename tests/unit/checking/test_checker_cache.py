"""
The driver in virtual time: what it keeps in the cache and hears from there, deltas, and cross-checks.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.policy import RESILIENT
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.vocabulary import Origin
from tests.support.pki import NOW, issue, make_crl, make_ocsp_response, raw_extension
from tests.support.virtual_world import (
    CA,
    CRL,
    EVER,
    GOOD,
    LEAF,
    LIST,
    MINUTE,
    OCSP,
    REST,
    REVOKED,
    ROOT,
    ROOT_LIST,
    Clock,
    Proofs,
    Store,
    World,
    world,
)

# -- cache ---------------------------------------------------------------------------------------------------


def test_authentic_answers_are_cached_and_young_ones_are_not_asked_for_again():
    w = world()
    assert w.check().accepted
    assert sorted([GOOD, ROOT_LIST]) == sorted(w.store.raws)
    w.clock.ahead = 4 * MINUTE
    verdict = w.check()
    assert verdict.accepted
    assert [] == w.asked(OCSP) + w.asked(CRL)
    assert [Origin.CACHE, Origin.CACHE] == [
        s.origin for one in verdict.evidence.findings for s in one.sources
    ]


@pytest.mark.parametrize(("kind", "age"), [(OCSP, 5), (CRL, 15)])
def test_cached_answer_past_its_refresh_age_is_asked_for_again(kind, age):
    w = world(
        trust={"sources": (kind,)}, more={(OCSP, "http://root/ocsp"): (0, make_ocsp_response(ROOT, CA))}
    )
    w.trust["ocsp_urls"] = ("http://root/ocsp",)
    assert w.check().accepted
    w.clock.ahead = age * MINUTE - MINUTE / 60
    w.check()
    assert [] == w.asked(kind)
    w.clock.ahead = age * MINUTE
    w.check()
    assert 2 == len({url for url, _ in w.asked(kind)})


def test_clock_set_back_makes_every_cached_answer_old():
    w = world(clock=Clock(ahead=10 * MINUTE))
    assert w.check().accepted
    w.clock.ahead = timedelta(0)
    w.check()
    assert [("http://ca/ocsp", 0)] == w.asked(OCSP)


def test_old_cached_answer_counts_while_it_is_valid_where_nobody_answers():
    w = world()
    w.check()
    w.answers = {}
    w.clock.ahead = 30 * MINUTE
    verdict = w.check()
    assert verdict.accepted
    assert 2 == len(w.asked(OCSP)) + len([u for u, _ in w.asked(CRL) if u != "http://ca/crl"])


def test_stale_cached_answer_carries_the_decision_only_where_policy_says_so():
    w = world()
    w.check()
    w.answers = {}
    w.clock.ahead = timedelta(hours=30)  # both ended 7 hours ago
    assert 46 == w.check().alert
    w.trust = {"policy": RESILIENT}
    verdict = w.check()
    assert verdict.accepted, verdict.summary
    assert all("accepted by policy 'resilient', good until" in warning for warning in verdict.warnings)
    w.clock.ahead = timedelta(hours=48)
    assert 46 == w.check().alert


def test_cached_answer_is_kept_for_its_life_and_the_stale_decision():
    w = world()
    w.check()
    # Valid for 23 hours more, then keep_stale.
    assert {int(timedelta(days=7, hours=23).total_seconds())} == set(w.store.seconds.values())


@pytest.mark.parametrize(
    "raw",
    [
        b"junk",
        make_ocsp_response(CA, LEAF, signing_key=ROOT.key),
        make_ocsp_response(CA, issue(CA, "another")),
        make_ocsp_response(ROOT, LEAF),
    ],
    ids=["junk", "forged", "of_another", "by_another_ca"],
)
def test_answer_that_is_not_authentic_is_never_cached(raw):
    w = world(ocsp=(0, raw))
    assert w.check().accepted
    assert sorted([LIST, ROOT_LIST]) == sorted(w.store.raws)


def test_failures_are_never_cached():
    w = world(ocsp=(0, Cause.TRY_LATER), crl=(0, Cause.UNREACHABLE))
    w.check()
    assert [ROOT_LIST] == w.store.raws


def test_cache_that_was_tampered_with_is_verified_again_and_replaced():
    w = world()
    w.check()
    for key, kept in w.store.kept.items():
        raw = whole_of(kept.raw)
        w.store.kept[key] = replace(kept, raw=raw[:-1] + bytes((raw[-1] ^ 1,)))
    verdict = w.check()
    assert verdict.accepted
    assert [("http://ca/ocsp", 0)] == w.asked(OCSP)
    assert sorted([GOOD, ROOT_LIST]) == sorted(w.store.raws)


def test_crl_of_a_signer_whose_own_status_another_crl_tells_is_cached():
    signer = issue(ROOT, "CA", usage=["cRLSign"], crl_urls=["http://root/crl"])
    w = world(crl=(0, make_crl(signer)), trust={"sources": (CRL,), "intermediates": (signer.der,)})
    assert w.check().accepted
    assert 2 == len(w.store.raws)


def test_rest_answers_are_not_cached_because_nothing_could_verify_them_again():
    profile = RestProfile(
        name="r",
        url="https://ca/{serial_hex}",
        serial="/serial",
        status="/s",
        good=("good",),
        revoked=("revoked",),
    )
    serial = f"{LEAF.serial:x}"
    url = f"https://ca/{serial if len(serial) % 2 == 0 else '0' + serial}"
    body = b'{"serial": "%s", "s": "good"}' % serial.encode()
    w = world(trust={"rest": profile, "sources": (REST, CRL)}, more={(REST, url): (0, body)})
    assert w.check().accepted
    assert [ROOT_LIST] == w.store.raws
    w.check()
    assert (url, 0) in w.asked(REST)
    w.answers = {**w.answers, (REST, url): (0, body.replace(b"good", b"revoked"))}
    assert 44 == w.check().alert
    w.answers = {**w.answers, (REST, url): (0, body)}
    assert 44 == w.check().alert


# -- deltas --------------------------------------------------------------------------------------------------

BASE = make_crl(CA, number=5, freshest=["http://ca/delta"])
CLEAN = make_crl(CA, number=6, delta_base=5)
LISTED = make_crl(CA, [LEAF.serial], number=6, delta_base=5)


def delta_world(delta: tuple[float, bytes | Cause], **fields: Any) -> World:
    trust = {"sources": (CRL,), **fields.pop("trust", {})}
    return world(
        crl=(0, fields.pop("base", BASE)), more={(CRL, "http://ca/delta"): delta}, trust=trust, **fields
    )


def test_delta_that_the_base_names_is_fetched_before_good_is_concluded():
    assert delta_world((0, CLEAN)).check().accepted
    w = delta_world((0.2, LISTED))
    assert 44 == w.check().alert
    assert 1 == [url for url, _ in w.asked(CRL)].count("http://ca/delta")


def test_delta_that_the_certificate_names_is_fetched():
    freshest = raw_extension("2.5.29.46", bytes.fromhex("3015 3013 a011 a00f 860d") + b"http://ca/dlt")
    leaf = issue(
        CA, "with delta", eku=["clientAuth"], crl_urls=["http://ca/crl"], extensions=[(freshest, False)]
    )
    listed = make_crl(CA, [leaf.serial], number=6, delta_base=5)
    w = delta_world((0, CLEAN), leaf=leaf, base=make_crl(CA, number=5))
    w.answers = {**w.answers, (CRL, "http://ca/dlt"): (0, listed)}
    assert 44 == w.check().alert
    w.trust["deltas"] = False
    w.store = Store()
    w.proofs = Proofs()
    assert w.check().accepted


def test_delta_that_cannot_be_got_leaves_a_fresh_base_to_decide():
    w = delta_world((0, Cause.UNREACHABLE))
    verdict = w.check()
    assert verdict.accepted
    assert [None, Cause.UNREACHABLE] == [s.cause for s in verdict.evidence.findings[0].sources]


def test_delta_that_never_comes_ends_with_the_budget_and_the_base_decides():
    w = delta_world((EVER, CLEAN))
    assert w.check().accepted
    assert 4.8 == round(w.took, 3)


def test_delta_is_not_fetched_where_ocsp_has_said_good_or_the_trust_set_leaves_it_out():
    w = delta_world((0, LISTED), trust={"sources": (OCSP, CRL)})
    assert w.check().accepted
    assert "http://ca/delta" not in [url for url, _ in w.asked(CRL)]
    w = delta_world((0, LISTED), trust={"deltas": False})
    assert w.check().accepted
    assert "http://ca/delta" not in [url for url, _ in w.asked(CRL)]


def test_delta_is_cached_and_heard_from_there_without_any_source():
    w = delta_world((0, LISTED))
    assert 44 == w.check().alert
    w.proofs = Proofs()
    w.kinds = ()
    verdict = w.check()
    assert 44 == verdict.alert
    assert {Origin.CACHE} == {s.origin for s in verdict.evidence.findings[0].sources}


def test_delta_continues_an_old_base_whose_server_is_gone():
    old = make_crl(CA, number=5, freshest=["http://ca/delta"], this_update=NOW - timedelta(hours=30))
    w = delta_world((0, make_crl(CA, number=6, delta_base=5)), base=old)
    w.clock.ahead = -timedelta(hours=20)
    w.answers = {
        **w.answers,
        (CRL, "http://root/crl"): (0, make_crl(ROOT, this_update=NOW - timedelta(hours=21))),
    }
    w.check()
    w.clock.ahead = timedelta(0)
    w.answers = {k: a for k, a in w.answers.items() if k[1] != "http://ca/crl"}
    verdict = w.check()
    assert verdict.accepted, verdict.summary


# -- cross-check ---------------------------------------------------------------------------------------------


def test_cross_check_asks_every_kind_also_after_the_first_has_answered():
    w = world(
        trust={"cross_check": (OCSP, CRL), "ocsp_urls": ("http://root/ocsp",)},
        more={(OCSP, "http://root/ocsp"): (0, make_ocsp_response(ROOT, CA))},
    )
    assert w.check().accepted
    assert {"http://ca/crl", "http://root/crl"} == {url for url, _ in w.asked(CRL)}


def test_cross_check_finds_the_disagreement_and_bad_news_ends_it_at_once():
    listed = make_crl(CA, [LEAF.serial])
    verdict = world(ocsp=(0, GOOD), crl=(0.1, listed), trust={"cross_check": (OCSP, CRL)}).check()
    assert 44 == verdict.alert
    assert verdict.warnings[0].startswith("sources disagree about the partner's certificate")
    w = world(ocsp=(0.1, REVOKED), crl=(1, LIST), trust={"cross_check": (OCSP, CRL)})
    assert 44 == w.check().alert
    assert 0.1 == round(w.took, 3)
    plain = world(ocsp=(0, REVOKED), crl=(0.1, LIST)).check()
    assert (44, ()) == (plain.alert, plain.warnings)
