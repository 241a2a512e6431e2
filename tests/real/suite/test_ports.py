"""
The helpers that start servers: a port belongs to one test, and a server that is waited for is the one that was started.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ca_pebble, ports, servers

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[3]
_DRAWS = """
import sys
from tests.support import ports
ports.FIRST, ports.LAST = map(int, sys.argv[1:])
while True:
    try:
        print(ports.free_port(), flush=True)
    except RuntimeError:
        print("none", flush=True)
        break
sys.stdin.read()
"""
SOME = 12


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """
    A range that others hardly draw from, because it is small.
    """
    first = 30_000 + os.getpid() % 2_000
    monkeypatch.setattr(ports, "FIRST", first)
    monkeypatch.setattr(ports, "LAST", first + SOME - 1)
    return first, first + SOME - 1


def drawing(few: tuple[int, int]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _DRAWS, *map(str, few)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def drawn_by(process: subprocess.Popen[str]) -> set[int]:
    assert process.stdout is not None
    found = set()
    for line in process.stdout:
        if line == "none\n":
            break
        found.add(int(line))
    return found


def draw_all() -> set[int]:
    found = set()
    while True:
        try:
            found.add(ports.free_port())
        except RuntimeError:
            return found


def test_port_is_drawn_once_among_processes_and_given_back_when_its_process_ends(few):
    with drawing(few) as one, drawing(few) as other:
        theirs = [drawn_by(one), drawn_by(other)]
        assert set() == theirs[0] & theirs[1]
        assert set() == draw_all() & (theirs[0] | theirs[1])
        one.kill()
        one.wait()
        # Nothing was ever listening on them: the reservation alone is what keeps a port.
        assert theirs[0] == draw_all()
        other.kill()


def test_port_of_which_only_the_udp_half_is_taken_is_not_given(few):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", few[0]))
        assert few[0] not in draw_all()


def test_listening_is_the_process_itself_and_on_every_port(few):
    with socket.create_server(("127.0.0.1", 0)) as own, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        port, other = own.getsockname()[1], datagrams.getsockname()[1]
        assert ports.listening(os.getpid(), tcp=(port,), udp=(other,))
        assert not ports.listening(os.getppid(), tcp=(port,))
        assert not ports.listening(os.getpid(), tcp=(port, few[0]))
        assert not ports.listening(os.getpid(), udp=(port,))
    assert not ports.listening(os.getpid(), tcp=(port,))


@pytest.mark.parametrize("taken", ["dns_management_port", "dns_port"])
def test_dns_of_pebble_whose_port_somebody_has_is_not_taken_for_it(tmp_path, monkeypatch, taken):
    """
    It lives on and only logs that it cannot listen; what answers on its port is somebody else.
    """
    order = ["port", "management_port", "http_port", "tls_port", "dns_port", "dns_management_port"]
    with socket.create_server(("127.0.0.1", 0)) as held:
        drawn = [ports.free_port() for _ in order]
        drawn[order.index(taken)] = held.getsockname()[1]
        monkeypatch.setattr(ca_pebble, "free_port", iter(drawn).__next__)
        monkeypatch.setattr(servers, "START_S", 5.0)
        with (
            pytest.raises(RuntimeError, match=r"(?s)does not listen on .*address already in use"),
            ca_pebble.pebble(tmp_path, started=False),
        ):
            pass
