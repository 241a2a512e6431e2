from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate, trust_set
from cftpki_ext.cli import main
from cftpki_ext.core.verdict_json import verdict_from_json, verdict_to_data, verdict_to_json
from tests.support import pki

AT = pki.NOW.isoformat()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """
    A small PKI in files, with CRLs of both CAs: nothing has to be asked over a network.
    """
    directory = tmp_path_factory.mktemp("site")
    root = pki.make_root("CLI Root")
    issuing = pki.issue(root, "CLI Issuing", ca=True)
    usual = {"eku": ["clientAuth"], "san": ["dns:partner.example"]}
    leaves = {
        "good": pki.issue(issuing, "good", **usual),
        "revoked": pki.issue(issuing, "revoked", **usual),
        "expired": pki.issue(
            issuing,
            "expired",
            not_before=pki.NOW - 9 * pki.DAY,
            not_after=pki.NOW - timedelta(hours=2),
            **usual,
        ),
        "early": pki.issue(issuing, "early", not_before=pki.NOW + pki.DAY, **usual),
        "no-eku": pki.issue(issuing, "no-eku", eku=["codeSigning"]),
        "stranger": pki.issue(pki.make_root("Nobody's Root"), "stranger", **usual),
    }
    for name, leaf in leaves.items():
        (directory / f"{name}.pem").write_bytes(pki.pem(leaf.der, issuing.der))
    (directory / "leaf.pem").write_bytes(leaves["good"].pem)
    (directory / "leaf.der").write_bytes(leaves["good"].der)
    (directory / "issuing.pem").write_bytes(issuing.pem)
    (directory / "root.pem").write_bytes(root.pem)
    (directory / "root.der").write_bytes(root.der)
    (directory / "root.crl").write_bytes(pki.make_crl(root))
    crl = pki.make_crl(issuing, [pki.Revoked(leaves["revoked"].serial)])
    (directory / "issuing.crl").write_bytes(pki.pem(crl, label="X509 CRL"))
    (directory / "empty.pem").write_bytes(b"")
    (directory / "key.pem").write_bytes(root.key_pem)
    (directory / "garbage.der").write_bytes(b"\x30\x03\x02\x01")
    (directory / "garbage.pem").write_bytes(pki.pem(b"nothing of the kind"))
    (directory / "cut.pem").write_bytes(leaves["good"].pem[:300])
    (directory / "huge.der").write_bytes(b"\x30\x84\x00\xf4\x24\x00" + bytes(16_000_000))
    return SimpleNamespace(directory=directory, root=root, issuing=issuing, leaves=leaves)


