"""
`cftpki init`, `cftpki trust add`, and what `config check` and `config show` say of what they write.
"""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate
from cftpki_ext.cli import main
from cftpki_ext.config import load
from tests.support import pki

NOW = datetime.now(UTC).replace(microsecond=0)
LIVES = {"not_before": NOW - pki.YEARS, "not_after": NOW + pki.YEARS}
ROOT = pki.make_root("Root", **LIVES)


def run(*arguments, **options):
    return CliRunner().invoke(main, [str(one) for one in arguments], **options)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "cftpki.toml"
    made = run("init", "--config", path, "--socket", tmp_path / "s", "--state", tmp_path / "state")
    assert 0 == made.exit_code, made.stderr
    return path


def test_first_configuration_is_taken_by_config_check_and_says_what_is_missing(config):
    checked = run("config", "check", "--config", config)
    assert (0, f"{config}: ok, 0 trust sets, 0 identities, 0 rules\n") == (checked.exit_code, checked.stdout)
    assert (
        "cftpki: warning: there is no [[rule]]: every session is refused with 80 (no_rule)\n"
        == checked.stderr
    )
    told = json.loads(run("config", "check", "--config", config, "--json").stdout)
    assert (True, ["there is no [[rule]]: every session is refused with 80 (no_rule)"]) == (
        *(told["ok"], told["warnings"]),
    )
    assert 0o644 == config.stat().st_mode & 0o777


def test_first_configuration_s_examples_are_what_they_say(config, tmp_path):
    """
    Every commented line without its `#` is a line of a configuration.
    """
    lines = [line.removeprefix("# ") for line in config.read_text().splitlines()]
    sections = [
        line for line in lines if line.startswith(("[", "allow_users")) or " = " in line.partition("#")[0]
    ]
    text = "\n".join(line for line in sections if not line.startswith("allow_users"))
    (tmp_path / "partners-root.pem").write_bytes(ROOT.pem)
    (tmp_path / "mft.pem").write_bytes(ROOT.pem)
    (tmp_path / "mft.key").write_bytes(ROOT.key_pem)
    (tmp_path / "mft.key").chmod(0o600)
    config.write_text(text)
    assert 2 == len(load(config).rules)


def test_file_that_exists_is_left_as_it_is(config):
    before = config.read_bytes()
    again = run("init", "--config", config)
    assert (2, f"cftpki: {config} exists already, and is left as it is\n") == (again.exit_code, again.stderr)
    assert before == config.read_bytes()
    nowhere = run("init", "--config", config.parent / "no" / "c.toml")
    assert (1, True) == (nowhere.exit_code, "no such file or directory" in nowhere.stderr)


def test_configuration_is_shown_as_toml_that_is_taken(config):
    shown = run("config", "show", "--toml", "--config", config)
    assert 0 == shown.exit_code
    assert str(config.parent / "s") == tomllib.loads(shown.stdout)["service"]["socket"]
    assert 2 == run("config", "show", "--toml", "--json", "--config", config).exit_code


class Partner:
    """
    A partner whose CA publishes at an address that has to be allowed, by files that stand in for the network.
    """

    def __init__(self, folder, *, crl_urls, **more):
        self.root, self.probe = folder / "root.pem", folder / "partner.pem"
        self.leaf = pki.issue(ROOT, "partner", eku=["clientAuth"], crl_urls=crl_urls, **LIVES, **more)
        self.root.write_bytes(ROOT.pem)
        self.probe.write_bytes(self.leaf.pem)

    def add(self, config, *options, **more):
        return run(
            "trust", "add", "acme", self.root, "--probe", self.probe, "--config", config, *options, **more
        )


def test_anchors_are_a_file_and_no_stream(config, tmp_path):
    before = config.read_bytes()
    partner = Partner(tmp_path, crl_urls=[])
    done = run("trust", "add", "acme", "-", "--probe", partner.probe, "--config", config)
    assert (2, before) == (done.exit_code, config.read_bytes())
    assert "the configuration names the file of the anchors: standard input is none" in done.stderr


def test_nothing_is_asked_or_written_without_a_yes(config, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("cftpki_ext.cli.trusting.check_certificate", _noting(asked))
    before = config.read_bytes()
    partner = Partner(tmp_path, crl_urls=["http://127.0.0.1:9/a.crl"])
    done = partner.add(config)
    assert 1 == done.exit_code
    assert "nothing was asked and nothing written; --yes allows what is shown" in done.stderr
    # What would be allowed is shown as it would be written.
    assert 'allow_hosts = ["127.0.0.1"]\nallow_networks = ["127.0.0.1/32"]\n' in done.stdout
    assert [True] == [one["path_only"] for one in asked]
    assert before == config.read_bytes()


def _noting(asked):
    def check(*arguments, **options):
        asked.append({"path_only": False, **options})
        return check_certificate(*arguments, **options)

    return check


def test_location_that_does_not_answer_is_named_and_nothing_is_written(config, tmp_path):
    before = config.read_bytes()
    done = Partner(tmp_path, crl_urls=["http://127.0.0.1:9/a.crl"]).add(config, "--yes")
    assert 46 == done.exit_code
    assert "not every status could be established like this: nothing is written" in done.stderr
    assert before == config.read_bytes()


def test_probe_that_does_not_lead_to_the_root_is_told_before_anything_is_looked_up(
    config, tmp_path, monkeypatch
):
    monkeypatch.setattr("cftpki_ext.cli.trusting._places", None)
    partner = Partner(tmp_path, crl_urls=[])
    partner.root.write_bytes(pki.make_root("Another", **LIVES).pem)
    done = partner.add(config, "--yes")
    assert 48 == done.exit_code
    assert "unknown_ca" in done.stderr


def test_probe_that_names_no_location_says_what_the_section_needs(config, tmp_path):
    done = Partner(tmp_path, crl_urls=[]).add(config, "--yes")
    assert 46 == done.exit_code
    assert "the probe's certificates name no location" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("no name",), "is no name"),
        (("acme",), "[trust.acme] is in"),
    ],
)
def test_name_that_cannot_be_used_is_refused(config, tmp_path, arguments, why):
    partner = Partner(tmp_path, crl_urls=[])
    config.write_text(f'{config.read_text()}\n[trust.acme]\nanchors = ["root.pem"]\n')
    done = run("trust", "add", *arguments, partner.root, "--probe", partner.probe, "--config", config)
    assert (2, True) == (done.exit_code, why in done.stderr)


def test_hostile_location_is_shown_escaped(config, tmp_path, monkeypatch):
    def nobody(*_, **__):
        raise OSError(2, "name or service\x1b[2J not known")

    monkeypatch.setattr("cftpki_ext.cli.trusting.socket.getaddrinfo", nobody)
    done = Partner(
        tmp_path, crl_urls=["http://a.invalid/%0a[31m", "ldap:///CN=a?certificateRevocationList"]
    ).add(config)
    assert 1 == done.exit_code
    assert all(line.isprintable() for line in done.stdout.splitlines())
