"""
Certificates of our own: what an identity holds, and the port that the service asks for it.

Owns `HeldIdentity` and `IdentityProvider`; `files` reads identities from files, `keys` works with private keys,
`provider` gives what `manager` has got from CAs. See docs/identities.md for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from cftpki_ext.core.settings import AnyIdentity
from cftpki_ext.x509.certificate import Certificate

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldIdentity:
    """
    One generation of an identity, complete and checked: the key fits the leaf, the chain is in order.
    """

    name: str
    generation: int  # grows with each replacement, first 1
    chain: tuple[Certificate, ...]  # leaf first
    key: PrivateKey = field(repr=False)
    hand_over_key: bool


class IdentityProvider(Protocol):
    """
    Gives the generation that is in force. Never gives half of one: a broken replacement leaves the old in force.
    """

    async def current(self, name: str) -> HeldIdentity:
        """
        The identity called `name`; raises `KeyUnavailableError` where there is none that can be used.
        """

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Take over a new configuration; identities that are the same keep their generation.
        """
