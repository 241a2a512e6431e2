"""
Rows of partners from stored records: the newest says how a partner stands, whoever came in whatever order.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.policy import STRICT, PartnerException
from cftpki_ext.evidence import Asked, Door, encode
from cftpki_ext.evidence.again import again
from cftpki_ext.evidence.partners import PartnerRow, Partners
from cftpki_ext.ports.evidence import Repeated
from tests.support import evidence_samples as samples
from tests.support.pki import NOW

PRINT = sha256(samples.LEAF.der).hexdigest()
EXCEPTED = replace(
    samples.PLAIN,
    policy=replace(
        STRICT,
        exceptions=(PartnerException(fingerprint=PRINT, until=NOW + timedelta(days=1), reason="CA moves"),),
    ),
)


def at(record, moment, verdict_id):
    """
    The same decision at another time.
    """
    evidence = replace(record.verdict.evidence, decided_at=moment)
    return replace(record, verdict=replace(record.verdict, id=verdict_id, evidence=evidence))


GOOD = at(samples.record(*samples.GOOD), NOW, "a" * 32)
REVOKED = at(samples.record(*samples.REVOKED), NOW + timedelta(hours=2), "b" * 32)
LET_IN = at(samples.record(*samples.FAILED, trust=EXCEPTED), NOW + timedelta(hours=1), "c" * 32)


def gathered(*stored):
    partners = Partners()
    for one in stored:
        partners.add_record(one.document, lambda _: None)
    return partners.rows


def test_row_says_how_a_partner_stands():
    (row,) = gathered(encode(GOOD))
    assert (PRINT, "CN=partner", "in", "partners") == (row.fingerprint, row.subject, row.rule, row.trust)
    assert ("accepted", None, 0, "a" * 32) == (row.status, row.reason, row.alert, row.verdict_id)
    assert (NOW, NOW, None, 1) == (row.last_at, row.accepted_at, row.refused_at, row.verdicts)
    assert "ocsp network http://a/" == row.source
    assert samples.LEAF.certificate.not_valid_after_utc == row.ends


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_newest_verdict_counts_in_any_order_and_the_exception_that_let_it_in_is_remembered(order):
    stored = [encode(one) for one in (GOOD, LET_IN, REVOKED)]
    (row,) = gathered(*(stored[number] for number in order))
    assert ("refused", "revoked", 44, "b" * 32) == (row.status, row.reason, row.alert, row.verdict_id)
    assert (NOW + timedelta(hours=1), NOW + timedelta(hours=2), 3) == (
        *(row.accepted_at, row.refused_at, row.verdicts),
    )
    assert (NOW + timedelta(hours=1), 1) == (row.excepted_at, row.excepted_times)
    assert "accepted by the exception of policy 'strict' for this partner until" in row.excepted
    assert "CA moves" in row.excepted


def test_verdict_that_was_given_again_counts_at_its_own_time():
    stored = encode(GOOD)
    digest = sha256(stored.document).hexdigest()
    later = NOW + timedelta(minutes=5)
    repeated = again(
        Repeated(id="a" * 32, document=digest), verdict_id="d" * 32, at=later, asked=Asked(door=Door.EXIT)
    )
    partners = Partners()
    partners.add_record(repeated.document, {digest: stored.document}.get)
    (row,) = partners.rows
    assert (later, later, "d" * 32, "accepted") == (row.last_at, row.accepted_at, row.verdict_id, row.status)
    # What it repeats is gone: nothing is known of it.
    assert () == gathered(repeated)


def test_what_was_found_ahead_is_no_visit_unless_it_refuses():
    ahead = Asked(door=Door.REFRESH)
    assert () == gathered(encode(replace(GOOD, asked=ahead)))
    (row,) = gathered(encode(replace(REVOKED, asked=ahead)))
    assert "refused" == row.status


def test_memory_of_the_service_and_evidence_make_one_row():
    partners = Partners()
    seen = NOW + timedelta(days=1)
    partners.add(
        PartnerRow(
            fingerprint=PRINT,
            subject="CN=partner",
            last_at=seen,
            status="accepted",
            accepted_at=seen,
        )
    )
    partners.add_record(encode(GOOD).document, lambda _: None)
    (row,) = partners.rows
    assert (seen, "a" * 32) == (row.last_at, row.verdict_id)
    # A refusal of before is not the verdict of now.
    partners.add(
        replace(row, last_at=NOW, status="refused", reason="revoked", verdict_id="e" * 32, verdicts=1)
    )
    assert ("accepted", "a" * 32) == (partners.rows[0].status, partners.rows[0].verdict_id)


def test_text_of_a_partner_is_kept_up_to_a_length():
    partners = Partners()
    long = "CN=" + "x" * 50_000
    partners.add(PartnerRow(fingerprint=PRINT, subject=long, summary=long, excepted=None, source="crl"))
    (row,) = partners.rows
    cut = f"{long[:1024]}…"
    assert (cut, cut, None, "crl") == (row.subject, row.summary, row.excepted, row.source)


def test_many_partners_push_out_the_one_not_seen_for_longest():
    partners = Partners(most=3)
    for number in range(5):
        partners.add(
            PartnerRow(fingerprint=f"{number:064x}", subject="", last_at=NOW + timedelta(seconds=number))
        )
    assert (["4", "3", "2"], 2) == ([row.fingerprint[-1] for row in partners.rows], partners.let_go)


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b"\x01", b'{"format":1,"verdict":{}}'])
def test_document_that_is_none_of_ours_is_an_error(document):
    with pytest.raises(StoreError):
        Partners().add_record(document, lambda _: None)


def test_cause_of_the_exception_is_in_the_record():
    assert [(Cause.UNREACHABLE, True)] == [
        (row.cause, row.excepted) for row in LET_IN.verdict.evidence.rows if row.depth == 0
    ]
