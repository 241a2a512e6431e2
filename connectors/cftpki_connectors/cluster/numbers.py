"""
Numbers that the server is given, and those that it gives, which may be anything.
"""

from __future__ import annotations

_WEEK_S = 7 * 24 * 3600


def keep_ms_of(keep_s: int) -> int:
    """
    For how long a key is kept, in milliseconds: a week at most.
    """
    return max(1, min(keep_s, _WEEK_S)) * 1000


def position_of(octets: object) -> str | None:
    """
    The position of an entry of a stream; `None` for anything else.
    """
    if not isinstance(octets, bytes) or len(octets) > 41:
        return None
    first, dash, second = octets.partition(b"-")
    if not dash or not (first.isdigit() and second.isdigit()) or max(int(first), int(second)) >= 1 << 64:
        return None
    return octets.decode()
