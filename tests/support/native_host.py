"""
The exit library called through ctypes with the structure of native/include/cftpkie.h.

Owns the areas and buffers of one host task and its sessions; keeps the documents' order only where a test does.
"""

from __future__ import annotations

import ctypes as c
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cftpki_ext.protocol.codec import Message

ROOT = Path(__file__).parents[2]
DONE, ERROR, NOT_HANDLED = 0, -1, 1
SERVER, CLIENT = 1, 2


class Pkicom(c.Structure):
    """
    struct pkicom, version 1.
    """

    _fields_ = [
        ("uStructSize", c.c_uint32),
        ("uStructVersion", c.c_uint32),
        ("iPhase", c.c_int32),
        ("iMode", c.c_int32),
        ("lTaskRef", c.c_int64),
        ("lTaskRef_w", c.c_int64),
        ("lSessionRef", c.c_int64),
        ("lSessionRef_w", c.c_int64),
        ("pPublicArea_w", c.c_void_p),
        ("pPrivateArea_w", c.c_void_p),
        ("uPrivateAreaSize", c.c_uint32),
        ("uPrivateAreaSize_w", c.c_uint32),
        ("aGlobalArea_w", c.c_uint8 * 64),
        ("acDatafilePassword_w", c.c_char * 132),
        ("acProfile", c.c_char * 36),
        ("usTlsMin_w", c.c_uint16),
        ("usTlsMax_w", c.c_uint16),
        ("ausSuites_w", c.c_uint16 * 64),
        ("uSuiteCount_w", c.c_uint32),
        ("iClientAuth_w", c.c_int32),
        ("acRemoteAddress", c.c_char * 64),
        ("uRemotePort", c.c_uint32),
        ("uLocalPort", c.c_uint32),
        ("pChain", c.c_void_p),
        ("uChainLength", c.c_uint32),
        ("pStaple", c.c_void_p),
        ("uStapleLength", c.c_uint32),
        ("iAlertReason_w", c.c_int32),
        ("pCaList", c.c_void_p),
        ("uCaListLength", c.c_uint32),
        ("pOutput_w", c.c_void_p),
        ("uOutputSize", c.c_uint32),
        ("uOutputLength_w", c.c_uint32),
        ("pCryptInput", c.c_void_p),
        ("uCryptInputLength", c.c_uint32),
        ("uCryptScheme", c.c_uint32),
        ("iCryptResult_w", c.c_int32),
        ("iAlertCode", c.c_int32),
        ("iAlertSide", c.c_int32),
        ("usTlsNegotiated", c.c_uint16),
        ("usSuiteNegotiated", c.c_uint16),
    ]


def build_native(folder: Path, *options: str, targets: tuple[str, ...] = (), cc: str | None = None) -> Path:
    """
    Configure and build native/ in a folder of its own.

    Returns:
        The folder.

    """
    beside = Path(sys.executable).parent
    path = f"{beside}:{os.environ['PATH']}"
    cmake = shutil.which("cmake", path=path)
    assert cmake is not None, "cmake is part of what `make setup` installs"
    environment = {**os.environ, "PATH": path, **({"CC": cc} if cc else {})}
    for command in (
        [cmake, "-S", ROOT / "native", "-B", folder, "-G", "Ninja", *options],
        [cmake, "--build", folder, *(("--target", *targets) if targets else ())],
    ):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
    return folder


class Task:
    """
    One SSL task of a host.
    """

    def __init__(self, library: c.CDLL) -> None:
        self.function = library.cftpkie
        self.public = (c.c_uint8 * 4096)()
        self.pki = self.fresh()

    def fresh(self) -> Pkicom:
        """
        The structure as the host fills it for any call of the task.
        """
        pki = Pkicom(uStructSize=c.sizeof(Pkicom), uStructVersion=1, lTaskRef=77)
        pki.pPublicArea_w = c.addressof(self.public)
        return pki

    def call(self, pki: Pkicom, phase: Message) -> int:
        """
        One call of the exit.
        """
        pki.iPhase = int(phase)
        result: int = self.function(c.byref(pki))
        return result

    def start(self) -> int:
        """
        StartTask.
        """
        return self.call(self.pki, Message.START_TASK)

    def end(self) -> int:
        """
        EndTask.
        """
        return self.call(self.pki, Message.END_TASK)


class Session:
    """
    One TLS session of a task.
    """

    def __init__(self, task: Task, *, mode: int = SERVER, room: int = 4096) -> None:
        self.task = task
        self.private = (c.c_uint8 * task.pki.uPrivateAreaSize_w)()
        self.output = (c.c_uint8 * max(room, 1))()
        self.pki = task.fresh()
        self.pki.iMode = mode
        self.pki.lSessionRef = 3
        self.pki.lTaskRef_w = task.pki.lTaskRef_w
        self.pki.pPrivateArea_w = c.addressof(self.private)
        self.pki.uPrivateAreaSize = len(self.private)
        self.pki.pOutput_w = c.addressof(self.output)
        self.pki.uOutputSize = room
        self.pki.acProfile = b"SSLPROF"
        self.pki.acRemoteAddress = b"192.0.2.7"
        self.pki.uRemotePort = 40000
        self.pki.uLocalPort = 1762
        self.pki.usTlsMin_w, self.pki.usTlsMax_w = 0x0303, 0x0304
        self.pki.ausSuites_w[0], self.pki.ausSuites_w[1] = 0x1301, 0xC02F
        self.pki.uSuiteCount_w = 2
        self.kept: list[object] = []

    def call(self, phase: Message) -> int:
        """
        One call of the exit for this session.
        """
        return self.task.call(self.pki, phase)

    def start(self) -> int:
        """
        StartHandshake.
        """
        return self.call(Message.START_HANDSHAKE)

    def check(self, chain: bytes) -> int:
        """
        CheckCertificate.
        """
        self.give("pChain", "uChainLength", chain)
        return self.call(Message.CHECK_CERTIFICATE)

    def give(self, pointer: str, length: str, data: bytes) -> None:
        """
        Point a pair of fields to bytes that live as long as the session.
        """
        buffer = c.create_string_buffer(data, max(len(data), 1))
        self.kept.append(buffer)
        setattr(self.pki, pointer, c.addressof(buffer))
        setattr(self.pki, length, len(data))

    @property
    def out(self) -> bytes:
        """
        What the exit has put out.
        """
        return bytes(self.output[: self.pki.uOutputLength_w])

    @property
    def alert(self) -> int:
        """
        `iAlertReason_w` of the last call.
        """
        return int(self.pki.iAlertReason_w)
