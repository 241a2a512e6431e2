"""
Verdicts counted per partner, rule, policy, reason and day.
"""

from __future__ import annotations

import pytest

from cftpki_ext.evidence import Row
from cftpki_ext.evidence.grouping import By, Changes, Groups, answer_of, shares

PLAIN = {
    "status": "accepted",
    "reason": None,
    "alert": 0,
    "would_refuse": None,
    "warned": False,
    "partner": "CN=a",
    "serial": "01",
    "fingerprint": "f1",
    "rule": "in",
    "trust": "t",
    "policy": "strict",
    "door": "exit",
    "remote": "",
    "summary": "",
}
REFUSED = {"status": "refused", "reason": "revoked", "alert": 44}


def row(number, **changes):
    return Row(**PLAIN | {"id": f"{number:032x}", "at": f"2026-11-{number:02}T00:00:00.000Z"} | changes)


ROWS = (
    row(3),
    row(1, warned=True, fingerprint="f0", serial="00"),
    row(2, partner="CN=b", rule=None, **REFUSED),
    row(4, policy_rows=("stale exception",)),
    row(5, would_refuse="expired", policy="audit"),
    row(6, door="refresh", **REFUSED),
)


def grouped(by):
    groups = Groups(by)
    for one in ROWS:
        groups.add(one)
    return groups.found()


def test_partner_has_its_first_and_last_and_what_came_of_all():
    refused, accepted = grouped(By.PARTNER)

    assert {
        "name": "CN=a",
        "fingerprints": 2,
        "serial": "01",
        "first": "2026-11-01T00:00:00.000Z",
        "last": "2026-11-05T00:00:00.000Z",
        "accepted": 4,
        "refused": 0,
        "warned": 1,
        "excepted": 1,
        "last_answer": "accepted (audit: expired)",
        "last_id": f"{5:032x}",
    } == accepted.data()
    assert ("CN=b", 0, 1, "refused 44 revoked") == (
        refused.name,
        refused.accepted,
        refused.refused,
        refused.last_answer,
    )


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (By.RULE, ["(no rule)", "in"]),
        (By.POLICY, ["strict", "audit"]),
        (By.REASON, ["revoked", "accepted", "audit: expired"]),
        (By.DAY, [f"2026-11-0{day}" for day in range(1, 6)]),
    ],
)
def test_others_are_grouped_by_their_name(by, names):
    assert names == [one.name for one in grouped(by)]


def test_answers_are_a_few_words():
    assert [
        "accepted",
        "accepted, warned",
        "refused 44 revoked",
        "accepted by exception",
        "accepted (audit: expired)",
        "refused 44 revoked",
    ] == [answer_of(one) for one in ROWS]


def test_changes_are_counted_with_their_partners():
    changes = Changes()
    for number, partner in enumerate(("f1", "f1", "f2"), start=1):
        changes.add(row(number, fingerprint=partner), "accepted", "refused 44 revoked")
    changes.add(row(9, fingerprint=None), "refused 44 revoked", "accepted")

    assert [
        ("accepted", "refused 44 revoked", 3, 2, f"{1:032x}"),
        ("refused 44 revoked", "accepted", 1, 1, f"{9:032x}"),
    ] == [(one.recorded, one.now, one.times, one.partners, one.example) for one in changes.found()]
    assert [] == list(Changes().found())


def test_shares_are_words_the_largest_first():
    assert "3 a, 1 b, 1 c" == shares({"c": 1, "b": 1, "a": 3})
