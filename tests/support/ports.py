"""
Ports that belong to one test alone, and who listens on one: what `tests.support.servers` starts servers with.

A port that is merely free when somebody looks is not enough. Two workers draw the same one and each starts a server
on it; a server that cannot listen says so in its log and lives on (pebble-challtestsrv does), and the test talks to
the other's. So a port that was drawn is reserved among all processes of this user that draw here, for as long as the
process lives, whether anything listens on it or not; and a server is ready when it has the sockets itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Above the ports that services are known by, and below those that the kernel gives to outgoing connections: hundreds a
# second get one while tests run.
FIRST, LAST = 10_000, 32_767
# Fewer than this are not worth keeping to: a machine whose outgoing ports begin so low has its own trouble.
_ENOUGH = 4_000

_TCP_LISTEN, _UDP_UNCONNECTED = "0A", "07"  # states in /proc/net/tcp and /proc/net/udp


class _Reservations:
    """
    One file for all processes; a lock on its byte N is the reservation of port N.

    POSIX record locks end with the process that has them, however it ends. They also end when the process closes any
    descriptor of the file, so there is one, opened at the first draw and never closed.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._owner = 0
        # A process gets its own lock again: what it has drawn is kept here.
        self._drawn: set[int] = set()

    def take(self, port: int) -> bool:
        if self._owner != os.getpid():
            # A child of fork has none of its parent's locks, and sees them as anybody does.
            self._file, self._owner, self._drawn = None, os.getpid(), set()
        if self._file is None:
            path = Path(tempfile.gettempdir()) / f"cftpki-test-ports-{os.getuid()}"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if port in self._drawn:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._drawn.add(port)
        return True


_reservations = _Reservations()


def free_port() -> int:
    """
    A port, TCP and UDP, that nobody has, no outgoing connection gets, and no other test draws while this process lives.
    """
    last = _last()
    begin = FIRST + secrets.randbelow(last + 1 - FIRST)
    for port in (*range(begin, last + 1), *range(FIRST, begin)):
        if _reservations.take(port) and _unused(port):
            return port
    msg = f"no port between {FIRST} and {last} is free"
    raise RuntimeError(msg)


def _last() -> int:
    """
    The last port that may be drawn: the outgoing ones begin at 32768 unless the machine was set up otherwise.
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return min(LAST, outgoing - 1) if outgoing - FIRST > _ENOUGH else LAST


def _unused(port: int) -> bool:
    """
    Whether nothing has the port on any address, over either protocol.
    """
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - bound to see whether any address is taken; never listens
    except OSError:
        return False
    return True


def listening(process: int, *, tcp: tuple[int, ...] = (), udp: tuple[int, ...] = ()) -> bool:
    """
    Whether this very process has listening sockets on all these ports.

    Nothing is connected to, so a server that takes a connection without a request amiss is not disturbed.
    """
    wanted = {("tcp", port) for port in tcp} | {("udp", port) for port in udp}
    own = set(_sockets(process))
    return wanted <= {(kind, port) for kind, port, inode in _bound() if inode in own}


def _sockets(process: int) -> Iterator[str]:
    """
    The inodes of a process's sockets.
    """
    with contextlib.suppress(OSError):  # it has ended
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]


def _bound() -> Iterator[tuple[str, int, str]]:
    """
    Every listening TCP socket and every UDP socket without a peer: protocol, port, inode.
    """
    for table, state in (
        *(("tcp", _TCP_LISTEN), ("tcp6", _TCP_LISTEN)),
        *(("udp", _UDP_UNCONNECTED), ("udp6", _UDP_UNCONNECTED)),
    ):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == state:
                    yield table[:3], int(fields[1].rpartition(":")[2], 16), fields[9]
