"""
Text of others as a label, or in STATUS: escaped, cut, and still told apart from what begins alike.
"""

from __future__ import annotations

from hashlib import sha256

from cftpki_ext.core.escape import printable

_DIGITS = 8


def label(text: str, most: int) -> str:
    """
    A text that a partner or a CA may have chosen, fit to be shown.

    Args:
        text: anything.
        most: how many characters are shown.

    Returns:
        One printable line; of a longer text the beginning, and some digits of its SHA-256.

    """
    shown = printable(text)
    if len(shown) <= most:
        return shown
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{shown[: most - _DIGITS - 1]}…{digest}"
