"""
What operators did by command: who, when, what, and what came of it. Survives, and is told by the service once.

    DIRECTORY/actions.jsonl    one line before an action and one after it; the oldest go when it is full
    DIRECTORY/actions.told     the number of the last line that a service has told

Owns these files. Writers of lines hold the identity's lock; the service alone writes what it has told.
"""

from __future__ import annotations

import contextlib
import enum
import os
import pwd
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.identity.store.durable import FILE_MODE, make_directory, replace_file, sync_directory
from cftpki_ext.support.files import read_regular

# Some 3,000 lines. A line that an operator's words made too long is cut at its details.
MAX_BYTES = 1024 * 1024
MAX_DETAIL = 500
MAX_NAME = 64
_FILE, _TOLD = "actions.jsonl", "actions.told"


class Actor(BaseModel):
    """
    Who runs a command. `sudo_user` is what sudo says of who called it, and no proof.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    uid: int
    user: str
    sudo_user: str | None = None


class Step(enum.StrEnum):
    """
    Which of an action's two lines this is. One that was begun and has no second line was cut off.
    """

    BEGUN = "begun"
    ENDED = "ended"


class ActionLine(BaseModel):
    """
    One line.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    seq: int
    action: str
    step: Step
    at: datetime
    command: str
    by: Actor
    detail: str
    failed: bool = False


class Actions:
    """
    The actions on one identity. Blocking: reads and synchronous writes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / _FILE

    def begin(self, command: str, by: Actor, *, at: datetime, detail: str) -> ActionLine:
        """
        Write that something is about to be done. Under the lock.

        Args:
            command: as the operator calls it.
            by: who.
            at: now.
            detail: what exactly.

        Returns:
            The line, on the disk.

        Raises:
            StoreError: the disk refuses: then it must not be done.

        """
        line = ActionLine(
            seq=0, action=secrets.token_hex(6), step=Step.BEGUN, at=at, command=command, by=by, detail=detail
        )
        return self._append(line)

    def end(self, begun: ActionLine, *, at: datetime, detail: str, failed: bool) -> ActionLine:
        """
        Write what came of it. Under the lock.

        Args:
            begun: the line before.
            at: now.
            detail: for the auditor.
            failed: whether it did not come about.

        Returns:
            The line, on the disk.

        Raises:
            StoreError: the disk refuses.

        """
        changed = {"step": Step.ENDED, "at": at, "detail": detail, "failed": failed}
        return self._append(begun.model_copy(update=changed))

    def lines(self) -> tuple[ActionLine, ...]:
        """
        What is known, oldest first. A line that a kill or a crash has torn is left out.

        Raises:
            StoreError: they cannot be read.

        """
        found = []
        for raw in self._raw().split(b"\n"):
            with contextlib.suppress(ValidationError):
                found.append(ActionLine.model_validate_json(raw))
        return tuple(found)

    def mark(self) -> object:
        """
        Something that changes when a line is added. One system call.
        """
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def untold(self) -> tuple[ActionLine, ...]:
        """
        The lines that no service has told yet.

        Raises:
            StoreError: they cannot be read.

        """
        told = self._told()
        return tuple(line for line in self.lines() if line.seq > told)

    def tell(self, line: ActionLine) -> None:
        """
        Remember that a line was told. Who is killed between telling and this tells it again.

        Raises:
            StoreError: the disk refuses.

        """
        replace_file(self._directory / _TOLD, f"{line.seq}\n".encode())

    def _append(self, line: ActionLine) -> ActionLine:
        make_directory(self._directory)
        known = self.lines()
        last = max((one.seq for one in known), default=0)
        # Where the file was lost, numbers go on after what was told.
        line = line.model_copy(
            update={"seq": max(last, self._told()) + 1, "detail": printable(line.detail)[:MAX_DETAIL]}
        )
        data = _encode((line,))
        if len(self._raw()) + len(data) > MAX_BYTES:
            replace_file(self._path, _encode((*known[len(known) // 2 :], line)))
            return line
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, FILE_MODE)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    data = b"\n" + data  # the line before is torn: it stays by itself
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not size:
                sync_directory(self._directory)
        except OSError as error:
            msg = f"{self._path}: {(error.strerror or str(error)).lower()}"
            raise StoreError(msg) from error
        return line

    def _raw(self) -> bytes:
        try:
            return read_regular(self._path, cap=2 * MAX_BYTES, what="actions").data
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return b""
            raise StoreError(str(error)) from error

    def _told(self) -> int:
        try:
            return int(read_regular(self._directory / _TOLD, cap=64, what="actions told").data)
        except (InputError, ValueError):
            return 0


def this_actor() -> Actor:
    """
    Who runs this process.
    """
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""
    sudo_user = os.environ.get("SUDO_USER")
    return Actor(uid=uid, user=user, sudo_user=None if not sudo_user else printable(sudo_user)[:MAX_NAME])


def action_data(line: ActionLine) -> dict[str, Any]:
    """
    One line, for JSON and for the log.
    """
    return {
        "action": line.action,
        "step": line.step.value,
        "at": line.at.isoformat(timespec="seconds"),
        "command": line.command,
        **line.by.model_dump(),
        "detail": line.detail,
        "failed": line.failed,
    }


def _encode(lines: Sequence[ActionLine]) -> bytes:
    return b"".join(line.model_dump_json().encode() + b"\n" for line in lines)
