"""
What is known of one TLS session: a frozen value that evolves by `replace()`.

Owns the stages of a session and its context.
"""

from __future__ import annotations

import enum
from hashlib import sha256

from cftpki_ext.core.settings import Rule
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction, PeerAddress


class Stage(enum.Enum):
    """
    Where a session stands. Every stage but `HANDSHAKE` is final.
    """

    HANDSHAKE = "handshake"
    DONE = "done"
    ALERTED = "alerted"
    REFUSED = "refused"  # a verdict refused the partner
    BROKEN = "broken"  # a phase failed or came out of order


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """
    The identity whose chain was given to the host: CryptData signs with this generation's key and no other.
    """

    name: str
    generation: int
    fingerprint: bytes  # SHA-256 of the leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """
    One session. `number` is a secret: 64 random bits, never 0.
    """

    number: int
    task: int
    host_task: int
    host_session: int
    direction: Direction
    peer: PeerAddress
    local_port: int
    profile: str | None
    rule: Rule
    stage: Stage = Stage.HANDSHAKE
    presented: Presented | None = None
    verdict_id: str | None = None
    policy: str | None = None
    partner: bytes = b""  # SHA-256 of the partner's leaf, set with an accepted verdict

    @property
    def reference(self) -> str:
        """
        What logs call the session.
        """
        return session_reference(self.number)


def session_reference(number: int) -> str:
    """
    A name for a session that gives its number away to nobody.

    Args:
        number: of the session.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of the number's 8 bytes.

    """
    return sha256(number.to_bytes(8, "big")).hexdigest()[:12]
