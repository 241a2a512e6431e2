"""
The wire: the frame codec of the unix socket (docs/protocol.md), over the tables of `cftpki_ext.protocol.tables`.

Pure: bytes to values and back. Everything is big-endian. The tables' names are given out from here too, so that users
of the wire import one module. `python -m cftpki_ext.protocol.codec` prints the C header
`native/include/cftpki_wire.h`, with `--markdown` the tables of the document.

Frame: `magic 'CP' (2) | version u8 | message u8 | sequence u32 | payload length u32 | payload`.
Payload: fields in ascending tag order, each `tag u16 | length u32 | value`, none twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
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
    message = _MESSAGES.get(number & ~RESPONSE_BIT)
    if message is None:
        msg = f"unknown message {number}"
        raise WireError(msg)
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
    offset, last, size = 0, 0, len(payload)
    while offset < size:
        if size - offset < FIELD.size:
            msg = "payload ends inside a field's head"
            raise WireError(msg)
        number, length = FIELD.unpack_from(payload, offset)
        offset += FIELD.size
        if number <= last:
            msg = f"tag {number} after tag {last}"
            raise WireError(msg)
        last = number
        tag = _TAGS.get(number)
        if tag is None:
            msg = f"unknown tag {number}"
            raise WireError(msg)
        field = FIELDS[tag]
        if length > field.cap:
            msg = f"{tag.name} of {length} bytes, {field.cap} allowed"
            raise WireError(msg)
        end = offset + length
        if end > size:
            msg = f"payload ends inside {tag.name}"
            raise WireError(msg)
        fields[tag] = _decode_value(tag, field, payload[offset:end])
        offset = end
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
    parts: list[bytes] = []
    for tag in sorted(frame.fields):
        field = FIELDS[tag]
        raw = _encode_value(tag, field, frame.fields[tag])
        length = len(raw)
        if length > field.cap:
            msg = f"{tag.name} of {length} bytes, {field.cap} allowed"
            raise WireError(msg)
        parts += (FIELD.pack(tag, length), raw)
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
    if text.isascii() and len(text) <= FIELDS[tag].cap and "\0" not in text:
        return text  # most are
    raw = text.replace("\0", "\ufffd").encode("utf-8", "replace")[: FIELDS[tag].cap]
    return raw.decode("utf-8", "ignore")


def _decode_value(tag: Tag, field: Field, raw: bytes) -> Value:
    match field.type:
        case FieldType.BYTES:
            return raw
        case FieldType.U32 | FieldType.U64:
            if len(raw) != field.cap:
                msg = f"{tag.name} of {len(raw)} bytes, {field.cap} expected"
                raise WireError(msg)
            number = int.from_bytes(raw, "big")
            if not field.least <= number <= field.most:
                raise WireError(_out_of_range(tag, field, number))
            return number
        case FieldType.TEXT:
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                msg = f"{tag.name} is not UTF-8"
                raise WireError(msg) from error
            if "\0" in text:
                msg = f"{tag.name} contains a NUL"
                raise WireError(msg)
            return text
        case _ as never:
            assert_never(never)


def _encode_value(tag: Tag, field: Field, value: Value) -> bytes:
    match field.type:
        case FieldType.BYTES:
            if isinstance(value, bytes):
                return value
        case FieldType.U32 | FieldType.U64:
            if isinstance(value, int):
                if not field.least <= value <= field.most:
                    raise WireError(_out_of_range(tag, field, value))
                return (U32 if field.type is FieldType.U32 else U64).pack(value)
        case FieldType.TEXT:
            if isinstance(value, str):
                if "\0" in value:
                    msg = f"{tag.name} contains a NUL"
                    raise WireError(msg)
                try:
                    return value.encode("utf-8")
                except UnicodeEncodeError as error:
                    msg = f"{tag.name} is not UTF-8"
                    raise WireError(msg) from error
        case _ as never:
            assert_never(never)
    msg = f"{tag.name} is {type(value).__name__}, {field.type.value} expected"
    raise WireError(msg)


def _out_of_range(tag: Tag, field: Field, number: int) -> str:
    return f"{tag.name} is {number}, {field.least} to {field.most} allowed"


def _check_presence(message: Message, fields: Mapping[Tag, Value], *, response: bool) -> None:
    result = None
    if response:
        number = fields.get(Tag.RESULT)
        result = _RESULTS.get(number) if isinstance(number, int) else None
        if result is None:
            msg = f"{message.name} response without RESULT"
            raise WireError(msg)
        if message is Message.UNREADABLE and result is not Result.FAILED:
            msg = f"UNREADABLE response with {result.name}"
            raise WireError(msg)
    required, allowed = _EXPECTED[message, result]
    there = fields.keys()
    if required <= there <= allowed:
        return
    missing = [tag.name for tag in sorted(required) if tag not in fields]
    if missing:
        msg = f"{message.name} without {', '.join(missing)}"
        raise WireError(msg)
    extra = [tag.name for tag in fields if tag not in allowed]
    msg = f"{message.name} does not take {', '.join(extra)}"
    raise WireError(msg)


def _expected() -> Iterator[tuple[tuple[Message, Result | None], tuple[frozenset[Tag], frozenset[Tag]]]]:
    """
    The fields that a request, or a response with a result, must have, and those that it may have.
    """
    for message, signature in MESSAGES.items():
        asked = frozenset(signature.request)
        yield (message, None), (asked, asked.union(signature.request_optional))
        for result in Result:
            told, more = RESULTS.get(result, (signature.response, signature.response_optional))
            required = frozenset((Tag.RESULT, *told))
            yield (message, result), (required, required.union(more))


# By number: an enumeration that is called is two calls of functions, and the tables are asked for each field.
_MESSAGES: Mapping[int, Message] = {int(one): one for one in Message}
_TAGS: Mapping[int, Tag] = {int(one): one for one in Tag}
_RESULTS: Mapping[int, Result] = {int(one): one for one in Result}
_EXPECTED = MappingProxyType(dict(_expected()))


if __name__ == "__main__":
    import sys

    from cftpki_ext.protocol.c_header import c_header, markdown_tables

    sys.stdout.write(markdown_tables() if sys.argv[1:] == ["--markdown"] else c_header())
