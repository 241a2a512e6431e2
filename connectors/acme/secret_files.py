"""
Secrets in files: of ourselves or of root, and of nobody else.

Owns the one way in which this package reads them.
"""

from __future__ import annotations

import os
from pathlib import Path

from cftpki_ext.errors import InputError
from cftpki_ext.files import read_regular

MAX_SECRET_BYTES = 16 * 1024
_OTHERS = 0o077
# Root hands secrets out by group: what is root's may be readable by ours.
_STRANGERS = 0o007


def read_secret(path: Path, what: str) -> str:
    """
    Read a secret as text, without what surrounds it.

    Raises:
        InputError: it cannot be read, others can read it, or it is not ASCII. The message never holds it.

    """
    content = read_regular(path, cap=MAX_SECRET_BYTES, what=what)
    of_root = content.owner == 0 and os.geteuid() != 0
    if content.mode & (_STRANGERS if of_root else _OTHERS):
        msg = f"{what}: {path} can be read by others (mode {content.mode:04o}): chmod 0600"
        raise InputError(msg)
    try:
        return content.data.decode("ascii").strip()
    except UnicodeDecodeError:
        msg = f"{what}: {path} is not ASCII"
        raise InputError(msg) from None
