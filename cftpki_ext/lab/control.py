"""
Starting, asking and stopping the lab's process, without ever touching somebody else's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cftpki_ext.core.values import dataclass
from cftpki_ext.lab.layout import LabError, Layout, alone, read_json, write_whole
from cftpki_ext.lab.server import block_signals, serving, wait_for_signal
from cftpki_ext.lab.store import load_state, make

# Starting Python and loading nine keys takes half a second; a busy machine ten times as long.
START_TIMEOUT_S = 30
# The process finishes the answers under way, nothing else.
STOP_TIMEOUT_S = 15
_READY = b"ready\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabStatus:
    """
    How the lab is. `pid` is `None` when it does not run; `partners` is name → whether it is revoked.
    """

    directory: Path
    configuration: Path
    pid: int | None
    ocsp_url: str
    crl_url: str
    partners: Mapping[str, bool]


def create(directory: Path) -> LabStatus:
    """
    Make the PKI without starting anything; nothing happens where it is there already.
    """
    make(directory.absolute(), datetime.now(UTC))
    return status(directory)


def up(directory: Path) -> LabStatus:
    """
    Make the lab where it is missing, and start its process where it does not run.

    The same directory gives the same certificates and ports again. The process outlives the caller.

    Args:
        directory: absent, empty, or a lab.

    Returns:
        How the lab is now.

    Raises:
        LabError: what went wrong, and what to do.

    """
    layout = make(directory.absolute(), datetime.now(UTC))
    with alone(layout.directory):
        if _running(layout) is None:
            _start(layout)
    return status(directory)


def serve(directory: Path, *, ready: Callable[[], None] = lambda: None) -> None:
    """
    Be the lab's process, until SIGTERM or SIGINT.

    Args:
        directory: absent, empty, or a lab.
        ready: called when questions are answered.

    Raises:
        LabError: it runs already, or a port is taken.

    """
    layout = make(directory.absolute(), datetime.now(UTC))
    running = _running(layout)
    if running is not None:
        msg = f"the lab runs already as process {running}: stop it with: cftpki lab down {directory}"
        raise LabError(msg)
    block_signals()
    with serving(layout):
        # The ports are ours, so no second process gets here: the file cannot be another's.
        me = {"pid": os.getpid(), "started": _start_time(os.getpid())}
        write_whole(layout.pid, json.dumps(me).encode())
        try:
            ready()
            wait_for_signal()
        finally:
            layout.pid.unlink(missing_ok=True)


def down(directory: Path) -> bool:
    """
    Stop the lab's process. The directory stays, so that `up` starts the same PKI again.

    A process that merely has the number in the pid file is left alone: its start time differs.

    Args:
        directory: a lab.

    Returns:
        Whether it ran.

    Raises:
        LabError: no lab, not ours to stop, or it does not stop.

    """
    layout = Layout(directory.absolute())
    load_state(layout)
    pid = _running(layout)
    if pid is None:
        layout.pid.unlink(missing_ok=True)
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Asked again with the handle held: from here on the number cannot pass to another process.
        if _running(layout) != pid:
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        stopped = select.select([handle], [], [], STOP_TIMEOUT_S)[0]
    except PermissionError as exc:
        msg = f"process {pid} of the lab belongs to another user: stop it as that user"
        raise LabError(msg) from exc
    finally:
        os.close(handle)
    if not stopped:
        msg = f"process {pid} of the lab did not stop within {STOP_TIMEOUT_S} s: see {layout.log}"
        raise LabError(msg)
    # Where the lab was started by this very process, take its exit status, so that no zombie stays.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return True


def status(directory: Path) -> LabStatus:
    """
    Look at the lab.

    Args:
        directory: a lab.

    Returns:
        How it is.

    Raises:
        LabError: there is none.

    """
    layout = Layout(directory.absolute())
    state = load_state(layout)
    return LabStatus(
        directory=layout.directory,
        configuration=layout.configuration,
        pid=_running(layout),
        ocsp_url=state.ocsp_url,
        crl_url=state.crl_url("issuing"),
        partners={name: serial in state.revoked for name, serial in state.serials.items()},
    )


def revoke(directory: Path, name: str) -> None:
    """
    Revoke a partner's certificate (or the host's) for good; the next OCSP answer and CRL say so.

    Args:
        directory: a lab, running or not.
        name: the partner.

    Raises:
        LabError: no lab, or no such partner.

    """
    layout = Layout(directory.absolute())
    load_state(layout)
    with alone(layout.directory):
        state = load_state(layout)
        if name not in state.serials:
            msg = f"the lab has no partner {name!r}: it has {', '.join(state.serials)}"
            raise LabError(msg)
        when = datetime.now(UTC).replace(microsecond=0)
        revoked = {state.serials[name]: when, **state.revoked}
        replace(state, revoked=revoked).save(layout)


def _start(layout: Layout) -> None:
    reading, writing = os.pipe()
    log = os.open(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # -P: the working directory of whoever starts the lab is no place to import from.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "cftpki_ext.lab", str(layout.directory), "3"],
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, writing, 3),
            ],
            setsid=True,
        )
    except OSError as exc:
        os.close(writing)
        os.close(reading)
        msg = f"cannot start the lab: {exc.strerror}"
        raise LabError(msg) from exc
    finally:
        os.close(log)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        came = select.select([stream], [], [], START_TIMEOUT_S)[0]
        said = stream.readline(4096) if came else b""
    if said != _READY:
        told = said.decode(errors="replace").strip() or f"it said nothing within {START_TIMEOUT_S} s"
        msg = f"the lab did not start: {told} (see {layout.log})"
        raise LabError(msg)


def _running(layout: Layout) -> int | None:
    """
    The lab's process, if the one with the noted number is still the one that noted it.
    """
    if not layout.pid.exists():
        return None
    try:
        noted = read_json(layout.pid)
        pid, started = int(noted["pid"]), int(noted["started"])
    except (LabError, KeyError, TypeError, ValueError):
        return None
    return pid if pid > 0 and _start_time(pid) == started else None


def _start_time(pid: int) -> int | None:
    """
    When a process started, in clock ticks since boot (proc(5), stat field 22); `None` where it has ended.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])
