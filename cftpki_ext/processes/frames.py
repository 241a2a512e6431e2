"""
The frames between our processes: a small JSON value, byte strings beside it, descriptors beside those.

Owns the layout and its bounds. Pure. Whatever does not fit the layout ends the channel: nothing is guessed.
"""

from __future__ import annotations

import enum
import json
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass

# length of the value, number of parts, number of descriptors, kind, call
_HEAD = struct.Struct("!IHBBQ")
_LENGTH = struct.Struct("!I")
# An evidence document of 4 MiB with a chain, a staple and OCSP answers; what is larger goes by a descriptor.
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_PARTS = 1024
# CRLs of one question: each depth of a path of ten names at most a handful of places. Linux takes 253 at once.
MAX_DESCRIPTORS = 64


# What a child says that has no memory left: it ends after that.
NO_MEMORY = "out of memory"


class FrameError(CftPkiError):
    """
    What came is no frame of ours.
    """


class Kind(enum.IntEnum):
    """
    What a frame is.
    """

    SETUP = 1  # the first frame to a child: what its role is made with
    READY = 2  # the child's answer to SETUP
    CALL = 3
    ANSWER = 4
    FAILURE = 5  # the answer to a call that raised; the value names the error
    NOTE = 6  # what a child tells by itself; nothing answers it


@dataclass(frozen=True, slots=True)
class Message:
    """
    What is said: plain JSON data, byte strings, and open descriptors (which whoever receives them closes).
    """

    value: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[bytes, ...] = ()
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """
    A message with its kind, and the number of the call that it belongs to.
    """

    kind: Kind
    call: int
    message: Message


def encode(frame: Frame) -> list[bytes]:
    """
    The bytes of a frame, in pieces for `sendmsg`; its descriptors go beside the first of them.

    Args:
        frame: what is to be sent.

    Returns:
        The pieces, in order.

    Raises:
        FrameError: it is over a bound.

    """
    message = frame.message
    value = json.dumps(message.value, separators=(",", ":")).encode()
    if len(message.parts) > MAX_PARTS or len(message.descriptors) > MAX_DESCRIPTORS:
        msg = f"frame of {len(message.parts)} parts and {len(message.descriptors)} descriptors"
        raise FrameError(msg)
    total = len(value) + sum(map(len, message.parts))
    if total > MAX_FRAME_BYTES:
        msg = f"frame of {total} bytes is over {MAX_FRAME_BYTES}"
        raise FrameError(msg)
    head = _HEAD.pack(len(value), len(message.parts), len(message.descriptors), frame.kind, frame.call)
    lengths = b"".join(_LENGTH.pack(len(part)) for part in message.parts)
    return [head + lengths + value, *message.parts]


class FrameReader:
    """
    Puts frames together from bytes and descriptors as they come. Holds one frame and what follows it at most.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._descriptors: deque[int] = deque()

    def feed(self, data: bytes | memoryview, descriptors: Sequence[int] = ()) -> None:
        """
        Take what was received.
        """
        self._bytes += data
        self._descriptors.extend(descriptors)

    def next(self) -> Frame | None:
        """
        The next whole frame, or `None` where more must come.

        Raises:
            FrameError: what came is no frame.

        """
        raw = self._bytes
        if len(raw) < _HEAD.size:
            return None
        size, count, descriptors, kind, call = _HEAD.unpack_from(raw)
        if size > MAX_FRAME_BYTES or count > MAX_PARTS or descriptors > MAX_DESCRIPTORS:
            msg = f"frame of {size} bytes, {count} parts, {descriptors} descriptors"
            raise FrameError(msg)
        begin = _HEAD.size + count * _LENGTH.size
        if len(raw) < begin:
            return None
        lengths = [_LENGTH.unpack_from(raw, _HEAD.size + n * _LENGTH.size)[0] for n in range(count)]
        end = begin + size + sum(lengths)
        if end - begin > MAX_FRAME_BYTES:
            msg = f"frame of {end - begin} bytes is over {MAX_FRAME_BYTES}"
            raise FrameError(msg)
        if len(raw) < end:
            return None
        if len(self._descriptors) < descriptors:
            msg = f"{descriptors} descriptors announced, {len(self._descriptors)} came"
            raise FrameError(msg)
        try:
            found = Kind(kind)
            value = json.loads(raw[begin : begin + size])
        except (ValueError, RecursionError) as exc:
            msg = f"frame of kind {kind} with {size} bytes cannot be read"
            raise FrameError(msg) from exc
        if not isinstance(value, dict):
            msg = f"frame whose value is {type(value).__name__}, not an object"
            raise FrameError(msg)
        parts: list[bytes] = []
        at = begin + size
        for length in lengths:
            parts.append(bytes(raw[at : at + length]))
            at += length
        del raw[:end]
        taken = tuple(self._descriptors.popleft() for _ in range(descriptors))
        return Frame(found, call, Message(value, tuple(parts), taken))

    def take_descriptors(self) -> tuple[int, ...]:
        """
        Those that came and belong to no frame that was read, to be closed.
        """
        taken = tuple(self._descriptors)
        self._descriptors.clear()
        return taken
