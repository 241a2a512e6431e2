"""
Locks between processes: another open file description stands for another process, whose kernel locks it has.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cftpki_cache import location_locks
from cftpki_cache.location_locks import LocationLocks


def test_one_process_has_a_lock_until_it_has_given_back_as_often_as_it_took(tmp_path: Path) -> None:
    ours, theirs = LocationLocks(tmp_path), LocationLocks(tmp_path)
    assert [True, True] == [ours.take("a"), ours.take("a")]
    assert [False, True] == [theirs.take("a"), theirs.take("b")]
    ours.give_back("a")
    assert not theirs.take("a")
    ours.give_back("a")
    assert theirs.take("a")
    theirs.close()
    assert [True, True] == [ours.take("a"), ours.take("b")]
    ours.close()


def test_giving_back_what_was_not_taken_releases_nobody_elses(tmp_path: Path) -> None:
    ours, theirs, third = (LocationLocks(tmp_path) for _ in range(3))
    assert ours.take("a")
    theirs.give_back("a")
    assert not third.take("a")
    for one in (ours, theirs, third):
        one.close()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, time\n"
        "from cftpki_cache.location_locks import LocationLocks\n"
        "locks = LocationLocks(pathlib.Path(sys.argv[1]))\n"
        "print(locks.take('a'), flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert "True\n" == child.stdout.readline()
    ours = LocationLocks(tmp_path)
    assert not ours.take("a")
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert ours.take("a")
    ours.close()


def test_there_is_one_file_for_any_number_of_names_and_only_we_may_use_it(tmp_path: Path) -> None:
    locks = LocationLocks(tmp_path)
    for number in range(10_000):
        assert locks.take(f"http://stranger.example/{number}")
    assert ["locations.lock"] == os.listdir(tmp_path)  # noqa: PTH208  # names alone
    state = (tmp_path / "locations.lock").stat()
    assert (0o100600, 0) == (state.st_mode, state.st_size)
    locks.close()


@pytest.mark.parametrize("planted", ["link", "fifo", "open"])
def test_a_planted_file_locks_nothing_and_is_told(
    tmp_path: Path, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "locations.lock"
    if planted == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif planted == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.touch(0o666)
        path.chmod(0o666)
    with caplog.at_level(logging.WARNING):
        locks = LocationLocks(tmp_path)
    assert [1, True, True] == [len(caplog.records), locks.take("a"), locks.take("b")]
    assert not (tmp_path / "elsewhere").exists()
    locks.close()


def test_a_file_system_without_such_locks_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    locks = LocationLocks(tmp_path)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with caplog.at_level(logging.WARNING):
        assert [True, True] == [locks.take("a"), locks.take("b")]
    assert 1 == len(caplog.records)
    locks.close()


def test_names_share_locks_evenly() -> None:
    places = {location_locks._place(f"crl:{number}") for number in range(4 * location_locks.LOCKS)}
    assert 0.9 * location_locks.LOCKS < len(places) <= location_locks.LOCKS
