"""
The driver in virtual time: the memory of revocations, and answers that came in the handshake.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.policy import AUDIT, RESILIENT
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin
from tests.support.pki import NOW, make_crl, make_ocsp_response
from tests.support.virtual_world import (
    CA,
    CRL,
    EVER,
    GOOD,
    HELD,
    LEAF,
    MINUTE,
    OCSP,
    REVOKED,
    ROOT_LIST,
    Proofs,
    Store,
    world,
)

# -- the memory of revocations -------------------------------------------------------------------------------


def test_revocation_is_remembered_and_beats_newer_good_and_an_empty_cache():
    w = world(ocsp=(0, REVOKED))
    assert 44 == w.check().alert
    w.answers, w.store = world().answers, Store()
    w.clock.ahead = timedelta(hours=1)
    for trust in ({}, {"policy": RESILIENT}, {"sources": (CRL,)}):
        w.trust = trust
        verdict = w.check()
        assert 44 == verdict.alert
        assert [] == w.asked(OCSP) + [a for a in w.asked(CRL) if a[0] != "http://root/crl"]
    w.trust = {"policy": AUDIT}
    assert "would have been refused 44" in w.check().warnings[-1]


def test_revocation_that_is_proven_for_good_is_remembered_once():
    w = world(ocsp=(0, REVOKED))
    for _ in range(3):
        w.store = Store()
        assert 44 == w.check().alert
    assert [1] == [len(kept) for kept in w.proofs.kept.values()]


def test_revocation_after_a_hold_is_remembered_too():
    w = world(ocsp=(0, HELD))
    assert 44 == w.check().alert
    later = make_ocsp_response(CA, LEAF, "revoked", reason=1, this_update=NOW, produced_at=NOW)
    w.answers, w.store = world(ocsp=(0, later)).answers, Store()
    w.trust = {"policy": AUDIT}
    w.check(handed_in=(Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, depth=0, raw=later),))
    assert [2] == [len(kept) for kept in w.proofs.kept.values()]


def test_memory_that_cannot_be_read_lets_nobody_be_judged():
    w = world(proofs=Proofs(unreadable=True))
    with pytest.raises(StoreError):
        w.check()


def test_proof_that_cannot_be_kept_is_logged_and_still_refuses(caplog):
    w = world(ocsp=(0, REVOKED), proofs=Proofs(full=True))
    verdict = w.check()
    assert 44 == verdict.alert
    assert [f"verdict {verdict.id}: proof of revocation could not be kept: disk full"] == caplog.messages


def staple(raw: bytes = GOOD, **of: Any) -> Statement:
    return Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, raw=raw, **of)


def aged(age: timedelta, status: str = "good", **of: Any) -> bytes:
    """
    An OCSP answer of that age, with a life of ten days.
    """
    then = NOW - age
    return make_ocsp_response(
        CA, LEAF, status, this_update=then, produced_at=then, next_update=then + timedelta(days=10), **of
    )


def test_young_staple_stands_alone_as_a_young_cache_entry_does():
    w = world(ocsp=(EVER, GOOD))
    verdict = w.check(handed_in=(staple(aged(4 * MINUTE)),))
    assert (0, ()) == (verdict.alert, verdict.warnings)
    assert [] == w.asked(OCSP)
    assert [ROOT_LIST] == w.store.raws  # what was brought is not cached under anybody's address


def test_older_staple_does_not_keep_the_responder_from_being_asked():
    old = staple(aged(timedelta(days=9)))
    assert 44 == world(ocsp=(0, REVOKED)).check(handed_in=(old,)).alert
    w = world(ocsp=(0, Cause.UNREACHABLE), crl=(0, Cause.UNREACHABLE))
    verdict = w.check(handed_in=(old,))
    assert verdict.accepted
    assert [Cause.OLDER_GOOD] == [row.cause for row in verdict.evidence.rows]
    assert "a good one of 9 d ago was used, said by OCSP stapled" in verdict.warnings[0]


def test_good_staple_counts_only_where_ocsp_is_a_source_and_a_bad_one_always():
    w = world(trust={"sources": (CRL,)}, crl=(0, Cause.UNREACHABLE))
    assert 46 == w.check(handed_in=(staple(aged(MINUTE)),)).alert
    assert 44 == w.check(handed_in=(staple(aged(MINUTE, "revoked")),)).alert
    assert (
        44
        == world(trust={"sources": (CRL,)}, crl=(0, make_crl(CA, [LEAF.serial])))
        .check(handed_in=(staple(aged(MINUTE)),))
        .alert
    )
