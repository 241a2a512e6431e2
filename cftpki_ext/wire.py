"""
The wire: message table, field types and frame codec of the unix socket (docs/protocol.md).

One table is specification, Python codec and, through `python -m cftpki_ext.wire`, the C header
`native/include/cftpki_wire.h`. Pure: bytes to values and back. Everything is big-endian. Imports only errors.

Frame: `magic 'CP' (2) | version u8 | message u8 | sequence u32 | payload length u32 | payload`.
Payload: fields in ascending tag order, each `tag u16 | length u32 | value`, none twice.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from cftpki_ext.errors import WireError

MAGIC = b"CP"
VERSION = 1
HEADER = struct.Struct(">2sBBII")
FIELD = struct.Struct(">HI")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
RESPONSE_BIT = 0x80
# A request carries at most one chain (64 KiB) and a few small fields; the answer at most one chain or key.
MAX_PAYLOAD = 256 * 1024


class FieldType(enum.Enum):
    """
    The four types of a field's value.
    """

    U32 = "u32"
    U64 = "u64"
    TEXT = "text"  # UTF-8, no NUL
    BYTES = "bytes"


class Tag(enum.IntEnum):
    """
    Field tags, the same in every message.
    """

    RESULT = 1
    ALERT = 2
    REASON = 3
    VERDICT_ID = 4
    DETAIL = 5
    SESSION = 6
    TASK = 7
    MODE = 8
    PROFILE = 9
    REMOTE_ADDRESS = 10
    REMOTE_PORT = 11
    LOCAL_PORT = 12
    TLS_MIN = 13
    TLS_MAX = 14
    SUITES = 15
    CLIENT_AUTH = 16
    CHAIN = 17
    CA_LIST = 18
    CRYPT_SCHEME = 19
    CRYPT_INPUT = 20
    CRYPT_OUTPUT = 21
    CRYPT_KEY = 22
    ALERT_SIDE = 23
    GLOBAL_AREA = 24
    PHASE_MASK = 25
    TIMEOUT_MS = 26
    UNREACHABLE = 27
    PASSWORD = 28
    STAPLE = 29
    HOST_TASK = 30
    HOST_SESSION = 31
    RULE = 32
    POLICY = 33
    JSON = 34


class Result(enum.IntEnum):
    """
    The value of `Tag.RESULT`: what the exit returns to the host.
    """

    DONE = 1
    REFUSED = 2
    NOT_HANDLED = 3
    FAILED = 4


class Mode(enum.IntEnum):
    """
    The host's side of the session, and who raised an alert (`Tag.ALERT_SIDE`: LOCAL is the host).
    """

    SERVER = 1
    CLIENT = 2


@dataclass(frozen=True, slots=True)
class Field:
    """
    One row of the field table: type and greatest length of the value in bytes; for numbers also their range.
    """

    type: FieldType
    cap: int
    least: int = 0
    most: int = 0xFFFF_FFFF


FIELDS: Mapping[Tag, Field] = {
    Tag.RESULT: Field(FieldType.U32, 4, 1, 4),
    Tag.ALERT: Field(FieldType.U32, 4, 0, 255),
    Tag.REASON: Field(FieldType.TEXT, 64),
    Tag.VERDICT_ID: Field(FieldType.TEXT, 32),
    Tag.DETAIL: Field(FieldType.TEXT, 1024),
    Tag.SESSION: Field(FieldType.U64, 8, 1, 2**64 - 1),
    Tag.TASK: Field(FieldType.U64, 8, 1, 2**64 - 1),
    Tag.MODE: Field(FieldType.U32, 4, 1, 2),
    Tag.PROFILE: Field(FieldType.TEXT, 64),
    Tag.REMOTE_ADDRESS: Field(FieldType.TEXT, 64),
    Tag.REMOTE_PORT: Field(FieldType.U32, 4, 0, 0xFFFF),
    Tag.LOCAL_PORT: Field(FieldType.U32, 4, 0, 0xFFFF),
    Tag.TLS_MIN: Field(FieldType.U32, 4, 0, 0xFFFF),
    Tag.TLS_MAX: Field(FieldType.U32, 4, 0, 0xFFFF),
    Tag.SUITES: Field(FieldType.BYTES, 512),  # u16 each
    Tag.CLIENT_AUTH: Field(FieldType.U32, 4, 0, 1),
    Tag.CHAIN: Field(FieldType.BYTES, 128 * 1024),  # u24 total, then u24 length + DER each, leaf first
    Tag.CA_LIST: Field(FieldType.BYTES, 64 * 1024 + 4),  # 01 01, u16 total, then u16 length + DER Name each
    Tag.CRYPT_SCHEME: Field(
        FieldType.U32, 4, 0, 0xFFFF
    ),  # 0 = PKCS#1 v1.5 over the input as given, else TLS SignatureScheme
    Tag.CRYPT_INPUT: Field(FieldType.BYTES, 4096),
    Tag.CRYPT_OUTPUT: Field(FieldType.BYTES, 4096),
    Tag.CRYPT_KEY: Field(FieldType.BYTES, 16 * 1024),  # PKCS#8 DER
    Tag.ALERT_SIDE: Field(FieldType.U32, 4, 1, 2),
    Tag.GLOBAL_AREA: Field(FieldType.BYTES, 64),
    Tag.PHASE_MASK: Field(FieldType.U32, 4),  # bit N set: phase N is answered
    Tag.TIMEOUT_MS: Field(FieldType.U32, 4),
    Tag.UNREACHABLE: Field(FieldType.U32, 4, 2, 3),  # a Result: REFUSED or NOT_HANDLED
    Tag.PASSWORD: Field(FieldType.BYTES, 128),
    Tag.STAPLE: Field(FieldType.BYTES, 64 * 1024),  # DER OCSPResponse that came with the chain
    Tag.HOST_TASK: Field(FieldType.U64, 8, 0, 2**64 - 1),
    Tag.HOST_SESSION: Field(FieldType.U64, 8, 0, 2**64 - 1),
    Tag.RULE: Field(FieldType.TEXT, 64),
    Tag.POLICY: Field(FieldType.TEXT, 64),
    Tag.JSON: Field(FieldType.TEXT, 192 * 1024),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """
    One row of the message table. A field that is named in none of its lists is an error.

    The response lists hold when the result is DONE, besides RESULT; `RESULTS` has those of the other results.
    """

    request: tuple[Tag, ...]
    request_optional: tuple[Tag, ...]
    response: tuple[Tag, ...]
    response_optional: tuple[Tag, ...]


class Message(enum.IntEnum):
    """
    Message numbers. 1 to 10 are the phases; the response to N is N | 0x80.
    """

    START_TASK = 1
    START_HANDSHAKE = 2
    GET_CERTIFICATE = 3
    GET_CA_LIST = 4
    CHECK_CERTIFICATE = 5
    CRYPT_DATA = 6
    HANDSHAKE_ALERT = 7
    HANDSHAKE_DONE = 8
    END_SESSION = 9
    END_TASK = 10
    CHECK = 16  # one chain judged outside any session, for programs that are no exit
    STATUS = 17  # the service's own state, as JSON
    UNREADABLE = 127  # never a request; its response (255) answers what could not be read


MESSAGES: Mapping[Message, Signature] = {
    Message.START_TASK: Signature(
        (Tag.HOST_TASK,),
        (),
        (Tag.TASK, Tag.PHASE_MASK, Tag.TIMEOUT_MS, Tag.UNREACHABLE),
        (Tag.PASSWORD,),
    ),
    Message.START_HANDSHAKE: Signature(
        (
            Tag.TASK,
            Tag.MODE,
            Tag.REMOTE_ADDRESS,
            Tag.REMOTE_PORT,
            Tag.LOCAL_PORT,
            Tag.HOST_TASK,
            Tag.HOST_SESSION,
        ),
        (Tag.PROFILE, Tag.TLS_MIN, Tag.TLS_MAX, Tag.SUITES, Tag.CLIENT_AUTH),
        (Tag.SESSION, Tag.RULE, Tag.PHASE_MASK),
        (Tag.TLS_MIN, Tag.TLS_MAX, Tag.SUITES, Tag.CLIENT_AUTH),
    ),
    Message.GET_CERTIFICATE: Signature((Tag.SESSION,), (Tag.CA_LIST,), (Tag.CHAIN,), (Tag.DETAIL,)),
    Message.GET_CA_LIST: Signature((Tag.SESSION,), (), (Tag.CA_LIST,), ()),
    Message.CHECK_CERTIFICATE: Signature(
        (Tag.SESSION, Tag.CHAIN), (Tag.STAPLE,), (Tag.VERDICT_ID,), (Tag.DETAIL,)
    ),
    Message.CRYPT_DATA: Signature(
        (Tag.SESSION, Tag.CRYPT_SCHEME, Tag.CRYPT_INPUT),
        (),
        (),
        (Tag.CRYPT_OUTPUT, Tag.CRYPT_KEY),  # exactly one of them
    ),
    Message.HANDSHAKE_ALERT: Signature((Tag.SESSION, Tag.ALERT, Tag.ALERT_SIDE), (), (), ()),
    Message.HANDSHAKE_DONE: Signature((Tag.SESSION,), (Tag.TLS_MIN, Tag.SUITES), (Tag.GLOBAL_AREA,), ()),
    Message.END_SESSION: Signature((Tag.SESSION,), (Tag.TASK,), (), ()),
    Message.END_TASK: Signature((Tag.TASK,), (Tag.HOST_TASK,), (), ()),
    Message.CHECK: Signature(
        (Tag.MODE, Tag.CHAIN),
        (Tag.STAPLE, Tag.PROFILE, Tag.REMOTE_ADDRESS, Tag.REMOTE_PORT, Tag.LOCAL_PORT),
        (Tag.VERDICT_ID, Tag.JSON),
        (Tag.DETAIL, Tag.RULE, Tag.POLICY),
    ),
    Message.STATUS: Signature((), (), (Tag.JSON,), ()),
    Message.UNREADABLE: Signature((), (), (), ()),
}

# Required and optional fields of a response whose result is not DONE, the same for every message.
RESULTS: Mapping[Result, tuple[tuple[Tag, ...], tuple[Tag, ...]]] = {
    Result.REFUSED: ((Tag.ALERT, Tag.REASON, Tag.DETAIL), (Tag.VERDICT_ID, Tag.RULE, Tag.POLICY, Tag.JSON)),
    Result.NOT_HANDLED: ((), (Tag.DETAIL, Tag.RULE)),
    Result.FAILED: ((Tag.ALERT, Tag.DETAIL), (Tag.REASON,)),
}

Value = int | str | bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """
    One message: number (with the response bit), sequence, and its fields.
    """

    message: Message
    response: bool
    sequence: int
    fields: Mapping[Tag, Value]

    def number(self, tag: Tag) -> int | None:
        """
        The value of a U32 or U64 field, `None` where it is absent.
        """
        value = self.fields.get(tag)
        return value if isinstance(value, int) else None

    def text(self, tag: Tag) -> str | None:
        """
        The value of a TEXT field, `None` where it is absent.
        """
        value = self.fields.get(tag)
        return value if isinstance(value, str) else None

    def raw(self, tag: Tag) -> bytes | None:
        """
        The value of a BYTES field, `None` where it is absent.
        """
        value = self.fields.get(tag)
        return value if isinstance(value, bytes) else None


@dataclass(frozen=True, slots=True)
class Header:
    """
    The first twelve bytes of a frame, checked as far as they can be alone.
    """

    message: Message
    response: bool
    sequence: int
    length: int


class WireVersionError(WireError):
    """
    The peer speaks another version. `sequence` is that of its frame, so that the answer can carry it.
    """

    def __init__(self, version: int, sequence: int) -> None:
        super().__init__(f"frame of version {version}, this side speaks version {VERSION}")
        self.version = version
        self.sequence = sequence


def decode_header(data: bytes) -> Header:
    """
    Read the twelve bytes before a payload.

    Args:
        data: exactly `HEADER.size` bytes.

    Returns:
        The header. That the payload fits the message is `decode_payload`'s business.

    Raises:
        WireVersionError: another version; the rest of the header is not looked at.
        WireError: wrong magic, unknown message, or a payload above `MAX_PAYLOAD`.

    """
    if len(data) != HEADER.size:
        msg = f"header of {len(data)} bytes, {HEADER.size} expected"
        raise WireError(msg)
    magic, version, number, sequence, length = HEADER.unpack(data)
    if magic != MAGIC:
        msg = f"frame does not start with {MAGIC!r}"
        raise WireError(msg)
    if version != VERSION:
        raise WireVersionError(version, sequence)
    try:
        message = Message(number & ~RESPONSE_BIT)
    except ValueError as error:
        msg = f"unknown message {number}"
        raise WireError(msg) from error
    response = bool(number & RESPONSE_BIT)
    if message is Message.UNREADABLE and not response:
        msg = "message 127 is never a request"
        raise WireError(msg)
    if length > MAX_PAYLOAD:
        msg = f"payload of {length} bytes, {MAX_PAYLOAD} allowed"
        raise WireError(msg)
    return Header(message, response, sequence, length)


def decode_payload(header: Header, payload: bytes) -> Frame:
    """
    Read the fields of a frame and hold them against the message table.

    Args:
        header: of `decode_header`.
        payload: exactly `header.length` bytes.

    Returns:
        The frame: every required field is there, no other than the table names, each within its cap and range.

    Raises:
        WireError: anything else.

    """
    if len(payload) != header.length:
        msg = f"payload of {len(payload)} bytes, header says {header.length}"
        raise WireError(msg)
    fields: dict[Tag, Value] = {}
    offset, last = 0, 0
    while offset < len(payload):
        if len(payload) - offset < FIELD.size:
            msg = "payload ends inside a field's head"
            raise WireError(msg)
        number, length = FIELD.unpack_from(payload, offset)
        offset += FIELD.size
        if number <= last:
            msg = f"tag {number} after tag {last}"
            raise WireError(msg)
        last = number
        try:
            tag = Tag(number)
        except ValueError as error:
            msg = f"unknown tag {number}"
            raise WireError(msg) from error
        if length > FIELDS[tag].cap:
            msg = f"{tag.name} of {length} bytes, {FIELDS[tag].cap} allowed"
            raise WireError(msg)
        if length > len(payload) - offset:
            msg = f"payload ends inside {tag.name}"
            raise WireError(msg)
        fields[tag] = _decode_value(tag, payload[offset : offset + length])
        offset += length
    _check_presence(header.message, fields, response=header.response)
    return Frame(header.message, header.response, header.sequence, fields)


def decode(buffer: bytes) -> tuple[Frame, int] | None:
    """
    Read one frame from the start of a buffer that is still being filled.

    Args:
        buffer: what was received so far, any length.

    Returns:
        The frame and how many bytes it took; `None` where more bytes are needed.

    Raises:
        WireError: no continuation of these bytes is a frame of ours.

    """
    if len(buffer) < HEADER.size:
        known = HEADER.pack(MAGIC, VERSION, 0, 0, 0)[:3]
        if buffer[:2] != known[: len(buffer[:2])]:
            msg = f"frame does not start with {MAGIC!r}"
            raise WireError(msg)
        return None
    header = decode_header(bytes(buffer[: HEADER.size]))
    end = HEADER.size + header.length
    if len(buffer) < end:
        return None
    return decode_payload(header, bytes(buffer[HEADER.size : end])), end


def encode(frame: Frame) -> bytes:
    """
    Write one frame.

    Args:
        frame: any order of fields; it is held against the message table as a received one would be.

    Returns:
        Header and payload.

    Raises:
        WireError: a field is missing, not of this message, of the wrong type, above its cap or out of range.

    """
    _check_presence(frame.message, frame.fields, response=frame.response)
    parts = []
    for tag in sorted(frame.fields):
        raw = _encode_value(tag, frame.fields[tag])
        if len(raw) > FIELDS[tag].cap:
            msg = f"{tag.name} of {len(raw)} bytes, {FIELDS[tag].cap} allowed"
            raise WireError(msg)
        parts += [FIELD.pack(tag, len(raw)), raw]
    payload = b"".join(parts)
    if len(payload) > MAX_PAYLOAD:
        msg = f"payload of {len(payload)} bytes, {MAX_PAYLOAD} allowed"
        raise WireError(msg)
    number = frame.message | (RESPONSE_BIT if frame.response else 0)
    return HEADER.pack(MAGIC, VERSION, number, frame.sequence, len(payload)) + payload


def clip(tag: Tag, text: str) -> str:
    """
    Make any text fit a TEXT field: NUL and broken surrogates replaced, cut to the cap at a character's end.

    Args:
        tag: a field of type TEXT.
        text: any text.

    Returns:
        Text that `encode` takes.

    """
    raw = text.replace("\0", "\ufffd").encode("utf-8", "replace")[: FIELDS[tag].cap]
    return raw.decode("utf-8", "ignore")


def _decode_value(tag: Tag, raw: bytes) -> Value:
    field = FIELDS[tag]
    match field.type:
        case FieldType.U32 | FieldType.U64:
            if len(raw) != field.cap:
                msg = f"{tag.name} of {len(raw)} bytes, {field.cap} expected"
                raise WireError(msg)
            number = int.from_bytes(raw, "big")
            _check_range(tag, number)
            return number
        case FieldType.TEXT:
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                msg = f"{tag.name} is not UTF-8"
                raise WireError(msg) from error
            _check_text(tag, text)
            return text
        case FieldType.BYTES:
            return raw
        case _ as never:
            assert_never(never)


def _encode_value(tag: Tag, value: Value) -> bytes:
    field = FIELDS[tag]
    match field.type:
        case FieldType.U32 | FieldType.U64:
            if isinstance(value, int):
                _check_range(tag, value)
                return (U32 if field.type is FieldType.U32 else U64).pack(value)
        case FieldType.TEXT:
            if isinstance(value, str):
                _check_text(tag, value)
                try:
                    return value.encode("utf-8")
                except UnicodeEncodeError as error:
                    msg = f"{tag.name} is not UTF-8"
                    raise WireError(msg) from error
        case FieldType.BYTES:
            if isinstance(value, bytes):
                return value
        case _ as never:
            assert_never(never)
    msg = f"{tag.name} is {type(value).__name__}, {field.type.value} expected"
    raise WireError(msg)


def _check_range(tag: Tag, number: int) -> None:
    field = FIELDS[tag]
    if not field.least <= number <= field.most:
        msg = f"{tag.name} is {number}, {field.least} to {field.most} allowed"
        raise WireError(msg)


def _check_text(tag: Tag, text: str) -> None:
    if "\0" in text:
        msg = f"{tag.name} contains a NUL"
        raise WireError(msg)


def _check_presence(message: Message, fields: Mapping[Tag, Value], *, response: bool) -> None:
    signature = MESSAGES[message]
    if not response:
        required, optional = signature.request, signature.request_optional
    else:
        number = fields.get(Tag.RESULT)
        if not isinstance(number, int) or not 1 <= number <= len(Result):
            msg = f"{message.name} response without RESULT"
            raise WireError(msg)
        result = Result(number)
        if message is Message.UNREADABLE and result is not Result.FAILED:
            msg = f"UNREADABLE response with {result.name}"
            raise WireError(msg)
        required, optional = RESULTS.get(result, (signature.response, signature.response_optional))
        required = (Tag.RESULT, *required)
    missing = [tag.name for tag in required if tag not in fields]
    if missing:
        msg = f"{message.name} without {', '.join(missing)}"
        raise WireError(msg)
    extra = [tag.name for tag in fields if tag not in required and tag not in optional]
    if extra:
        msg = f"{message.name} does not take {', '.join(extra)}"
        raise WireError(msg)


if __name__ == "__main__":
    import sys

    from cftpki_ext.wire_header import c_header, markdown_tables

    sys.stdout.write(markdown_tables() if sys.argv[1:] == ["--markdown"] else c_header())
