"""
The socket by which hosts tell of sessions: made as the service's own.

Owns the file, its group and mode.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path


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
