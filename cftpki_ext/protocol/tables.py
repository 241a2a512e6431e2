"""
The wire's tables: messages, fields, their types, caps and ranges (docs/protocol.md).

One table is specification, Python codec (`cftpki_ext.protocol.codec`) and C header (`cftpki_ext.protocol.c_header`).
Pure data.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping

from cftpki_ext.core.values import dataclass

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
    CHAIN_LENGTH = 35
    CHAIN_CERTIFICATES = 36
    STAPLE_LENGTH = 37
    BOARD = 38
    BOARD_ID = 39
    SENDER = 40
    NUMBER = 41
    LOST = 42
    AT_MS = 43
    ENDING = 44
    ENTRY = 45
    GENERATION = 46


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


class Ending(enum.IntEnum):
    """
    The value of `Tag.ENDING`: how the handshake of a session ended that the board answered.
    """

    DONE = 1
    ALERT = 2
    LEFT = 3  # EndSession came before either


# What the two fields hold at most; a chain or staple of more is told by its length.
_CHAIN_BYTES = 128 * 1024
_STAPLE_BYTES = 64 * 1024


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
    Tag.CHAIN: Field(FieldType.BYTES, _CHAIN_BYTES),  # u24 total, then u24 length + DER each, leaf first
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
    Tag.STAPLE: Field(FieldType.BYTES, _STAPLE_BYTES),  # DER OCSPResponse that came with the chain
    Tag.HOST_TASK: Field(FieldType.U64, 8, 0, 2**64 - 1),
    Tag.HOST_SESSION: Field(FieldType.U64, 8, 0, 2**64 - 1),
    Tag.RULE: Field(FieldType.TEXT, 64),
    Tag.POLICY: Field(FieldType.TEXT, 64),
    Tag.JSON: Field(FieldType.TEXT, 192 * 1024),
    # Of the whole chain, where CHAIN has only its beginning; its certificates, where its lengths tell.
    Tag.CHAIN_LENGTH: Field(FieldType.U32, 4, _CHAIN_BYTES + 1),
    Tag.CHAIN_CERTIFICATES: Field(FieldType.U32, 4),
    Tag.STAPLE_LENGTH: Field(FieldType.U32, 4, _STAPLE_BYTES + 1),  # of a staple that is not sent
    Tag.BOARD: Field(FieldType.U32, 4, 1),  # a format of the verdict board
    Tag.BOARD_ID: Field(FieldType.BYTES, 16),
    Tag.SENDER: Field(FieldType.U64, 8, 0, 2**64 - 1),
    Tag.NUMBER: Field(FieldType.U64, 8, 1, 2**64 - 1),
    Tag.LOST: Field(FieldType.U64, 8, 0, 2**64 - 1),
    Tag.AT_MS: Field(FieldType.U64, 8, 0, 2**64 - 1),  # milliseconds since 1970
    Tag.ENDING: Field(FieldType.U32, 4, 1, 3),
    Tag.ENTRY: Field(FieldType.U64, 8, 1, 2**64 - 1),
    Tag.GENERATION: Field(FieldType.U32, 4),
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
    SESSION_TOLD = 18  # a datagram: a session that the verdict board answered
    UNREADABLE = 127  # never a request; its response (255) answers what could not be read


_WITHHELD = (Tag.CHAIN_LENGTH, Tag.CHAIN_CERTIFICATES, Tag.STAPLE_LENGTH)

MESSAGES: Mapping[Message, Signature] = {
    Message.START_TASK: Signature(
        (Tag.HOST_TASK,),
        (Tag.BOARD,),
        (Tag.TASK, Tag.PHASE_MASK, Tag.TIMEOUT_MS, Tag.UNREACHABLE),
        (Tag.PASSWORD, Tag.BOARD),
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
        (Tag.SESSION, Tag.CHAIN), (Tag.STAPLE, *_WITHHELD), (Tag.VERDICT_ID,), (Tag.DETAIL,)
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
        (Tag.STAPLE, Tag.PROFILE, Tag.REMOTE_ADDRESS, Tag.REMOTE_PORT, Tag.LOCAL_PORT, *_WITHHELD),
        (Tag.VERDICT_ID, Tag.JSON),
        (Tag.DETAIL, Tag.RULE, Tag.POLICY),
    ),
    Message.STATUS: Signature((), (), (Tag.JSON,), ()),
    Message.SESSION_TOLD: Signature(
        (
            Tag.SESSION,
            Tag.MODE,
            Tag.REMOTE_ADDRESS,
            Tag.REMOTE_PORT,
            Tag.LOCAL_PORT,
            Tag.HOST_TASK,
            Tag.HOST_SESSION,
            Tag.RULE,
            Tag.BOARD_ID,
            Tag.SENDER,
            Tag.NUMBER,
            Tag.LOST,
            Tag.AT_MS,
            Tag.ENDING,
        ),
        (
            Tag.RESULT,
            Tag.ALERT,
            Tag.VERDICT_ID,
            Tag.TASK,
            Tag.PROFILE,
            Tag.TLS_MIN,
            Tag.SUITES,
            Tag.ALERT_SIDE,
            Tag.ENTRY,
            Tag.GENERATION,
        ),
        (),
        (),
    ),
    Message.UNREADABLE: Signature((), (), (), ()),
}

# Required and optional fields of a response whose result is not DONE, the same for every message.
RESULTS: Mapping[Result, tuple[tuple[Tag, ...], tuple[Tag, ...]]] = {
    Result.REFUSED: ((Tag.ALERT, Tag.REASON, Tag.DETAIL), (Tag.VERDICT_ID, Tag.RULE, Tag.POLICY, Tag.JSON)),
    Result.NOT_HANDLED: ((), (Tag.DETAIL, Tag.RULE)),
    Result.FAILED: ((Tag.ALERT, Tag.DETAIL), (Tag.REASON, Tag.VERDICT_ID)),
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
