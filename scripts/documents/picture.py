"""
Pictures of a terminal, from what a program really printed on it: SVG that gets nothing from other hosts.
"""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

# Readable on light and on dark pages: the picture brings its own background.
_THEME = TerminalTheme(
    (30, 36, 43),
    (220, 227, 234),
    [
        (62, 72, 83),
        (240, 128, 120),
        (126, 201, 142),
        (226, 192, 116),
        (120, 174, 240),
        (198, 150, 232),
        (112, 200, 208),
        (220, 227, 234),
    ],
)
_FONTS = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)
_GENERATOR = re.compile(r"\s*<!--.*?-->", re.DOTALL)
_OPENING = re.compile(r"(<svg\b[^>]*)>")


def terminal_picture(console: Console, *, title: str, words: str, to: Path) -> None:
    """
    Write what a console has printed as a picture.

    Args:
        console: made with `record=True`.
        title: of the window.
        words: what the picture shows, for who does not see it; neither `<` nor `&`.
        to: the file.

    """
    svg = console.export_svg(title=title, theme=_THEME, unique_id="terminal")
    # rich names a font at another host; every system has one of its own.
    svg = _GENERATOR.sub("", _FONTS.sub("\n", svg)).replace("Fira Code, monospace", "ui-monospace, monospace")
    svg = _OPENING.sub(
        rf'\1 role="img" aria-labelledby="words"><title id="words">{words}</title>', svg, count=1
    )
    to.write_text(
        "".join(f"{line.rstrip()}\n" for line in svg.splitlines() if line.strip()), encoding="utf-8"
    )
