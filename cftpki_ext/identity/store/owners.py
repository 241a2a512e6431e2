"""
Whose the places on the disk are, in words that name the user and what to do.

Owns these words. Looks at owners and modes, changes none.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.support.users import denied_text, user_text, user_word

_OTHERS_MAY_WRITE = 0o022


class DeniedError(StoreError):
    """
    Who runs this may not look: nothing can be said of what lies there.
    """


def owned_by_us(path: Path) -> bool:
    """
    Whether a place is there and is this process's user's.
    """
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def denied(path: Path, error: OSError) -> DeniedError:
    """
    What to say where this user may not look.
    """
    return DeniedError(denied_text(path, error))


def not_ours(path: Path, *, owner: int) -> str | None:
    """
    Why a folder is not fit to be written to by its user alone.

    Who can rename files there can hold a lock of ours, undo a renewal, or have us write elsewhere.

    Args:
        path: a folder.
        owner: whose it should be.

    Returns:
        One line with what to do, `None` where it is fit, or not there.

    Raises:
        OSError: it cannot be looked at.

    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if status.st_uid != owner:
        return (
            f"{path} belongs to {user_text(status.st_uid)}, not to {user_text(owner)}, who works on it: "
            f"chown -R -h {user_word(owner)} {path}"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS_MAY_WRITE:
        return f"{path} can be written by others than {user_text(owner)} (mode {mode:04o}): chmod 0700 {path}"
    return None


def obstacle(state: Path, directory: Path) -> str | None:
    """
    Why the certificates of an identity cannot be renewed where they lie.

    Args:
        state: the state directory. Its owner is the service's user; who runs this counts, unless that is root.
        directory: of the identity.

    Returns:
        One line with what to do; `None` where nothing is in the way, or nothing is there yet.

    Raises:
        DeniedError: this user may not look.

    """
    us = os.geteuid()
    try:
        owner = us if us != 0 else state.stat().st_uid
        for path in (state, directory.parent, directory):
            why = not_ours(path, owner=owner)
            if why is not None:
                return why
        for path in (directory / "generations", directory / "journal"):
            if path.exists() and path.stat().st_uid != owner:
                return not_ours(path, owner=owner)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise denied(state, error) from error
    return None
