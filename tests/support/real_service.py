"""
The real service as a process of its own: `cftpki serve` on a configuration, its log, its end.

    with real_service.running(config) as service:
        service.environment     # what a host that loads libcftpkie.so needs
        service.kill()          # SIGKILL; `start()` brings it back
        service.verdicts()      # what it logged

It starts no responder and makes no certificate; `tests.support.servers` and `tests.support.pki` do.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import forked

PROGRAM = Path(sys.executable).with_name("cftpki")
# Starting takes about a second; a machine that does several things at once needs more.
WAIT_S = 120.0


@dataclass
class Service:
    """
    One configuration, and the process that serves it.
    """

    config: Path
    socket: Path
    log: Path
    program: Sequence[str | Path] | None = None
    options: Sequence[str] = ()
    process: subprocess.Popen[Any] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """
        The environment that leads the exit library to this service.
        """
        return {"CFTPKI_SOCKET": str(self.socket)}

    def start(self) -> None:
        """
        Start it and wait until it accepts connections.

        It ends with the tests, also where they are killed (PR_SET_PDEATHSIG of prctl(2)).
        """
        arguments = ["serve", "--config", self.config, *self.options]
        with self.log.open("ab") as output:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            if self.program is None:
                self.process = forked.Popen(arguments, **streams)
            else:
                self.process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *self.program, *arguments], **streams
                )
        end = time.monotonic() + WAIT_S
        while not self._accepts():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, "the service does not get ready:\n" + self.log.read_text()
            time.sleep(0.02)

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(self.socket))
            return True
        return False

    def kill(self) -> None:
        """
        SIGKILL, and wait for the end.
        """
        assert self.process is not None
        self.process.kill()
        self.process.wait(WAIT_S)

    def stop(self) -> int:
        """
        SIGTERM, and its exit status.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def events(self, name: str) -> list[dict[str, Any]]:
        """
        The log's lines of one event so far.
        """
        return [event for event in self.told() if event.get("event") == name]

    def told(self) -> list[dict[str, Any]]:
        """
        The log's lines so far; one that is just being written is not there yet.
        """
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def child(self, role: str) -> int:
        """
        The process id of the child with a role, as it was logged last.
        """
        return next(e["pid"] for e in reversed(self.events("process_started")) if e["role"] == role)

    def failures(self) -> list[dict[str, Any]]:
        """
        What it logged as its own failure: an alarm about an identity tells of its CA or its files.
        """
        events = [event for event in self.told() if event["level"] in {"error", "critical"}]
        return [event for event in events if event["event"] != "identity_alarm"]

    def verdicts(self) -> list[dict[str, Any]]:
        """
        The verdicts so far.
        """
        return self.events("verdict")


def runs(pid: int) -> bool:
    """
    Whether a process is there and has not ended: one whose parent has gone may wait for somebody to notice its end.
    """
    return (state := stat(pid)) is not None and state[0] not in "ZX"


def stat(pid: int) -> list[str] | None:
    """
    What the kernel says of a process behind its name (proc(5): state, parent …); None once it is gone.

    It may go between opening the file and reading it: the one is ENOENT, the other ESRCH.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


@contextlib.contextmanager
def running(
    config: Path, *, program: Sequence[str | Path] | None = None, options: Sequence[str] = ()
) -> Iterator[Service]:
    """
    The service of a configuration (`log_format = "json"`) for as long as the block lasts.

    `program` is what is begun as a program, e.g. `(PROGRAM,)`; by default the service is a fork (`tests.support.forked`).
    """
    where = tomllib.loads(config.read_text())["service"]["socket"]
    service = Service(config, config.parent / where, config.with_suffix(".log"), program, options)
    service.start()
    try:
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.process.terminate()
            try:
                service.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()
