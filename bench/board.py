"""
What a known partner costs inside the host: the exit's answers from the verdict board (ADR 0025).

The board is made by the product's writer, the answers are given by the exit itself (`native/tests/board_bench.c`), for chains of
three certificates of RSA-2048's sizes, at random among many. Beside each stands the bare comparison of the same bytes at the same
places of the same mapping, and pyhanko-certvalidator on a chain that it has judged before.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
from pathlib import Path
from typing import Any

from bench import decision
from bench.figures import Figure, Figures

# Goals of the design, in microseconds: p50 by how many partners there are, p99 of all.
P50_US = {100: 0.8, 10_000: 0.8, 100_000: 1.5, 1_000_000: 1.5}
P99_US = 5.0
LOOKS = 50_000


def measure(build: Path, entries: int, kind: str = "distinct") -> dict[str, Any]:
    """
    One run.

    Args:
        build: where native/ was built.
        entries: known partners.
        kind: `distinct`: no two chains share a certificate; `shared`: all but the leaf is the same.

    Returns:
        What the program prints: nanoseconds by name and percentile.

    """
    command = [build / "tests/cftpki-board-bench", str(entries), str(LOOKS), kind]
    told: dict[str, Any] = json.loads(subprocess.check_output(command, text=True))
    return told


def measure_callbacks(build: Path) -> dict[str, Any]:
    """
    The same question by `cftpki_cert_verify_cb`, as `native/tests/ssl_board_bench.c` has it; see `measure`.
    """
    command = [build / "ssl/ssl_board_bench", "20000"]
    told: dict[str, Any] = json.loads(subprocess.check_output(command, text=True))
    return told


def report(build: Path, figures: Figures) -> None:
    """
    Print the figures.
    """
    print("a known partner, answered in the host (CheckCertificate through cftpkie; chain of 3 KB)")
    peer_us = decision.peer_warm_us()
    for entries, goal in P50_US.items():
        told = measure(build, entries)
        check, bare = told["check"], told["bare"]
        if entries == 10_000:
            figures.note(Figure.CHECK_10K_US, check["p50"] / 1000)
            figures.note(Figure.CHECK_TO_PEER, peer_us * 1000 / check["p50"])
        if entries == 1_000_000:
            figures.note(Figure.CHECK_1M_US, check["p50"] / 1000)
            figures.note(Figure.CHECK_1M_P99_US, check["p99"] / 1000)
            figures.note(Figure.CHECK_TO_BARE, check["p50"] / bare["p50"])
        print(
            f"  {entries:9,} partners: p50 {check['p50'] / 1000:.2f} µs (goal {goal}), p99 {check['p99'] / 1000:.2f} (goal {P99_US}); "
            f"bare comparison {bare['p50'] / 1000:.2f}: {check['p50'] / bare['p50']:.2f} of it; "
            f"pyhanko-certvalidator warm {peer_us:.0f} µs: {peer_us * 1000 / check['p50']:.0f} x"
        )
    shared = measure(build, 100_000, "shared")
    print(
        f"    100,000 of one CA: p50 {shared['check']['p50'] / 1000:.2f} µs, {shared['octets'] / 100_000:.0f} octets each"
    )
    callbacks = measure_callbacks(build)
    print(
        f"  in the callbacks of OpenSSL, one of a few: p50 {callbacks['check']['p50'] / 1000:.2f} µs; with a session of its own and its "
        f"datagram {callbacks['session']['p50'] / 1000:.1f} µs, of which the SSL is {callbacks['empty']['p50'] / 1000:.1f}"
    )
    session = measure(build, 10_000)["session"]
    figures.note(Figure.SESSION_US, session["p50"] / 1000)
    print(
        f"  a whole session's calls, one datagram to the service: p50 {session['p50'] / 1000:.1f} µs, "
        f"p99 {session['p99'] / 1000:.1f} (goal 25)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    logging.disable(logging.CRITICAL)
    report(parser.parse_args().build.resolve(), Figures())
