"""
The signer's own sockets: how they are called, and how much is read from one (docs/protocol.md).

Pure. The C side is `native/client/door.c`; vectors of both are in `tests/unit/protocol/test_door.py`.
"""

from __future__ import annotations

import struct
from pathlib import Path

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.values import dataclass
from cftpki_ext.protocol.codec import decode_header, decode_payload
from cftpki_ext.protocol.tables import (
    FIELD,
    FIELDS,
    HEADER,
    MAGIC,
    RESPONSE_BIT,
    U32,
    VERSION,
    Message,
    Result,
    Tag,
)

# What stands beside the service's socket for hosts is in a folder of this name after the socket's.
FOLDER_SUFFIX = ".d"
_WORD = struct.Struct("<Q")
_MASK = 2**64 - 1
_OFFSET, _PRIME = 0xCBF29CE484222325, 0x100000001B3
# A whole request: SESSION, CRYPT_SCHEME and the longest CRYPT_INPUT.
MAX_REQUEST_BYTES = HEADER.size + sum(
    FIELD.size + FIELDS[tag].cap for tag in (Tag.SESSION, Tag.CRYPT_SCHEME, Tag.CRYPT_INPUT)
)


def leaf_reference(der: bytes) -> int:
    """
    The number that a certificate's signing socket is called by.

    It chooses a socket and proves nothing: what signs there is one key, whoever asks.

    Args:
        der: the leaf certificate that the host presents.

    Returns:
        64 bits, never 0: FNV-1a over little-endian words of 8 bytes (the last one filled up with zeros) and the
        length, each folded.

    """
    value = _OFFSET
    padded = der + bytes(-len(der) % _WORD.size)
    for (word,) in _WORD.iter_unpack(padded):
        value = _fold(value, word)
    return _fold(value, len(der)) or 1


def _fold(value: int, word: int) -> int:
    value = (value ^ word) * _PRIME & _MASK
    return value ^ value >> 32


def folder_beside(socket: Path) -> Path:
    """
    The folder of what hosts use besides the service's socket.
    """
    return socket.with_name(socket.name + FOLDER_SUFFIX)


def door_path(socket: Path, reference: int) -> Path:
    """
    Where the signer of a leaf listens.

    Args:
        socket: the service's.
        reference: of `leaf_reference`.

    """
    return folder_beside(socket) / f"{reference:016x}"


@dataclass(frozen=True, slots=True)
class Request:
    """
    CryptData, as a signer is asked.
    """

    sequence: int
    session: int
    scheme: int
    data: bytes


# CryptData up to its input: there is one order of its fields, and two of them have one size.
_BEGINNING = struct.Struct(">2sBBII HIQ HII HI")
_FIXED_BYTES = _BEGINNING.size - HEADER.size
_SIZES = (FIELDS[Tag.SESSION].cap, FIELDS[Tag.CRYPT_SCHEME].cap)


def request_of(received: bytes) -> Request | None:
    """
    The one request of a connection.

    What the codec would read is read in one step here, which is a quarter of its cost; whatever is not exactly that is
    left to the codec, which says what is wrong with it.

    Args:
        received: what has come so far.

    Returns:
        The request, `None` where more must come.

    Raises:
        WireError: it is something else, too long, or more than one.

    """
    if len(received) >= _BEGINNING.size:
        (magic, version, number, sequence, length,
         tag1, size1, session, tag2, size2, scheme, tag3, size3) = _BEGINNING.unpack_from(received)  # fmt: skip
        if (
            (magic, version, number) == (MAGIC, VERSION, Message.CRYPT_DATA)
            and (tag1, tag2, tag3) == (Tag.SESSION, Tag.CRYPT_SCHEME, Tag.CRYPT_INPUT)
            and (size1, size2) == _SIZES
            and size3 == length - _FIXED_BYTES == len(received) - _BEGINNING.size
            and size3 <= FIELDS[Tag.CRYPT_INPUT].cap
            and session >= FIELDS[Tag.SESSION].least
            and scheme <= FIELDS[Tag.CRYPT_SCHEME].most
        ):
            return Request(sequence, session, scheme, received[_BEGINNING.size :])
    return _request_by_codec(received)


def _request_by_codec(received: bytes) -> Request | None:
    if len(received) < HEADER.size:
        return None
    header = decode_header(received[: HEADER.size])
    if header.response or header.message is not Message.CRYPT_DATA:
        msg = f"{header.message.name} {'response ' * header.response}where CryptData is expected"
        raise WireError(msg)
    end = HEADER.size + header.length
    if end > MAX_REQUEST_BYTES:
        msg = f"payload of {header.length} bytes, {MAX_REQUEST_BYTES - HEADER.size} allowed"
        raise WireError(msg)
    if len(received) < end:
        return None
    if len(received) > end:
        msg = "more than one request"
        raise WireError(msg)
    frame = decode_payload(header, received[HEADER.size :])
    return Request(
        frame.sequence,
        frame.number(Tag.SESSION) or 0,
        frame.number(Tag.CRYPT_SCHEME) or 0,
        frame.raw(Tag.CRYPT_INPUT) or b"",
    )


_DONE = FIELD.pack(Tag.RESULT, U32.size) + U32.pack(Result.DONE)


def crypt_answer(sequence: int, tag: Tag, given: bytes) -> bytes:
    """
    The answer DONE to CryptData, as the codec would write it.

    Args:
        sequence: of the request.
        tag: CRYPT_OUTPUT or CRYPT_KEY.
        given: what it has, within the field's cap.

    """
    payload = _DONE + FIELD.pack(tag, len(given)) + given
    return HEADER.pack(MAGIC, VERSION, Message.CRYPT_DATA | RESPONSE_BIT, sequence, len(payload)) + payload
