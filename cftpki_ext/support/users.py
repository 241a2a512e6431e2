"""
Users of this machine: in words, and becoming the one whose files a command writes.

Owns the names that messages give, and the only change of a user.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import struct
from pathlib import Path

# Whom `deploy/systemd/cftpki.service` runs as, and docs/install.md makes.
SERVICE_USER = "cftpki"
# prctl(2), capget(2): the third version of its header, for the calling thread.
_PR_SET_KEEPCAPS = 8
_HEADER = struct.pack("=Ii", 0x20080522, 0)
_KEPT = 1 << 2 | 1 << 10  # CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE


def user_text(uid: int) -> str:
    """
    A user for a message: by name where there is one.
    """
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def user_word(uid: int) -> str:
    """
    A user for a command line: by name where there is one.
    """
    return user_text(uid).removeprefix("user ")


def denied_text(path: Path, error: OSError) -> str:
    """
    What to say where this user may not look at a place, with what helps.
    """
    us = user_text(os.geteuid())
    with contextlib.suppress(OSError):
        whose = _nearest(path)
        uid = whose.stat().st_uid
        if uid != os.geteuid():
            return f"{whose} belongs to {user_text(uid)} and cannot be read by {us}: run this as {user_text(uid)}"
    return f"{path}: {(error.strerror or str(error)).lower()} for {us}"


def become_owner(state: Path) -> None:
    """
    Go on as the service's user where root runs a command that writes to the service's state directory.

    What root wrote there the service could not read. Root's own directory is left to root; one that is not there
    yet is made for `SERVICE_USER`, where this machine has it. There is no way back: only for a process that is one command.

    By default two of root's rights stay: to read what root may read (the program itself may lie where only root
    looks), and to listen on a port below 1024. No child has them.

    Args:
        state: the state directory.

    Raises:
        OSError: it cannot be made, or its user not be become.

    """
    if os.geteuid() != 0:
        return
    try:
        status = state.stat()
        owner, group = status.st_uid, status.st_gid
    except FileNotFoundError:
        try:
            entry = pwd.getpwnam(SERVICE_USER)
        except KeyError:
            return
        owner, group = entry.pw_uid, entry.pw_gid
        state.mkdir(mode=0o700, parents=True)
        # The directory that was made, not what somebody has put in its place since: a link would give away anything.
        made = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(made).st_uid != 0:
                msg = "somebody else has put another in its place"
                raise OSError(errno.EPERM, msg)
            os.fchown(made, owner, group)
        finally:
            os.close(made)
    if owner == 0:
        return
    # Rights are lost with the user unless the kernel is told before.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        entry = pwd.getpwuid(owner)
        os.initgroups(entry.pw_name, entry.pw_gid)
        group = entry.pw_gid
    except KeyError:
        os.setgroups([])
    os.setgid(group)
    os.setuid(owner)
    # Where a container has taken them away, it goes without.
    libc.capset(_HEADER, struct.pack("=6I", _KEPT, _KEPT, 0, 0, 0, 0))


def _nearest(path: Path) -> Path:
    """
    The place itself, or the lowest above it that can be looked at.
    """
    for one in (path, *path.parents):
        try:
            one.lstat()
        except OSError:
            continue
        return one
    return path
