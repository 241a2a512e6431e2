"""
Large byte strings between processes: memory that is handed over by its descriptor, sealed against change.
"""

from __future__ import annotations

import fcntl
import os

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


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
    number = os.memfd_create("cftpki", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(raw)
        while rest:
            rest = rest[os.write(number, rest) :]
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(number)
        raise
    return number


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
    number = os.memfd_create("cftpki", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(number, size)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError:
        os.close(number)
        raise
    return number
