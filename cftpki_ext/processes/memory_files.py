"""
Large byte strings between processes: memory that is handed over by its descriptor, sealed against change.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

_FIXED_SIZE = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def memory_file(raw: bytes) -> int:
    """
    A descriptor of memory that holds these bytes, which nobody can change any more (memfd_create(2)).

    Args:
        raw: the bytes.

    Returns:
        The descriptor, the caller's to close.

    Raises:
        OSError: the system has no more memory or descriptors.

    """

    def write(number: int) -> None:
        rest = memoryview(raw)
        while rest:
            rest = rest[os.write(number, rest) :]

    return _sealed(write, _FIXED_SIZE | fcntl.F_SEAL_WRITE)


def read_memory_file(number: int) -> bytes:
    """
    What a descriptor of `memory_file` holds.

    Args:
        number: the descriptor; it stays open.

    Returns:
        The bytes.

    Raises:
        OSError: it cannot be read whole.

    """
    size = os.fstat(number).st_size
    content = os.pread(number, size, 0)
    if len(content) != size:
        msg = f"{len(content)} of {size} octets could be read"
        raise OSError(msg)
    return content


def shared_memory(size: int) -> int:
    """
    A descriptor of zeroed memory that several processes may write to and nobody can make smaller or larger.

    Args:
        size: in octets.

    Returns:
        The descriptor, the caller's to close.

    Raises:
        OSError: the system has no more memory or descriptors.

    """
    return _sealed(lambda number: os.ftruncate(number, size), _FIXED_SIZE)


def _sealed(fill: Callable[[int], None], seals: int) -> int:
    number = os.memfd_create("cftpki", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        fill(number)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(number)
        raise
    return number
