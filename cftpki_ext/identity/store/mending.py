"""
What lies where a record of ours should and is none: put out of the way, so that the next writer finds its place free.

    DIRECTORY/damaged-NAME-…    what stood in the place of NAME

Owns these names. Nothing is removed: what was damaged may be all that is left of a key.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cftpki_ext.core.errors import StoreError
from cftpki_ext.identity.store.durable import sync_directory

ASIDE = "damaged-"
# Of the largest of them no more is read: what is larger was not written by us.
MAX_BYTES = 2 * 1024 * 1024
_FILES = ("lock", "standing.json", "actions.jsonl", "actions.told")
_FOLDERS = ("generations", "journal")
_LINKS = ("current",)


def misplaced(directory: Path) -> tuple[Path, ...]:
    """
    What stands in the place of a record of an identity and cannot be one.

    Args:
        directory: of the identity.

    Returns:
        Files that are folders, folders that are files, files that this user cannot read and write.

    """
    found = []
    for names, fits in ((_FILES, _is_file), (_FOLDERS, _is_folder), (_LINKS, _is_link)):
        for name in names:
            path = directory / name
            try:
                status = path.lstat()
            except OSError:
                continue
            if not fits(path, status):
                found.append(path)
    return tuple(found)


def set_aside(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """
    Put them out of the way. Under the lock, but for the lock itself.

    Args:
        paths: of `misplaced`.

    Returns:
        What they are called now.

    Raises:
        StoreError: the disk refuses.

    """
    moved = []
    for path in paths:
        aside = path.with_name(f"{ASIDE}{path.name}-{secrets.token_hex(4)}")
        try:
            path.rename(aside)
            sync_directory(path.parent)
        except FileNotFoundError:
            continue  # somebody else did
        except OSError as error:
            msg = f"{path} is none of ours and cannot be put aside: {(error.strerror or str(error)).lower()}"
            raise StoreError(msg) from error
        moved.append(aside)
    return tuple(moved)


def _is_file(path: Path, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        return False
    # Where nothing can be written at all, this one is not the one to blame.
    return os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK)


def _is_folder(_path: Path, status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)


def _is_link(_path: Path, status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode)
