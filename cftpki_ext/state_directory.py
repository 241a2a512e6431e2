"""
The state directory: where in it things are, which of them the service writes, and whether it is fit for that.

Opens nothing; `stores` does. Imports names and places from `cache`, no more.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from cftpki_cache.disk import DATABASE as CACHE
from cftpki_cache.ledger_schema import DATABASE
from cftpki_cache.ledger_shares import STRANGERS
from cftpki_cache.lists import list_directory
from cftpki_cache.revocations import DATABASE as PROOFS
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import ServiceSettings
from cftpki_ext.support.users import denied_text, user_text, user_word

LOST_AND_FOUND = "lost+found"
_OTHERS_MAY_WRITE = 0o022
# Whoever could write there could put keys, accounts, kept roots, revocations or records of his own in place.
_FOLDERS = ("identities", "enrollers", "responses", "evidence")


def response_directory(service: ServiceSettings) -> Path:
    """
    Where the cache of raw responses is, below the state directory.
    """
    return service.state / "responses"


def evidence_directory(service: ServiceSettings) -> Path:
    """
    Where the evidence ledger is, below the state directory.
    """
    return service.state / "evidence"


def written_places(state: Path) -> Mapping[Path, str]:
    """
    What the service writes to, and what stands still where it cannot.
    """
    cache = "the cache: no answer is kept, and the service does not start"
    evidence = "the evidence: no verdict is recorded"
    memory = "the memory of revocations: nobody is judged"
    service = ServiceSettings(state=state)
    return {
        state: memory,
        state / PROOFS: memory,
        response_directory(service): cache,
        response_directory(service) / CACHE: cache,
        evidence_directory(service): evidence,
        evidence_directory(service) / DATABASE: evidence,
    }


def unfit_state(state: Path) -> str | None:
    """
    Why a state directory cannot be worked in by this process's user.

    Args:
        state: the directory.

    Returns:
        One line that names the user and what to do; `None` where it is fit, or not there yet.

    """
    us = os.geteuid()
    try:
        status = state.stat()
    except FileNotFoundError:
        return None
    except OSError as exc:
        return f"state directory {denied_text(state, exc)}"
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != us:
        whose = f"state directory {state} belongs to {user_text(status.st_uid)}, this runs as {user_text(us)}"
        if mode & _OTHERS_MAY_WRITE and os.access(state, os.W_OK):
            # A volume that is given to a group, as Kubernetes does.
            return f"{whose}: set service.state to a folder below it, {state / 'cftpki'}, which is made with mode 0700"
        return (
            f"{whose}: run it as {user_text(status.st_uid)}, or, where {user_text(us)} is the service's user, "
            f"as root: chown -R -h {user_word(us)} {state}"
        )
    if mode & _OTHERS_MAY_WRITE:
        # Who may rename what lies here can take revocations, evidence and keys away, and put their own in place.
        return f"state directory {state}: others may write there (mode {mode:04o}): chmod 0700 {state}"
    for name in _FOLDERS:
        why = _unfit_folder(state, state / name, us)
        if why is not None:
            return why
    foreign = next(_foreign(state, us), None)
    if foreign is not None:
        path, uid = foreign
        return (
            f"{path} belongs to {user_text(uid)}, this runs as {user_text(us)}: as root: "
            f"chown -R -h {user_word(us)} {state}"
        )
    return None


def ready_state(state: Path) -> None:
    """
    Make the state directory where it is missing, and see that it is fit.

    Args:
        state: the directory.

    Raises:
        StoreError: it cannot be made or used by this user; one line that says what to do.

    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        us = user_word(os.geteuid())
        msg = (
            f"state directory {state} cannot be made by user {us}: {(exc.strerror or str(exc)).lower()}; as root: "
            f"install -d -m 0700 -o {us} {state}, or set service.state"
        )
        raise StoreError(msg) from exc
    why = unfit_state(state)
    if why is not None:
        raise StoreError(why)


def _unfit_folder(state: Path, folder: Path, us: int) -> str | None:
    """
    Why a folder of the state directory, or what a link there leads to, is not ours alone to write.
    """
    try:
        status = folder.stat()
    except OSError:
        return None  # not there yet, or not to be looked at: who works in it says so
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != us:
        return (
            f"{folder} belongs to {user_text(status.st_uid)}, this runs as {user_text(us)}: as root: "
            f"chown -R -h {user_word(us)} {state}"
        )
    if mode & _OTHERS_MAY_WRITE:
        return f"{folder}: others may write there (mode {mode:04o}): chmod 0700 {folder}"
    return None


def _foreign(state: Path, us: int) -> Iterator[tuple[Path, int]]:
    """
    What another user owns where this one has to write. Identities say so themselves, each by its own.
    """
    for folder in (
        state,
        state / "responses",
        list_directory(state),
        state / "evidence",
        state / "evidence" / STRANGERS,
    ):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                # A file system's own folder is root's, and in nobody's way.
                if entry.name == LOST_AND_FOUND:
                    continue
                uid = entry.stat(follow_symlinks=False).st_uid
                if uid != us:
                    yield Path(entry.path), uid
