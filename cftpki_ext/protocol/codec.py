"""
The wire: the frame codec of the unix socket (docs/protocol.md), over the tables of `cftpki_ext.protocol.tables`.

Pure: bytes to values and back. Everything is big-endian. The tables' names are given out from here too, so that users
of the wire import one module. `python -m cftpki_ext.protocol.codec` prints the C header
`native/include/cftpki_wire.h`, with `--markdown` the tables of the document.

Frame: `magic 'CP' (2) | version u8 | message u8 | sequence u32 | payload length u32 | payload`.
Payload: fields in ascending tag order, each `tag u16 | length u32 | value`, none twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from cftpki_ext.core.errors import WireError
from cftpki_ext.core.values import dataclass
from cftpki_ext.protocol.tables import (
    FIELD,
    FIELDS,
    HEADER,
    MAGIC,
    MAX_PAYLOAD,
    MESSAGES,
    RESPONSE_BIT,
    RESULTS,
    U32,
    U64,
    VERSION,
    Ending,
    Field,
    FieldType,
    Frame,
    Message,
    Mode,
    Result,
    Signature,
    Tag,
    Value,
)

__all__ = [
    "FIELD",
    "FIELDS",
    "HEADER",
    "MAGIC",
    "MAX_PAYLOAD",
    "MESSAGES",
    "RESPONSE_BIT",
    "RESULTS",
    "U32",
    "U64",
    "VERSION",
    "Ending",
    "Field",
    "FieldType",
    "Frame",
    "Header",
    "Message",
    "Mode",
    "Result",
    "Signature",
    "Tag",
    "Value",
    "WireVersionError",
    "clip",
    "decode",
    "decode_header",
    "decode_payload",
    "encode",
]


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

    from cftpki_ext.protocol.c_header import c_header, markdown_tables

    sys.stdout.write(markdown_tables() if sys.argv[1:] == ["--markdown"] else c_header())
