"""
The words that every other module uses: directions, phases, where a status came from.

Owns small frozen values without behaviour.
"""

from __future__ import annotations

import enum

from cftpki_ext.core.values import dataclass


class Direction(enum.StrEnum):
    """
    Our host's side of the TLS session, as in a rule: `SERVER` means that the peer's chain is a client's.
    """

    SERVER = "server"
    CLIENT = "client"


class Phase(enum.IntEnum):
    """
    The ten points at which the host calls the exit ("Using PKI exits", phase list), in the order of a session.

    The numbers are those of our reference header `native/include/cftpkie.h` and of the wire.
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


class SourceKind(enum.StrEnum):
    """
    What kind of statement this is: about a certificate's status, or (`DIRECTORY`) about its holder.
    """

    OCSP = "ocsp"
    CRL = "crl"
    REST = "rest"
    DIRECTORY = "directory"


# The kinds that say something of a certificate's status. A directory says whom we do business with.
STATUS_KINDS = frozenset({SourceKind.OCSP, SourceKind.CRL, SourceKind.REST})


class Origin(enum.StrEnum):
    """
    How a statement reached us.

    `CLUSTER`: another node had asked its location and shared the octets. Of when that was, its `received_at` is only what a
    server between us says: it is never believed beyond what the statement itself proves (`decision.grounds.is_young`).
    """

    HANDED_IN = "handed_in"
    STAPLED = "stapled"
    CACHE = "cache"
    NETWORK = "network"
    CLUSTER = "cluster"
    KNOWN_REVOKED = "known_revoked"


class Rules(enum.IntEnum):
    """
    By which rules a question is decided. A stored one is decided again by those of its time.

    `FIRST_GOOD`: the first "good" of any kind was enough, however old within its life. `ALL_HEARD`: the table of
    docs/policies.md says who must have been heard, how fresh.
    """

    FIRST_GOOD = 1
    ALL_HEARD = 2


class Form(enum.StrEnum):
    """
    How a trust set takes what breaks the letter of a standard and leaves one meaning.

    `COMMON`: as OpenSSL and GnuTLS do, it is read, with a note in the evidence. `STRICT`: a certificate is refused for
    it, and good news does not count; bad news always does. `FIRST` is how everything was read before there was a choice:
    records of that time are decided again by it, and no configuration names it.
    """

    COMMON = "common"
    STRICT = "strict"
    FIRST = "first"

    @property
    def of_anchors(self) -> Form:
        """
        How anchors are read: each is a name and a key (RFC 5280 6.1.1 (d)), whatever is odd in its certificate.
        """
        return self if self is Form.FIRST else Form.COMMON


class Leniency(enum.StrEnum):
    """
    What is forgiven for one trust set (`compat`), under any form, each because real corporate CAs did it.
    """

    NEGATIVE_SERIAL = "negative_serial"
    ZERO_SERIAL = "zero_serial"
    LONG_SERIAL = "long_serial"
    SHA1_SIGNATURE = "sha1_signature"
    RSA_1024 = "rsa_1024"
    KEY_USAGE_NOT_MINIMAL = "key_usage_not_minimal"
    NAME_CONSTRAINT_LEADING_DOT = "name_constraint_leading_dot"
    CA_WITHOUT_KEY_USAGE = "ca_without_key_usage"
    CRL_WITHOUT_NEXT_UPDATE = "crl_without_next_update"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    """
    The remote end of a session: textual IP address and port (0 where the host does not say).
    """

    host: str
    port: int


class KeyKind(enum.StrEnum):
    """
    The keys that we make for ourselves.
    """

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    P256 = "p256"
    P384 = "p384"


class Usage(enum.StrEnum):
    """
    What a certificate of ours is for: TLS server, TLS client, or both (a transfer host is usually both).
    """

    SERVER = "server"
    CLIENT = "client"
