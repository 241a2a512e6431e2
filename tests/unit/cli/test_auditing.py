"""
What an auditor asks of the record: lists, counts, spreadsheets, and a report that prints.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from cftpki_cache.ledger import EvidenceLedger
from cftpki_ext.cli import main
from cftpki_ext.cli.sheets import cell
from cftpki_ext.cli.verdict_lines import row_lines
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.evidence import encode, row_of
from cftpki_ext.ports.evidence import EvidenceEntry
from tests.support import evidence_samples as samples
from tests.support import pki
from tests.support.ledgers import edit

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTILE = '=HYPERLINK("http://x")<script>alert(1)</script>&\''
NAMED = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTILE)])
FIRST, SECOND, THIRD, OLD = ("a" * 8 + digit * 24 for digit in "1234")


def kept(ledger, verdict_id, record, *, age=timedelta(0)):
    stored = encode(replace(record, verdict=replace(record.verdict, id=verdict_id)))
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


def judged(leaf, *, rule, remote="192.0.2.9"):
    made = samples.record(*samples.GOOD)
    question = replace(made.question, chain=(leaf.der, samples.CA.der), rule=rule)
    return replace(
        made,
        question=question,
        statements=(),
        verdict=conclude(examine(question), (), verdict_id="a" * 32),
        asked=replace(made.asked, remote=remote),
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """
    Four records: one of days ago, an acceptance, a revocation, and a refusal of a partner with a hostile name.
    """
    folder = tmp_path_factory.mktemp("audit") / "state"
    with contextlib.closing(EvidenceLedger(folder / "evidence")) as ledger:
        kept(ledger, OLD, samples.record(*samples.GOOD), age=timedelta(days=9))
        kept(ledger, FIRST, samples.record(*samples.GOOD))
        kept(ledger, SECOND, samples.record(*samples.REVOKED))
        hostile = pki.issue(samples.CA, NAMED, eku=["clientAuth"], san=["dns:evil.example"])
        kept(ledger, THIRD, judged(hostile, rule="night"))
    return folder


def audit(state, *words):
    return CliRunner().invoke(main, ["audit", *map(str, words), "--state", str(state)])


def ids(state, *words):
    done = audit(state, "list", *words, "--json")
    assert 0 == done.exit_code, done.stderr
    return [row["id"] for row in json.loads(done.stdout)]


# The records' own time is a fixed one in the past; they were kept now.
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [FIRST, SECOND, THIRD]),
        (("--since", "30d", "--until", "5d"), [OLD]),
        (("--since", "30d"), [OLD, FIRST, SECOND, THIRD]),
        (("--refused",), [SECOND, THIRD]),
        (("--reason", "revoked"), [SECOND]),
        (("--reason", "revoked", "--reason", "status_not_established"), [SECOND, THIRD]),
        (("--rule", "night"), [THIRD]),
        (("--policy", "strict"), [FIRST, SECOND, THIRD]),
        (("--policy", "audit"), []),
        (("--warned",), []),
        (("--exception",), []),
        (("--partner", "CN=partner"), [FIRST, SECOND]),
        (("--partner", "/CN=partner"), [FIRST, SECOND]),
        (("--partner", "DNS:evil.example"), [THIRD]),
        (("--partner", "192.0.2.9"), [THIRD]),
        (("--partner", "192.0.2.9", "--partner", "CN=partner"), [FIRST, SECOND, THIRD]),
        (("--partner", "CN=partner", "--refused"), [SECOND]),
    ],
)
def test_list_has_what_was_asked_for(state, words, expected):
    assert expected == ids(state, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--reason", "revokd"), "'revokd' is not one of"),
        (("--per", "moon"), "'moon' is not one of"),
        (("--csv", "--json"), "--csv or --json, not both"),
        (("--until", "9d"), "is before --since"),
        (("--partner", " "), "a partner without a name"),
    ],
)
def test_wrong_call_is_said(state, words, message):
    done = audit(state, "list", *words)

    assert (2, "", True) == (done.exit_code, done.stdout, message in done.stderr)


def test_lines_fit_eighty_columns_and_have_whole_ids(state):
    done = audit(state, "list", "--since", "30d")

    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    found = re.findall(r"\b[0-9a-f]{32}\b", done.stdout)
    assert [OLD, FIRST, SECOND, THIRD] == found
    assert 2 == sum("refused" in line for line in lines)
    for one in found:
        assert 0 == CliRunner().invoke(main, ["explain", one, "--state", str(state)]).exit_code


def test_long_subject_is_broken_between_its_parts():
    made = samples.record(*samples.REVOKED)
    subject = f"CN={'c' * 30},O=Partner\\, Inc.,OU={'u' * 30},L={'l' * 90},C=FR"
    row = replace(row_of(made.verdict, made.asked), partner=subject)
    for width in (80, 40, 10):
        head, *rest = [str(line) for line in row_lines(row, width)]
        joined = "".join(line.strip() for line in rest if "refused" not in line)
        assert subject in joined.replace("  ", "")
        if width == 80:
            assert all(len(line) <= 80 or "l" * 90 in line for line in (head, *rest))


@pytest.mark.parametrize(
    ("words", "remark"),
    [
        (
            ("--since", "2d", "--until", "1d"),
            r"no verdicts from 2\S+Z to 2\S+Z; the evidence holds 4 records, kept from",
        ),
        (
            ("--rule", "nite"),
            r"none of the 3 verdicts from 2\S+Z to now fits\nno verdict there has rule nite; there are: in, night",
        ),
        (("--policy", "audit"), r"no verdict there has policy audit; there are: strict"),
        (("--reason", "expired"), r"no verdict there has reason expired; there are: "),
        (("--partner", "CN=nobody"), r"none of the 3 verdicts from 2\S+Z to now fits"),
        (("--since", "2020-01-01"), r"the evidence reaches back only to 2\S+Z\n"),
    ],
)
def test_nothing_or_less_than_asked_for_is_explained(state, words, remark):
    for form in ((), ("--json",), ("--csv",)):
        done = audit(state, "list", *words, *form)
        said = done.stderr if form or "2020-01-01" in words else done.stdout
        assert 0 == done.exit_code
        assert re.search(remark, said), said


def test_list_without_a_question_says_nothing_of_the_reach(state):
    assert "" == audit(state, "list").stderr


def test_reach_says_how_many_were_let_go(tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as ledger:
        kept(ledger, OLD, samples.record(*samples.GOOD), age=timedelta(days=9))
        kept(ledger, FIRST, samples.record(*samples.GOOD))
        assert 1 == ledger.tend(before=NOW - timedelta(days=5), max_bytes=10**9)
    done = audit(tmp_path, "list", "--since", "30d")

    assert re.fullmatch(r"the evidence reaches back only to \S+Z: 1 older records were let go\n", done.stderr)


def test_evidence_without_records_says_so(tmp_path):
    EvidenceLedger(tmp_path / "evidence").close()

    done = audit(tmp_path, "list")
    assert (0, "the evidence holds no records\n") == (done.exit_code, done.stdout)


def test_csv_is_a_spreadsheet_without_formulas(state):
    done = audit(state, "list", "--csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout_bytes.decode(), newline="")))
    assert [FIRST, SECOND, THIRD] == [row["id"] for row in rows]
    assert ["accepted", "refused", "refused"] == [row["answer"] for row in rows]
    assert {"44", "0", "46"} == {row["alert"] for row in rows}
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    assert done.stdout_bytes.count(b"\r\n") == 4


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        (" =1", "' =1"),
        ("CN==1", "CN==1"),
        ("a\nb", "a\\nb"),
        (-1, "-1"),
        (True, "yes"),
        (False, "no"),
        (None, ""),
    ],
)
def test_cell_is_no_formula(value, written):
    assert written == cell(value)


@given(st.text(max_size=50))
def test_no_text_is_a_formula_in_a_cell(text):
    written = cell(text)

    assert not written.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    assert written.isprintable()


def test_partners_are_counted(state):
    found = json.loads(audit(state, "list", "--since", "30d", "--per", "partner", "--json").stdout)

    assert [("CN=partner", 2, 1)] == [
        (one["name"], one["accepted"], one["refused"]) for one in found if one["name"] == "CN=partner"
    ]
    lines = audit(state, "list", "--per", "partner").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "CN=partner" in lines
    sheet = list(csv.DictReader(io.StringIO(audit(state, "list", "--per", "rule", "--csv").stdout)))
    assert {("in", "1"), ("night", "0")} == {(one["name"], one["accepted"]) for one in sheet}


class Read(HTMLParser):
    """
    A page as a browser reads it: its elements, and the text of its cells.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells, self.paragraphs = [], [], [], []
        self._into = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._into = {"td": self.cells, "p": self.paragraphs}.get(tag)
        if self._into is not None:
            self._into.append("")

    def handle_endtag(self, tag):
        if tag in {"td", "p"}:
            self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data


