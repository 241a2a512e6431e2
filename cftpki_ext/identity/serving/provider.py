"""
The identities that the service asks for: those from files, and those that enrollers keep.

Owns which provider knows which identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cftpki_ext.core.identity_settings import AnyIdentity, ManagedIdentity
from cftpki_ext.identity import HeldIdentity, KeyLoader
from cftpki_ext.identity.serving.files import FileIdentities, mark_of
from cftpki_ext.identity.serving.watched import WatchedIdentities
from cftpki_ext.identity.store.layout import Log, site_of


class KeptIdentities(WatchedIdentities[ManagedIdentity]):
    """
    The identities that enrollers keep.

    The pointer to the generation, its key file and the password's are looked at, not read, at every use.
    """

    def __init__(
        self, root: Path, identities: Mapping[str, AnyIdentity], *, keys: KeyLoader, warning: Log, info: Log
    ) -> None:
        super().__init__(identities, kinds=(ManagedIdentity,), keys=keys, warning=warning, info=info)
        self._root = root

    def mark(self, identity: ManagedIdentity) -> tuple[object, ...] | None:
        """
        Where the pointer points, and as of when the key and its password are.
        """
        generations = site_of(self._root, identity).generations
        pointer = generations.pointer()
        if pointer is None:
            return None
        key = generations.directory / pointer / "key.pem"
        password = identity.password_file
        return pointer, mark_of(key), None if password is None else mark_of(password)


class Identities:
    """
    All identities of a configuration by one door: each provider knows its own.
    """

    def __init__(
        self,
        identities: Mapping[str, AnyIdentity],
        *,
        keys: KeyLoader,
        files: FileIdentities,
        kept: KeptIdentities,
    ) -> None:
        self._keys = keys
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
        self._keys.replace(identities)
        self._files.replace(identities)
        self._kept.replace(identities)

    async def current(self, name: str) -> HeldIdentity:
        """
        The generation in force; raises `KeyUnavailableError` where there is none that can be used.
        """
        return await (self._kept if name in self._names else self._files).current(name)

    async def fault(self, name: str) -> str | None:
        """
        Why the identity, as it is to be in force, cannot be used; see `WatchedIdentities.fault`.
        """
        return await (self._kept if name in self._names else self._files).fault(name)

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """
        See `KeyLoader.status`.
        """
        return self._keys.status()


def _kept_names(identities: Mapping[str, AnyIdentity]) -> frozenset[str]:
    return frozenset(name for name, identity in identities.items() if isinstance(identity, ManagedIdentity))
