"""
Keys in this process, for programs without child processes; the service itself has none (`signers`).

Owns the reading of an identity of any kind, and the threads that sign.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any

from cftpki_ext.core.errors import KeyUnavailableError, SignerLostError, StoreError
from cftpki_ext.core.identity_settings import AnyIdentity, ManagedIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity import HeldIdentity, LoadedIdentity, PrivateKey
from cftpki_ext.identity.serving.files import OpenToken, load_identity, no_tokens
from cftpki_ext.identity.serving.keys import export_pkcs8, sign
from cftpki_ext.identity.store.layout import Site, site_of
from cftpki_ext.support.files import is_passing

# An RSA-2048 signature takes a millisecond; more threads than cores gain nothing.
SIGNING_THREADS = 2


def load_any(
    identity: AnyIdentity,
    *,
    root: Path,
    generation: int,
    environ: Mapping[str, str],
    open_token: OpenToken = no_tokens,
) -> LoadedIdentity:
    """
    Read and check an identity of any kind. Blocking.

    Args:
        identity: as configured.
        root: the state directory, for identities that enrollers keep.
        generation: the number of one from files; one that an enroller keeps brings its own.
        environ: where `password_env` is looked up.
        open_token: opens a key on a token.

    Returns:
        The identity with its key.

    Raises:
        KeyUnavailableError: it cannot be used; the message names it.
        SignerLostError: nobody can look at its files now: that says nothing about the key.

    """
    try:
        if not isinstance(identity, ManagedIdentity):
            return load_identity(identity, generation=generation, environ=environ, open_token=open_token)
        return _load_kept(site_of(root, identity))
    except (StoreError, KeyUnavailableError) as error:
        kept = isinstance(identity, ManagedIdentity)
        msg = f"identity {identity.name!r}: {error}" if kept else str(error)
        if is_passing(error):
            raise SignerLostError(msg) from error
        if not kept:
            raise
        raise KeyUnavailableError(msg) from error


def _load_kept(site: Site) -> LoadedIdentity:
    generation = site.generations.current()
    if generation is None:
        msg = "no certificate yet"
        raise KeyUnavailableError(msg)
    return LoadedIdentity(
        name=site.identity.name,
        generation=generation.number,
        chain=generation.chain,
        key=generation.key(site.password()),
        hand_over_key=site.identity.hand_over_key,
    )


@dataclass(frozen=True, slots=True)
class LocalKey:
    """
    A key in this process; signs in a thread.
    """

    private: PrivateKey = field(repr=False)
    threads: ThreadPoolExecutor = field(repr=False)

    async def sign(self, scheme: int, data: bytes) -> bytes:
        """
        See `SigningKey.sign`.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self.threads, sign, self.private, scheme, data
        )

    async def export(self) -> bytes:
        """
        See `SigningKey.export`.
        """
        return export_pkcs8(self.private)


class LocalKeys:
    """
    A `KeyLoader` for this process.

    Args:
        root: the state directory.
        environ: where `password_env` is looked up; by default the process's.
        open_token: opens a key on a token.

    """

    def __init__(
        self, root: Path, *, environ: Mapping[str, str] | None = None, open_token: OpenToken = no_tokens
    ) -> None:
        self._root = root
        self._environ = os.environ if environ is None else environ
        self._open_token = open_token
        self._threads = ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="sign")

    async def load(self, identity: AnyIdentity, *, generation: int) -> HeldIdentity:
        """
        See `KeyLoader.load`.
        """
        loaded = await asyncio.to_thread(
            load_any,
            identity,
            root=self._root,
            generation=generation,
            environ=self._environ,
            open_token=self._open_token,
        )
        return HeldIdentity(
            name=loaded.name,
            generation=loaded.generation,
            chain=loaded.chain,
            key=LocalKey(loaded.key, self._threads),
            hand_over_key=loaded.hand_over_key,
        )

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Nothing of the configuration is kept.
        """
        del identities

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """
        Nothing is counted.
        """
        return {}

    def close(self) -> None:
        """
        Let the threads end; signatures under way are finished first.
        """
        self._threads.shutdown()
