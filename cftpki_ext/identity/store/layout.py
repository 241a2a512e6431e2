"""
One identity with its places on the disk. Owns where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.store import private_keys
from cftpki_ext.identity.store.generations import Generations
from cftpki_ext.identity.store.journal import Journal
from cftpki_ext.identity.store.operator_log import Actions

Log = Callable[..., Any]  # (event, **fields), as the methods of a `core.log.Log`


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """
    One identity with its places on the disk, under the lock.
    """

    identity: ManagedIdentity
    directory: Path
    generations: Generations
    journal: Journal
    actions: Actions

    def password(self) -> bytes | None:
        """
        What encrypts its keys at rest.

        Raises:
            KeyUnavailableError: it is configured and cannot be read.

        """
        return private_keys.read_password(self.identity.password_file)


def site_of(root: Path, identity: ManagedIdentity) -> Site:
    """
    The places of an identity below the service's state directory.
    """
    directory = root / "identities" / identity.name
    return Site(
        identity=identity,
        directory=directory,
        generations=Generations(directory),
        journal=Journal(directory),
        actions=Actions(directory),
    )
