"""
Ids of verdicts, and of whatever else stands in a ledger.
"""

from __future__ import annotations

import secrets


def new_id(milliseconds: int) -> str:
    """
    A fresh id: 48 bits of time, then 80 random bits, as 32 hexadecimal digits.

    Args:
        milliseconds: since 1970, so that ids sort by time.

    Returns:
        The id. It is no secret and proves nothing.

    """
    return f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}{secrets.token_hex(10)}"
