"""
What monitors see of the refresh: few series, and none twice.
"""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cftpki_ext.service.metrics import Seen, exposition


def samples(refresh: dict[str, Any]) -> dict[tuple[str, ...], float]:
    text = exposition(Seen(status={"version": "1", "refresh": refresh}, identities={}))
    found = [
        ((sample.name, *(value for _, value in sorted(sample.labels.items()))), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "refresh" in family.name or "partner" in family.name or "failing" in family.name
    ]
    assert len(found) == len(dict(found))
    return dict(found)


REFRESH = {
    "partners": 3,
    "waiting": 0,
    "renewed": 7,
    "failed": 1,
    "requests": 9,
    "troubles": [{"location": "http://ca", "ends_in_s": 90}],
    "ending": {
        "within_7d": 1,
        "within": 2,
        "within_days": 30,
        "first": [
            {"partner": "CN=a", "serial": "1", "days": 3},
            {"partner": "CN=a", "serial": "1", "days": 5},
            {"partner": "CN=b", "serial": "2", "days": 20},
        ],
    },
}


def test_refresh_is_told_to_monitors() -> None:
    assert {
        ("cftpki_refresh_partners",): 3,
        ("cftpki_refresh_waiting",): 0,
        ("cftpki_refresh_renewed_total",): 7,
        ("cftpki_refresh_failed_total",): 1,
        ("cftpki_refresh_requests_total",): 9,
        ("cftpki_evidence_failing_ends_seconds", "http://ca"): 90,
        ("cftpki_partners_ending", "7"): 1,
        ("cftpki_partners_ending", "30"): 2,
        # By two rules, or with two chains, it is one partner: the earlier end is told.
        ("cftpki_partner_ends_days", "CN=a", "1"): 3,
        ("cftpki_partner_ends_days", "CN=b", "2"): 20,
    } == samples(REFRESH)


def test_where_a_week_is_all_that_is_told_it_is_told_once() -> None:
    ending = {**REFRESH["ending"], "within_days": 7}
    assert ("cftpki_partners_ending", "30") not in samples({**REFRESH, "ending": ending})


def test_service_that_tells_nothing_of_it_has_no_such_numbers() -> None:
    assert {} == samples({})
