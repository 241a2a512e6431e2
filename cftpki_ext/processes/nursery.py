"""
The nursery: a small process without threads, secrets or sockets, which forks every other child.

A service with threads must not fork, and a new interpreter takes half a second to import what a judge needs; the
nursery has imported it already, so that a child that was killed is replaced within milliseconds, and the children
share its memory. This is the process; the front's view of it is `spawning`. When it dies its children die with it
(PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cftpki_ext.processes.child import bounds_from, close_others, run
from cftpki_ext.processes.confine import bind

NAME = "cftpki-nursery"
PACKET_BYTES = 4096
# What systemd tells the service alone.
_NOT_INHERITED = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)


def tend(control: socket.socket, parent: int) -> NoReturn:
    """
    Be the nursery until the front hangs up or dies.

    Args:
        control: our end of the control socket (SOCK_SEQPACKET).
        parent: the front.

    """
    status = 1
    try:
        close_others(control.fileno())
        for name in _NOT_INHERITED:
            os.environ.pop(name, None)
        if bind(NAME, parent):
            waking, waker = os.pipe()
            os.set_blocking(waker, False)
            signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, _noted)
            # What is there now is shared with all children, as long as nobody's collector touches it.
            gc.collect()
            gc.freeze()
            _loop(control, waking)
        status = 0
    except BaseException:  # noqa: BLE001 - this is a process's end
        traceback.print_exc()
    finally:
        os._exit(status)


def _noted(number: int, frame: object) -> None:
    """
    SIGCHLD only wakes the loop.
    """
    del number, frame


def _loop(control: socket.socket, waking: int) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(waking, select.POLLIN)
    while True:
        ready = {number for number, _ in poll.poll()}
        if waking in ready:
            os.read(waking, PACKET_BYTES)
            _reap(control)
        if control.fileno() not in ready:
            continue
        try:
            packet, numbers, _, _ = socket.recv_fds(control, PACKET_BYTES, 1)
        except ConnectionError:  # with something unread of ours
            return
        if not packet:
            return
        if numbers:
            _begin(control, json.loads(packet), numbers[0])


def _begin(control: socket.socket, order: Mapping[str, Any], end: int) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(order, end, parent)
    os.close(end)
    told = json.dumps({"spawned": order["order"], "pid": pid}).encode()
    try:
        held = os.pidfd_open(pid)
    except (OSError, AttributeError):  # before Linux 5.3
        control.send(told)
        return
    socket.send_fds(control, [told], [held])
    os.close(held)


def _be_child(order: Mapping[str, Any], end: int, parent: int) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_others(end)
        if bind(order["name"], parent):
            run(socket.socket(fileno=end), order["factory"], bounds_from(order["bounds"]))
        status = 0
    except BaseException:  # noqa: BLE001 - this is a process's end
        traceback.print_exc()
    finally:
        os._exit(status)


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps({"gone": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def main(arguments: Sequence[str]) -> NoReturn:
    """
    Begin as a program: `python -I -m cftpki_ext.processes DESCRIPTOR PARENT MODULE…`.
    """
    control = socket.socket(fileno=int(arguments[0]))
    for name in arguments[2:]:
        importlib.import_module(name)
    tend(control, int(arguments[1]))
