"""
`make bench`: every figure, each beside what it is to be compared with.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
from pathlib import Path

from bench import board, decision, evidence, handshakes, large_crl, refresh, sessions, under_attack, warm
from bench.figures import Figures, keep


def main() -> None:
    """
    Print what the machine is, then each part's figures; keep those that have a goal.
    """
    parser = argparse.ArgumentParser(description="figures of cftpki")
    parser.add_argument("--build", type=Path, required=True, help="where native/ was built")
    build = parser.parse_args().build.resolve()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    # The peer of the decision logs every refusal of its table with a traceback.
    logging.disable(logging.CRITICAL)
    figures = Figures()
    decision.report()
    board.report(build, figures)
    logging.disable(logging.NOTSET)
    handshakes.report(build, figures)
    sessions.report(build, figures)
    warm.report(figures)
    refresh.report()
    large_crl.report(figures)
    under_attack.report()
    evidence.report(figures)
    keep(figures)


if __name__ == "__main__":
    main()
