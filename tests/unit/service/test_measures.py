"""
Verdicts by rule, outcome, reason and tier, and how long things took.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.evidence import Door, Row
from cftpki_ext.service.metrics import Seen, encoded
from cftpki_ext.service.monitoring.latencies import BOUNDS, Latencies
from cftpki_ext.service.monitoring.measures import Measures, Tier, tier_of

ROW = Row(
    id="v",
    at="2026-06-01T12:00:00.000Z",
    status="accepted",
    reason=None,
    alert=0,
    would_refuse=None,
    warned=False,
    partner="CN=a",
    serial="1",
    fingerprint="f",
    rule="in",
    trust="t",
    policy="strict",
    door=Door.EXIT.value,
    remote=None,
    summary="",
    policy_rows=(),
)
REFUSED = replace(ROW, status="refused", reason="revoked", alert=44)


def test_verdicts_are_told_by_rule_outcome_reason_and_tier():
    measures = Measures()
    for row, tier, seconds in (
        (ROW, Tier.BOARD, None),
        (ROW, Tier.BOARD, None),
        (ROW, Tier.NETWORK, 0.3),
        (replace(ROW, warned=True), Tier.CACHE, 0.002),
        (replace(ROW, would_refuse="no_path"), Tier.CACHE, 0.002),
        (REFUSED, Tier.NONE, None),
        (replace(ROW, rule=None), Tier.NONE, None),
        (replace(REFUSED, door=Door.REFRESH.value), Tier.NETWORK, 9.0),
    ):
        measures.verdict(row, tier, seconds)
    measures.request("check", 0.3)
    body, _ = encoded(
        Seen(status={"measures": measures.status(), "rules": ["in", "out"]}, identities={}),
        "application/openmetrics-text",
    )
    found = {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in open_families(body.decode())
        for one in family.samples
        if family.name.endswith(("cftpki_verdicts", "rule_verdicts", "verdict_seconds", "request_seconds"))
    }
    assert {
        ("cftpki_rule_verdicts_total", "accepted", "in"): 3,
        ("cftpki_rule_verdicts_total", "accepted_with_warnings", "in"): 1,
        ("cftpki_rule_verdicts_total", "would_be_refused", "in"): 1,
        ("cftpki_rule_verdicts_total", "refused", "in"): 1,
        ("cftpki_rule_verdicts_total", "accepted", "out"): 0,
        ("cftpki_rule_verdicts_total", "accepted_with_warnings", "out"): 0,
        ("cftpki_rule_verdicts_total", "would_be_refused", "out"): 0,
        ("cftpki_rule_verdicts_total", "refused", "out"): 0,
    } == {key: value for key, value in found.items() if key[0] == "cftpki_rule_verdicts_total"}
    assert {
        ("cftpki_verdicts_total", "accepted", "", "in", "board"): 2,
        ("cftpki_verdicts_total", "accepted", "", "in", "network"): 1,
        ("cftpki_verdicts_total", "accepted_with_warnings", "", "in", "cache"): 1,
        ("cftpki_verdicts_total", "would_be_refused", "no_path", "in", "cache"): 1,
        ("cftpki_verdicts_total", "refused", "revoked", "in", "none"): 1,
        ("cftpki_verdicts_total", "accepted", "", "", "none"): 1,
    } == {key: value for key, value in found.items() if key[0] == "cftpki_verdicts_total"}
    assert (2, 0.004, 1, 1) == (
        found["cftpki_verdict_seconds_count", "cache"],
        found["cftpki_verdict_seconds_sum", "cache"],
        found["cftpki_verdict_seconds_count", "network"],
        found["cftpki_request_seconds_count", "check"],
    )
    assert (0, 2) == (
        found["cftpki_verdict_seconds_bucket", "0.001", "cache"],
        found["cftpki_verdict_seconds_bucket", "0.0025", "cache"],
    )


def test_rules_that_come_and_go_are_counted_together_beyond_a_bound():
    measures = Measures()
    for number in range(500):
        measures.verdict(replace(ROW, rule=f"rule-{number}"), Tier.CACHE)
    rows = {row[0]: row[-1] for row in measures.status()["verdicts"]}
    assert (301, 200, 1) == (len(rows), rows["(others)"], rows["rule-0"])


@pytest.mark.parametrize(
    ("origins", "repeats", "tier"),
    [
        ((), False, Tier.NONE),
        ((Origin.CACHE, Origin.STAPLED), False, Tier.CACHE),
        ((Origin.CACHE, Origin.NETWORK), False, Tier.NETWORK),
        ((), True, Tier.STANDING),
    ],
)
def test_tier_is_what_answered(origins, repeats, tier):
    now = datetime(2026, 6, 1, tzinfo=UTC)
    statements = tuple(
        Statement(kind=SourceKind.CRL, origin=origin, received_at=now, raw=b"x") for origin in origins
    )
    judged = SimpleNamespace(statements=statements, stored=SimpleNamespace(repeats="r") if repeats else None)
    assert tier is tier_of(judged)


def test_duration_on_a_bound_is_within_it_and_a_longer_one_is_not():
    latencies = Latencies()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1000.0):
        latencies.add(seconds)
    counts = latencies.status()["counts"]
    assert (2, 1, 1, 4) == (counts[0], counts[1], counts[-1], sum(counts))
