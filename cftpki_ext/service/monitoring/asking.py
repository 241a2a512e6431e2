"""
Asking a running service how it is, within one deadline, and saying why it does not answer.

Needs neither its configuration nor its keys: the path of its socket.
"""

from __future__ import annotations

import enum
import json
import socket
import struct
import time
from pathlib import Path

from cftpki_ext.core.errors import CftPkiError, WireError
from cftpki_ext.core.escape import printable
from cftpki_ext.protocol.codec import Frame, Message, Tag, decode, encode
from cftpki_ext.support.failures import reason_of

# The service answers STATUS from memory.
TIMEOUT_S = 5.0
_AGAIN_S = 0.05
_SYSTEMD = 1
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7)


class Absence(enum.StrEnum):
    """
    Why a service does not tell how it is.

    `NOT_RUNNING`: nobody listens. `STOPPED`: its process is stopped (SIGSTOP, a debugger). `SILENT`: it is busy, or hangs.
    `NOT_ALLOWED`: whoever asks may not use its socket. `UNREADABLE`: something else answers there.
    """

    NOT_RUNNING = "not_running"
    STOPPED = "stopped"
    SILENT = "silent"
    NOT_ALLOWED = "not_allowed"
    UNREADABLE = "unreadable"


class ServiceUnreachableError(CftPkiError):
    """
    Nobody answers at the socket; `absence` says how.
    """

    def __init__(self, message: str, absence: Absence) -> None:
        super().__init__(message)
        self.absence = absence


def ask_status(path: Path, *, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """
    Send STATUS and wait for the answer.

    Args:
        path: the service's socket.
        timeout_s: for the whole exchange: nobody waits longer, whatever the service does.

    Returns:
        What the service says of itself.

    Raises:
        ServiceUnreachableError: no service there, not allowed, or no answer in time.

    """
    deadline = time.monotonic() + timeout_s
    listener: int | None = None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            _connect(connection, path, deadline)
            listener = _listener(connection)
            connection.settimeout(_left(deadline))
            connection.sendall(encode(Frame(message=Message.STATUS, response=False, sequence=1, fields={})))
            answer = _answer(connection, deadline)
        text = answer.fields.get(Tag.JSON)
        told = json.loads(text) if isinstance(text, str) else None
    except (OSError, ValueError, WireError, RecursionError) as exc:
        raise _unreachable(path, exc, listener) from exc
    if not isinstance(told, dict):
        detail = answer.fields.get(Tag.DETAIL, "no reason given")
        msg = f"the service at {path} does not tell: {printable(str(detail))}"
        raise ServiceUnreachableError(msg, Absence.NOT_ALLOWED)
    return told


def _connect(connection: socket.socket, path: Path, deadline: float) -> None:
    """
    Connect; where the queue of connections is full, which a socket with a timeout is told at once, as soon as it is not.
    """
    while True:
        connection.settimeout(_left(deadline))
        try:
            connection.connect(str(path))
        except BlockingIOError:
            time.sleep(min(_AGAIN_S, _left(deadline)))
        else:
            return


def _answer(connection: socket.socket, deadline: float) -> Frame:
    received = bytearray()
    while True:
        found = decode(bytes(received))
        if found is not None:
            return found[0]
        connection.settimeout(_left(deadline))
        more = connection.recv(262144)
        if not more:
            msg = "the connection was closed"
            raise ConnectionError(msg)
        received += more


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        msg = "timed out"
        raise TimeoutError(msg)
    return left_s


def _listener(connection: socket.socket) -> int | None:
    """
    The process that listened last at the socket: the service; or systemd, where none has listened since it opened the socket.
    """
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid or None  # of another namespace


def _unreachable(path: Path, exc: Exception, listener: int | None) -> ServiceUnreachableError:
    where = printable(str(path))
    if isinstance(exc, TimeoutError):
        state = None if listener is None else _state_of(listener)
        if state in {"T", "t"}:
            msg = (
                f"no answer at {where}: the service's process {listener} is stopped (SIGSTOP, or a debugger)"
            )
            return ServiceUnreachableError(msg, Absence.STOPPED)
        if listener == _SYSTEMD or state in {"", "Z", "X"}:
            msg = f"no answer at {where}: systemd keeps the socket, and the service is not running"
            return ServiceUnreachableError(msg, Absence.NOT_RUNNING)
        msg = f"no answer at {where}: {reason_of(exc)}; the service is busy, or hangs"
        return ServiceUnreachableError(msg, Absence.SILENT)
    absence = Absence.UNREADABLE
    if isinstance(exc, PermissionError):
        absence = Absence.NOT_ALLOWED
    elif isinstance(exc, OSError):
        absence = Absence.NOT_RUNNING
    msg = f"no answer at {where}: {reason_of(exc)}; is the service running (cftpki serve)?"
    return ServiceUnreachableError(msg, absence)


def _state_of(pid: int) -> str | None:
    """
    The state of a process (proc(5)); empty where there is none, `None` where it cannot be known.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError:
        return None
    return "".join(text.rpartition(")")[2].split()[:1])
