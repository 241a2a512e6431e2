"""
Python's cycle collector, kept from looking at what stays for ever.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_dies() -> Iterator[None]:
    """
    For the time of imports: looks for no cycles, and never again at what was made by its end.

    Classes and functions are made by the ten thousand and stay; looking at them costs a fifth of the time and finds nothing
    (docs/adr/0030-start-up.md).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
