"""
Passwords and keys in files that nobody else may read.

Owns the rule for the permission bits. May import files and errors.
"""

from __future__ import annotations

import os
from pathlib import Path

from cftpki_ext.errors import InputError
from cftpki_ext.files import read_regular

MAX_PASSWORD_BYTES = 1024
# A file of root's may be read by the service's group, as with Debian's ssl-cert; nobody else's may.
_FORBIDDEN_OF_ROOT = 0o037
_FORBIDDEN = 0o077


def secret_bytes(path: Path, what: str, cap: int) -> bytes:
    """
    Read a secret whole. Blocking.

    Who owns the file is *not* checked.

    Args:
        path: the file.
        what: the option that names it, for the message.
        cap: the most bytes that are read.

    Returns:
        The content as it is.

    Raises:
        InputError: it cannot be read, or others can read it too. The message never holds it.

    """
    content = read_regular(path, cap=cap, what=what)
    forbidden = _FORBIDDEN_OF_ROOT if content.owner == 0 and os.geteuid() != 0 else _FORBIDDEN
    if content.mode & forbidden:
        msg = f"{what} {path} can be read by others (mode {content.mode:04o}): chmod 0600"
        raise InputError(msg)
    return content.data
