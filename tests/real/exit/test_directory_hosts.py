"""
libcftpkie.so and a partner that a real directory must know: through the C door, by the verdict board, and not a moment too long.
"""

from __future__ import annotations

import contextlib
import ctypes
import time

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from tests.real.exit.test_board_hosts import board, chain_of, handshake
from tests.real.service.test_directory import TABLE, company, directory, lock
from tests.support import hostsim, real_service
from tests.support.directory import SUFFIX
from tests.support.native_host import DONE, Task
from tests.support.wall_clock import until

__all__ = ["company", "directory"]  # fixtures

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("board")]

LIBRARY = ctypes.CDLL(str(hostsim.BUILD / "libcftpkie.so"))
REFRESH_S = 4.0


@contextlib.contextmanager
def serving(company, directory, name, monkeypatch, *, limits=""):
    config = company.configure(name, board=True)
    table = TABLE.format(server=directory.tls_server, base=f"ou=partners,{SUFFIX}")
    config.write_text(f"{config.read_text()}{table}\n[limits]\n{limits}\n")
    with real_service.running(config) as service:
        monkeypatch.setenv("CFTPKI_SOCKET", str(service.socket))
        yield config, service
        assert [] == service.failures()


def known(service, chain):
    """
    A task of a host to which the board says that the partner is known.
    """
    task = Task(LIBRARY)
    assert DONE == task.start()
    until(lambda: board(service)["entries"] == 1 or handshake(task, chain) == ())
    return task


def test_partner_that_is_locked_is_let_in_by_no_session_that_begins_after_the_answer_has_ended(
    company, directory, monkeypatch
):
    limits = f'directory_refresh = "{REFRESH_S:.0f}s"'
    with serving(company, directory, "locked", monkeypatch, limits=limits) as (_, service):
        good = chain_of(company, "good")
        task = known(service, good)
        lock(directory, "good")
        locked, accepted = time.monotonic(), []

        def refused():
            begun = time.monotonic()
            alert, _ = handshake(task, good)
            if alert == 0:
                accepted.append(begun)
            return alert == 49

        until(refused)
        assert all(begun <= locked + REFRESH_S for begun in accepted)
        assert [49] * 3 == [handshake(task, good)[0] for _ in range(3)]
        assert 0 == board(service)["entries"]


def test_flush_of_the_cache_ends_what_a_host_knows_by_a_directory(company, directory, monkeypatch):
    with serving(company, directory, "flushed", monkeypatch) as (config, service):
        good = chain_of(company, "good")
        task = known(service, good)
        lock(directory, "good")
        assert 0 == handshake(task, good)[0]  # the answer counts for five minutes
        done = CliRunner().invoke(main, ["cache", "flush", "--config", str(config)])
        assert 0 == done.exit_code, done.output
        assert 49 == handshake(task, good)[0]


def test_partner_that_the_directory_does_not_know_is_refused_through_the_library(
    company, directory, monkeypatch
):
    with serving(company, directory, "strange", monkeypatch):
        task = Task(LIBRARY)
        assert DONE == task.start()
        answers = [
            handshake(task, chain_of(company, one))[0] for one in ("good-ec", "by-crl", "revoked", "good")
        ]
        assert [49, 49, 44, 0] == answers
