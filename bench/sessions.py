"""
What a session that the board answered costs the service: its record, its lines in the log, its place in the counts.

Processor time of all processes of the service beyond what they take while nobody comes, for handshakes of a known partner whose
key is in the host, so that nobody but the board answers; and, beside it, those whose key is in the service, which signs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import handshakes
from bench.figures import Figure, Figures
from bench.under_attack import serving
from bench.warm import spent_us
from cftpki_ext import lab
from cftpki_ext.protocol.codec import HEADER, Frame, Message, Tag, decode_header, decode_payload, encode

RUNS = 5
_WAIT_S = 60
_IDLE_S = 5.0


async def status(path: Path) -> dict[str, Any]:
    """
    What the service says of itself.
    """
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(encode(Frame(message=Message.STATUS, response=False, sequence=1, fields={})))
    header = decode_header(await reader.readexactly(HEADER.size))
    answer = decode_payload(header, await reader.readexactly(header.length))
    writer.close()
    await writer.wait_closed()
    told: dict[str, Any] = json.loads(answer.text(Tag.JSON) or "{}")
    return told


def told(path: Path) -> int:
    """
    How many sessions of the board the service has accounted for.
    """
    return int(asyncio.run(status(path))["board"]["sessions"])


def cost(build: Path, directory: Path, path: Path, pid: int, runs: int) -> tuple[Counter[str], int]:
    """
    Processor time (microseconds) by process, and of how many sessions.
    """

    def handshake() -> None:
        handshakes.per_second(build, directory, path, "1.3", exit_used=True)

    handshake()
    time.sleep(1)  # what the first one leaves behind
    before = spent_us(pid)
    time.sleep(_IDLE_S)
    idle = spent_us(pid) - before
    before, first, begun = spent_us(pid), told(path), time.monotonic()
    for _ in range(runs):
        handshake()
    until = time.monotonic() + _WAIT_S
    while (count := told(path) - first) < runs * handshakes.SESSIONS and time.monotonic() < until:
        time.sleep(0.2)
    spent, took_s = spent_us(pid) - before, time.monotonic() - begun
    return spent - Counter({who: int(us * took_s / _IDLE_S) for who, us in idle.items()}), count


def report(build: Path, figures: Figures, runs: int = RUNS) -> None:
    """
    Measure and print.

    Args:
        build: where native/ was built.
        figures: take them.
        runs: of `handshakes.SESSIONS` sessions.

    """
    with tempfile.TemporaryDirectory(prefix="cftpki-sessions-") as folder:
        directory = Path(folder) / "lab"
        lab.up(directory)
        try:
            for name, handing in (
                ("key in the host", handshakes.key_handed_over(directory)),
                ("key in the service", contextlib.nullcontext()),
            ):
                with handing, serving(directory) as process:
                    spent, count = cost(build, directory, directory / "cftpki.sock", process.pid, runs)
                total = sum(spent.values()) / count
                whose = ", ".join(f"{who} {us / count:.0f}" for who, us in spent.most_common() if us)
                print(
                    f"a session of a known partner, {name}: {total:.0f} us of the service ({whose}); {count}"
                )
                if name == "key in the host":
                    figures.note(Figure.SESSION_SERVICE_US, total)
        finally:
            lab.down(directory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args()
    report(given.build.resolve(), Figures(), given.runs)
