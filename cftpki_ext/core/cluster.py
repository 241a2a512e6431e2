"""
What nodes of a cluster share, as values: how the server between them is reached, what it holds, and what nodes tell each other.

Pure data; `core.cluster_octets` has the octets.
"""

from __future__ import annotations

import enum
from dataclasses import field
from datetime import datetime, timedelta
from pathlib import Path

from cftpki_ext.core.blocks import Block
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import SourceKind

# What a CA signs, so that nobody need believe whoever brings it.
SIGNED = frozenset({SourceKind.OCSP, SourceKind.CRL})
# What is longer is a list in parts, and never one value: no reply that is longer is read.
MAX_VALUE_OCTETS = 1024 * 1024
# What stands before the octets of an answer, and some room.
MAX_HEAD_OCTETS = 1024
# A list in parts: each of so many octets, but the last.
PART_OCTETS = 512 * 1024
# One announcement: a chain as it comes in a handshake, and a proof.
MAX_ANNOUNCED_OCTETS = 256 * 1024
# What a node says of itself.
MAX_ROW_OCTETS = 1024
# Announcements that the stream holds; who was cut off for longer asks the CAs again, as a node by itself does.
STREAM_ENTRIES = 1024
# How long a node that asks a location is waited for without a sign of life.
LEASE_S = 5.0


class Layout(enum.StrEnum):
    """
    What stands at the addresses of `[cluster] url`.
    """

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    A host and its port.
    """

    host: str
    port: int

    @property
    def text(self) -> str:
        """
        As in a URL.
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """
    `[cluster]`: the server that nodes share. Secrets are named by their files, never held.

    `service` is what Sentinels call the group. By default the system's trust store says who the server is; with `roots`
    (DER) only they do. `name` tells clusters apart that share a server; nodes of one name share all.
    """

    layout: Layout = Layout.SERVER
    addresses: tuple[Address, ...] = ()
    tls: bool = True
    user: str | None = None
    password_file: Path | None = None
    service: str | None = None
    sentinel_user: str | None = None
    sentinel_password_file: Path | None = None
    database: int = 0
    name: str = "cftpki"
    node: str | None = None  # by default the host's name
    secret_file: Path | None = None
    roots: tuple[bytes, ...] = ()
    client_certificate: Path | None = None  # PEM, leaf first; with the key, where `client_key` is none
    client_key: Path | None = None
    client_password_file: Path | None = None
    # One call of the server; whoever does not answer in time is left alone until it answers again. A server in the same
    # building answers in a millisecond; our own process may be busy for some dozens of them.
    patience: timedelta = timedelta(milliseconds=250)
    # What all nodes together put there; each has an equal share.
    max_bytes: int = 256 * 1024 * 1024

    @property
    def where(self) -> str:
        """
        The server for a person, without user and password.
        """
        scheme = ("rediss" if self.tls else "redis") + (
            "" if self.layout is Layout.SERVER else f"+{self.layout.value}"
        )
        path = f"/{self.service}" if self.service is not None else ""
        return f"{scheme}://{','.join(one.text for one in self.addresses)}{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedAnswer:
    """
    What a location answered another node, unverified. `received_at` is when, where somebody who may vouches for it.

    `raw` of a large list says where its parts are.
    """

    raw: bytes | LargeOctets | Parts
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """
    A large list that the server has in parts: its SHA-256 (hex), and how many octets it has.
    """

    digest: str
    size: int

    @property
    def count(self) -> int:
        """
        How many parts it has.
        """
        return -(-self.size // PART_OCTETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    The right to ask a location for all nodes, for `LEASE_S` at a time. `token` grows with each lease of the location.
    """

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLease:
    """
    Who asked a location without a lease, and how long ago that began: an answer that was asked for by a lease since is the younger one.
    """

    ago_s: float


class Refusal(enum.Enum):
    """
    Why there is no lease.
    """

    HELD = "held"  # another node asks
    UNAVAILABLE = "unavailable"  # nobody knows: whoever needs the location asks it


class Told(enum.StrEnum):
    """
    What an announcement says.
    """

    REVOKED = "revoked"
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    FLUSHED = "flushed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedNews:
    """
    A statement that proves a certificate of a chain revoked or on hold: octets, to be verified by whoever hears of it.

    `raw` is empty where it is too large to travel: whoever hears of it asks the location.
    """

    chain: tuple[bytes, ...]
    kind: SourceKind
    url: str | None
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """
    What one node tells all. `number` grows with each announcement of a node.

    `revoked` is there for `REVOKED`, `block` for `BLOCKED` and `UNBLOCKED` (the entry that was lifted).
    """

    told: Told
    node: str
    number: int
    at: datetime
    revoked: RevokedNews | None = None
    block: Block | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """
    An entry of the stream: its position, and the announcement; `None` where it is none that this version understands.

    `vouched`: it has the MAC of the cluster's secret.
    """

    position: str
    announcement: Announcement | None
    vouched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """
    What a node says of itself every two seconds.
    """

    node: str
    version: str
    position: str
    at: datetime
    format: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """
    What the server has at a moment: the ends of the stream, which flush counts, and who is there.

    `mine`: whether it still has what this node told last, where that was asked.
    """

    first: str | None
    last: str | None
    generation: int
    mine: bool = True
    nodes: tuple[NodeRow, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    What was learned of the server by trying it.

    `fault` is why it does not answer, `refused` what it did not do; `kept`: whether a probe that was put there was found again. `anonymous`:
    whether it does what somebody without user and password says, `None` where that was not tried.
    """

    fault: str | None = None
    refused: str | None = None
    kept: bool = False
    took_ms: int = 0
    anonymous: bool | None = None
    nodes: tuple[NodeRow, ...] = ()
