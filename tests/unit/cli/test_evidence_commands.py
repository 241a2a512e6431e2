"""
explain, replay and audit over a ledger that the test wrote.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.cli import main
from cftpki_ext.evidence import encode
from cftpki_ext.ports.evidence import EvidenceEntry
from tests.support import evidence_samples as samples
from tests.support.ledgers import rewrite

NOW = datetime.now(UTC)
FIRST, SECOND, OLD = "aaaaaaaa" + "1" * 24, "aaaaaaaa" + "2" * 24, "bbbbbbbb" + "3" * 24


@pytest.fixture
def state(tmp_path):
    ledger = EvidenceLedger(tmp_path / "state" / "evidence")
    for verdict_id, statements, age in (
        (OLD, samples.GOOD, timedelta(days=9)),
        (FIRST, samples.GOOD, timedelta(0)),
        (SECOND, samples.REVOKED, timedelta(0)),
    ):
        made = samples.record(*statements)
        stored = encode(replace(made, verdict=replace(made.verdict, id=verdict_id)))
        ledger.append(
            [
                EvidenceEntry(
                    id=verdict_id,
                    kept_at=NOW - age,
                    document=stored.document,
                    blobs=stored.blobs,
                    revoked=stored.revoked,
                )
            ]
        )
    ledger.close()
    return tmp_path / "state"


def cftpki(state, *arguments):
    return CliRunner().invoke(main, [*map(str, arguments), "--state", str(state)])


def edit(state, sql, *values):
    with contextlib.closing(sqlite3.connect(state / "evidence" / "ledger.sqlite3")) as database:
        database.execute(sql, values)
        database.commit()


@pytest.mark.parametrize(
    "given",
    [
        SECOND,
        SECOND.upper(),
        SECOND[:9],
        "01" + "00" * 7 + SECOND + "00" * 40,
        " ".join(("01" + "00" * 7 + SECOND + "00" * 40)[n : n + 8] for n in range(0, 128, 8)),
    ],
)
def test_explain_takes_id_beginning_and_area(state, given):
    done = cftpki(state, "explain", given, "--json")
    assert (0, SECOND) == (done.exit_code, json.loads(done.stdout)["verdict"]["id"])


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ("aaaaaaaa", 1, "more than one verdict begins with aaaaaaaa"),
        ("aaaa", 1, "at least six digits"),
        ("c" * 32, 1, "it may have been let go"),
        ("0" * 128, 1, "names no verdict"),
        ("x", 2, "is no verdict id"),
        ("a" * 33, 2, "is no verdict id"),
    ],
)
def test_explain_of_anything_else_says_what_to_do(state, given, status, words):
    done = cftpki(state, "explain", given)
    assert (status, "", 1) == (done.exit_code, done.stdout, len(done.stderr.splitlines()))
    assert words in done.stderr


def test_explain_replay_of_a_record_that_decides_otherwise_is_status_1(state):
    rewrite(state / "evidence", b'"at":"2026', b'"at":"2016')
    done = cftpki(state, "explain", FIRST, "--replay")
    assert 1 == done.exit_code
    assert "DIFFERENT" in done.stdout
    assert "not_yet_valid" in done.stdout


def test_replay_lists_what_differs_and_what_cannot_be_read(state):
    edit(state, "UPDATE record SET document = x'7b' WHERE id = ?", OLD)
    rewrite(state / "evidence", b'"at":"2026', b'"at":"2016', record_id=FIRST)
    done = cftpki(state, "replay", "--json")
    report = json.loads(done.stdout)
    assert (1, 2, [FIRST], [OLD]) == (
        done.exit_code,
        report["replayed"],
        [entry["id"] for entry in report["differing"]],
        [entry["id"] for entry in report["unreadable"]],
    )
    human = cftpki(state, "replay")
    assert human.stdout.endswith("2 decided again, 1 differ, 1 unreadable\n")


def test_replay_says_what_changes_and_how_often(state):
    rewrite(state / "evidence", b'"at":"2026', b'"at":"2016')
    done = cftpki(state, "replay", "--summary", "--json")
    report = json.loads(done.stdout)
    summary = report["summary"]
    assert (1, 3, []) == (done.exit_code, summary["differing"], report["differing"])
    assert [
        ("accepted", "refused 45 not_yet_valid", 2, 1, OLD),
        ("refused 44 revoked", "refused 44 revoked with another depth 1", 1, 1, SECOND),
    ] == [
        (one["recorded"], one["now"], one["times"], one["partners"], one["example"])
        for one in summary["changes"]
    ]
    assert [
        "    2  accepted, now refused 45 not_yet_valid",
        f"       of 1 partner, for instance {OLD}",
        "    1  refused 44 revoked, now refused 44 revoked with another depth 1",
        f"       of 1 partner, for instance {SECOND}",
        "3 decided again, 3 differ",
    ] == cftpki(state, "replay", "--summary").stdout.splitlines()


def test_replay_without_a_difference_has_an_empty_summary(state):
    done = cftpki(state, "replay", "--summary")
    assert (0, "3 decided again, 0 differ\n") == (done.exit_code, done.stdout)


def test_replay_of_one_and_since(state):
    assert 1 == json.loads(cftpki(state, "replay", SECOND, "--json").stdout)["replayed"]
    assert 2 == json.loads(cftpki(state, "replay", "--since", "7d", "--json").stdout)["replayed"]
    assert 3 == json.loads(cftpki(state, "replay", "--json").stdout)["replayed"]
    assert 2 == cftpki(state, "replay", SECOND, "--since", "7d").exit_code


def test_audit_list_names_what_it_cannot_read_and_goes_on(state):
    edit(state, "UPDATE record SET document = x'7b' WHERE id = ?", FIRST)
    done = cftpki(state, "audit", "list", "--json")
    assert (0, [SECOND]) == (done.exit_code, [row["id"] for row in json.loads(done.stdout)])
    assert FIRST in done.stderr


@pytest.mark.parametrize("wrong", ["soon", "7", "7w", "99999999d"])
def test_audit_list_since_no_time_is_a_wrong_call(state, wrong):
    assert 2 == cftpki(state, "audit", "list", "--since", wrong).exit_code


def test_audit_verify_tells_whole_from_broken(state):
    whole = cftpki(state, "audit", "verify")
    assert (0, True) == (whole.exit_code, whole.stdout.startswith("whole: 3 records, "))
    edit(state, "DELETE FROM record WHERE seq = 2")
    broken = cftpki(state, "audit", "verify")
    assert (1, "records 2 to 2 were removed") == (broken.exit_code, broken.stdout.splitlines()[0])


def test_state_without_evidence_is_one_line(tmp_path):
    for command in (("audit", "verify"), ("replay",), ("explain", FIRST)):
        done = cftpki(tmp_path, *command)
        assert (1, 1) == (done.exit_code, len(done.stderr.splitlines()))


def test_explain_raw_writes_new_files_in_a_new_directory_and_nowhere_else(state, tmp_path):
    raw, precious = tmp_path / "made" / "raw", tmp_path / "precious"
    assert 0 == cftpki(state, "explain", FIRST, "--raw", raw).exit_code
    assert (0o700, {0o600}) == (
        raw.stat().st_mode & 0o777,
        {one.stat().st_mode & 0o777 for one in raw.iterdir()},
    )
    before = {one.name: one.read_bytes() for one in raw.iterdir()}
    again = cftpki(state, "explain", SECOND, "--raw", raw)
    assert (2, f"{raw} is there already: name a new directory") == (
        again.exit_code,
        again.stderr.strip().removeprefix("cftpki: "),
    )
    assert before == {one.name: one.read_bytes() for one in raw.iterdir()}
    precious.mkdir()
    (tmp_path / "link").symlink_to(precious)
    assert 2 == cftpki(state, "explain", FIRST, "--raw", tmp_path / "link").exit_code
    assert [] == list(precious.iterdir())


@pytest.mark.parametrize(
    "limit", [{"work": 10**30}, {"clock_skew": "P999999999D"}, {"crl_max_age": "P999999999D"}]
)
def test_replay_of_a_record_with_limits_without_end_ends_with_a_word(state, limit):
    made = samples.record(*samples.GOOD)
    stored = encode(replace(made, verdict=replace(made.verdict, id="c" * 32)))
    document = json.loads(stored.document)
    document["question"]["limits"].update(limit)
    with contextlib.closing(EvidenceLedger(state / "evidence")) as ledger:
        ledger.append(
            [
                EvidenceEntry(
                    id="c" * 32, kept_at=NOW, document=json.dumps(document).encode(), blobs=stored.blobs
                )
            ]
        )
    done = cftpki(state, "replay", "c" * 32)
    assert done.exit_code in {0, 1}
    assert None is done.exception or isinstance(done.exception, SystemExit)
    assert "1 decided again" in done.stdout or "cannot be decided" in done.stdout
