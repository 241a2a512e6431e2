"""
The identities that the service asks for: those from files, and those that enrollers keep.

Owns the notice of a new generation: the pointer is looked at (one system call) at every use, and only when it has
changed is anything read. Who holds a generation keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cftpki_ext.errors import KeyUnavailableError, StoreError
from cftpki_ext.identity import HeldIdentity, IdentityProvider
from cftpki_ext.identity.site import Log, Site, site_of
from cftpki_ext.settings import AnyIdentity, ManagedIdentity


@dataclass(slots=True)
class _Slot:
    site: Site
    held: HeldIdentity | None = None
    seen: str | None = None
    error: KeyUnavailableError | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KeptIdentities:
    """
    The `IdentityProvider` over generations. For one event loop.

    A generation that cannot be loaded is logged once and leaves the one in force.
    """

    def __init__(self, root: Path, identities: Mapping[str, AnyIdentity], *, warning: Log, info: Log) -> None:
        self._root = root
        self._warning = warning
        self._info = info
        self._slots: dict[str, _Slot] = {}
        self.replace(identities)

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Take over a new configuration; what is loaded stays loaded.

        Args:
            identities: by name; those from files are not ours.

        """
        slots = {}
        for name, identity in identities.items():
            if not isinstance(identity, ManagedIdentity):
                continue
            slot = self._slots.get(name)
            if slot is None:
                slot = _Slot(site_of(self._root, identity))
            elif slot.site.identity != identity:
                slot.site, slot.seen = site_of(self._root, identity), None
                if slot.held is not None and not identity.hand_over_key:
                    slot.held = replace(slot.held, hand_over_key=False)
            slots[name] = slot
        self._slots = slots

    async def current(self, name: str) -> HeldIdentity:
        """
        The generation in force.

        Args:
            name: of the identity.

        Returns:
            The one that the pointer names, else the last that could be loaded.

        Raises:
            KeyUnavailableError: no such identity, or nothing has been issued yet.

        """
        slot = self._slots.get(name)
        if slot is None:
            msg = f"identity {name!r} is not configured"
            raise KeyUnavailableError(msg)
        if slot.seen is None or slot.seen != slot.site.generations.pointer():
            async with slot.lock:
                await self._refresh(slot)
        if slot.held is None:
            raise slot.error or KeyUnavailableError(f"identity {name!r} has no certificate yet")
        return slot.held

    async def _refresh(self, slot: _Slot) -> None:
        pointer = slot.site.generations.pointer()
        if slot.seen == pointer:
            return
        identity = slot.site.identity
        try:
            held = await asyncio.to_thread(_load, slot.site)
        except (StoreError, KeyUnavailableError) as error:
            slot.error, slot.seen = KeyUnavailableError(f"identity {identity.name!r}: {error}"), pointer
            self._warning(
                "identity_not_loaded",
                identity=identity.name,
                error=str(error),
                generation_in_force=slot.held.generation if slot.held else None,
            )
            return
        slot.held, slot.seen, slot.error = held, pointer, None
        leaf = held.chain[0]
        self._info(
            "identity_loaded",
            identity=held.name,
            generation=held.generation,
            subject=leaf.subject.text,
            serial=leaf.serial_hex,
            not_after=leaf.not_after.isoformat(),
        )


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
