"""
Getting a certificate from a CA, as values and one port: submit, wait, collect, resumable at every step.

Owns what every protocol has in common. Who talks to a CA is an adapter in `connectors/`; who decides when to
ask, what to keep and whether an issued chain is good enough is `cftpki_ext.identity`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from pydantic import BaseModel

from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.recognition import Recognition
from cftpki_ext.ports.clock import Clock

__all__ = [
    "IGNORED",
    "MAX_STATE_BYTES",
    "AccountKeyed",
    "Enroller",
    "EnrollerContext",
    "EnrollerPlugin",
    "Failed",
    "Fault",
    "Finding",
    "Held",
    "Inspected",
    "Issued",
    "KeyKind",
    "Names",
    "Order",
    "OrderState",
    "Pending",
    "PrivateKey",
    "Progress",
    "Relation",
    "RenewalHint",
    "SaveState",
    "Usage",
]

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey
# What a protocol writes down about an order under way: plain JSON values, no secrets, at most 64 KiB.
OrderState = Mapping[str, object]
SaveState = Callable[[OrderState], Awaitable[None]]
MAX_STATE_BYTES = 64 * 1024
# How the explanation of a hint begins that speaks of something wrong and not of what the CA would like.
IGNORED = "ignored: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """
    The names a certificate is wanted for. DNS names are lower-case A-labels without a trailing dot.
    """

    common_name: str | None
    dns: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    A certificate that we hold already, with its key: what a renewal is authenticated with.
    """

    chain: tuple[bytes, ...]  # DER, leaf first
    key: PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    What is wanted: one certificate for `key`, asked for with `csr` (DER, PKCS#10, signed by `key`).

    `id` is unique and stays the same over restarts; so do key and CSR. `current` is the identity's chain in
    use, if there is one that its CA issued: protocols that renew authenticate with it. `revoked` says that
    `current` must not be used for anything any more. `objection` says what our own judgement has against an answer:
    for protocols in which a certificate is confirmed, before they confirm. What it has nothing against is judged
    again when it is handed in.
    """

    id: str
    identity: str
    names: Names
    usages: frozenset[Usage]
    key: PrivateKey
    csr: bytes
    lifetime_s: int | None = None  # asked for where the protocol can; the CA decides
    current: Held | None = None
    revoked: bool = False
    objection: Callable[[Issued], Awaitable[str | None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """
    The CA's answer: certificates in the order in which they came (DER), perhaps without the intermediates.

    `alternates` are other chains for the same certificate. `extra` holds CA certificates that may complete
    the chain. `key` is given only where somebody else made the key (the `file` enroller); otherwise the
    certificate is for the order's key. Nothing of this is verified yet.
    """

    certificates: tuple[bytes, ...]
    alternates: tuple[tuple[bytes, ...], ...] = ()
    extra: tuple[bytes, ...] = ()
    notes: tuple[str, ...] = ()
    key: PrivateKey | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """
    The order is with the CA: ask again at `retry_at` (or at once when the operator says so).
    """

    retry_at: datetime
    detail: str


class Fault(enum.StrEnum):
    """
    What a failed attempt means for the next one.
    """

    UNREACHABLE = "unreachable"  # nothing was heard: the same order later, or the next enroller
    RATE_LIMITED = "rate_limited"  # not before `retry_at`
    REFUSED = "refused"  # the CA says no to this order: another one later, or the next enroller
    MISCONFIGURED = "misconfigured"  # an operator has to act; trying again changes nothing
    ORDER_LOST = "order_lost"  # the CA does not know the order any more: begin a new one


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """
    An attempt that ended without a certificate. `detail` is one bounded line for the operator.

    `issued` says that there is one, which is not what was asked for: no enroller says that, `issuance.admission` does.
    """

    fault: Fault
    detail: str
    retry_at: datetime | None = None
    issued: bool = False


Progress = Issued | Pending | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalHint:
    """
    When the CA would like a certificate to be renewed (ARI, RFC 9773), and why.

    `ready` says that the successor is at hand already, so that asking for it costs nobody anything (`file`).
    """

    start: datetime
    end: datetime
    explanation: str | None
    ask_again_at: datetime
    ready: bool = False


class Enroller(Protocol):
    """
    One way to one CA.

    `advance` moves an order on as far as it goes now and returns. Before every step that the CA may act on,
    it awaits `save(state)`; what was saved last is handed in as `state` when the order is taken up again,
    perhaps by another process after a kill. With an empty state it begins. It never makes keys, never
    raises for what CA or network do, and gives up at `deadline` (monotonic seconds).
    """

    name: str
    protocol: str

    async def advance(self, order: Order, state: OrderState, save: SaveState, *, deadline: float) -> Progress:
        """
        Submit, poll or collect, whatever comes next.
        """

    async def revoke(self, held: Held, *, reason: str, deadline: float) -> Failed | None:
        """
        Ask the CA to revoke; `None` when it did. `reason` is an RFC 5280 5.3.1 name.
        """

    async def renewal_hint(self, held: Held, *, deadline: float) -> RenewalHint | None:
        """
        Ask the CA when to renew; `None` where it has no opinion or was not heard.
        """

    async def trust_anchors(self, *, deadline: float) -> tuple[bytes, ...]:
        """
        The CA's current roots (DER), over an authenticated channel; empty where it does not tell.
        """

    async def aclose(self) -> None:
        """
        Release connections and listeners.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """
    How an enroller stands with its CA, by its own state alone.

    `account` is a URL at the CA, `key_since` since when the account has its key; `key_change_open` says that
    a change of key was cut short, which the next call settles. `roots` (DER) are those that it knows of.
    """

    where: str
    account: str | None = None
    key_since: datetime | None = None
    key_change_open: bool = False
    roots: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that a look at the CA showed; `good` is false where an operator has to act before a certificate comes.
    """

    what: str
    detail: str
    good: bool = True


@runtime_checkable
class Inspected(Protocol):
    """
    What an enroller may offer besides: to be looked at without ordering anything.
    """

    async def relation(self) -> Relation:
        """
        What is known without asking the CA. Writes nothing.

        Raises:
            CftPkiError: a file of the state or the configuration cannot be read.

        """

    async def check(self, *, deadline: float) -> tuple[Finding, ...]:
        """
        Reach the CA and authenticate as far as that goes without ordering. Never raises for what CA or network do.
        """


@runtime_checkable
class AccountKeyed(Protocol):
    """
    What an enroller may offer besides: an account at the CA whose key can be changed.
    """

    async def roll_over_account_key(self, *, deadline: float) -> Failed | None:
        """
        Change the account's key now; `None` when it was done. A kill loses no account.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollerContext:
    """
    What an enroller works with besides its options.

    `state` is a folder of its own (0700) for what outlives an order: account keys, pinned roots.
    """

    name: str
    state: Path
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollerPlugin:
    """
    How an adapter registers (entry point group `cftpki.enrollers`): its options and its constructor.

    `options` is a frozen pydantic model with `extra="forbid"`; it is the table `[enroller.NAME]` without
    `type`. Fields of type `Path` are resolved against the configuration file's folder before validation of
    their content; secrets are always files. `recognition` is how `cftpki enroller find` knows a server of this
    kind; without it, it is not looked for.
    """

    protocol: str
    options: type[BaseModel]
    make: Callable[[Any, EnrollerContext], Enroller]
    recognition: Recognition | None = None
