"""
Our own certificates, as the configuration says: from files, on tokens, or kept by enrollers; when they are renewed, and what runs then.

Pure data, with its defaults and limits.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from datetime import time, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.pkcs11_uri import TokenKey
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import KeyKind, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    One certificate of our own: chain file (leaf first) and PKCS#8 key file, encrypted or not.
    """

    name: str
    chain_file: Path
    key_file: Path
    password_file: Path | None = None
    password_env: str | None = None
    hand_over_key: bool = False  # CryptData may give the key to the host instead of signing


class ModuleCalls(enum.StrEnum):
    """
    What a PKCS #11 module may ask of the kernel.

    `BOUNDED`: no programs, and nothing with other processes; `LOGGED`: anything, and the kernel logs what `BOUNDED`
    would forbid; `ANY`.
    """

    BOUNDED = "bounded"
    LOGGED = "logged"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIdentity:
    """
    One certificate of our own whose key is on a PKCS #11 token: chain file, and where the key is.

    The password is the token's PIN. Such a key signs and is never handed over.
    """

    name: str
    chain_file: Path
    key: TokenKey
    password_file: Path | None = None
    password_env: str | None = None
    module_calls: ModuleCalls = ModuleCalls.BOUNDED


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeWindow:
    """
    When certificates may be changed: days of the week (Monday is 0) and times of day, in UTC.

    A window whose end is not after its beginning reaches into the next day.
    """

    days: frozenset[int]
    begin: time
    end: time


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRules:
    """
    When a certificate is renewed, by its issued lifetime.
    """

    # Two thirds of the life: what CAs with short lifetimes expect, and a third is left for an outage.
    renew_at: float = 2 / 3
    renew_before: timedelta | None = None  # instead of `renew_at`: so long before the end
    windows: tuple[ChangeWindow, ...] = ()  # none = at any time
    # The hard floor: with less than this share of the life left, windows no longer hold anything back.
    floor: float = 1 / 10
    # Never sooner after an issuance: a CA that issues for minutes must not make us renew without end.
    min_interval: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRules:
    """
    What is run after a new generation is in force: programs with arguments, no shell.
    """

    commands: tuple[tuple[str, ...], ...] = ()
    # A host that reloads its certificates answers in seconds; one that hangs must not hold up the next identity.
    timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedIdentity:
    """
    One certificate of our own that enrollers keep fresh; key and chain are in the state directory.

    `names` are normalised: A-labels, lower case, no trailing dot. `issuers` are DER certificates, one of which
    must have signed the leaf; `policies` are OIDs that the leaf must have. Empty = anything.
    """

    name: str
    enrollers: tuple[str, ...]  # in this order
    common_name: str | None
    dns: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...]
    key: KeyKind = KeyKind.RSA2048
    reuse_key: bool = False  # renew with the same key (partners that pin it); never after a revocation
    usages: frozenset[Usage] = frozenset(Usage)
    lifetime: timedelta | None = None  # asked for; the CA decides
    # An issued lifetime below this share of the one asked for is refused.
    lifetime_share: float = 0.9
    issuers: tuple[bytes, ...] = ()
    policies: frozenset[str] = frozenset()
    trust: str | None = None  # whose anchors the chain must lead to; without it, the enroller's roots
    keep: int = 5
    keep_root: bool = False
    password_file: Path | None = None  # keys are encrypted at rest with what it holds
    hand_over_key: bool = False
    renewal: RenewalRules = field(default_factory=RenewalRules)
    hooks: HookRules = field(default_factory=HookRules)
    observe: tuple[tuple[str, int], ...] = ()  # the host's own listeners, (address, port)
    # How often we ask whether our certificate is revoked: what partners see within minutes we must not see later.
    check_every: timedelta = timedelta(minutes=5)


AnyIdentity = Identity | TokenIdentity | ManagedIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollerSettings:
    """
    One way to one CA: `type` names the plugin, `options` is its own checked model.

    `written` is what the model was made from, paths resolved: another process of ours makes the same from it.
    """

    name: str
    type: str
    options: Any
    written: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({}), repr=False, compare=False
    )
