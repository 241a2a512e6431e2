"""
Certificates of our own: what an identity holds, and the ports by which the service asks for it.

Owns `HeldIdentity`, which the front has, `LoadedIdentity`, which only whoever signs has, and the ports `SigningKey`,
`KeyLoader` and `IdentityProvider`. See docs/identities.md for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from cftpki_ext.core.identity_settings import AnyIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509.certificate import Certificate

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


class SigningKey(Protocol):
    """
    The private key of one generation, wherever it is: in this process, in a signer's, on a token.
    """

    async def sign(self, scheme: int, data: bytes) -> bytes:
        """
        Sign as TLS does; see `serving.keys.sign`.

        Raises:
            InputError: the key does not sign so.
            KeyUnavailableError: it cannot be used now.

        """

    async def export(self) -> bytes:
        """
        The key as unencrypted PKCS#8 DER, for an identity whose configuration hands it over.

        Raises:
            KeyUnavailableError: it is not handed over, or cannot be used now.

        """


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldIdentity:
    """
    One generation of an identity, complete and checked: the key fits the leaf, the chain is in order.
    """

    name: str
    generation: int  # grows with each replacement, first 1
    chain: tuple[Certificate, ...]  # leaf first
    key: SigningKey = field(repr=False)
    hand_over_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedIdentity:
    """
    What was read of an identity, key and all: only where it is signed with.
    """

    name: str
    generation: int
    chain: tuple[Certificate, ...]
    key: PrivateKey = field(repr=False)
    hand_over_key: bool


class KeyLoader(Protocol):
    """
    Loads identities where they are signed with.
    """

    async def load(self, identity: AnyIdentity, *, generation: int) -> HeldIdentity:
        """
        Read and check an identity; earlier generations of it can still sign for those who hold them.

        Args:
            identity: as configured.
            generation: the number of what is loaded, where it brings none of its own.

        Raises:
            KeyUnavailableError: it cannot be used; the message names it and holds nothing of the key.

        """

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Take over a new configuration.
        """

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """
        Of each identity: signatures, failures, how many wait; plain data.
        """


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

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """
        See `KeyLoader.status`.
        """
