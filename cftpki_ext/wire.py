"""
The wire: message table, field types and frame codec of the unix socket (docs/protocol.md).

One table is specification, Python codec and, through `python -m cftpki_ext.wire`, the C header
`native/include/cftpki_wire.h`. Pure: bytes to values and back. Everything is big-endian.

Frame: `magic 'CP' (2) | version u8 | message u8 | sequence u32 | payload length u32 | payload`.
Payload: fields in ascending tag order, each `tag u16 | length u32 | value`, none twice.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cftpki_ext.errors import WireError

MAGIC = b"CP"
VERSION = 1
HEADER = struct.Struct(">2sBBII")
FIELD = struct.Struct(">HI")
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
    One row of the field table: type and greatest length of the value in bytes.
    """

    type: FieldType
    cap: int


FIELDS: Mapping[Tag, Field] = {
    Tag.RESULT: Field(FieldType.U32, 4),
    Tag.ALERT: Field(FieldType.U32, 4),
    Tag.REASON: Field(FieldType.TEXT, 64),
    Tag.VERDICT_ID: Field(FieldType.TEXT, 32),
    Tag.DETAIL: Field(FieldType.TEXT, 1024),
    Tag.SESSION: Field(FieldType.U64, 8),
    Tag.TASK: Field(FieldType.U64, 8),
    Tag.MODE: Field(FieldType.U32, 4),
    Tag.PROFILE: Field(FieldType.TEXT, 64),
    Tag.REMOTE_ADDRESS: Field(FieldType.TEXT, 64),
    Tag.REMOTE_PORT: Field(FieldType.U32, 4),
    Tag.LOCAL_PORT: Field(FieldType.U32, 4),
    Tag.TLS_MIN: Field(FieldType.U32, 4),
    Tag.TLS_MAX: Field(FieldType.U32, 4),
    Tag.SUITES: Field(FieldType.BYTES, 512),  # u16 each
    Tag.CLIENT_AUTH: Field(FieldType.U32, 4),
    Tag.CHAIN: Field(FieldType.BYTES, 128 * 1024),  # u24 total, then u24 length + DER each, leaf first
    Tag.CA_LIST: Field(FieldType.BYTES, 64 * 1024 + 4),  # 01 01, u16 total, then u16 length + DER Name each
    Tag.CRYPT_SCHEME: Field(FieldType.U32, 4),  # 0 = PKCS#1 v1.5 over the input as given, else TLS SignatureScheme
    Tag.CRYPT_INPUT: Field(FieldType.BYTES, 4096),
    Tag.CRYPT_OUTPUT: Field(FieldType.BYTES, 4096),
    Tag.CRYPT_KEY: Field(FieldType.BYTES, 16 * 1024),  # PKCS#8 DER
    Tag.ALERT_SIDE: Field(FieldType.U32, 4),
    Tag.GLOBAL_AREA: Field(FieldType.BYTES, 64),
    Tag.PHASE_MASK: Field(FieldType.U32, 4),  # bit N set: phase N is answered
    Tag.TIMEOUT_MS: Field(FieldType.U32, 4),
    Tag.UNREACHABLE: Field(FieldType.U32, 4),  # a Result: REFUSED or NOT_HANDLED
    Tag.PASSWORD: Field(FieldType.BYTES, 128),
    Tag.STAPLE: Field(FieldType.BYTES, 64 * 1024),  # DER OCSPResponse that came with the chain
    Tag.HOST_TASK: Field(FieldType.U64, 8),
    Tag.HOST_SESSION: Field(FieldType.U64, 8),
    Tag.RULE: Field(FieldType.TEXT, 64),
    Tag.POLICY: Field(FieldType.TEXT, 64),
    Tag.JSON: Field(FieldType.TEXT, 192 * 1024),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """
    One row of the message table. Fields not named here are an error; `?` ones may be absent.
    """

    request: tuple[Tag, ...]
    request_optional: tuple[Tag, ...]
    response: tuple[Tag, ...]  # besides RESULT, when the result is DONE
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


_REFUSAL = (Tag.ALERT, Tag.REASON, Tag.VERDICT_ID, Tag.DETAIL)

MESSAGES: Mapping[Message, Signature] = {
    Message.START_TASK: Signature(
        (Tag.HOST_TASK,),
        (),
        (Tag.TASK, Tag.PHASE_MASK, Tag.TIMEOUT_MS, Tag.UNREACHABLE),
        (Tag.PASSWORD,),
    ),
    Message.START_HANDSHAKE: Signature(
        (Tag.TASK, Tag.MODE, Tag.REMOTE_ADDRESS, Tag.REMOTE_PORT, Tag.LOCAL_PORT, Tag.HOST_TASK, Tag.HOST_SESSION),
        (Tag.PROFILE, Tag.TLS_MIN, Tag.TLS_MAX, Tag.SUITES, Tag.CLIENT_AUTH),
        (Tag.SESSION, Tag.RULE, Tag.PHASE_MASK),
        (Tag.TLS_MIN, Tag.TLS_MAX, Tag.SUITES, Tag.CLIENT_AUTH, *_REFUSAL),
    ),
    Message.GET_CERTIFICATE: Signature((Tag.SESSION,), (Tag.CA_LIST,), (Tag.CHAIN,), _REFUSAL),
    Message.GET_CA_LIST: Signature((Tag.SESSION,), (), (Tag.CA_LIST,), _REFUSAL),
    Message.CHECK_CERTIFICATE: Signature((Tag.SESSION, Tag.CHAIN), (Tag.STAPLE,), (Tag.VERDICT_ID,), _REFUSAL),
    Message.CRYPT_DATA: Signature(
        (Tag.SESSION, Tag.CRYPT_SCHEME, Tag.CRYPT_INPUT),
        (),
        (),
        (Tag.CRYPT_OUTPUT, Tag.CRYPT_KEY, *_REFUSAL),
    ),
    Message.HANDSHAKE_ALERT: Signature((Tag.SESSION, Tag.ALERT, Tag.ALERT_SIDE), (), (), ()),
    Message.HANDSHAKE_DONE: Signature((Tag.SESSION,), (Tag.TLS_MIN, Tag.SUITES), (Tag.GLOBAL_AREA,), _REFUSAL),
    Message.END_SESSION: Signature((Tag.SESSION,), (Tag.TASK,), (), ()),
    Message.END_TASK: Signature((Tag.TASK,), (Tag.HOST_TASK,), (), ()),
    Message.CHECK: Signature(
        (Tag.MODE, Tag.CHAIN),
        (Tag.STAPLE, Tag.PROFILE, Tag.REMOTE_ADDRESS, Tag.REMOTE_PORT, Tag.LOCAL_PORT),
        (Tag.VERDICT_ID, Tag.JSON),
        (*_REFUSAL, Tag.RULE, Tag.POLICY),
    ),
    Message.STATUS: Signature((), (), (Tag.JSON,), ()),
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
