"""
The listening unix socket: who may own its path, and who may speak on it.

Owns the lock file, the replacement of a dead socket, its mode, and the peer's user id. Blocking, used once at start.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from pathlib import Path

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass

# sun_path of unix(7) holds 108 bytes with its NUL.
MAX_PATH_BYTES = 107
# Sessions start in bursts when a host restarts its transfers.
BACKLOG = 512
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class ListenError(CftPkiError):
    """
    The socket cannot be opened: another service has it, or its path holds something else.
    """


@dataclass(slots=True, kw_only=True)
class Listener:
    """
    A bound socket and what must be released with it.
    """

    socket: socket.socket
    path: Path | None  # None: systemd's, which is not ours to remove
    inode: int = 0
    lock_fd: int | None = None

    def release(self) -> None:
        """
        Remove the socket from the file system if it is still ours, and give up the lock.
        """
        self.socket.close()
        if self.path is not None:
            try:
                if self.path.lstat().st_ino == self.inode:
                    self.path.unlink()
            except FileNotFoundError:
                pass
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None


def listen(path: Path) -> Listener:
    """
    Bind and listen, for the owner and the group (0660). A socket that nobody serves any more is replaced.

    The lock `<path>.lock` is held as long as the listener lives and goes away with the process, whatever
    ends it; two services can never share a path, not even for a moment.

    Args:
        path: of the socket; its directory must exist.

    Returns:
        The listener, non-blocking.

    Raises:
        ListenError: the path is served by another process, holds no socket, or cannot be used.

    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        msg = f"socket path {path} is longer than the {MAX_PATH_BYTES} bytes that a unix socket can have"
        raise ListenError(msg)
    lock_fd = _lock(path.with_name(path.name + ".lock"))
    try:
        _remove_dead(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            # The mode must be right from the first moment, and bind(2) knows only the umask. No thread runs yet.
            before = os.umask(0o117)
            try:
                bound.bind(str(path))
            finally:
                os.umask(before)
            bound.listen(BACKLOG)
            return Listener(socket=bound, path=path, inode=path.lstat().st_ino, lock_fd=lock_fd)
        except OSError as error:
            bound.close()
            msg = f"cannot listen on {path}: {(error.strerror or str(error)).lower()}"
            raise ListenError(msg) from error
    except BaseException:
        os.close(lock_fd)
        raise


def peer_uid(connection: socket.socket) -> int:
    """
    The user id of the process at the other end, as the kernel knows it (SO_PEERCRED, unix(7)).

    Args:
        connection: an accepted unix socket.

    Returns:
        The effective uid that the peer had when it connected.

    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)


def _lock(path: Path) -> int:
    try:
        lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as error:
        msg = f"the socket's directory {path.parent} does not exist: make it, for the service's user alone to write"
        raise ListenError(msg) from error
    except OSError as error:
        msg = f"cannot open {path}: {(error.strerror or str(error)).lower()}"
        raise ListenError(msg) from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_fd)
        msg = f"another cftpki service holds {path}"
        raise ListenError(msg) from error
    return lock_fd


def _remove_dead(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        msg = f"cannot look at {path}: {(error.strerror or str(error)).lower()}"
        raise ListenError(msg) from error
    if not stat.S_ISSOCK(status.st_mode):
        msg = f"{path} is not a socket and is left alone"
        raise ListenError(msg)
    if status.st_uid != os.geteuid():
        msg = f"{path} belongs to user {status.st_uid} and is left alone"
        raise ListenError(msg)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            msg = f"{path} may be served by another process ({(error.strerror or str(error)).lower()})"
            raise ListenError(msg) from error
    msg = f"{path} is served by another process"
    raise ListenError(msg)