def test_report_is_a_page_that_prints_and_runs_nothing(state):
    done = audit(state, "report", "--since", "30d")
    text = done.stdout_bytes.decode("ascii")
    page = Read(text)

    assert 0 == done.exit_code, done.stderr
    assert text.startswith("<!DOCTYPE html>")
    assert set() == set(page.tags) & {"script", "img", "link", "iframe", "a", "object", "form"}
    assert not [
        name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "style"}
    ]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert "@page" in text
    assert "@media print" in text
    assert any("<script" in one for one in page.cells)
    assert "<script" not in text
    for verdict_id in (OLD, FIRST, SECOND, THIRD):
        assert verdict_id in page.cells
    assert any("is whole" in one for one in page.paragraphs)


def test_report_says_what_was_chosen_and_that_it_is_all(state):
    page = Read(audit(state, "report", "--refused", "--rule", "night", "--no-verify").stdout)

    assert "only refused; rule night" in page.cells
    assert (True, False, False) == tuple(one in page.cells for one in (THIRD, FIRST, SECOND))
    assert "The chain of records was not walked." in page.paragraphs


def test_report_on_a_broken_chain_says_so(tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "evidence")) as ledger:
        for verdict_id in (OLD, FIRST, SECOND):
            kept(ledger, verdict_id, samples.record(*samples.GOOD))
    edit(tmp_path / "evidence", "DELETE FROM record WHERE seq = 2")
    page = Read(audit(tmp_path, "report").stdout)

    assert "The chain of records is broken in 1 places:" in page.paragraphs
    assert "records 2 to 2 were removed" in page.paragraphs


