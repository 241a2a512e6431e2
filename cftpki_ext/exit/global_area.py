"""
The 64 bytes that the host passes on to its other exits (docs/protocol.md, "HANDSHAKE_DONE").

Owns their layout. Pure.
"""

from __future__ import annotations

import struct
from hashlib import sha256

from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.exit.session import SessionContext

AREA = struct.Struct(">BBHI16s8s16s8s8x")
AREA_VERSION = 1
AREA_ACCEPTED = 1  # the partner's chain was accepted by the service in this session
AREA_PRESENTED = 2  # our certificate came from the service
AREA_CLIENT = 4  # our host is the TLS client


def global_area(session: SessionContext) -> bytes:
    """
    The 64 bytes that the host passes on to its other exits (docs/protocol.md, "Global area").

    Args:
        session: at HandshakeDone.

    Returns:
        The area; parts that this session does not have are zero.

    """
    flags = (
        (AREA_ACCEPTED if session.verdict_id else 0)
        | (AREA_PRESENTED if session.presented else 0)
        | (AREA_CLIENT if session.direction is Direction.CLIENT else 0)
    )
    return AREA.pack(
        AREA_VERSION,
        flags,
        0,
        session.presented.generation & 0xFFFF_FFFF if session.presented else 0,
        _id_bytes(session.verdict_id),
        sha256(session.policy.encode()).digest()[:8] if session.policy is not None else b"",
        session.partner[:16],
        sha256(session.rule.name.encode()).digest()[:8],
    )


def _id_bytes(verdict_id: str | None) -> bytes:
    try:
        return bytes.fromhex(verdict_id or "")[:16]
    except ValueError:
        return b""
