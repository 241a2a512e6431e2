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
        "within_30d": 3,
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


def test_week_and_month_are_told_whatever_else_is() -> None:
    def told(**ending: int) -> dict[str, float]:
        found = samples({**REFRESH, "ending": {**REFRESH["ending"], **ending}})
        return {key[1]: value for key, value in found.items() if key[0] == "cftpki_partners_ending"}

    assert {"7": 1, "30": 3} == told(within_days=7, within=1)
    assert {"7": 1, "30": 3, "90": 8} == told(within_days=90, within=8)


def test_service_that_tells_nothing_of_it_has_no_such_numbers() -> None:
    assert {} == samples({})
