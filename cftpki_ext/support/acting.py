"""
Doing something as another user: in a child that becomes this user for good, and tells by a pipe what came of it.

Only root can; anybody can as himself. The child is a fork: the other user need not be able to read our program.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from cftpki_ext.core.errors import CftPkiError

# All that is told.
MAX_BYTES = 1024 * 1024


class NotActedError(CftPkiError):
    """
    It could not be done as this user, or told nothing.
    """


def can_act_as(uid: int) -> bool:
    """
    Whether this process can do something as a user.
    """
    return os.geteuid() in (0, uid)


def act_as(
    work: Callable[[], dict[str, Any]], *, uid: int, gid: int, groups: Sequence[int], within_s: float
) -> dict[str, Any]:
    """
    Do something as another user. Only where this process has no other threads.

    Args:
        work: imports nothing, and gives what JSON can write.
        uid: the user.
        gid: its first group.
        groups: all its groups.
        within_s: how long it may take; then it is killed.

    Returns:
        What the work gave.

    Raises:
        NotActedError: the user cannot be become, or the work failed or took too long.

    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(work, writing, uid, gid, groups)
    os.close(writing)
    try:
        told = _read(reading, time.monotonic() + within_s)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    try:
        found = json.loads(told)
    except ValueError as error:
        msg = f"nothing was told within {within_s:.0f} s"
        raise NotActedError(msg) from error
    if "error" in found:
        raise NotActedError(str(found["error"]))
    done: dict[str, Any] = found["done"]
    return done


def _child(
    work: Callable[[], dict[str, Any]], writing: int, uid: int, gid: int, groups: Sequence[int]
) -> None:
    status = 1
    try:
        told: dict[str, Any]
        try:
            if os.geteuid() != uid:
                os.setgroups(list(groups))
                os.setgid(gid)
                os.setuid(uid)
            told = {"done": work()}
        except Exception as error:  # noqa: BLE001 - told to the parent
            told = {"error": f"{type(error).__name__}: {error}"}
        data = memoryview(json.dumps(told).encode()[:MAX_BYTES])
        while data:
            data = data[os.write(writing, data) :]
        status = 0
    finally:
        os._exit(status)  # nothing of the parent's is flushed or cleaned up twice


def _read(descriptor: int, until: float) -> bytes:
    told = bytearray()
    while len(told) <= MAX_BYTES:
        left_s = until - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            break
        more = os.read(descriptor, 65536)
        if not more:
            break
        told += more
    return bytes(told)
