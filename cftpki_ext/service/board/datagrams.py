"""
The socket by which hosts tell of sessions: made as the service's own, and who sent a datagram, by the kernel's word.

Owns the file, its group and mode, and what comes beside a datagram.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
# Octets of what may come beside a datagram.
SPACE = socket.CMSG_SPACE(_CREDENTIALS.size)


def bind(path: Path, *, like: Path) -> socket.socket:
    """
    Listen for datagrams.

    Args:
        path: in a folder that is ours alone to write; what was there goes.
        like: the service's socket, whose group and mode this one has.

    Returns:
        The socket; it does not block.

    Raises:
        OSError: it cannot be made, or there is no socket to be like.

    """
    wanted = like.stat()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # whoever holds the service's socket owns the folder
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(_access(path, wanted))
    except OSError:
        bound.close()
        raise
    return bound


def stamp(path: Path) -> tuple[int, int] | None:
    """
    What is another one for another file; `None` where there is none.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sender_of(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """
    The user id of the process that sent a datagram, as the kernel says.

    Args:
        ancillary: as it came.

    Returns:
        The id; `None` where nothing is said of it.

    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) == _CREDENTIALS.size:
            return int(_CREDENTIALS.unpack(data)[1])
    return None


def close_descriptors(ancillary: list[tuple[int, int, bytes]]) -> None:
    """
    Close what came with a datagram: nobody is asked to send any.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            for (number,) in struct.iter_unpack("i", data[: len(data) - len(data) % 4]):
                os.close(number)


def _access(path: Path, like: os.stat_result) -> int:
    """
    Give a socket the group of another one; the mode that it is to have.

    Where we are not in that group, everybody may write: who counts is told by the kernel with each datagram.
    """
    mode = stat.S_IMODE(like.st_mode) & 0o666
    if like.st_gid != os.getegid():
        try:
            os.chown(path, -1, like.st_gid)
        except PermissionError:
            return mode | 0o222
    return mode
