"""
Forks of `cftpki` are processes like any other.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import forked, real_service

pytestmark = pytest.mark.real

CONFIG = '[service]\nsocket = "s"\nstate = "state"\nlog_format = "json"\n'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return path


def test_fork_says_and_returns_what_the_program_does(tmp_path):
    missing = tmp_path / "missing.toml"
    for arguments in (["--version"], ["config", "check", "--config", missing], ["nonsense"], []):
        options = {"capture_output": True, "text": True, "cwd": tmp_path}
        expected = subprocess.run([real_service.PROGRAM, *arguments], check=False, **options)
        done = forked.run(arguments, check=False, **options)
        assert (expected.returncode, expected.stdout, expected.stderr) == (
            done.returncode,
            done.stdout,
            done.stderr,
        )


def test_fork_has_the_environment_and_the_folder_that_it_is_given(config):
    given = {**os.environ, "CFTPKI_CONFIG": config.name}
    done = forked.run(
        ["config", "show", "--json"],
        env=given,
        cwd=config.parent,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert str(config.parent / "state") == json.loads(done.stdout)["service"]["state"]
    assert "CFTPKI_CONFIG" not in os.environ


def test_fork_can_be_waited_for_signalled_and_killed(config):
    with forked.Popen(["serve", "--config", config], stderr=subprocess.PIPE, text=True) as process:
        assert any("listening" in line for line in process.stderr)
        assert (None, "cftpki") == (process.poll(), Path(f"/proc/{process.pid}/comm").read_text().strip())
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.terminate()
        assert (0, 0) == (process.wait(60), process.poll())
    with forked.Popen(["serve", "--config", config], stderr=subprocess.DEVNULL) as process:
        process.kill()
        assert -signal.SIGKILL == process.wait(60)
    process.terminate()  # nobody is there any more


def test_fork_reads_what_it_is_given(config):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        forked.run(
            ["check", "/dev/stdin", "--config", config], input=b"no chain", capture_output=True, check=True
        )
    assert 2 == caught.value.returncode


def test_what_is_looked_at_as_a_program_begins_is_refused(config):
    with pytest.raises(ValueError, match="LD_PRELOAD"):
        forked.Popen(["status", "--config", config], env={**os.environ, "LD_PRELOAD": "/lib/x.so"})
