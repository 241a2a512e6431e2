"""Issuance in real processes that are killed at any point: one valid certificate, no lost key, no second order."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

PROGRAM = Path(__file__).parents[2] / "support" / "killed_issuance.py"
ROUNDS = 36


def killed(folder, count, seed):
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_kill_at_any_point_of_issuance_leaves_one_certificate_with_its_key(tmp_path):
    rounds = killed(tmp_path, ROUNDS, 20260601)

    assert ROUNDS == len(rounds)
    assert sum(found["killed"] for found in rounds) >= 40
    for number, found in enumerate(rounds):
        assert found["key_fits"], (number, found)
        # Killed before anything was written, a renewal that nobody needs has not begun; else there is exactly one.
        assert found["issued"] == found["orders"] == found["known"], (number, found)
        assert found["issued"] == 1 or (number % 2 == 1 and found["issued"] == 0), (number, found)
        assert (0, [], []) == (found["open"], found["left_over"], found["loose_keys"]), (number, found)
    assert sum(found["issued"] for found in rounds) >= ROUNDS * 2 // 3


def test_two_processes_that_renew_one_identity_issue_once(tmp_path):
    (found,) = killed(tmp_path, 0, 1)
    assert {"codes": [0, 0], "issued": 1, "orders": 1} == found
