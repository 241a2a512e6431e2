"""
Durations, sizes and directory servers as people write them: "24h", "64MiB", "ldap://dc1.corp.example". Pure.
"""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlsplit

_DURATION = re.compile(r"(?P<count>[0-9]{1,13})(?P<unit>ms|s|m|h|d)")
_SIZE = re.compile(r"(?P<count>[0-9]{1,15}) ?(?P<unit>B|KiB|MiB|GiB)")
_LDAP_SERVER = re.compile(r"ldaps?://[^/?#@]+/?", re.IGNORECASE)
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
# Longer than any certificate lives, and far from what a date can overflow by.
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """
    Read a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`; several may follow each other ("1h30m").

    Args:
        text: at most a hundred years.

    Returns:
        The duration.

    Raises:
        ValueError: anything else.

    """
    found = list(_DURATION.finditer(text))
    if not found or "".join(m.group() for m in found) != text:
        msg = f'{text!r} is no duration: write a number and ms, s, m, h or d, e.g. "30s" or "24h"'
        raise ValueError(msg)
    total = sum(int(m["count"]) * _MILLISECONDS[m["unit"]] for m in found)
    if total > _LONGEST // timedelta(milliseconds=1):
        msg = f"{text!r} is longer than a hundred years"
        raise ValueError(msg)
    return timedelta(milliseconds=total)


def parse_size(text: str) -> int:
    """
    Read a size: a whole number and one of `B`, `KiB`, `MiB`, `GiB`.

    Args:
        text: e.g. "64MiB".

    Returns:
        The bytes.

    Raises:
        ValueError: anything else.

    """
    match = _SIZE.fullmatch(text)
    if match is None:
        msg = f'{text!r} is no size: write a number and B, KiB, MiB or GiB, e.g. "64MiB"'
        raise ValueError(msg)
    return int(match["count"]) * _BYTES[match["unit"]]


def format_duration(duration: timedelta) -> str:
    """
    Write a duration in the largest unit that keeps it whole, so that `parse_duration` gives it back.

    Args:
        duration: not negative; below a millisecond is left out.

    Returns:
        E.g. "24h".

    """
    milliseconds = duration // timedelta(milliseconds=1)
    for unit, size in _MILLISECONDS.items():
        # A day is written as "24h" up to the second day: that is how people say it.
        enough = 2 * size if unit == "d" else size
        if milliseconds >= enough and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def format_size(count: int) -> str:
    """
    Write a size in the largest unit that keeps it whole, so that `parse_size` gives it back.

    Args:
        count: bytes, not negative.

    Returns:
        E.g. "64MiB".

    """
    for unit, size in _BYTES.items():
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}B"


def is_ldap_server(server: str) -> bool:
    """
    Whether this is the address of a directory server and nothing more.
    """
    try:
        parts = urlsplit(server)
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return sound and server.isascii() and server.isprintable() and _LDAP_SERVER.fullmatch(server) is not None
