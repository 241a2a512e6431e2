"""
Passwords and keys in files that nobody else may read.

Owns the message; the rules for owner and permission bits are those of `guarded` and `files`.
"""

from __future__ import annotations

from pathlib import Path

from cftpki_ext.core.errors import InputError
from cftpki_ext.support.files import others_may_use, read_regular
from cftpki_ext.support.guarded import trusted_users
from cftpki_ext.support.users import user_text

MAX_PASSWORD_BYTES = 1024
# Keys for DNS updates and external accounts, which are text.
MAX_TEXT_BYTES = 16 * 1024


def secret_bytes(path: Path, what: str, cap: int) -> bytes:
    """
    Read a secret whole. Blocking.

    The folders above it are *not* looked at: that is done when the configuration is read.

    Args:
        path: the file.
        what: the option that names it, for the message.
        cap: the most bytes that are read.

    Returns:
        The content as it is.

    Raises:
        InputError: it cannot be read, is another user's, or others can read it too. The message never holds it.

    """
    content = read_regular(path, cap=cap, what=what)
    if content.owner not in trusted_users():
        msg = f"{what} {path} belongs to {user_text(content.owner)}, not to this user or root"
        raise InputError(msg)
    if others_may_use(content):
        msg = f"{what} {path} can be read by others (mode {content.mode:04o}): chmod 0600"
        raise InputError(msg)
    return content.data


def secret_text(path: Path, what: str) -> str:
    """
    Read a secret as text, without what surrounds it. Blocking.

    Args:
        path: the file.
        what: the option that names it, for the message.

    Returns:
        The text.

    Raises:
        InputError: as `secret_bytes`, or it is not ASCII. The message never holds it.

    """
    try:
        return secret_bytes(path, what, MAX_TEXT_BYTES).decode("ascii").strip()
    except UnicodeDecodeError:
        msg = f"{what}: {path} is not ASCII"
        raise InputError(msg) from None
