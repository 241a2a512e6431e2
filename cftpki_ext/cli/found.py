"""
Findings for a person and for scripts: what `doctor` and `probe` print alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cftpki_ext.cli.render import Text, console, table
from cftpki_ext.doctor import Finding, Level

_STYLES = {Level.OK: "green", Level.NOTE: "cyan", Level.WARN: "yellow", Level.FAIL: "bold red"}


def tell(found: Sequence[Finding], *, as_json: bool, show_all: bool, words: Mapping[Level, str]) -> None:
    """
    Print findings, the worst first.

    Args:
        found: all of them.
        as_json: for a script; everything is shown then.
        show_all: what is well, too.
        words: what the last line says, by the worst level; of the lowest one where there is nothing to look at.

    """
    if as_json:
        click.echo(json.dumps([_data(finding) for finding in found], indent=2))
        return
    shown = [finding for finding in found if show_all or finding.level is not Level.OK]
    out = console()
    if shown:
        rows = (
            (
                Text(finding.level.name.lower(), style=_STYLES[finding.level]),
                finding.about,
                finding.check,
                finding.detail,
                finding.action,
            )
            for finding in sorted(shown, key=lambda finding: -finding.level)
        )
        out.print(table(("", "about", "what", "found", "do"), rows))
    counts = Counter(finding.level for finding in found)
    summary = ", ".join(f"{counts[level]} {level.name.lower()}" for level in sorted(Level, reverse=True))
    # "Well" is said where there is nothing to look at: who reads only the last line is not told more than is true.
    worst = max((level for level in (Level.FAIL, Level.WARN) if counts[level]), default=Level.OK)
    out.print(Text(f"{words[worst]}: {summary}"))


def _data(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level.name.lower(),
        "about": finding.about,
        "check": finding.check,
        "detail": finding.detail,
        "action": finding.action,
        "facts": dict(finding.facts),
    }
