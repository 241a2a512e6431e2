"""
Files that are there after a power cut, or not at all: written, synchronised, and renamed into place.

Owns the order of write, fsync and rename; every record of an identity goes through it. Knows no formats.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cftpki_ext.core.errors import StoreError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
# The beginning of names that no reader looks at: what a killed writer left behind.
PARTIAL = ".new-"


def make_directory(path: Path) -> None:
    """
    Make a directory (0700) and those above it, and make their entries durable.

    Args:
        path: may exist already; its mode is then left alone.

    Raises:
        StoreError: the disk refuses.

    """
    missing = []
    place = path
    try:
        while not place.is_dir():
            missing.append(place)
            place = place.parent
        for one in reversed(missing):
            one.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            sync_directory(one.parent)
    except OSError as error:
        raise _refused(path, error) from error


def write_new(path: Path, data: bytes) -> None:
    """
    Write a file that must not exist yet (0600, whatever the umask), and wait until it is on the disk.

    The entry in its directory is *not* made durable: `sync_directory` does that for several at once.

    Args:
        path: the new file.
        data: all of it.

    Raises:
        StoreError: it exists, or the disk refuses.

    """
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE
        )
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refused(path, error) from error


def replace_file(path: Path, data: bytes) -> None:
    """
    Put a file in place of another in one step: readers see the old bytes or the new, and so does a restart.

    Args:
        path: the file.
        data: all of it.

    Raises:
        StoreError: the disk refuses; the old file stays.

    """
    partial = partial_name(path.parent)
    write_new(partial, data)
    try:
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise _refused(path, error) from error


def point(path: Path, target: str) -> None:
    """
    Let a symbolic link point elsewhere, in one rename.

    Args:
        path: the link.
        target: as it is written into the link.

    Raises:
        StoreError: the disk refuses; the link stays as it was.

    """
    partial = partial_name(path.parent)
    try:
        partial.symlink_to(target)
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise _refused(path, error) from error


def sync_directory(path: Path) -> None:
    """
    Make the entries of a directory durable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def partial_name(directory: Path) -> Path:
    """
    A name below `directory` that nobody uses and that counts as left behind.
    """
    return directory / f"{PARTIAL}{secrets.token_hex(8)}"


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {(error.strerror or str(error)).lower()}")
