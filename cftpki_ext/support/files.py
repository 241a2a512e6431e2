"""
Reading files that somebody else named: regular ones only, bounded, never blocking.

Owns the one way in which configuration, command line and lab open a file. Knows no formats.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass

# A configuration of a thousand rules is 100 KB.
MAX_TEXT_BYTES = 1024 * 1024
# A bundle of every anchor of a large company; a chain, a key.
MAX_PEM_BYTES = 16 * 1024 * 1024

# What a command line calls standard input. A file of that name is named with its folder.
STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """
    The bytes of one regular file, with owner and permission bits as they were when it was opened.
    """

    data: bytes
    mode: int
    owner: int


# Of the process or the machine, whatever is read: not one of them says that a file is damaged.
_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
# A service reads root's secrets through its group, as with Debian's ssl-cert: 0640, and nobody else.
_FORBIDDEN_OF_ROOT = 0o037
_FORBIDDEN = 0o077


def others_may_use(content: FileContent) -> bool:
    """
    Whether a file is unfit for a secret, by its permission bits.

    Who owns it is *not* judged, but for root's: that may be readable by its group.

    Args:
        content: as it was read.

    Returns:
        `True` where anybody else may read, write or execute it.

    """
    return bool(content.mode & (_FORBIDDEN_OF_ROOT if content.owner == 0 else _FORBIDDEN))


def is_passing(error: BaseException | None) -> bool:
    """
    Whether a file could not be read for a reason that is not its own, and that may be gone with the next try.

    Args:
        error: of the operating system, or of `read_regular`.

    Returns:
        `True` where the process or the machine had run out of descriptors or memory, or a file system did not answer.

    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return isinstance(error, OSError) and error.errno in _PASSING


def read_regular(path: Path, *, cap: int, what: str) -> FileContent:
    """
    Read a whole regular file.

    A FIFO, a device, a socket or a directory is refused without waiting for it: it is opened non-blocking
    and looked at before the first read. Symbolic links are followed. What the bytes mean is *not* checked.

    Args:
        path: the file.
        cap: the most bytes that are read; a larger file is refused.
        what: a noun for the message, e.g. "trust anchor".

    Returns:
        The content, its owner and permission bits.

    Raises:
        InputError: no such file, not readable, not a regular file, too large. One line.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        msg = f"{what}: {printable(str(path))}: {reason.lower()}"
        raise InputError(msg) from exc
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        # Before any stream is made of it: fdopen() raises for a directory and leaves the descriptor open.
        os.close(descriptor)
        msg = f"{what}: {printable(str(path))} is not a regular file"
        raise InputError(msg)
    with os.fdopen(descriptor, "rb") as stream:
        try:
            data = stream.read(cap + 1)
        except OSError as exc:
            msg = f"{what}: {printable(str(path))}: {(exc.strerror or str(exc)).lower()}"
            raise InputError(msg) from exc
    if data is None:  # what looks regular to stat(2) but would make us wait, as some files below /proc
        msg = f"{what}: {printable(str(path))} cannot be read without waiting"
        raise InputError(msg)
    if len(data) > cap:
        msg = f"{what}: {printable(str(path))} is larger than the {cap} bytes that are read"
        raise InputError(msg)
    return FileContent(data=data, mode=stat.S_IMODE(status.st_mode), owner=status.st_uid)


def read_input(path: Path, *, cap: int, what: str) -> FileContent:
    """
    Read what a command line names: a file as `read_regular` does, or all of standard input, which may be waited for.

    Args:
        path: the file, or `STANDARD_INPUT`.
        cap: the most bytes that are read; more are refused.
        what: a noun for the message.

    Returns:
        The content; standard input is nobody's file, and has no permission bits.

    Raises:
        InputError: see `read_regular`; standard input is closed, or no stream of octets. One line.

    """
    if path != STANDARD_INPUT:
        return read_regular(path, cap=cap, what=what)
    if sys.stdin is None:
        msg = f"{what}: standard input is closed"
        raise InputError(msg)
    try:
        data = sys.stdin.buffer.read(cap + 1)
    except OSError as exc:
        msg = f"{what}: standard input: {(exc.strerror or str(exc)).lower()}"
        raise InputError(msg) from exc
    if len(data) > cap:
        msg = f"{what}: standard input is larger than the {cap} bytes that are read"
        raise InputError(msg)
    return FileContent(data=data, mode=0, owner=os.geteuid())


def shown_name(path: Path) -> str:
    """
    What a person calls something that `read_input` reads, printable.
    """
    return "standard input" if path == STANDARD_INPUT else printable(str(path))
