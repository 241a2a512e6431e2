"""
Which of two answers was made later, by what their CA signed.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from cftpki_ext.core.verdict import CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.order import latest, order_of
from tests.support.pki import NOW, make_crl, make_root

ROOT = make_root("Root")
MINUTE = timedelta(minutes=1)


def order(kind=SourceKind.CRL, *, at=NOW, number=7, responder="CN=Root", produced_at=None):
    raw = make_crl(ROOT, (), number=number, this_update=at, next_update=NOW + timedelta(days=5))
    finding = SourceFinding(
        kind=kind,
        origin=Origin.CACHE,
        url="http://root/crl",
        status=CertificateStatus.GOOD,
        this_update=at,
        produced_at=produced_at,
        responder=responder,
    )
    return order_of(finding, raw)


def test_later_list_is_greater_whatever_its_number():
    assert order(at=NOW - MINUTE, number=9) < order(at=NOW, number=1)


def test_of_lists_of_one_second_the_greater_number_is_greater():
    huge = 1 << 150
    assert order(number=huge) < order(number=huge + 1)


def test_of_answers_of_one_second_the_one_that_was_made_later_is_greater():
    first, second = (order(SourceKind.OCSP, produced_at=NOW + one * MINUTE) for one in (0, 1))
    assert first < second


def test_what_nobody_signed_has_no_order():
    assert order(responder=None) is None


@pytest.mark.parametrize(("ahead", "expected"), [(MINUTE, 1), (6 * MINUTE, 0)])
def test_time_that_has_not_come_counts_within_the_skew_only(ahead, expected):
    orders = [order(at=NOW), order(at=NOW + ahead)]
    assert orders[expected] == latest([None, *orders], now=NOW, skew=5 * MINUTE)
