"""
Lines that go to systemd's journal carry their priority; lines that go anywhere else do not.
"""

from __future__ import annotations

import json
import logging
import os

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.cli import program as program_module
from cftpki_ext.support import log_lines, logs


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """
    A file in the journal's place, and a log that writes to it; logging is as before afterwards.
    """
    root, events = logging.getLogger(), logging.getLogger(logs.EVENTS)
    handlers, levels = root.handlers[:], (root.level, events.level)
    with (tmp_path / "journal").open("w+") as file:
        found = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        yield file
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    events.setLevel(levels[1])


def lines(file):
    file.flush()
    file.seek(0)
    return file.read().splitlines()


def test_each_level_has_its_priority(journal):
    log = log_lines.configure("json", stream=journal, level=logging.DEBUG)
    for tell in (log.debug, log.info, log.warning, log.error):
        tell("event", detail="a\nb")
    logs.event_log().warning("of an adapter")
    log.many([("one", {}), ("two", {})])
    found = lines(journal)
    assert ["<7>", "<6>", "<4>", "<3>", "<4>", "<6>", "<6>"] == [line[:3] for line in found]
    assert "a\\nb" == json.loads(found[0][3:])["detail"]


def test_traceback_of_a_library_on_a_console_has_its_priority(journal):
    log_lines.configure("console", stream=journal)
    try:
        raise ValueError("x")  # noqa: EM101, TRY301 - for its traceback
    except ValueError:
        logging.getLogger("library").exception("failed")
    found = lines(journal)
    assert {"<3>"} == {line[:3] for line in found}
    assert "ValueError: x" in "".join(found)


@pytest.mark.parametrize("named", ["", "1:2", "nonsense"])
def test_other_streams_have_none(journal, monkeypatch, named):
    monkeypatch.setenv("JOURNAL_STREAM", named)
    log_lines.configure("json", stream=journal).error("event")
    assert "{" == lines(journal)[0][0]


def test_stream_without_a_file_is_not_the_journal(journal):
    journal.close()
    assert not logs.is_journal(journal, os.environ)


@pytest.mark.parametrize(("is_journal", "prefix"), [(True, "<3>"), (False, "")])
def test_faults_that_keep_the_service_from_beginning_are_errors(tmp_path, monkeypatch, is_journal, prefix):
    monkeypatch.setattr(program_module, "_to_journal", lambda: is_journal)
    path = tmp_path / "cftpki.toml"
    path.write_text("[servce]\n[limts]\n")
    result = CliRunner().invoke(main, ["serve", "--config", str(path)])
    assert [f"{prefix}{path}:1: [servce] unknown", f"{prefix}{path}:2: [limts] unknown"] == [
        line.partition(" section")[0] for line in result.stderr.splitlines()
    ]
