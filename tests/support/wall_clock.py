"""
A wall clock that a test moves under the real service: libfaketime, `cftpki serve` with a shorter tick, and hosts.

    company = Company(tmp_path)
    company.configure({"mft": {…}}, {"corp": {…}})
    company.clock.set(days=-7)              # seven days behind the machine's, for the service alone
    with company.serving("mft") as service:
        company.served("mft")               # the SHA-256 of what a partner gets in a handshake now
        company.told("mft")["mft"]          # what STATUS says after a tick at this time

Only the wall clock moves, at once and in either direction; the monotonic clock is the machine's, as when somebody
sets the time. Programs written in Go read the machine's clock whatever is preloaded. The tick is shortened because
a week must not take a week.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cftpki_ext.protocol.codec import Message, Tag
from tests.support import forked, hostsim, pki, real_service
from tests.support.wire_client import WireClient

LIBRARY = Path(hostsim.program()).parents[1] / "libcftpkie.so"
TICK_S = 0.25
WAIT_S = 60.0
_SERVE = f"from cftpki_ext.identity.renewal import manager; manager.TICK_S = {TICK_S}; from cftpki_ext.cli import main; main()"
_PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime", "/usr/lib64/faketime")


def library() -> Path:
    """
    libfaketime; its absence is a failure and never a reason to skip.
    """
    found = [path for place in _PLACES for path in Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1")]
    if not found:
        msg = "libfaketime is missing: run scripts/system-packages test"
        raise RuntimeError(msg)
    return found[0]


class WallClock:
    """
    How far a process's wall clock is from the machine's, in a file that the process reads at each look at the time.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock"
        self.offset = timedelta(0)
        self.set()

    def set(self, **offset: float) -> None:
        """
        Put it so far ahead of the machine's (`timedelta`'s arguments, negative for behind).
        """
        self.offset = timedelta(**offset)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self.offset.total_seconds():+.0f}s\n")
        # In one step: a half-written file would be another time.
        fresh.replace(self._file)

    def now(self) -> datetime:
        """
        What a process under it reads.
        """
        return datetime.now(UTC) + self.offset

    @property
    def prefix(self) -> tuple[str, ...]:
        """
        What goes before a command to put it under this clock, as it is when the command begins.
        """
        variables = {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            # Deadlines on the monotonic clock are right as they are. The correction, made for an old libc, moves them
            # by the offset: a thread that waits for the interpreter's lock then wakes at once and again, without end.
            "FAKETIME_FORCE_MONOTONIC_FIX": 0,
            # Files are dated by the kernel; a date that moves with our clock would be a file that was changed.
            "NO_FAKE_STAT": 1,
        }
        return ("env", *(f"{name}={value}" for name, value in variables.items()))

    @contextlib.contextmanager
    def running(self, config: Path) -> Iterator[real_service.Service]:
        """
        The service of a configuration under this clock.
        """
        with real_service.running(
            config, program=(*self.prefix, "FAKETIME_NO_CACHE=1", sys.executable, "-c", _SERVE)
        ) as service:
            yield service


