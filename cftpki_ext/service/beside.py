"""
What hosts use besides the service's socket: the folder `<socket>.d`, and the signers' sockets in it.

Owns the folder, and who may connect: whoever may connect to the service's socket itself. Under systemd the folder of the
socket is root's and read-only for us; the unit makes this one (`RuntimeDirectory=`).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.protocol.door import door_path, folder_beside
from cftpki_ext.service.listener import MAX_PATH_BYTES

# A signer takes everybody who waits before it signs; what does not fit is asked of the service.
DOOR_BACKLOG = 128
_FOLDER_MODE = 0o755
_SOCKET_MODE = 0o660
_NAME = re.compile(r"[0-9a-f]{16}")


def beside(path: Path) -> Path:
    """
    The folder beside the service's socket, made where it is not there.

    Args:
        path: of the service's socket.

    Returns:
        The folder: ours, and for nobody else to write.

    Raises:
        OSError: it cannot be made, or is not ours.

    """
    folder = folder_beside(path)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(_FOLDER_MODE)
        # Whatever the umask is; a folder that gives its group to what is made in it (setgid) hands that on.
        folder.chmod(_FOLDER_MODE | folder.lstat().st_mode & stat.S_ISGID)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        msg = f"{folder} is no folder of user {os.geteuid()}"
        raise PermissionError(msg)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(_FOLDER_MODE | status.st_mode & stat.S_ISGID)
    return folder


def allowed_users(settings: Settings) -> frozenset[int]:
    """
    The user ids that may speak to the service: root, its own, and those that the configuration names.
    """
    return frozenset({0, os.geteuid(), *settings.service.allow_users})


class Doors:
    """
    Makes the signers' sockets: a `DoorSockets`. For one event loop, and only for who holds the service's socket.

    Args:
        path: of the service's socket.
        settings: those in force.
        log: is told once where none can be made.

    """

    def __init__(self, path: Path, settings: Callable[[], Settings], log: Log) -> None:
        self._path = path
        self._settings = settings
        self._log = log
        self._is_clean = False
        self._fault: str | None = None
        self._open: set[int] = set()
        # Leaves of two identities, one of which may hand its key over: a host that comes by the leaf alone cannot say
        # whose rule it has. So nobody listens for them, until the service is begun anew.
        self._shared: set[int] = set()

    def allows(self, identity: str) -> bool:
        """
        See `DoorSockets.allows`.
        """
        return any(rule.identity == identity for rule in self._settings().rules)

    def users(self) -> frozenset[int]:
        """
        See `DoorSockets.users`.
        """
        return allowed_users(self._settings())

    def open(self, reference: int) -> socket.socket | None:
        """
        See `DoorSockets.open`.
        """
        path = door_path(self._path, reference)
        if reference in self._open:
            self._shared.add(reference)
            with contextlib.suppress(OSError):
                path.unlink()
        if reference in self._shared:
            return None
        try:
            self._clean(beside(self._path))
            listener = _listen(path, like=self._path)
        except OSError as error:
            fault = str(error)
            if fault != self._fault:
                self._fault = fault
                self._log.warning(
                    "signer_socket_not_opened",
                    error=fault,
                    detail="hosts ask the service for signatures, which takes longer",
                )
            return None
        self._open.add(reference)
        return listener

    def close(self, reference: int, listener: socket.socket) -> None:
        """
        See `DoorSockets.close`.
        """
        listener.close()
        self._open.discard(reference)
        if reference not in self._shared:
            with contextlib.suppress(OSError):
                door_path(self._path, reference).unlink()

    def remove(self) -> None:
        """
        Remove the folder, where nobody else has anything in it.
        """
        with contextlib.suppress(OSError):
            folder_beside(self._path).rmdir()

    def _clean(self, folder: Path) -> None:
        """
        Remove what a service that was killed has left; once.
        """
        if self._is_clean:
            return
        self._is_clean = True
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name) is not None and not _is_served(path):
                with contextlib.suppress(OSError):
                    path.unlink()


def _listen(path: Path, *, like: Path) -> socket.socket:
    """
    Listen, for those who may connect to another socket.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        msg = f"{path} is longer than the {MAX_PATH_BYTES} bytes that a unix socket can have"
        raise OSError(msg)
    if path.exists():
        if _is_served(path):
            msg = f"{path} is served by another process"
            raise OSError(msg)
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        # Nobody can connect before it listens: the mode is right by then. The umask is the whole process's.
        own = path.lstat()
        wanted = like.stat() if like.exists() else own
        if own.st_gid != wanted.st_gid:
            os.chown(path, -1, wanted.st_gid, follow_symlinks=False)
        path.chmod(stat.S_IMODE(wanted.st_mode) if wanted is not own else _SOCKET_MODE)
        listener.listen(DOOR_BACKLOG)
    except OSError:
        listener.close()
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
