"""
`cftpki check` under a configuration: the exit status is the alert that is sent, and the evidence names the truth.
"""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from tests.support import pki

ROOT = pki.make_root("Root")
LEAF = pki.issue(ROOT, "CN=mft,O=Partner", eku=["clientAuth"])
RULE = '[[rule]]\nname = "night"\ndirection = "server"\ntrust = "t"\n'
AT = pki.NOW.isoformat()


@pytest.fixture
def check(tmp_path: Path) -> Any:
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    (tmp_path / "leaf.pem").write_bytes(LEAF.pem)
    (tmp_path / "root.crl").write_bytes(pki.make_crl(ROOT))

    def checking(text: str, *options: str) -> tuple[int, dict[str, Any]]:
        path = tmp_path / "cftpki.toml"
        path.write_text(f'[service]\nstate = "state"\n{text}')
        path.chmod(0o600)
        command = [
            "check",
            str(tmp_path / "leaf.pem"),
            "--config",
            str(path),
            "--at",
            AT,
            "--json",
            "--no-fetch",
        ]
        result = CliRunner().invoke(main, [*command, *options])
        return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else {}

    checking.directory = tmp_path  # type: ignore[attr-defined]
    return checking


def trust(policy: str = "strict", more: str = "") -> str:
    return f'[trust.t]\nanchors = ["root.pem"]\npolicy = "{policy}"\n{more}'


def test_alert_of_a_cause_is_the_exit_status_and_the_reason_stays_true(check: Any) -> None:
    table = '[policy.quiet]\nno_source = { action = "refuse", alert = 42 }\n'
    status, verdict = check(table + trust("quiet") + RULE)
    assert (42, 42, "status_not_established") == (status, verdict["alert"], verdict["reason"])
    assert "no_source" == verdict["evidence"]["hops"][0]["cause"]
    assert 46 == check(trust() + RULE)[0]


def test_exception_lets_one_partner_in_and_says_why(check: Any) -> None:
    exception = (
        f'[[policy.p.exception]]\nfingerprint = "{sha256(LEAF.der).hexdigest()}"\n'
        'until = 2099-12-31\nreason = "ticket 4711"\n'
    )
    status, verdict = check(exception + trust("p") + RULE)
    assert (0, True) == (status, "ticket 4711" in verdict["warnings"][0])
    assert 46 == check(exception.replace(sha256(LEAF.der).hexdigest(), "00" * 32) + trust("p") + RULE)[0]


@pytest.mark.parametrize(
    ("subject", "expected"), [("CN=mft,O=Partner", 0), ("CN=mft", 0), ("CN=mft,O=Other", 49)]
)
def test_partner_that_the_rule_does_not_name_exits_with_49(check: Any, subject: str, expected: int) -> None:
    directory = check.directory
    lists = f'[rule.partners]\nsubjects = ["{subject}"]\n'
    crl = f'crl = ["{directory / "root.crl"}"]\n'
    config = trust(more=crl) + RULE + lists
    # The list is a file that the trust set names, which counts as a source: it is fetched from the disk.
    assert (expected, 46 if expected == 0 else 49) == (_fetching(check, config), check(config)[0])


def _fetching(check: Any, config: str) -> int:
    path = check.directory / "cftpki.toml"
    path.write_text(f'[service]\nstate = "state2"\n{config}')
    return (
        CliRunner()
        .invoke(main, ["check", str(check.directory / "leaf.pem"), "--config", str(path), "--at", AT])
        .exit_code
    )


def test_memory_of_revocations_that_is_damaged_ends_with_80(check: Any) -> None:
    directory = check.directory
    (directory / "root.crl").write_bytes(pki.make_crl(ROOT, [LEAF.serial]))
    config = trust(more=f'crl = ["{directory / "root.crl"}"]\n') + RULE
    assert 44 == _fetching(check, config)
    database = sqlite3.connect(directory / "state2" / "revocations.sqlite3")
    with database:
        database.execute("UPDATE blob SET raw = x'00'")
    database.close()
    assert 80 == _fetching(check, config)
