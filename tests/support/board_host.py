"""
What a host sees of a verdict board, by the library's own reader, and what it tells of its sessions.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import time
from pathlib import Path

from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.protocol.codec import HEADER, Frame, Message, Tag, decode_header, decode_payload, encode
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.service.board.native import find_library, load

_u32, _u64 = ctypes.c_uint32, ctypes.c_uint64


def library():
    """
    The library of this tree's build, with the functions for tests.
    """
    path = find_library()
    assert path is not None, "libcftpki_board.so is not built: make native"
    loaded = load(path)
    pointers = (ctypes.POINTER(_u32), ctypes.POINTER(_u32), ctypes.c_char_p, ctypes.POINTER(_u64))
    loaded.cftpki_board_ask.argtypes = [ctypes.c_int, _u64, ctypes.c_char_p, _u64, *pointers]
    loaded.cftpki_board_match.argtypes = [
        *(ctypes.c_int, _u32, ctypes.c_char_p, _u64, ctypes.c_char_p, _u64, _u32, ctypes.POINTER(_u64)),
    ]
    return loaded


class View:
    """
    A host with a descriptor of a board.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._library = library()

    def rule(self, *, direction=Direction.SERVER, profile="", remote="", port=0) -> int | None:
        """
        The key of the rule that applies; `None`: the service is asked.
        """
        key = _u64()
        code = self._library.cftpki_board_match(
            self.descriptor,
            1 if direction is Direction.SERVER else 2,
            profile.encode() or None,
            len(profile.encode()),
            remote.encode(),
            len(remote.encode()),
            port,
            ctypes.byref(key),
        )
        return key.value if code == 0 else None

    def ask(self, rule_key: int | None, chain) -> tuple[str, int] | None:
        """
        Verdict id and number of the entry for a chain; `None`: the service is asked.
        """
        found = self.look(rule_key, chain)
        return found if isinstance(found, tuple) else None

    def look(self, rule_key: int | None, chain) -> tuple[str, int] | str:
        """
        As `ask`, with the name of the error where nothing is found.
        """
        if rule_key is None:
            return "ENOENT"
        raw = encode_chain(tuple(chain))
        answer, alert, number = _u32(), _u32(), _u64()
        verdict_id = ctypes.create_string_buffer(16)
        code = self._library.cftpki_board_ask(
            *(self.descriptor, rule_key, raw, len(raw)),
            *(ctypes.byref(answer), ctypes.byref(alert), verdict_id, ctypes.byref(number)),
        )
        if code != 0:
            return errno.errorcode[-code]
        assert (1, 0) == (answer.value, alert.value)
        return verdict_id.raw.hex(), number.value

    def close(self) -> None:
        """
        Let go of the descriptor.
        """
        os.close(self.descriptor)


def start_task(path: Path, *, newest=1) -> tuple[Frame, View | None]:
    """
    StartTask of a library that takes a board: the answer, and what came with it.
    """
    fields = {Tag.HOST_TASK: 7} | ({Tag.BOARD: newest} if newest else {})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(
            encode(Frame(message=Message.START_TASK, response=False, sequence=1, fields=fields))
        )
        raw, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4 * 4))
        header = decode_header(raw[: HEADER.size])
        while len(raw) < HEADER.size + header.length:
            raw += connection.recv(65536)
    numbers = array.array("i")
    for level, kind, data in ancillary:
        assert (socket.SOL_SOCKET, socket.SCM_RIGHTS) == (level, kind)
        numbers.frombytes(data)
    assert len(numbers) <= 1
    return decode_payload(header, raw[HEADER.size :]), View(numbers[0]) if numbers else None


def told(board: bytes, **changes) -> bytes:
    """
    A datagram about a session; `changes` are fields by name, `None` leaves one out.
    """
    fields = {
        "SESSION": 77,
        "MODE": 1,
        "REMOTE_ADDRESS": "192.0.2.9",
        "REMOTE_PORT": 40000,
        "LOCAL_PORT": 1762,
        "HOST_TASK": 1,
        "HOST_SESSION": 2,
        "RULE": "in",
        "BOARD_ID": board,
        "SENDER": 9,
        "NUMBER": 1,
        "LOST": 0,
        "AT_MS": int(time.time() * 1000),
        "ENDING": 1,
        **changes,
    }
    given = {Tag[name]: value for name, value in fields.items() if value is not None}
    return encode(
        Frame(message=Message.SESSION_TOLD, response=False, sequence=0, fields=dict(sorted(given.items())))
    )
