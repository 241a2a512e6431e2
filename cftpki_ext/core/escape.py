"""
Foreign text made fit for a log line, a terminal, evidence: the one escaping.

Whoever shows what a partner, a CA or a file chose comes through here. Pure.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """
    The text with control characters, line ends and what no terminal should see written as escapes.

    Nothing is cut off, and a backslash that stood there stays as it was: what is printable comes back unchanged.

    Args:
        text: anything, also what a stranger chose.

    Returns:
        One line of printable characters.

    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def excerpt(text: str, characters: int) -> str:
    """
    The beginning of a text of any length, printable.

    Args:
        text: anything, also what a stranger chose.
        characters: how many are shown at the most.

    Returns:
        One line of printable characters, ended by "…" where something is left out.

    """
    shown = printable(text[:characters])
    return shown if max(len(text), len(shown)) <= characters else f"{shown[:characters]}…"
