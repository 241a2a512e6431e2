"""
The exit's own reason for what it refused: in the simulator's trace, and in the system log where the environment asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support import hostsim, real_service
from tests.support.pki import issue, make_root
from tests.support.receivers import syslog_socket

pytestmark = pytest.mark.real

LIBRARY = hostsim.BUILD / "libcftpkie.so"
ROOT = make_root("Root")
STRANGER = issue(make_root("Stranger"), "stranger", eku=["clientAuth"])


@pytest.fixture
def place() -> Iterator[Path]:
    # pytest's own folders are too deep for a socket address.
    with TemporaryDirectory() as folder:
        (Path(folder) / "leaf.pem").write_bytes(STRANGER.pem)
        yield Path(folder)


def raw(place: Path, **environment: str) -> list[str | None]:
    """
    The exit's own words about each call that it did not do.
    """
    run = hostsim.run(
        *("raw", "--lib", LIBRARY, "--pem-chain", place / "leaf.pem"),
        trace=place / "trace",
        env={"CFTPKI_SOCKET": str(place / "s"), **environment},
    )
    calls = [line for line in run.lines if "phase" in line]
    return [line.get("own_reason") for line in calls if "own_reason" in line or line["result"] == "error"]


def test_service_that_is_not_there_is_named_in_the_trace(place: Path) -> None:
    nobody = f"nobody listens at the service's socket {place / 's'} (No such file or directory)"
    assert [f"StartTask: {nobody}", f"StartHandshake: {nobody}"] == raw(place)


def test_socket_that_may_not_be_one_is_named_in_the_trace(place: Path) -> None:
    words = raw(place, CFTPKI_SOCKET="relative/path")[0]
    assert words == (
        "StartTask: this process cannot connect to the service's socket (CFTPKI_SOCKET is no absolute path)"
    )


def test_words_of_the_service_are_in_the_trace(place: Path) -> None:
    (place / "root.pem").write_bytes(ROOT.pem)
    (place / "c.toml").write_text(
        '[service]\nsocket = "s"\nstate = "state"\nlog_format = "json"\nboard = false\n'
        '[trust.p]\nanchors = ["root.pem"]\n'
        '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "p"\n'
    )
    with real_service.running(place / "c.toml"):
        (words,) = raw(place)
    assert words is not None
    assert words.startswith("CheckCertificate: the service refuses, alert 48: ")


def test_system_log_is_told_where_the_environment_asks_for_it(place: Path) -> None:
    with syslog_socket(place / "log") as log:
        # Who has asked for it gets it: the trace has nothing then.
        assert [None] == raw(place, CFTPKI_LOG=str(place / "log"))
        lines = [log.line(), log.line()]
    assert [True, True] == [line.startswith("<27>cftpkie[") for line in lines]
    assert lines[1].endswith(
        f": StartHandshake: nobody listens at the service's socket {place / 's'} (No such file or directory)"
    )
