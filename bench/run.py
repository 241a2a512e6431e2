"""
`make bench`: every figure, each beside what it is to be compared with.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path

from bench import (
    board,
    decision,
    evidence,
    first_check,
    handshakes,
    large_crl,
    ready,
    refresh,
    sessions,
    under_attack,
    warm,
)
from bench.figures import Figures, keep


def main() -> None:
    """
    Print what the machine is, then each part's figures; keep those that have a goal.
    """
    figures = Figures()
    parts: dict[str, Callable[[Path], None]] = {
        "decision": lambda _: decision.report(),
        "board": lambda build: board.report(build, figures),
        "handshakes": lambda build: handshakes.report(build, figures),
        "sessions": lambda build: sessions.report(build, figures),
        "warm": lambda _: warm.report(figures),
        "refresh": lambda _: refresh.report(figures),
        "first_check": lambda _: first_check.report(figures),
        "ready": lambda _: ready.report(figures),
        "large_crl": lambda _: large_crl.report(figures),
        "under_attack": lambda _: under_attack.report(),
        "evidence": lambda _: evidence.report(figures),
    }
    parser = argparse.ArgumentParser(description="figures of cftpki")
    parser.add_argument("--build", type=Path, required=True, help="where native/ was built")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; by default all")
    given = parser.parse_args()
    if unknown := [name for name in given.parts if name not in parts]:
        parser.error(f"no part {', '.join(unknown)}")
    build = given.build.resolve()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for name in given.parts or parts:
        # The peer of the decision logs every refusal of its table with a traceback.
        logging.disable(logging.CRITICAL if name in {"decision", "board"} else logging.NOTSET)
        parts[name](build)
    if figures.values:
        keep(figures)


if __name__ == "__main__":
    main()
