"""
The pitfalls of others that concern indirect CRLs, deltas and holds, each under its number.
"""

from __future__ import annotations

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.x509 import der
from tests.support import pki
from tests.support.crl_outcomes import GOOD, HELD, HOLD, KEY, OPEN, REMOVE, REVOKED, numbered, outcome
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
    time,
    uri,
    world,
)
from tests.support.pki import NOW

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
