"""
`cftpki enroller …` where no CA is needed: types that offer nothing besides, state that cannot be read.
"""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from cftpki_connectors import file_enroller
from cftpki_ext.cli import main
from cftpki_ext.identity.enroller_port import EnrollerPlugin
from tests.support import pki
from tests.support.ca_servers import write_secret


class Bare:
    """
    An enroller with the port and nothing besides.
    """

    name, protocol = "corp", "file"

    async def aclose(self) -> None:
        pass


@pytest.fixture
def config(tmp_path):
    own = pki.issue(pki.make_root("Enroller Root"), "own")
    (tmp_path / "chain.pem").write_bytes(own.pem)
    write_secret(tmp_path / "key.pem", own.key_pem)
    path = tmp_path / "cftpki.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n'
        '[enroller.corp]\ntype = "file"\nchain = "chain.pem"\nkey = "key.pem"\n'
        '[enroller.acme]\ntype = "acme"\ndirectory = "https://127.0.0.1:9/dir"\n'
    )
    return path


@pytest.fixture
def run(config):
    return lambda *arguments: CliRunner().invoke(main, ["enroller", *arguments, "--config", str(config)])


@pytest.fixture
def bare(monkeypatch):
    plugin = EnrollerPlugin(protocol="file", options=file_enroller.FileOptions, make=lambda *_: Bare())
    monkeypatch.setattr("cftpki_ext.service.renewals.load_plugin", lambda _kind: plugin)


def test_enroller_that_tells_nothing_is_listed_and_cannot_be_checked(run, bare):
    (told,) = [one for one in json.loads(run("list", "--json").stdout) if one["enroller"] == "corp"]
    assert ("file", None, None) == (told["type"], told["where"], told["trouble"])
    checked = run("check", "corp")
    assert (1, True) == (checked.exit_code, "type file cannot be checked" in checked.stdout)
    rolled = run("rollover", "corp")
    assert (2, True) == (rolled.exit_code, "not applicable" in rolled.stderr)


def test_check_without_names_is_about_all_and_one_fault_makes_it_exit_1(run):
    assert 0 == run("check", "corp").exit_code
    result = run("check", "--json", "--timeout", "5")
    told = json.loads(result.stdout)
    assert (1, [("acme", False), ("corp", True)]) == (
        result.exit_code,
        [(one["enroller"], one["ok"]) for one in told],
    )


def test_list_tells_what_cannot_be_read_and_goes_on(run, config):
    folder = config.parent / "state" / "enrollers" / "acme"
    assert 1 == run("check", "acme", "--timeout", "5").exit_code
    assert folder.is_dir()
    result = run("list", "--json")
    assert (0, [None, None]) == (result.exit_code, [one["trouble"] for one in json.loads(result.stdout)])
    config.write_text(
        config.read_text().replace('directory = "https', 'root_file = "none.pem"\ndirectory = "https')
    )
    result = run("list", "--json")
    troubles = {one["enroller"]: one["trouble"] for one in json.loads(result.stdout)}
    assert (0, None, True) == (result.exit_code, troubles["corp"], "none.pem" in troubles["acme"])


@pytest.mark.parametrize("command", [("check",), ("rollover", "acme")])
def test_state_of_another_user_is_not_written_to(run, config, monkeypatch, command):
    (config.parent / "state").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    result = run(*command)
    assert (1, True) == (result.exit_code, "this runs as user 54321: run it as user root" in result.stderr)


def test_enroller_that_is_not_configured_is_a_wrong_call(run):
    result = run("rollover", "other")
    assert (2, True) == (result.exit_code, "there are acme, corp" in result.stderr)


def test_enroller_that_cannot_be_made_hides_no_other(run, config):
    state = config.parent / "state"
    (state / "enrollers").mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    (state / "enrollers" / "acme").write_bytes(b"a file in the place of its folder")
    result = run("check", "--json")
    found = {one["enroller"]: one for one in json.loads(result.stdout)}
    assert (1, False) == (result.exit_code, found["acme"]["ok"])
    assert "state" == found["acme"]["findings"][0]["what"]
    assert {"acme", "corp"} <= found.keys()
