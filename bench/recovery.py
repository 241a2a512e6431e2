"""
How soon a service has recovered that lost a process to kill -9, while hosts ask it.

For each role: how long until the next question of a host that comes right after the kill is answered with a verdict, and how
long until a process of the role takes calls again. The front is begun again at once, as its supervisor would do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import handshakes
from cftpki_ext import lab
from cftpki_ext.protocol.codec import (
    HEADER,
    Frame,
    Message,
    Tag,
    Value,
    decode_header,
    decode_payload,
    encode,
)

ROUNDS = 10
HOSTS = 4
# What the processes do between two kills: answer, and begin what they keep in reserve.
BETWEEN_S = (3.5, 4.5)
ROLES = ("judge", "evidence", "signer host", "renewals", "nursery", "front")
_OWN = """
[identity.own]
enrollers = ["drop"]
names = ["host.lab.example"]

[enroller.drop]
type = "file"
chain = "host/chain.pem"
key = "host/key.pem"
"""


class Site:
    """
    The lab's service, with an identity that an enroller keeps.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "cftpki.sock"
        self.log = directory / "recovery.log"
        config = directory / "cftpki.toml"
        config.write_text(config.read_text() + _OWN)
        shutil.rmtree(directory / "state", ignore_errors=True)
        self.front: subprocess.Popen[bytes]

    def begin(self) -> None:
        """
        Begin the service; it listens a moment later.
        """
        program = Path(sys.executable).with_name("cftpki")
        with self.log.open("ab") as log:
            self.front = subprocess.Popen(
                [program, "serve", "--config", self.directory / "cftpki.toml"], stdout=log, stderr=log
            )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self.front.terminate()
            self.front.wait(30)

    async def ask(self, message: Message, **fields: Value) -> Frame:
        """
        One question over a connection of its own, asked again until the service listens.
        """
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    by_tag = {Tag[name]: value for name, value in fields.items()}
                    writer.write(encode(Frame(message=message, response=False, sequence=1, fields=by_tag)))
                    header = decode_header(await reader.readexactly(HEADER.size))
                    return decode_payload(header, await reader.readexactly(header.length))
                finally:
                    writer.close()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.001)

    async def processes(self) -> list[dict[str, Any]]:
        """
        The child processes that take calls.
        """
        told = json.loads(str((await self.ask(Message.STATUS)).fields[Tag.JSON]))
        return [one for one in told["processes"] if one["ready"]]


async def accepted(site: Site, chain: bytes) -> None:
    while True:
        if (await site.ask(Message.CHECK, MODE=1, CHAIN=chain)).fields[Tag.RESULT] == 0:
            return
        await asyncio.sleep(0.001)


async def back(site: Site, counts: dict[str, int]) -> None:
    """
    Wait until there are as many processes of each role as before.
    """
    while True:
        if counted(await site.processes()) == counts:
            return
        await asyncio.sleep(0.005)


def counted(processes: Sequence[dict[str, Any]]) -> dict[str, int]:
    roles = [one["role"] for one in processes]
    return {role: roles.count(role) for role in roles if role != "indexer"}


def parent_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[1])


async def kill(site: Site, role: str, processes: Sequence[dict[str, Any]]) -> None:
    if role == "front":
        site.front.kill()
        await asyncio.to_thread(site.front.wait)
        site.begin()
        return
    if role == "nursery":
        os.kill(parent_of(processes[0]["pid"]), signal.SIGKILL)
        return
    os.kill(random.choice([one["pid"] for one in processes if one["role"] == role]), signal.SIGKILL)  # noqa: S311


async def measure(site: Site, chain: bytes, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """
    Seconds until the next question is answered, and until the processes are back, for each kill.
    """
    await accepted(site, chain)
    counts: dict[str, int] = {}
    while not set(ROLES) - {"nursery", "front"} <= set(counts):
        await asyncio.sleep(BETWEEN_S[0])  # all that there are to be
        counts = counted(await site.processes())

    async def host() -> None:
        while True:
            await accepted(site, chain)

    hosts = [asyncio.create_task(host()) for _ in range(HOSTS)]
    found: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
    for role in ROLES * rounds:
        await asyncio.sleep(random.uniform(*BETWEEN_S))  # noqa: S311 - no secret
        await back(site, counts)
        processes = await site.processes()
        begun = time.perf_counter()
        await kill(site, role, processes)
        await accepted(site, chain)
        answered_s = time.perf_counter() - begun
        before = now = {one["pid"] for one in processes}
        while before <= now:  # that it has ended was not noticed yet
            now = {one["pid"] for one in await site.processes()}
        await back(site, counts)
        found[role].append((answered_s, time.perf_counter() - begun))
    for task in hosts:
        task.cancel()
    await asyncio.gather(*hosts, return_exceptions=True)
    return found


def report(rounds: int = ROUNDS) -> None:
    """
    Print the figures.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-recovery-") as folder:
        directory = Path(folder) / "lab"
        lab.up(directory)
        try:
            chain = handshakes.chain_of(directory, "good")
            site = Site(directory)
            with site.running():
                found = asyncio.run(measure(site, chain, rounds))
        finally:
            lab.down(directory)
    print(f"after kill -9, {HOSTS} hosts asking, {rounds} times each: median and longest, milliseconds")
    for role, times in found.items():
        answered, back_s = ([one[at] * 1000 for one in times] for at in (0, 1))
        print(
            f"  {role:<12} next answer {statistics.median(answered):.0f}, {max(answered):.0f};"
            f" back {statistics.median(back_s):.0f}, {max(back_s):.0f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    report(parser.parse_args().rounds)
