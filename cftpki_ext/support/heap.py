"""
Memory that was freed given back to the system.

Owns the call of glibc's allocator: after many pieces of a large body it keeps tens of megabytes that nobody uses.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> bool:
    """
    Give freed memory back (malloc_trim(3)); some milliseconds, for a thread: Python's lock is not held.

    Returns:
        Whether the C library can do so; others do it by themselves, or never.

    """
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True
