"""
What a command says, in any locale, to a reader that goes away, onto a disk that is full, from a standard input.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.cli.streams import OutputError, can_show, command_streams
from cftpki_ext.core.errors import InputError
from cftpki_ext.support.files import STANDARD_INPUT, read_input
from tests.support import forked, pki

SAID = "Zürich 漢字 €"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """
    A partner with a name that few locales can show, one that is refused, and what `check` needs for both.
    """
    folder = tmp_path_factory.mktemp("site")
    root = pki.make_root("Root")
    (folder / "root.pem").write_bytes(root.pem)
    (folder / "good.pem").write_bytes(pki.issue(root, SAID, eku=["clientAuth"]).pem)
    (folder / "other.pem").write_bytes(pki.issue(root, "other", eku=["clientAuth"]).pem)
    (folder / "server.pem").write_bytes(pki.issue(root, "server", eku=["serverAuth"]).pem)
    (folder / "-").write_bytes((folder / "other.pem").read_bytes())
    return folder


@pytest.fixture
def run(site, monkeypatch):
    monkeypatch.chdir(site)
    monkeypatch.delenv("CFTPKI_CONFIG", raising=False)
    return lambda *words, **options: CliRunner(**options.pop("runner", {})).invoke(main, [*words], **options)


OFFLINE = ("--path-only", "--at", pki.NOW.isoformat())
TRUST = ("--trust", "root.pem", *OFFLINE)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", SAID),
        ("iso-8859-15", "Zürich \\u6f22\\u5b57 €"),
        ("iso-8859-1", "Zürich \\u6f22\\u5b57 \\u20ac"),
        ("ascii", "Z\\xfcrich \\u6f22\\u5b57 \\u20ac"),
    ],
)
def test_what_a_locale_lacks_is_escaped(encoding, shown, monkeypatch):
    reading, writing = os.pipe()
    with open(writing, "w", encoding=encoding) as stream:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", stream)
        with command_streams():
            click.echo(SAID)
            print(SAID)  # noqa: T201 - as any library would
            seen = can_show(sys.stdout, SAID)
        assert sys.stdout is stream
    with open(reading, encoding=encoding) as stream:  # noqa: PTH123
        assert ([shown, shown], shown == SAID) == (stream.read().splitlines(), seen)


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-15", "ascii"])
def test_command_names_a_partner_in_any_locale(run, charset):
    result = run("check", "good.pem", *TRUST, runner={"charset": charset})

    assert 0 == result.exit_code, result.stderr
    assert "CN=Z" in result.stdout or "ACCEPTED" in result.stdout


@pytest.mark.parametrize(("chain", "status"), [("good.pem", 0), ("server.pem", 43)])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_status_is_the_command_s_own_though_nobody_reads_it(site, chain, status, form):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:  # noqa: PTH123 - a descriptor
        done = forked.run(["check", chain, *TRUST, *form], cwd=site, stdout=gone, stderr=subprocess.PIPE)

    assert (status, b"") == (done.returncode, done.stderr)


def test_program_that_was_installed_keeps_its_status_too(site):
    """
    Through the interpreter's own end, where what is left in a buffer would be written once more.
    """
    program = Path(sys.executable).with_name("cftpki")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:  # noqa: PTH123 - a descriptor
        done = subprocess.run(
            [program, "check", "server.pem", *TRUST],
            cwd=site,
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "iso-8859-15"},
        )

    assert (43, b"") == (done.returncode, done.stderr)


def test_errors_that_nobody_reads_change_no_status(site):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:  # noqa: PTH123 - a descriptor
        done = forked.run(["check", "missing.pem", *TRUST], cwd=site, stdout=gone, stderr=gone)

    assert 2 == done.returncode


@pytest.mark.parametrize(("command", "status"), [("check", 80), ("completion", 1)])
def test_answer_that_cannot_be_written_is_said_once_and_is_no_success(site, command, status):
    words = ["completion", "bash"] if command == "completion" else ["check", "good.pem", *TRUST]
    with Path("/dev/full").open("w") as full:
        done = forked.run(words, cwd=site, stdout=full, stderr=subprocess.PIPE, text=True)

    assert (status, "cftpki: standard output cannot be written: no space left on device\n") == (
        done.returncode,
        done.stderr,
    )


def test_failure_is_raised_once_and_what_follows_is_let_go(monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with command_streams():
            with pytest.raises(OutputError, match="no space left"):
                click.echo("one")
            click.echo("two")


def test_streams_that_were_closed_take_everything(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with command_streams():
        click.echo("one")
        click.echo(b"one")
        assert not sys.stdout.isatty()
    assert (None, None) == (sys.stdout, sys.stderr)


def test_service_writes_its_log_to_the_stream_that_it_has(monkeypatch, tmp_path):
    """
    Lines that nobody takes are the log's to count: the stream must fail.
    """
    seen = []
    monkeypatch.setattr("cftpki_ext.cli.serving.run_service", lambda *_, **__: seen.append(sys.stderr))
    before = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", before)
    main(["serve", "--config", str(tmp_path / "c.toml")], standalone_mode=False)
    assert [before] == seen


@pytest.mark.parametrize("place", ["chain", "trust", "untrusted"])
def test_standard_input_is_a_file_like_any(run, site, place):
    words, given = {
        "chain": (["check", "-", *TRUST], "good.pem"),
        "trust": (["check", "good.pem", "--trust", "-", *OFFLINE], "root.pem"),
        "untrusted": (["check", "good.pem", "--untrusted", "-", *TRUST], "root.pem"),
    }[place]

    assert 0 == run(*words, input=(site / given).read_bytes()).exit_code
    assert 2 == run(*words, input=b"").exit_code


def test_standard_input_is_named_as_such_and_read_once(run):
    assert "chain: standard input is empty" in run("check", "-", *TRUST, input=b"").stderr
    twice = run("check", "-", "--trust", "-", *OFFLINE, input=b"")
    assert (2, True) == (twice.exit_code, "standard input (-) can be read once" in twice.stderr)


def test_file_called_like_standard_input_is_named_with_its_folder(run, site):
    assert 0 == run("check", "./-", *TRUST, input=b"").exit_code


def test_standard_input_of_a_pipe_is_read_to_its_end(site):
    done = forked.run(
        ["check", "-", *TRUST], cwd=site, input=(site / "server.pem").read_bytes(), capture_output=True
    )
    assert (43, b"") == (done.returncode, done.stderr)


def test_standard_input_that_is_a_folder_is_a_wrong_call(site):
    folder = os.open(site, os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = forked.run(["check", "-", *TRUST], cwd=site, stdin=folder, capture_output=True, text=True)
    finally:
        os.close(folder)
    assert (2, "cftpki: chain: standard input: is a directory\n") == (done.returncode, done.stderr)


def test_standard_input_that_is_closed_is_a_wrong_call(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="chain: standard input is closed"):
        read_input(STANDARD_INPUT, cap=1, what="chain")


def test_standard_input_has_its_cap(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"four")))
    with pytest.raises(InputError, match="chain: standard input is larger than the 3 bytes"):
        read_input(STANDARD_INPUT, cap=3, what="chain")


def test_several_chains_are_judged_in_one_call(run):
    result = run("check", "good.pem", "server.pem", "other.pem", *TRUST)

    lines = result.stdout.splitlines()
    assert (43, "2 accepted, 1 refused") == (result.exit_code, lines[-1])
    assert ["chain    good.pem", "chain    server.pem", "chain    other.pem"] == [
        line for line in lines if line.startswith("chain ")
    ]
    assert ["ACCEPTED", "REFUSED", "ACCEPTED"] == [
        lines[number + 1].split()[0] for number, line in enumerate(lines) if line.startswith("chain ")
    ]


def test_several_chains_that_are_accepted_are_status_0(run):
    assert 0 == run("check", "good.pem", "other.pem", *TRUST).exit_code


def test_several_chains_in_json_are_a_list_with_names(run, site):
    result = run("check", "-", "server.pem", *TRUST, "--json", input=(site / "good.pem").read_bytes())

    told = [(one["chain"], one["status"], one["alert"]) for one in json.loads(result.stdout)]
    assert (43, [("standard input", "accepted", 0), ("server.pem", "refused", 43)]) == (
        result.exit_code,
        told,
    )


def test_chain_that_is_missing_keeps_all_from_being_judged(run):
    result = run("check", "good.pem", "missing.pem", *TRUST)

    assert (2, "") == (result.exit_code, result.stdout)
