"""
The two protocols of systemd that a service speaks: inherited sockets and notifications.

Owns a few lines over a datagram socket (docs/adr/0006-wire-and-sessions.md says why no library). Knows nothing
of cftpki. References: sd_listen_fds(3), sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from cftpki_ext.core.errors import CftPkiError

_FIRST_FD = 3


class ActivationError(CftPkiError):
    """
    What was inherited is not one listening unix stream socket.
    """


def inherited_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """
    The listening socket that systemd opened for this process.

    Args:
        environ: the environment, with LISTEN_PID and LISTEN_FDS where there is one.

    Returns:
        The socket, non-blocking and closed on exec; `None` where the process was started without.

    Raises:
        ActivationError: more than one socket, or one that is no listening unix stream socket.

    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environ.get("LISTEN_FDS", "0")
    if count != "1":
        msg = f"{count} sockets were handed over, exactly 1 expected"
        raise ActivationError(msg)
    try:
        inherited = socket.socket(fileno=_FIRST_FD)
        listening = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        msg = f"file descriptor {_FIRST_FD} is not a socket: {error.strerror}"
        raise ActivationError(msg) from error
    if inherited.family is not socket.AF_UNIX or inherited.type is not socket.SOCK_STREAM or not listening:
        inherited.close()
        msg = f"file descriptor {_FIRST_FD} is not a listening unix stream socket"
        raise ActivationError(msg)
    inherited.settimeout(0)
    inherited.set_inheritable(False)
    return inherited


def notify(environ: Mapping[str, str], *assignments: str) -> None:
    """
    Tell the service manager something, e.g. `READY=1`. Silent where there is none, or when it does not listen.

    Args:
        environ: the environment, with NOTIFY_SOCKET where there is a manager.
        assignments: `NAME=value` each.

    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(0)
        try:
            channel.sendto("\n".join(assignments).encode(), address)
        except OSError:
            # A manager that is gone or busy must not stop the service.
            return


def reloading(environ: Mapping[str, str]) -> None:
    """
    Announce a reload (`Type=notify-reload`), with the monotonic time that the manager asks for.
    """
    notify(environ, "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """
    How often `WATCHDOG=1` is due: half of WATCHDOG_USEC; `None` where no watchdog watches this process.
    """
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        period_us = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return period_us / 2_000_000 if period_us > 0 else None
