"""
What STATUS says of reloads, and the metrics of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from cftpki_ext.service.metrics import Seen, exposition
from cftpki_ext.service.monitoring.reloads import Reloads

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 6, 1, 12, 0, 1, tzinfo=UTC)


def numbers(status):
    text = exposition(Seen(status=status, identities={}))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "reload" in sample.name
    }


def test_reloads_of_a_service_that_was_never_asked():
    assert {"ok": 0, "failed": 0, "last_error": None, "at": None} == Reloads().status()


def test_reload_that_failed_is_told_until_one_succeeds():
    reloads = Reloads()
    reloads.failed("cftpki.toml:3: [rule[1].trust] there is no\n[trust.x]", AT)
    expected = {
        "ok": 0,
        "failed": 1,
        "last_error": "cftpki.toml:3: [rule[1].trust] there is no\\n[trust.x]",
        "at": "2026-06-01T12:00:00+00:00",
    }
    assert expected == reloads.status()
    assert {
        ("cftpki_reloads_total", "ok"): 0,
        ("cftpki_reloads_total", "failed"): 1,
        ("cftpki_reload_ok",): 0,
    } == numbers({"reloads": reloads.status()})
    reloads.succeeded(LATER)
    assert {"ok": 1, "failed": 1, "last_error": None, "at": "2026-06-01T12:00:01+00:00"} == reloads.status()
    assert 1 == numbers({"reloads": reloads.status()})[("cftpki_reload_ok",)]


def test_error_of_a_thousand_faults_is_cut():
    reloads = Reloads()
    reloads.failed("fault\n" * 1000, AT)
    assert 2001 == len(reloads.status()["last_error"])


def test_service_that_tells_nothing_of_reloads_has_no_such_numbers():
    assert {} == numbers({})
