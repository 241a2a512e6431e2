"""
A session of the host through libcftpkie.so, begun; and what descriptors this process has.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from cftpki_ext.protocol.codec import Message
from tests.support.native_host import DONE, Session, Task

HANDSHAKE = (
    Message.GET_CA_LIST,
    Message.GET_CERTIFICATE,
    Message.CHECK_CERTIFICATE,
    Message.CRYPT_DATA,
    Message.HANDSHAKE_DONE,
)


# The exit's deadline in tests of silent services, and what a call may take beyond it on a busy machine.
SHORT_MS = 300


SLACK_S = 2.0


def begin(library: ctypes.CDLL, **options: int) -> Session:
    task = Task(library)
    assert task.start() == DONE
    session = Session(task, **options)
    assert session.start() == DONE
    return session


def descriptor_of(session: Session) -> int:
    # `fd` of struct session_record in native/exit/session_area.c.
    return int.from_bytes(bytes(session.private[44:48]), sys.byteorder, signed=True)


def descriptors() -> set[str]:
    # Once the folder is read, its own descriptor is closed and leads nowhere.
    return {entry.name for entry in list(Path("/proc/self/fd").iterdir()) if entry.is_symlink()}