@pytest.fixture
def run(site, monkeypatch):
    """
    Call `cftpki` in the site's directory.
    """
    monkeypatch.chdir(site.directory)
    monkeypatch.delenv("CFTPKI_CONFIG", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


OFFLINE = ("--trust", "root.pem", "--crl", "root.crl", "--crl", "issuing.crl", "--no-fetch", "--at", AT)

SCENARIOS = {
    "good.pem": 0,
    "revoked.pem": 44,
    "expired.pem": 45,
    "early.pem": 45,
    "no-eku.pem": 43,
    "stranger.pem": 48,
    "leaf.pem": 48,
    "garbage.der": 42,
    "garbage.pem": 42,
    "cut.pem": 42,
    "huge.der": 50,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_check_of_each_chain_exits_with_the_alert(run, name):
    result = run("check", name, *OFFLINE, "--json")

    verdict = json.loads(result.stdout)
    assert (SCENARIOS[name], SCENARIOS[name]) == (result.exit_code, verdict["alert"])
    assert ("refused" if SCENARIOS[name] else "accepted") == verdict["status"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_check_of_each_chain_agrees_with_the_python_door(run, site, name):
    told = verdict_from_json(run("check", name, *OFFLINE, "--json").stdout)

    asked = check_certificate(
        (site.directory / name).read_bytes(),
        trust=trust_set([site.root.der]),
        crls=[(site.directory / file).read_bytes() for file in ("root.crl", "issuing.crl")],
        at=pki.NOW,
        fetch=False,
    )

    assert (asked.status, asked.reason, asked.alert, asked.summary, asked.evidence) == (
        told.status,
        told.reason,
        told.alert,
        told.summary,
        told.evidence,
    )


def test_check_as_a_program_exits_with_the_alert(site):
    """
    The same through a real process, as a shell script sees it.
    """
    program = Path(sys.executable).with_name("cftpki")

    done = subprocess.run(
        [program, "check", "revoked.pem", *OFFLINE],
        cwd=site.directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (44, "") == (done.returncode, done.stderr)
    assert "REFUSED  44 certificate_revoked" == done.stdout.splitlines()[0].strip()


def test_check_for_a_person_names_verdict_reason_and_sources(run):
    result = run("check", "revoked.pem", *OFFLINE)

    lines = result.stdout.splitlines()
    assert "REFUSED  44 certificate_revoked" == lines[0].strip()
    assert any(line.startswith("reason   ") and "CN=revoked" in line for line in lines)
    assert any("crl" in line and "handed_in" in line and "revoked" in line for line in lines)


@pytest.mark.parametrize("trust", ["root.pem", "root.der"])
def test_check_with_trust_in_pem_or_der_accepts(run, trust):
    result = run("check", "good.pem", "--trust", trust, *OFFLINE[2:])

    assert 0 == result.exit_code


def test_check_of_a_der_leaf_with_untrusted_intermediate_accepts(run):
    result = run("check", "leaf.der", *OFFLINE, "--untrusted", "issuing.pem")

    assert 0 == result.exit_code


def test_check_without_any_status_refuses_46(run):
    assert 46 == run("check", "good.pem", "--trust", "root.pem", "--no-fetch", "--at", AT).exit_code


def test_check_of_the_path_only_accepts_and_says_so(run):
    result = run("check", "good.pem", "--trust", "root.pem", "--path-only", "--at", AT, "--json")

    assert (0, True) == (result.exit_code, bool(json.loads(result.stdout)["evidence"]["notes"]))


def test_check_in_client_direction_wants_a_server_certificate(run):
    assert 43 == run("check", "good.pem", *OFFLINE, "--direction", "client").exit_code


def test_check_with_explicit_policy_refuses_a_chain_without_policies(run):
    assert (
        42 == run("check", "good.pem", *OFFLINE, "--explicit-policy", "--initial-policy", "1.2.3").exit_code
    )


def test_check_with_the_audit_policy_accepts_with_a_warning(run):
    result = run("check", "revoked.pem", *OFFLINE, "--policy", "audit", "--json")

    assert (0, True) == (result.exit_code, bool(json.loads(result.stdout)["warnings"]))


USAGE = {
    "no_chain": (["check"], "Missing argument 'CHAIN...'"),
    "chain_missing": (["check", "gone.pem", *OFFLINE], "chain: gone.pem: no such file or directory"),
    "chain_is_a_directory": (["check", ".", *OFFLINE], "chain: . is not a regular file"),
    "chain_is_a_device": (["check", "/dev/zero", *OFFLINE], "chain: /dev/zero is not a regular file"),
    "trust_missing": (["check", "good.pem", "--trust", "gone.pem"], "trust anchor: gone.pem: no such file"),
    "trust_is_no_certificate": (["check", "good.pem", "--trust", "garbage.der"], "is no usable certificate"),
    "trust_is_a_key": (
        ["check", "good.pem", "--trust", "key.pem"],
        "trust anchor: key.pem holds no certificate",
    ),
    "crl_missing": (["check", "good.pem", *OFFLINE, "--crl", "gone.crl"], "CRL: gone.crl: no such file"),
    "time_without_zone": (
        ["check", "good.pem", *OFFLINE[:-2], "--at", "2026-06-01T12:00:00"],
        "has no time zone",
    ),
    "time_is_none": (["check", "good.pem", *OFFLINE[:-2], "--at", "soon"], "'soon' is no time"),
    "direction_unknown": (["check", "good.pem", *OFFLINE, "--direction", "up"], "'up' is not one of"),
    "policy_unknown": (["check", "good.pem", *OFFLINE, "--policy", "strct"], 'did you mean "strict"?'),
    "oid_is_none": (["check", "good.pem", *OFFLINE, "--initial-policy", "x"], "'x' is no object identifier"),
    "compat_unknown": (["check", "good.pem", *OFFLINE, "--compat", "all"], "'all' is not one of"),
    "config_missing": (
        ["check", "good.pem", "--config", "gone.toml"],
        "configuration: gone.toml: no such file",
    ),
    "command_unknown": (["chek"], "No such command 'chek'"),
}


@pytest.mark.parametrize("case", USAGE)
def test_check_called_wrongly_exits_2_and_says_why(run, case):
    arguments, message = USAGE[case]

    result = run(*arguments)

    assert (2, "") == (result.exit_code, result.stdout)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_check_of_a_fifo_does_not_wait(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    result = run("check", tmp_path / "pipe", *OFFLINE)

    assert (2, True) == (result.exit_code, "is not a regular file" in result.stderr)


def test_check_without_any_trust_exits_2(run, monkeypatch):
    monkeypatch.setattr("cftpki_ext.cli.options.DEFAULT_CONFIG", Path("/nonexistent/cftpki.toml"))

    result = run("check", "good.pem")

    assert (2, True) == (result.exit_code, "name --trust FILE or --config FILE" in result.stderr)


@pytest.fixture
def config(site, tmp_path):
    path = tmp_path / "cftpki.toml"
    path.write_text(
        f"""
[service]
socket = "s"
state = "state"
[trust.partners]
anchors = ["{site.directory}/root.pem"]
[trust.office]
anchors = ["{site.directory}/root.pem"]
policy = "night"
[policy.night]
no_source = "accept_warn"
[[rule]]
name = "anyone"
direction = "server"
trust = "partners"
[[rule]]
name = "office"
direction = "server"
trust = "office"
networks = ["192.0.2.0/24"]
"""
    )
    return path


CRLS = ("--crl", "root.crl", "--crl", "issuing.crl", "--no-fetch", "--at", AT)


def test_check_with_a_configuration_uses_the_rule(run, config):
    result = run("check", "good.pem", "--config", config, *CRLS, "--json")

    evidence = json.loads(result.stdout)["evidence"]
    assert (0, "anyone", "partners") == (result.exit_code, evidence["rule"], evidence["trust"])


def test_check_with_an_address_uses_the_rule_of_its_network(run, config):
    result = run(
        "check", "good.pem", "--config", config, "--remote", "192.0.2.7", "--no-fetch", "--at", AT, "--json"
    )

    evidence = json.loads(result.stdout)["evidence"]
    assert (0, "office", "night") == (result.exit_code, evidence["rule"], evidence["policy"])


def test_check_where_no_rule_applies_exits_80(run, config):
    result = run("check", "good.pem", "--config", config, "--direction", "client")

    assert (80, "cftpki: no rule of the configuration applies to direction client\n") == (
        result.exit_code,
        result.stderr,
    )


def test_check_with_a_policy_of_the_configuration_uses_it(run, config):
    refused = run("check", "good.pem", "--config", config, "--no-fetch", "--at", AT)
    accepted = run("check", "good.pem", "--config", config, "--no-fetch", "--at", AT, "--policy", "night")

    assert (46, 0) == (refused.exit_code, accepted.exit_code)


def test_check_remembers_a_revocation_in_the_state_directory(run, config):
    """
    Sticky: what one call has seen revoked stays revoked for the next, which is handed nothing.
    """
    first = run("check", "revoked.pem", "--config", config, *CRLS)
    second = run("check", "revoked.pem", "--config", config, "--no-fetch", "--at", AT)

    assert (44, 44) == (first.exit_code, second.exit_code)


def test_check_with_an_unusable_state_directory_exits_80(run, config, tmp_path):
    (tmp_path / "state").write_text("a file")

    result = run("check", "good.pem", "--config", config, *CRLS)

    assert (80, True) == (result.exit_code, result.stderr.startswith("cftpki: state directory "))


def test_check_with_an_internal_error_exits_80_without_a_traceback(run, monkeypatch):
    def broken(*_arguments, **_options):
        msg = "out\nof \x1b[31morder"
        raise RuntimeError(msg)

    monkeypatch.setattr("cftpki_ext.cli.checking.check_each_async", broken)

    result = run("check", "good.pem", *OFFLINE)

    expected = "cftpki: internal error: RuntimeError: out\\nof \\x1b[31morder; run again with cftpki --debug for more\n"
    assert (80, expected) == (result.exit_code, result.stderr)


@pytest.mark.parametrize("form", ["--json", "--no-fetch"])
def test_check_whose_answer_cannot_be_written_is_no_acceptance(site, form):
    """
    A full disk behind standard output: whoever looks at the exit status sees no 0.
    """
    program = Path(sys.executable).with_name("cftpki")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [program, "check", "good.pem", *OFFLINE, form],
            cwd=site.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert 80 == done.returncode


@pytest.mark.parametrize("option", ["--crl", "--ocsp", "--untrusted"])
def test_check_with_garbage_beside_a_sound_chain_still_judges_it(run, option):
    assert 0 == run("check", "good.pem", *OFFLINE, option, "garbage.der").exit_code


def test_check_with_debug_keeps_the_traceback(run):
    result = run("--debug", "check", "gone.pem", *OFFLINE)

    assert "InputError" == type(result.exception).__name__


def test_verdict_json_is_read_back_whole(run):
    text = run("check", "revoked.pem", *OFFLINE, "--json").stdout
    verdict = verdict_from_json(text)

    assert json.loads(text) == verdict_to_data(verdict)
    assert verdict == verdict_from_json(verdict_to_json(verdict))
    assert text.isascii()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("empty.pem", "chain: empty.pem is empty"),
        ("key.pem", "chain: key.pem holds no certificate but a private key"),
        ("root.crl", "chain: root.crl holds no certificate but a CRL"),
    ],
)
def test_check_of_a_file_that_is_no_chain_is_a_wrong_call(run, file, words):
    result = run("check", file, *OFFLINE)
    assert 2 == result.exit_code
    assert words in result.stderr
