"""
What a CMP server says, as values (RFC 9810 section 5). No I/O, no octets.
"""

from __future__ import annotations

import enum
from datetime import datetime

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509.signed import AlgorithmIdentifier


class MalformedMessageError(CftPkiError):
    """
    What came is no PKIMessage, or not the one that it says it is.
    """


class Kind(enum.IntEnum):
    """
    The alternatives of PKIBody that this client sends or understands (RFC 9810 5.1.2), by their tags.
    """

    IR = 0
    IP = 1
    CR = 2
    CP = 3
    P10CR = 4
    KUR = 7
    KUP = 8
    RR = 11
    RP = 12
    PKICONF = 19
    GENM = 21
    GENP = 22
    ERROR = 23
    CERTCONF = 24
    POLLREQ = 25
    POLLREP = 26


class Outcome(enum.IntEnum):
    """
    PKIStatus (RFC 9810 5.2.3).
    """

    ACCEPTED = 0
    GRANTED_WITH_MODS = 1
    REJECTION = 2
    WAITING = 3
    REVOCATION_WARNING = 4
    REVOCATION_NOTIFICATION = 5
    KEY_UPDATE_WARNING = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    PKIStatusInfo: what became of a request, in numbers and in the server's words (printable, bounded).
    """

    outcome: Outcome
    texts: tuple[str, ...] = ()
    failures: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """
    PKIHeader, as far as it is looked at. `sender` is the Name of a directoryName (DER), `None` for another form.
    """

    version: int
    sender: bytes | None
    time: datetime | None = None
    algorithm: AlgorithmIdentifier | None = None
    sender_key_id: bytes | None = None
    transaction: bytes | None = None
    sender_nonce: bytes | None = None
    recipient_nonce: bytes | None = None
    texts: tuple[str, ...] = ()
    implicit_confirm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    One PKIMessage. `protected` is what MAC or signature go over (ProtectedPart, DER), `digest` the SHA-256 of all.
    """

    digest: bytes
    header: Header
    tag: int
    body: bytes  # the value inside the alternative's tag, DER
    protected: bytes
    protection: bytes | None
    extra: tuple[bytes, ...] = ()

    @property
    def kind(self) -> Kind | None:
        """
        What it is; `None` for one that nobody asked for.
        """
        try:
            return Kind(self.tag)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertResponse:
    """
    The answer to one request for a certificate. `encrypted` where the certificate came in a form for its owner alone.
    """

    request: int
    status: Status
    certificate: bytes | None = None
    encrypted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CertReply:
    """
    CertRepMessage.
    """

    authorities: tuple[bytes, ...]  # caPubs
    responses: tuple[CertResponse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PollReply:
    """
    One element of PollRepContent. `after_s` is as the server says it, and negative where it says nonsense.
    """

    request: int
    after_s: int
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RootUpdate:
    """
    RootCaKeyUpdateContent: the new root, and what links it with the old one (DER).
    """

    new: bytes
    new_with_old: bytes | None = None
    old_with_new: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """
    One InfoTypeAndValue. The value is DER, `None` where there is none.
    """

    kind: str
    value: bytes | None
