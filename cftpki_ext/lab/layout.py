"""
The lab's directory: where everything is, and how small files are written so that a kill leaves them whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import MAX_TEXT_BYTES, read_regular


class LabError(CftPkiError):
    """
    The lab cannot do what was asked. The message says what to do.
    """


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The paths below one lab directory.
    """

    directory: Path

    @property
    def configuration(self) -> Path:
        """
        The ready configuration of cftpki.
        """
        return self.directory / "cftpki.toml"

    @property
    def state(self) -> Path:
        """
        What the lab remembers: ports, serials, revocations.
        """
        return self.directory / "lab.json"

    @property
    def pid(self) -> Path:
        """
        The running process: its number and when it started.
        """
        return self.directory / "lab.pid"

    @property
    def log(self) -> Path:
        """
        What the process has to say.
        """
        return self.directory / "lab.log"

    def chain(self, *place: str) -> Path:
        """
        The chain file of a member, e.g. `chain("partners", "good")`.
        """
        return self.directory.joinpath(*place, "chain.pem")

    def key(self, *place: str) -> Path:
        """
        The key file of a member.
        """
        return self.directory.joinpath(*place, "key.pem")


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """
    Keep other calls for the same directory waiting while the context is open; a kill ends it as well.

    Args:
        directory: there already.

    Yields:
        When this call is the only one.

    Raises:
        LabError: the directory cannot be opened.

    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        msg = f"{directory}: {(exc.strerror or str(exc)).lower()}"
        raise LabError(msg) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """
    Replace a file so that a reader sees the old or the new content, whatever happens in between.

    Args:
        path: the file; its directory is made where it is missing.
        data: the content.
        mode: permission bits; the umask does not widen them.

    Raises:
        LabError: the disk refuses.

    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as exc:
        msg = f"cannot write {path}: {exc.strerror}"
        raise LabError(msg) from exc


def read_json(path: Path) -> dict[str, Any]:
    """
    Read one of the lab's own JSON files.

    Args:
        path: the file.

    Returns:
        The object in it.

    Raises:
        LabError: missing, unreadable or not JSON.

    """
    try:
        loaded = json.loads(read_regular(path, cap=MAX_TEXT_BYTES, what="lab").data)
    except (InputError, ValueError) as exc:
        msg = f"{path} cannot be used: {reason_of(exc)}"
        raise LabError(msg) from exc
    if not isinstance(loaded, dict):
        msg = f"{path} cannot be used: not an object"
        raise LabError(msg)
    return loaded
