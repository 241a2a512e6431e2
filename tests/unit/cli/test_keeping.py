"""
Records written out before they are let go, and held beyond their time, by commands beside a ledger that goes on.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.cli import main
from cftpki_ext.evidence import encode
from cftpki_ext.ports.evidence import EvidenceEntry
from tests.support import evidence_samples as samples
from tests.support.ledgers import LARGE, edit, reading

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def ledger(state):
    with contextlib.closing(EvidenceLedger(state / "evidence")) as made:
        yield made


def keep(ledger, number, *, days=0, statements=samples.GOOD):
    made = samples.record(*statements)
    stored = encode(replace(made, verdict=replace(made.verdict, id=f"{number:032x}")))
    at = NOW - timedelta(days=days)
    ledger.append(
        [EvidenceEntry(id=f"{number:032x}", kept_at=at, document=stored.document, blobs=stored.blobs)]
    )


def audit(state, *words):
    return CliRunner().invoke(main, ["audit", *map(str, words), "--state", str(state)])


def prune(ledger, days):
    return ledger.tend(before=NOW - timedelta(days=days), max_bytes=LARGE)


def kept(state):
    with reading(state / "evidence") as reader:
        return [entry.seq for entry in reader.since()]


def test_archive_has_all_records_and_is_read_like_a_state_directory(state, ledger, tmp_path):
    for number in range(3):
        keep(ledger, number, days=9 - number)
    done = audit(state, "archive", tmp_path / "archive")
    folder = tmp_path / "archive" / "000000000001-000000000003"

    assert (0, True) == (done.exit_code, done.stdout.startswith(f"{folder}: records to 3, hash ")), (
        done.output
    )
    assert done.stdout.endswith("; the first\n")
    read = audit(folder, "verify")
    assert (0, audit(state, "verify").stdout) == (read.exit_code, read.stdout)
    assert 3 == len(json.loads(audit(folder, "list", "--since", "30d", "--json").stdout))


def test_nothing_is_let_go_by_age_that_no_archive_has(state, ledger, tmp_path):
    keep(ledger, 0, days=9)
    keep(ledger, 1, days=8)
    assert 0 == audit(state, "archive", tmp_path / "archive").exit_code
    keep(ledger, 2, days=7)
    assert 2 == prune(ledger, 5)
    assert ([3], 0) == (kept(state), prune(ledger, 5))

    again = audit(state, "archive", tmp_path / "archive", "--json")
    told = json.loads(again.stdout)
    assert (0, [], 3, "000000000001-000000000002") == (
        again.exit_code,
        told["faults"],
        told["last"],
        told["before"].rpartition("/")[2],
    )
    assert 1 == prune(ledger, 5)
    assert ["000000000001-000000000002", "000000000003-000000000003"] == sorted(
        one.name for one in (tmp_path / "archive").iterdir()
    )


def test_archive_of_what_it_has_already_is_said(state, ledger, tmp_path):
    keep(ledger, 0)
    assert 0 == audit(state, "archive", tmp_path / "archive").exit_code
    again = audit(state, "archive", tmp_path / "archive")

    assert (2, True) == (again.exit_code, "is there already: nothing was kept since" in again.stderr)
    assert ["000000000001-000000000001"] == [one.name for one in (tmp_path / "archive").iterdir()]


def test_archive_after_records_that_it_never_had_says_so_and_holds_what_it_held(state, ledger, tmp_path):
    keep(ledger, 0, days=9)
    assert 0 == audit(state, "archive", tmp_path / "archive").exit_code
    assert 0 == audit(state, "hold", "release", "archive", "--reason", "a test").exit_code
    keep(ledger, 1, days=8)
    keep(ledger, 2)
    assert 2 == prune(ledger, 5)
    done = audit(state, "archive", tmp_path / "archive")

    assert (1, True) == (done.exit_code, done.stdout.startswith("records 2 to 3 are in neither "))
    assert "nothing is held\n" == audit(state, "hold", "list").stdout


def test_archive_of_a_broken_chain_is_said_and_lets_nothing_more_go(state, ledger, tmp_path):
    for number in range(3):
        keep(ledger, number, days=9)
    edit(state / "evidence", "DELETE FROM record WHERE seq = 2")
    done = audit(state, "archive", tmp_path / "archive")

    assert (1, "records 2 to 2 were removed") == (done.exit_code, done.stdout.splitlines()[0])


def test_hold_keeps_records_until_it_is_released(state, ledger):
    for number, days in enumerate((9, 8, 7)):
        keep(ledger, number, days=days)
    laid = audit(state, "hold", "add", "case-7", "--since", "8d12h", "--reason", "letter of 1 March")
    assert 0 == laid.exit_code, laid.output
    assert (1, 0) == (prune(ledger, 5), prune(ledger, 5))
    (held,) = json.loads(audit(state, "hold", "list", "--json").stdout)
    assert ("case-7", "evidence", 2, 0, "letter of 1 March") == (
        held["name"],
        held["ledger"],
        held["first"],
        held["broken"],
        held["reason"],
    )
    assert "case-7" in audit(state, "hold", "list").stdout

    assert 0 == audit(state, "hold", "release", "case-7", "--reason", "settled").exit_code
    assert (2, []) == (prune(ledger, 5), kept(state))
    assert 0 == audit(state, "verify").exit_code


def test_hold_of_a_partner_begins_with_its_first_record(state, ledger):
    for number in range(3):
        keep(ledger, number, days=9)
    assert (
        0
        == audit(
            state, "hold", "add", "p", "--since", "30d", "--partner", "/CN=partner", "--reason", "r"
        ).exit_code
    )
    assert 0 == prune(ledger, 5)
    other = audit(state, "hold", "add", "p", "--since", "30d", "--partner", "CN=other", "--reason", "r")
    assert (0, True) == (other.exit_code, "no record of this partner since" in other.stderr)
    assert 3 == prune(ledger, 5)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("hold", "add", "archive", "--since", "1d", "--reason", "r"), 2, "is no name of a hold"),
        (("hold", "add", "a b", "--since", "1d", "--reason", "r"), 2, "is no name of a hold"),
        (("hold", "add", "a", "--since", "1d"), 2, "Missing option '--reason'"),
        (("hold", "add", "a", "--reason", "r"), 2, "Missing option '--since'"),
        (("hold", "release", "a", "--reason", "r"), 1, "there is no hold 'a'"),
    ],
)
def test_what_cannot_be_held_or_released_is_said(state, ledger, words, status, message):
    keep(ledger, 0)
    done = audit(state, *words)

    assert (status, "", True) == (done.exit_code, done.stdout, message in done.stderr)


@pytest.mark.parametrize("words", [("hold", "list"), ("hold", "add", "a", "--since", "1d", "--reason", "r")])
def test_state_without_evidence_has_no_holds(tmp_path, words):
    done = audit(tmp_path, *words)

    assert (1, True) == (done.exit_code, "no evidence in" in done.stderr)


def test_hold_is_a_link_of_the_chain_itself(state, ledger):
    keep(ledger, 0, days=9)
    said = ["hold", "add", "case-7", "--since", "30d", "--partner", "CN=partner", "--reason", "why\x1b[2J"]
    assert 0 == audit(state, *said).exit_code
    assert 0 == audit(state, "hold", "release", "case-7", "--reason", "settled").exit_code
    verified = audit(state, "verify")
    laid, released = [line for line in verified.stdout.splitlines() if line.startswith("note: ")]

    assert 0 == verified.exit_code
    assert re.fullmatch(
        r"note: hold case-7 was laid 2\S+Z by \w+ on what was kept since 2\S+Z,"
        r" from the first record of CN=partner on: why\\x1b\[2J",
        laid,
    )
    assert re.fullmatch(r"note: hold case-7 was released 2\S+Z by \w+: settled", released)
    edit(state / "evidence", "UPDATE note SET document = CAST(document || ' ' AS BLOB)")
    assert 1 == audit(state, "verify").exit_code
