"""
Processes of `cftpki` that need not import everything anew: forks of one that has it all, begun once for each worker.

    with forked.Popen(["serve", "--config", config], stderr=subprocess.PIPE) as process:
        process.kill()
    done = forked.run(["check", chain, "--config", config], capture_output=True, text=True)

What runs is `cftpki_ext.cli.main` in a process of its own, with the arguments, streams, environment and folder that it is
given; a `Popen` in every respect, except that its parent is the server below. That the installed program imports what
it needs is shown by those tests that begin it themselves (`real_service.PROGRAM`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

_PACKET = 1 << 17
# What the interpreter, or the loader before it, looks at as a program begins.
_AT_BEGIN = ("LD_", "PYTHON", "MALLOC_", "GLIBC_")


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """
    `subprocess.Popen` of `cftpki ARGUMENTS`.
    """

    def __init__(self, arguments: Sequence[object], **options: Any) -> None:
        env = options.get("env")
        for name in {*os.environ, *(env or ())}:
            if env is not None and name.startswith(_AT_BEGIN) and env.get(name) != os.environ.get(name):
                msg = f"{name} is looked at as a program begins: begin `real_service.PROGRAM` itself"
                raise ValueError(msg)
        super().__init__([str(one) for one in arguments], **options)

    def _execute_child(self, args: Any, _executable: Any, *rest: Any) -> None:  # type: ignore[override]
        preexec, _, pass_fds, cwd, env, _, _, shell, *ends = rest[:14]
        _, gid, gids, uid, umask, session, *_ = rest[14:]
        plain = (None, (), False, None, None, None, -1, False)
        assert plain == (preexec, pass_fds, shell, gid, gids, uid, umask, session), "not of a fork"
        order = {
            "arguments": args,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else {str(key): str(value) for key, value in env.items()}),
        }
        streams = [one if one >= 0 else number for number, one in enumerate((ends[0], ends[3], ends[5]))]
        self._ended, theirs = socket.socketpair()
        with theirs:
            self.pid = _server().begin(order, [*streams, theirs.fileno()])
        self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined] # subprocess's own

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
            self._note()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:  # type: ignore[override] # subprocess's own
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._note()
        return self.returncode

    def _note(self) -> None:
        told = self._ended.recv(64)
        self.returncode = int(told) if told else -signal.SIGKILL
        self._ended.close()


def run(
    arguments: Sequence[object], *, check: bool = False, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """
    `subprocess.run` of `cftpki ARGUMENTS`.
    """
    given = options.pop("input", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    if options.pop("capture_output", False):
        options["stdout"] = options["stderr"] = subprocess.PIPE
    with Popen(arguments, **options) as process:
        try:
            output, errors = process.communicate(given, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


class _Server:
    """
    Our end of the process that forks the others. It ends with us.
    """

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _PACKET)
        self._turn = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],
            )
        atexit.register(self._end)

    def _end(self) -> None:
        self._control.close()
        self._process.wait()

    def begin(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """
        Fork one; its process id.
        """
        with self._turn:
            socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
            told = self._control.recv(64)
        assert told, "the server of forks has ended"
        return int(told)


@functools.cache
def _server() -> _Server:
    return _Server()


# --- the server -------------------------------------------------------------------------------------------------------


def _prepare() -> None:
    """
    Import what any command may need.
    """
    for name in [
        "advice",
        "auditing",
        "caching",
        "checking",
        "configuration",
        "doctoring",
        "enrollers",
        "evidence",
        "explaining",
        "identities",
        "keeping",
        "labs",
        "managing",
        "measuring",
        "pretty",
        "replaying",
        "report_page",
        "serving",
    ]:
        import_module(f"cftpki_ext.cli.{name}")
    for name in ("config.loader", "config.enrolment", "bootstrap.kept", "bootstrap.service"):
        import_module(f"cftpki_ext.{name}")
    for group in ("cftpki.status_sources", "cftpki.enrollers"):
        for point in entry_points(group=group):
            point.load()
    import_module("cftpki_ext.service.judging.exchange").prepare()
    for name in ("ascii", "idna", "latin_1", "unicode_escape"):
        import_module(f"encodings.{name}")


def _serve(control: socket.socket, parent: int) -> None:
    _prepare()
    assert 1 == threading.active_count(), threading.enumerate()
    gc.freeze()  # what is shared stays shared
    running: dict[int, int] = {}
    waking, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while os.getppid() == parent:
        watched: list[Any] = [control, waking]
        ready = select.select(watched, [], [], 60)[0]
        if waking in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(waking, _PACKET)
            _reap(running)
        if control not in ready:
            continue
        packet, descriptors, _, _ = socket.recv_fds(control, _PACKET, 4)
        if not packet:
            return
        *streams, ended = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be(json.loads(packet), streams)
        for one in streams:
            os.close(one)
        running[pid] = ended
        control.send(str(pid).encode())


def _reap(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        ended = running.pop(pid)
        with contextlib.suppress(OSError):
            os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(ended)


def _be(order: dict[str, Any], streams: list[int]) -> NoReturn:
    """
    Become the command.
    """
    from cftpki_ext.cli import main  # noqa: PLC0415 - imported already; whoever starts this server does without
    from cftpki_ext.processes.confine import _PR_SET_NAME, _PR_SET_PDEATHSIG, _prctl  # noqa: PLC0415

    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(b"cftpki"))
    for number, one in enumerate(streams):
        os.dup2(one, number)
    for path in tuple(Path("/proc/self/fd").iterdir()):
        if int(path.name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(path.name))
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    sys.argv = ["cftpki", *order["arguments"]]
    try:
        main(prog_name="cftpki")
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
    sys.exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
