"""
The identities that the service asks for: those from files, and those that enrollers keep.

Owns the reading of a generation that is in force, and which provider knows which identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cftpki_ext.core.errors import KeyUnavailableError, StoreError
from cftpki_ext.core.settings import AnyIdentity, ManagedIdentity
from cftpki_ext.identity import HeldIdentity, IdentityProvider
from cftpki_ext.identity.serving.watched import WatchedIdentities
from cftpki_ext.identity.store.layout import Log, Site, site_of


class KeptIdentities(WatchedIdentities[ManagedIdentity]):
    """
    The identities that enrollers keep: the pointer to the generation (one system call) is looked at at every use.
    """

    def __init__(self, root: Path, identities: Mapping[str, AnyIdentity], *, warning: Log, info: Log) -> None:
        super().__init__(identities, kinds=(ManagedIdentity,), warning=warning, info=info)
        self._root = root

    def mark(self, identity: ManagedIdentity) -> str | None:
        """
        Where the pointer points.
        """
        return site_of(self._root, identity).generations.pointer()

    def load(self, identity: ManagedIdentity, *, generation: int) -> HeldIdentity:
        """
        Read the generation in force, which brings its own number.
        """
        del generation
        try:
            return _load(site_of(self._root, identity))
        except (StoreError, KeyUnavailableError) as error:
            msg = f"identity {identity.name!r}: {error}"
            raise KeyUnavailableError(msg) from error


def _load(site: Site) -> HeldIdentity:
    generation = site.generations.current()
    if generation is None:
        msg = "no certificate yet"
        raise KeyUnavailableError(msg)
    return HeldIdentity(
        name=site.identity.name,
        generation=generation.number,
        chain=generation.chain,
        key=generation.key(site.password()),
        hand_over_key=site.identity.hand_over_key,
    )


class Identities:
    """
    All identities of a configuration by one door: each provider knows its own.
    """

    def __init__(
        self, identities: Mapping[str, AnyIdentity], *, files: IdentityProvider, kept: KeptIdentities
    ) -> None:
        self._files = files
        self._kept = kept
        self._names = _kept_names(identities)

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Take over a new configuration.

        Args:
            identities: by name.

        """
        self._names = _kept_names(identities)
        self._files.replace(identities)
        self._kept.replace(identities)

    async def current(self, name: str) -> HeldIdentity:
        """
        The generation in force; raises `KeyUnavailableError` where there is none that can be used.
        """
        return await (self._kept if name in self._names else self._files).current(name)


def _kept_names(identities: Mapping[str, AnyIdentity]) -> frozenset[str]:
    return frozenset(name for name, identity in identities.items() if isinstance(identity, ManagedIdentity))
