"""
A reload that is asked for while the service begins is done once it listens.
"""

import json
import signal
import subprocess

import pytest

from tests.support import forked

pytestmark = pytest.mark.real


def test_reload_asked_for_too_early_is_done_later(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[service]\nsocket = "s"\nstate = "state"\nlog_format = "json"\n')
    with forked.Popen(["serve", "--config", config], stderr=subprocess.PIPE, text=True) as process:
        told = []
        for line in process.stderr:
            told.append(json.loads(line)["event"])
            if told[-1] == "starting":
                process.send_signal(signal.SIGHUP)
            if told[-1] == "reloaded":
                break
        process.terminate()
        assert 0 == process.wait(60)
    assert "starting" == told[0]
    assert ["listening", "reloaded"] == [one for one in told if one in ("listening", "reloaded")]
