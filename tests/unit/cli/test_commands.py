from __future__ import annotations

import importlib
import io
import json
import logging
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.cli.program import Later
from cftpki_ext.support import log_lines, logs
from tests.support import pki


@pytest.fixture
def run(monkeypatch):
    monkeypatch.delenv("CFTPKI_CONFIG", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def config(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root("Command Root").pem)
    path = tmp_path / "cftpki.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n'
        '[trust.t]\nanchors = ["root.pem"]\n[[rule]]\ndirection = "server"\ntrust = "t"\n'
    )
    return path


def test_config_check_of_a_sound_file_exits_0(run, config):
    result = run("config", "check", "--config", config)

    assert (0, f"{config}: ok, 1 trust set, 0 identities, 1 rule\n") == (result.exit_code, result.stdout)


def test_config_check_of_a_faulty_file_names_all_faults_and_exits_2(run, config):
    config.write_text("[servce]\n[trust.t]\n")

    result = run("config", "check", "--config", config)

    assert 2 == result.exit_code
    assert [
        f'{config}:1: [servce] unknown section (did you mean "service"?)',
        f"{config}:2: [trust.t.anchors] names no trust anchor, so nobody could ever be accepted",
    ] == result.stderr.splitlines()


def test_config_check_in_json_tells_faults_and_exits_2(run, config):
    config.write_text("[servce]\n")

    result = run("config", "check", "--config", config, "--json")

    assert (2, False, 1) == (
        result.exit_code,
        json.loads(result.stdout)["ok"],
        len(json.loads(result.stdout)["faults"]),
    )


def test_config_check_of_a_source_that_nobody_offers_exits_2(run, config, monkeypatch):
    monkeypatch.setattr("cftpki_connectors.registry.entry_points", lambda **_group: [])

    result = run("config", "check", "--config", config)

    assert 2 == result.exit_code
    assert "status source 'crl' is offered by nobody" in result.stderr


def test_config_show_tells_values_and_defaults(run, config, tmp_path):
    plain = run("config", "show", "--config", config)
    data = json.loads(run("config", "show", "--config", config, "--json").stdout)

    assert f'service.socket = "{tmp_path}/s"' in plain.stdout.splitlines()
    assert 'limits.crl_refresh = "15m"' in plain.stdout.splitlines()
    assert "CN=Command Root" == data["trusts"]["t"]["anchors"][0]["subject"]


def test_config_comes_from_the_environment(run, config, monkeypatch):
    monkeypatch.setenv("CFTPKI_CONFIG", str(config))

    assert 0 == run("config", "check").exit_code


def test_status_without_a_service_exits_1_and_says_what_to_do(run, config, tmp_path):
    result = run("status", "--config", config)

    expected = f"cftpki: no answer at {tmp_path}/s: no such file or directory; is the service running (cftpki serve)?\n"
    assert (1, expected) == (result.exit_code, result.stderr)


def test_serve_with_a_faulty_configuration_exits_2(run, config):
    config.write_text("[servce]\n")

    assert 2 == run("serve", "--config", config).exit_code


def test_cache_without_any_content_is_empty(run, config, tmp_path):
    stats = json.loads(run("cache", "stats", "--config", config, "--json").stdout)

    assert (0, 0) == (stats["entries"], stats["bytes"])
    told = f"forgot 0 responses\nno service answers at {tmp_path}/s: none has to forget anything\n"
    assert told == run("cache", "flush", "--config", config).stdout


