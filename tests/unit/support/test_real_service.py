"""
What the tests know of other processes.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import real_service


def test_process_runs_until_it_has_ended_and_is_gone_once_it_was_noticed():
    assert real_service.runs(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert real_service.runs(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not real_service.runs(child.pid)  # ended, and nobody has noticed yet
    child.wait()
    assert not real_service.runs(child.pid)
    assert real_service.stat(child.pid) is None


def test_process_that_goes_between_the_opening_and_the_reading_runs_no_more(monkeypatch):
    def read_text(self, **_):
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(Path, "read_text", read_text)
    assert not real_service.runs(1)
