"""
Warm decisions through the socket, evidence kept: how many there are per second of processor time, and whose time it is.

Processor time, not the clock on the wall: all processes of the service together, so that the figure says what a host
with so many sessions spends, and depends little on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench import handshakes
from bench.figures import Figure, Figures
from bench.under_attack import serving, tree
from cftpki_ext import lab

CONNECTIONS = 8
CHECKS = 4000
_TICKS = os.sysconf("SC_CLK_TCK")


def spent_us(pid: int) -> Counter[str]:
    """
    Processor time (microseconds) of a process and all below it, by the name of the process.
    """
    spent: Counter[str] = Counter()
    for one in tree(pid):
        stat = Path(f"/proc/{one}/stat").read_text()
        name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        spent[name] += (int(rest[11]) + int(rest[12])) * 1_000_000 // _TICKS
    return spent


async def ask(path: Path, chain: bytes, connections: int, checks: int) -> float:
    """
    CHECKs over some connections at once; how many seconds they took in all.
    """
    begun = time.perf_counter()
    await asyncio.gather(
        *(handshakes.check_ms(path, chain, checks // connections) for _ in range(connections))
    )
    return time.perf_counter() - begun


def report(figures: Figures) -> None:
    """
    Print the figures.
    """
    with tempfile.TemporaryDirectory(prefix="cftpki-warm-") as folder:
        directory = Path(folder) / "lab"
        lab.up(directory)
        try:
            chain = handshakes.chain_of(directory, "good")
            with serving(directory) as process:
                path = directory / "cftpki.sock"
                asyncio.run(ask(path, chain, 1, 50))
                for connections in (1, CONNECTIONS):
                    before = spent_us(process.pid)
                    took_s = asyncio.run(ask(path, chain, connections, CHECKS))
                    spent = spent_us(process.pid) - before
                    total = sum(spent.values())
                    figures.note(Figure.WARM_PER_S, CHECKS / total * 1e6)
                    whose = ", ".join(f"{name} {us / CHECKS:.0f}" for name, us in spent.most_common())
                    print(
                        f"warm CHECK, {connections} at once: {CHECKS / total * 1e6:.0f} per second of processor time"
                        f" ({total / CHECKS:.0f} us each: {whose}); {CHECKS / took_s:.0f}/s by the clock"
                    )
        finally:
            lab.down(directory)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report(Figures())
