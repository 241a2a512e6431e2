"""
The partner's side as administrators of other software reported it: the whole table, each case in every door of `check`.

The names are made up, the forms are real. `cases.json` has the arguments, the exit status that is right, and why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cftpki_ext.cli.program import main

FOLDER = Path(__file__).parent / "partners"
CASES = {case["id"]: case for case in json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))}
# The letter counts under `form = "strict"`, also for certificates; bad news is heard all the same.
REFUSED_WHERE_THE_LETTER_COUNTS = {
    "default-written-out",
    "certsign-in-leaf",
    "aia-empty",
    "san-ip-as-text",
    "san-dns-blank",
    "empty-subject-san-not-critical",
    "printable-ampersand",
    "rdn-set-not-sorted",
    "version1-written-out",
    "ecdsa-null-parameters",
    "policy-twice",
    "cdp-blank",
    "cdp-empty",
    "pinned-self-signed",
}
CONFIGURATION = """
[trust.partners]
anchors = ["{anchor}"]
form = "strict"

[[rule]]
direction = "server"
trust = "partners"
"""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_partner_of_the_field_gets_the_answer_that_is_right(case, monkeypatch):
    monkeypatch.chdir(FOLDER)
    ran = CliRunner().invoke(main, case["args"])
    assert case["expect"] == ran.exit_code, ran.output


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_partner_of_the_field_where_the_letter_counts(case, monkeypatch, tmp_path):
    monkeypatch.chdir(FOLDER)
    arguments = list(case["args"])
    place = arguments.index("--trust")
    config = tmp_path / "cftpki.toml"
    config.write_text(
        f'[service]\nstate = "{tmp_path / "state"}"\n'
        + CONFIGURATION.format(anchor=FOLDER / arguments[place + 1]),
        encoding="utf-8",
    )
    arguments[place : place + 2] = ["--config", str(config)]
    ran = CliRunner().invoke(main, arguments)
    expected = 42 if case["id"] in REFUSED_WHERE_THE_LETTER_COUNTS else case["expect"]
    assert expected == ran.exit_code, ran.output


def test_what_is_odd_and_was_read_is_in_the_evidence(monkeypatch):
    monkeypatch.chdir(FOLDER)
    ran = CliRunner().invoke(main, [*CASES["ecdsa-null-parameters"]["args"], "--json"])
    assert ["the partner: ECDSA signature algorithm has parameters (RFC 5758 3.2)"] == json.loads(ran.output)[
        "evidence"
    ]["notes"][:1]
    heard = CliRunner().invoke(main, [*CASES["delta-number-equals-base"]["args"], "--json"])
    notes = [
        note
        for finding in json.loads(heard.output)["evidence"]["hops"]
        for source in finding["sources"]
        for note in source["notes"]
    ]
    assert {"delta CRL on base 10 has the cRLNumber 10"} == set(notes)