class Company:
    """
    A service with some identities under a moved clock, and for each identity a host that listens.
    """

    service: real_service.Service

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = WallClock(folder)
        self.config = folder / "cftpki.toml"
        self._ports: dict[str, int] = {}
        (folder / "partners.pem").write_bytes(pki.make_root("Partners Root").pem)

    def configure(
        self,
        identities: Mapping[str, Mapping[str, object]],
        enrollers: Mapping[str, Mapping[str, object]],
        **trusts: Path,
    ) -> None:
        """
        Write the configuration, with a rule for each identity that a host's security profile of its name chooses.
        """
        lines = ["[service]", f'socket = "{self.folder / "s"}"', 'state = "state"', 'log_format = "json"']
        for name, anchors in {"partners": self.folder / "partners.pem", **trusts}.items():
            lines += [f"[trust.{name}]", f"anchors = {_toml([str(anchors)])}"]
        for kind, tables in {"identity": identities, "enroller": enrollers}.items():
            for name, table in tables.items():
                lines += [f"[{kind}.{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        for name in identities:
            lines += ["[[rule]]", 'direction = "server"', f'profile = "{name}"', f'identity = "{name}"']
            lines += ['trust = "partners"']
        self.config.write_text("\n".join(lines) + "\n")

    @contextlib.contextmanager
    def serving(self, *names: str) -> Iterator[real_service.Service]:
        """
        The service, and a listening host for each identity.
        """
        with self.clock.running(self.config) as self.service, contextlib.ExitStack() as stack:
            for name in names:
                host = hostsim.server(
                    *("--lib", LIBRARY, "--profile", name, "--sessions", "10000", "--send-data"),
                    trace=self.folder / f"trace-{name}",
                    env=self.service.environment,
                )
                self._ports[name] = stack.enter_context(host).port
            yield self.service
            assert [] == self.service.failures()

    def begin(self, *arguments: str, moved: bool = False) -> subprocess.Popen[str]:
        """
        Begin a command, by the machine's clock or (`moved`) by this one.
        """
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = [*arguments, "--config", self.config]
        if not moved:
            return forked.Popen(command, **streams)
        return subprocess.Popen([*self.clock.prefix, real_service.PROGRAM, *command], **streams)

    def command(self, *arguments: str, status: int = 0, moved: bool = False) -> str:
        """
        Run a command to its end; what it printed.
        """
        process = self.begin(*arguments, moved=moved)
        output, _ = process.communicate(timeout=WAIT_S)
        assert status == process.returncode, output
        return output

    def served(self, name: str) -> str:
        """
        The SHA-256 of the certificate that a partner gets in a TLS handshake now.
        """
        encoded = ssl.get_server_certificate(("127.0.0.1", self._ports[name]), timeout=WAIT_S)
        return sha256(ssl.PEM_cert_to_DER_cert(encoded)).hexdigest()

    def status(self) -> dict[str, Any]:
        """
        What STATUS says of the identities, as of the last tick.
        """
        return asyncio.run(_certificates(self.service))

    def told(self, *names: str) -> dict[str, Any]:
        """
        What STATUS says of the identities, which have certificates, after a tick at the time that it is now.
        """
        found: dict[str, Any] = {}

        def current() -> bool:
            found.update(self.status())
            return all(name in found and self._is_of_now(found[name]) for name in names)

        until(current, told=lambda: f"no tick at {self.clock.now()}: {found}")
        return found

    def _is_of_now(self, told: Mapping[str, Any]) -> bool:
        if told["runway"] is None:
            return False
        looked = datetime.fromisoformat(told["runway"]) - timedelta(seconds=told["runway_s"])
        return abs(looked - self.clock.now()) < timedelta(seconds=5)

    def events(self, event: str, identity: str) -> list[dict[str, Any]]:
        """
        The log's lines of one event about one identity so far.
        """
        return [one for one in self.service.events(event) if one["identity"] == identity]

    def alarms(self, identity: str) -> list[str]:
        """
        The alarms that were raised so far.
        """
        return [one["alarm"] for one in self.events("identity_alarm", identity)]

    def attempts(self, identity: str) -> list[datetime]:
        """
        When an attempt failed, by the service's clock.
        """
        return [
            datetime.fromisoformat(one["timestamp"])
            for one in self.events("identity_attempt_failed", identity)
        ]

    def history(self, identity: str) -> dict[str, Any]:
        """
        `cftpki identity history`.
        """
        told = json.loads(self.command("identity", "history", identity, "--json"))
        assert isinstance(told, dict)
        return told

    def weight(self) -> tuple[int, int]:
        """
        The service's resident memory in KiB, and how many files it has open.
        """
        assert self.service.process is not None
        process = Path(f"/proc/{self.service.process.pid}")
        resident = next(
            line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")
        )
        return int(resident.split()[1]), len(list((process / "fd").iterdir()))


def until(condition: Callable[[], object], *, told: Callable[[], object] = str) -> None:
    """
    Wait for what another process does and tells in no other way; `told` says what is wrong where it never does.
    """
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


async def _certificates(service: real_service.Service) -> dict[str, Any]:
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.STATUS)
        told = json.loads(str(answer.fields[Tag.JSON]))["certificates"]
        assert isinstance(told, dict)
        return told


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value if isinstance(value, bool | int | float | list) else str(value))
