"""
Modules that libraries import where they happen to be installed, and that nobody here has a use for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(name: str) -> Iterator[None]:
    """
    For the time of an import: a module counts as not installed, unless it is imported already.

    Args:
        name: of the module.

    """
    if name in sys.modules:
        yield
        return
    # What that means: see importlib.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
