"""
The figures that the design sets goals for: what was measured, each run's line in a history file, and a plot of them.

Owns the goals. A figure that a run did not measure is left out of its line.
"""

from __future__ import annotations

import argparse
import enum
import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).with_name("history.jsonl")
PLOT = Path(__file__).parents[1] / "docs" / "performance.svg"


class Figure(enum.Enum):
    """
    What is measured: its name in the history, what it is, the goal, and whether less of it is better.
    """

    CHECK_10K_US = "check_10k_us", "known partner of 10,000, in the host, p50", 0.8, "µs", True
    CHECK_1M_US = "check_1m_us", "known partner of 1,000,000, in the host, p50", 1.5, "µs", True
    CHECK_1M_P99_US = "check_1m_p99_us", "known partner of 1,000,000, in the host, p99", 5.0, "µs", True
    CHECK_TO_BARE = "check_to_bare", "known partner of 1,000,000 ÷ bare comparison", 2.0, "", True
    CHECK_TO_PEER = "check_to_peer", "pyhanko-certvalidator, warm, ÷ p50 of 10,000", 1000.0, "", False
    SESSION_US = "session_us", "session of the board, in the host, p50", 25.0, "µs", True
    SESSION_SERVICE_US = (
        "session_service_us",
        "session of the board, in the service, CPU time",
        150.0,
        "µs",
        True,
    )
    HANDSHAKES_HOST = "handshakes_host", "handshakes with ÷ without, key in the host", 0.99, "", False
    HANDSHAKES_SERVICE = (
        "handshakes_service",
        "handshakes with ÷ without, key in the service",
        0.90,
        "",
        False,
    )
    WARM_PER_S = "warm_per_s", "warm CHECKs through the socket, a second and core", 3000.0, "/s", False
    FIRST_TO_PEER = (
        "first_to_peer",
        "first check with OCSP: pyhanko-certvalidator ÷ ours, CPU time",
        1.0,
        "",
        False,
    )
    STORM_DOWNLOADS = (
        "storm_downloads",
        "1,000 first handshakes at once: downloads of the list",
        1.0,
        "",
        True,
    )
    STORM_QUERIES = (
        "storm_queries",
        "1,000 first handshakes at once: OCSP queries for one of them",
        1.0,
        "",
        True,
    )
    READY_S = "ready_s", "ready with 100,000 partners and a 1 M-entry list on disk", 0.5, "s", True
    LIST_USABLE_S = "list_usable_s", "1 M-entry list: usable after its last byte", 2.0, "s", True
    LIST_MB = "list_mb", "1 M-entry list: memory above idle at its highest", 60.0, "MB", True
    LIST_SERIAL_US = "list_serial_us", "1 M-entry list: a new serial number, CPU time", 20.0, "µs", True
    EVIDENCE_OCTETS = "evidence_octets", "evidence of a known partner's session", 200.0, "B", True
    EVIDENCE_GIB = "evidence_gib", "90 days of an hourly 1 M-entry list", 2.0, "GiB", True

    def __init__(self, key: str, words: str, goal: float, unit: str, less: bool) -> None:  # noqa: FBT001 - a row of the table
        self.key = key
        self.words = words
        self.goal = goal
        self.unit = unit
        self.less = less

    def share(self, value: float) -> float:
        """
        How much of the goal is reached: 1 and more is all of it.
        """
        return self.goal / value if self.less else value / self.goal


class Figures:
    """
    What one run has measured.
    """

    def __init__(self) -> None:
        self.values: dict[Figure, float] = {}

    def note(self, figure: Figure, value: float) -> None:
        """
        Take a figure.
        """
        self.values[figure] = value


def line_of(figures: Figures, *, at: datetime, commit: str) -> dict[str, Any]:
    """
    A run as it is kept.

    Args:
        figures: what was measured.
        at: when.
        commit: of what.

    Returns:
        Plain data; the load is that of the last minute, for figures that depend on it.

    """
    return {
        "at": at.isoformat(timespec="seconds"),
        "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "figures": {figure.key: float(f"{value:.4g}") for figure, value in figures.values.items()},
    }


def keep(figures: Figures) -> None:
    """
    Add a run to the history, and draw the plot anew.
    """
    with HISTORY.open("a") as file:
        json.dump(line_of(figures, at=datetime.now(UTC), commit=_commit()), file)
        file.write("\n")
    PLOT.write_text(plot([json.loads(line) for line in HISTORY.read_text().splitlines()]))


def _commit() -> str:
    """
    The commit of this tree, with a mark where it was changed since.
    """
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=HISTORY.parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


# Of the plot, in its own units: a row's height, where bars begin, and how far a factor of ten reaches.
_ROW, _LEFT, _TEN = 22, 400, 110
# Bars end here, whatever they say.
_LEAST, _MOST = 0.1, 10.0
_STYLE = (
    "text{font:12px sans-serif;fill:#24292f}.n{fill:#57606a}.y{fill:#2da44e}.x{fill:#bf8700}.o{fill:#8c959f}"
    "line{stroke:#24292f}rect.b{fill:#fff}"
)


def plot(runs: Sequence[dict[str, Any]]) -> str:
    """
    The last value of each figure against its goal, on a logarithmic scale; earlier ones are dots.

    Args:
        runs: lines of the history, in their order.

    Returns:
        An SVG.

    """
    shown = [figure for figure in Figure if any(figure.key in run["figures"] for run in runs)]
    middle = _LEFT + _TEN
    height = _ROW * (len(shown) + 2)
    width = _LEFT + 2 * _TEN + 130
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<title>figures against their goals</title>",
        f'<style>{_STYLE}</style><rect class="b" width="{width}" height="{height}"/>',
    ]
    for place, figure in enumerate(shown):
        values = [run["figures"][figure.key] for run in runs if figure.key in run["figures"]]
        last, y = values[-1], _ROW * (place + 1)
        end = _x(figure.share(last))
        begin, length = min(middle, end), abs(end - middle)
        reached = "y" if figure.share(last) >= 1 else "x"
        said = f"{last:g}{f' {figure.unit}' if figure.unit else ''} (goal {figure.goal:g})"
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(figure.words)}</text>'
            f'<rect class="{reached}" x="{begin:.1f}" y="{y - 6}" width="{max(length, 1):.1f}" height="12"/>'
            + "".join(
                f'<circle class="o" cx="{_x(figure.share(one)):.1f}" cy="{y}" r="2"/>' for one in values[:-1]
            )
            + f'<text class="n" x="{width - 8}" y="{y + 4}" text-anchor="end">{escape(said)}</text>'
        )
    bottom = _ROW * (len(shown) + 1)
    parts.append(
        f'<line x1="{middle}" y1="8" x2="{middle}" y2="{bottom - 8}"/>'
        + "".join(
            f'<text class="n" x="{_x(share):.1f}" y="{bottom + 8}" text-anchor="middle">{words}</text>'
            for share, words in ((0.1, "a tenth"), (1.0, "goal"), (10.0, "ten times"))
        )
    )
    return "\n".join((*parts, "</svg>", ""))


def _x(share: float) -> float:
    """
    Where a share of the goal stands.
    """
    bounded = min(max(share, _LEAST), _MOST)
    return _LEFT + _TEN * (1 + math.log10(bounded))


if __name__ == "__main__":
    argparse.ArgumentParser(description="draw the plot of the history anew").parse_args()
    PLOT.write_text(plot([json.loads(line) for line in HISTORY.read_text().splitlines()]))