@pytest.mark.parametrize(("answers", "status"), [([4, 4, 5], 0), ([4, None], 0), ([4, 4, 4, 4], 1)])
def test_cache_flush_waits_until_the_service_has_noticed(run, config, monkeypatch, answers, status):
    asked = iter(answers)
    monkeypatch.setattr("cftpki_ext.cli.caching._flushes", lambda _: next(asked))
    monkeypatch.setattr("cftpki_ext.cli.caching._LOOK_S", 0)
    monkeypatch.setattr("cftpki_ext.cli.caching.NOTICED_S", 100 if status == 0 else -1)
    done = run("cache", "flush", "--config", config)

    words = "the service has forgotten them, and judges every partner anew"
    assert (status, status == 0) == (done.exit_code, words in done.stdout)
    assert (status == 1) == ("has not said within" in done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    result = run("completion", shell)

    assert (0, True) == (result.exit_code, "_CFTPKI_COMPLETE" in result.stdout)


LIGHT = {
    # No command but what it is for: no service, no store, nothing of the network, no form of values that is not read or written.
    "--help": {"cryptography", "asyncio", "logging", "cftpki_ext.core.values"},
    "check --path-only --trust {root} {leaf}": {
        "cftpki_cache.ledger",
        "cftpki_connectors.registry",
        "cftpki_ext.service",
        "cftpki_ext.stores",
        "cryptography.hazmat.primitives.serialization.pkcs7",
        "diskcache",
        "sqlite3",
        "tree_sitter",
    },
    "config check --config {config}": {
        "cftpki_cache.ledger",
        "cftpki_ext.config.enrolment",
        "cftpki_ext.identity",
        "cftpki_ext.service",
        "cftpki_ext.stores",
    },
    "status --config {config}": {"cftpki_connectors.registry", "cftpki_ext.config.enrolment"},
    "serve --config {config}.missing": {"cftpki_ext.config.enrolment"},
}
NEVER = {"httpx", "httpcore", "h11", "anyio", "rich", "joserfc", "sansldap", "tenacity", "prometheus_client"}
CONFIGURED = ("config", "status", "serve")


@pytest.mark.parametrize("words", LIGHT)
def test_command_imports_no_more_than_it_needs(words, config, tmp_path):
    root = pki.make_root()
    files = {"root": tmp_path / "root.pem", "leaf": tmp_path / "leaf.pem", "config": config}
    files["root"].write_bytes(root.pem)
    files["leaf"].write_bytes(pki.issue(root, "partner", eku=["clientAuth"]).pem)
    code = (
        "import sys; from cftpki_ext.cli import main\n"
        "try: main(sys.argv[1:], standalone_mode=False)\n"
        "finally: print(*sys.modules)"
    )
    given = [one.format(**files) for one in words.split()]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    found = set(done.stdout.splitlines()[-1].split())
    never = NEVER if words.startswith(CONFIGURED) else NEVER | {"pydantic"}

    assert set() == (never | LIGHT[words]) & found
    assert "click" in found


@pytest.mark.parametrize(
    "later", [c for c in main.commands.values() if isinstance(c, Later)], ids=lambda c: c.name
)
def test_command_that_comes_later_is_the_one_that_was_named(later):
    assert later.name == later.load().name


def test_completion_offers_commands_and_their_options(monkeypatch):
    monkeypatch.setenv("_CFTPKI_COMPLETE", "bash_complete")
    offered = []
    for words in ("cftpki conf", "cftpki config s", "cftpki check --no-f"):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        offered += (
            CliRunner().invoke(main, prog_name="cftpki", complete_var="_CFTPKI_COMPLETE").stdout.split()
        )

    assert ["plain,config", "plain,show", "plain,--no-fetch"] == offered


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("caching", "cache stats"),
        ("configuration", "config check"),
        ("configuration", "config show"),
        ("doctoring", "doctor"),
        ("identities", "identity list"),
    ],
)
def test_json_stands_alone_on_standard_output_whatever_is_logged(
    run, config, monkeypatch, stream, module, words
):
    load = importlib.import_module(f"cftpki_ext.cli.{module}").load

    def noisy(path):
        logs.event_log().info("said by us")
        logging.getLogger("library").warning("said by a library")
        return load(path)

    monkeypatch.setattr(f"cftpki_ext.cli.{module}.load", noisy)
    result = run(*words.split(), "--config", config, "--json")

    assert isinstance(json.loads(result.stdout), dict | list)
    assert (True, True) == ("said by us" in result.stderr, "said by a library" in result.stderr)


@pytest.mark.parametrize("given", [pki.make_root("Partner").pem, b""])
def test_doctor_takes_a_chain_from_standard_input(config, monkeypatch, given):
    asked = []

    async def note(_settings, _trusts, chains, *_):
        asked.extend(chains)
        return []

    monkeypatch.setattr("cftpki_ext.cli.doctoring._asked", note)
    words = ["doctor", "--chain", "-", "--trust", "t", "--config", str(config)]
    done = CliRunner().invoke(main, words, input=given)

    if given:
        assert (0, [1]) == (done.exit_code, [len(chain) for chain in asked]), done.output
    else:
        expected = "cftpki: chain: standard input holds no certificate\n"
        assert (2, expected, []) == (done.exit_code, done.stderr, asked)


@pytest.fixture
def stream():
    """
    A log of its own; logging is as before afterwards.
    """
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield io.StringIO()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


NASTY = "CN=x\n2026 [info] accepted\x1b[2J\x9b31m\u202e\u2028"


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_of_what_a_stranger_wrote_is_one_printable_line(stream, form):
    log = log_lines.configure(form, stream=stream)

    log.warning("refused", subject=NASTY, deep={"a": [NASTY]}, **{"k\ney": 1})
    logging.getLogger("cache").warning("trouble: %s", NASTY)

    first, second = stream.getvalue().removesuffix("\n").split("\n")
    assert (True, True) == (first.isprintable(), second.isprintable())


def test_log_in_json_holds_the_fields(stream):
    log_lines.configure("json", stream=stream).info("listening", socket="/s", count=3)

    entry = json.loads(stream.getvalue())
    assert ("listening", "info", "/s", 3) == (entry["event"], entry["level"], entry["socket"], entry["count"])
