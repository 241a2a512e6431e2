"""
File descriptors: as many as the sessions of the configuration need, or as many sessions as there are descriptors for.

Owns the process's own limit (RLIMIT_NOFILE). Changes no hard limit.
"""

from __future__ import annotations

import resource

# One-shot connections (StartTask, EndSession, STATUS) besides those of sessions.
SPARE_CONNECTIONS = 128
# What is open besides connections of hosts: requests to responders, databases, children, lists.
RESERVED = 512


def connections_that_fit(limit: int, wanted: int) -> int:
    """
    How many connections of hosts may be open at a time.

    Args:
        limit: descriptors of the process; `resource.RLIM_INFINITY` for no limit.
        wanted: connections that the configuration asks for.

    Returns:
        `wanted`, or fewer; at least one.

    """
    if limit == resource.RLIM_INFINITY:
        return wanted
    # A small limit is shared: half of it is worth more than nothing for hosts.
    return max(1, min(wanted, max(limit - RESERVED, limit // 2)))


def raise_limit(wanted: int) -> int:
    """
    Ask for as many descriptors as so many connections need.

    Args:
        wanted: connections that the configuration asks for.

    Returns:
        The limit that holds now.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return soft
    target = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if target > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return soft
