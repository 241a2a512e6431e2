"""
Service and hosts, killed at many random points under load; run by `scripts/soak-kills`, not with the tests.

Each kill is a SIGKILL: of the whole service, of one of its processes, or of a host in the middle of a session. At the end, no host was
ever told to let in a partner that is revoked, expired or unknown, and every verdict that a host was given is in the evidence,
which is whole and replays to the same verdicts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from tests.real.service import test_killed_processes as short
from tests.support import partners, real_service
from tests.support.wire_client import WireClient

HOSTS = 4
# What is killed, and how often of ten times.
WEIGHTS = {"host": 3, "front": 2, "judge": 1, "evidence": 2, "signer rsa": 1, "nursery": 1}
_PAUSE_S = 0.8
_INTERNAL = 80


def say(line: str) -> None:
    """
    Print a line.
    """
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def host(socket: Path, folder: Path, out: Path) -> None:
    """
    A host: sessions with partners of every kind, one after the other, for ever. What it was told is written down at once.

    Args:
        socket: of the service.
        folder: of the company.
        out: takes a line for each answer: partner, alert (0: let in), verdict.

    """
    chains = {
        name: short.message(partners.Company(folder, *[None] * 5), name)  # type: ignore[arg-type] # only its folder
        for name in short.PARTNERS
    }
    number = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        name = random.choice(list(chains))  # noqa: S311 - no secret
        try:
            async with WireClient(socket) as client:
                if random.random() < 0.5:  # noqa: S311 - no secret
                    answer = await client.ask(
                        Message.CHECK, MODE=int(Mode.SERVER), PROFILE="RSA", CHAIN=chains[name]
                    )
                else:
                    await client.start(MODE=int(Mode.SERVER), PROFILE="RSA")
                    answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=chains[name])
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.02)
            continue
        accepted = answer.fields[Tag.RESULT] == Result.DONE
        alert = 0 if accepted else answer.number(Tag.ALERT) or _INTERNAL
        # A refusal of ours need not have a record: it lets nobody in.
        kept = accepted or answer.fields.get(Tag.REASON) != "internal_error"
        verdict = answer.text(Tag.VERDICT_ID) or "" if kept else ""
        os.write(number, f"{name} {alert} {verdict}\n".encode())


class Hosts:
    """
    Some hosts, each a process; one that is killed is followed by another.
    """

    def __init__(self, socket: Path, folder: Path) -> None:
        self._arguments = (socket, folder)
        self.outs: list[Path] = []
        self._running = [self._begin() for _ in range(HOSTS)]

    def _begin(self) -> subprocess.Popen[bytes]:
        out = self._arguments[1] / f"host-{len(self.outs)}.told"
        self.outs.append(out)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.soak.kill_points", "--host", *map(str, (*self._arguments, out))]
        )

    def kill(self) -> None:
        place = random.randrange(HOSTS)  # noqa: S311 - no secret
        self._running[place].kill()
        self._running[place].wait()
        self._running[place] = self._begin()

    def end(self) -> None:
        for one in self._running:
            one.kill()
            one.wait()

    def told(self) -> list[tuple[str, int, str]]:
        """
        Every answer that a host had: partner, alert, verdict. The last line of one that was killed may be cut.
        """
        found = []
        for out in self.outs:
            lines = out.read_text().split("\n")[:-1] if out.exists() else []
            for line in lines:
                name, alert, verdict = line.split(" ")
                found.append((name, int(alert), verdict))
        return found


async def kill_points(service: real_service.Service, hosts: Hosts, points: int, until: float) -> Counter[str]:
    """
    Kill at random points.

    Args:
        service: runs, and is begun again where all of it is killed.
        hosts: ask it.
        points: how many kills at most.
        until: monotonic seconds; none after that.

    Returns:
        How often each was killed.

    """
    killed: Counter[str] = Counter()
    while killed.total() < points and time.monotonic() < until:
        await asyncio.sleep(random.uniform(0.0, _PAUSE_S))  # noqa: S311 - no secret
        (what,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))  # noqa: S311 - no secret
        if what == "host":
            hosts.kill()
        elif what == "front":
            service.kill()
            await asyncio.to_thread(service.start)
        else:
            pids = [pid for pid in short.processes(service).get(what, ()) if real_service.runs(pid)]
            if not pids:
                continue  # it is being begun
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(pids), signal.SIGKILL)  # noqa: S311 - no secret
        killed[what] += 1
        if killed.total() % 20 == 0:
            say(f"  {killed.total()} kills, {len(hosts.told())} answers")
    return killed


def verify(config: Path, told: list[tuple[str, int, str]]) -> list[str]:
    """
    What must not be.

    Args:
        config: of the service, which has ended.
        told: what hosts were told.

    Returns:
        A line for each that is.

    """
    wrong = []
    for name, alert, _ in told:
        expected = short.PARTNERS[name]
        if alert == 0 and expected is not None:
            wrong.append(f"{name} was let in")
        elif alert not in {0, _INTERNAL, expected}:
            wrong.append(f"{name} was refused with alert {alert}")
    _, rows = short.told("audit", "list", "--config", config)
    lost = {verdict for _, _, verdict in told if verdict} - {row["id"] for row in rows}
    if lost:
        wrong.append(f"{len(lost)} verdicts that were given have no record, {min(lost)} for example")
    _, report = short.told("audit", "verify", "--config", config)
    if not report["whole"]:
        wrong.append(f"the evidence is not whole: {report}")
    _, report = short.told("replay", "--recorded", "--config", config)
    if report["differing"] or report["unreadable"]:
        wrong.append(f"replay differs: {report['differing']}, {report['unreadable']}")
    return wrong


def run(points: int, seconds: float) -> int:
    """
    Kill so often, or for so long; print what came of it.

    Returns:
        The exit status: 1 where something must not be.

    """
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as name,
        partners.company(Path(name)) as company,
    ):
        config = company.configure("soak")
        config.write_text(config.read_text() + short.KEPT)
        with real_service.running(config) as service:
            hosts = Hosts(service.socket, Path(name))
            try:
                killed = asyncio.run(kill_points(service, hosts, points, time.monotonic() + seconds))
            finally:
                hosts.end()
            service.stop()
        told = hosts.told()
        wrong = verify(config, told)
    by_outcome = Counter(
        "let in" if alert == 0 else "failed" if alert == _INTERNAL else "refused" for _, alert, _ in told
    )
    say(f"{killed.total()} kills: " + ", ".join(f"{what} {count}" for what, count in killed.most_common()))
    say(f"{len(told)} answers: " + ", ".join(f"{what} {count}" for what, count in by_outcome.most_common()))
    for line in wrong:
        say(f"WRONG: {line}")
    say("something is wrong" if wrong else "nobody was let in who must not be, and no record is missing")
    return 1 if wrong else 0


def main() -> None:
    """
    The points, or one host.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200, help="kills at most")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long at most")
    parser.add_argument("--host", type=Path, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.host is not None:
        asyncio.run(host(*given.host))
    sys.exit(run(given.points, given.seconds))


if __name__ == "__main__":
    main()