def test_report_leaves_rows_out_and_counts_them(state, monkeypatch):
    monkeypatch.setattr("cftpki_ext.cli.auditing._REPORTED", 1)
    page = Read(audit(state, "report").stdout)

    assert (True, False) == (FIRST in page.cells, SECOND in page.cells)
    assert any(one.startswith("2 more verdicts are counted above") for one in page.paragraphs)


def test_report_on_nothing_says_why(state):
    page = Read(audit(state, "report", "--partner", "CN=nobody").stdout)

    assert any(one.startswith("none of the 3 verdicts") for one in page.paragraphs)


def test_backup_is_read_like_the_state_and_overwrites_nothing(state, tmp_path):
    made = audit(state, "backup", tmp_path / "copy")
    whole = audit(state, "verify")

    assert (0, whole.stdout) == (made.exit_code, made.stdout)
    assert ids(tmp_path / "copy", "--since", "30d") == ids(state, "--since", "30d")
    again = audit(state, "backup", tmp_path / "copy")
    assert (2, True) == (again.exit_code, "is there already" in again.stderr)
    assert 1 == audit(tmp_path / "nowhere", "backup", tmp_path / "other").exit_code


def test_backup_of_a_broken_chain_is_made_and_said(tmp_path):
    with contextlib.closing(EvidenceLedger(tmp_path / "state" / "evidence")) as ledger:
        for verdict_id in (OLD, FIRST, SECOND):
            kept(ledger, verdict_id, samples.record(*samples.GOOD))
    edit(tmp_path / "state" / "evidence", "DELETE FROM record WHERE seq = 2")
    done = audit(tmp_path / "state", "backup", tmp_path / "copy")

    assert (1, "records 2 to 2 were removed") == (done.exit_code, done.stdout.splitlines()[0])


@pytest.mark.parametrize("command", ["list", "report", "verify"])
def test_copy_without_its_log_is_named_by_each_command(tmp_path, command):
    with contextlib.closing(EvidenceLedger(tmp_path / "state" / "evidence")) as ledger:
        kept(ledger, FIRST, samples.record(*samples.GOOD))
        copy = tmp_path / "copy" / "evidence"
        copy.mkdir(parents=True)
        for name in ("ledger.sqlite3", "head"):
            shutil.copy(tmp_path / "state" / "evidence" / name, copy)
    done = audit(tmp_path / "copy", command)

    assert "has no ledger.sqlite3-wal, and records 1 to 1 are missing" in done.stderr
