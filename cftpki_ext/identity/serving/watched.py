"""
Identities that are loaded anew when what they come from has changed.

Owns the notice of a change and the atomic change of generation. Knows neither files nor state directories: what
shows a change is said by those who derive from it, and a `KeyLoader` loads. Who holds a generation keeps it.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Generic, TypeVar

from cftpki_ext.core.errors import KeyUnavailableError, SignerLostError
from cftpki_ext.core.identity_settings import AnyIdentity
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity import HeldIdentity, KeyLoader
from cftpki_ext.identity.store.layout import Log

Own = TypeVar("Own", bound=AnyIdentity)

# What did not load is tried again though nothing shows a change: a token was put back, a right given to a folder.
RETRY_S = 5.0


@dataclass(slots=True)
class _Slot(Generic[Own]):
    identity: Own
    held: HeldIdentity | None = None
    seen: object | None = None
    error: KeyUnavailableError | None = None
    again_s: float = 0.0  # when what did not load is tried again, by the loop's clock
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class WatchedIdentities(ABC, Generic[Own]):
    """
    An `IdentityProvider`. For one event loop.

    The mark is looked at, which must be cheap, at every use; only when it has changed is anything read. A set that
    does not pass the checks is logged once, leaves the generation in force, and is tried again every `RETRY_S`.
    """

    def __init__(
        self,
        identities: Mapping[str, AnyIdentity],
        *,
        kinds: tuple[type[Own], ...],
        keys: KeyLoader,
        warning: Log,
        info: Log,
    ) -> None:
        self._kinds = kinds
        self._keys = keys
        self._warning = warning
        self._info = info
        self._slots: dict[str, _Slot[Own]] = {}
        self.replace(identities)

    @abstractmethod
    def mark(self, identity: Own) -> object | None:
        """
        What is another one whenever there is something else to load; `None` while there is nothing.
        """

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Take over a new configuration; identities that are the same keep their generation.

        Args:
            identities: by name; those of other kinds are not ours.

        """
        slots = {}
        for name, identity in identities.items():
            if not isinstance(identity, self._kinds):
                continue
            slot = self._slots.get(name)
            if slot is None:
                slot = _Slot(identity)
            elif slot.identity != identity:
                slot.identity, slot.seen = identity, None
                if slot.held is not None and not getattr(identity, "hand_over_key", False):
                    # Holds even if what is new does not load.
                    slot.held = replace(slot.held, hand_over_key=False)
            slots[name] = slot
        self._slots = slots

    async def current(self, name: str) -> HeldIdentity:
        """
        The generation in force.

        Args:
            name: of the identity.

        Returns:
            The newest that passed the checks.

        Raises:
            KeyUnavailableError: no such identity, or none ever passed.

        """
        slot = self._slots.get(name)
        if slot is None:
            msg = f"identity {name!r} is not configured"
            raise KeyUnavailableError(msg)
        if self._is_due(slot, self.mark(slot.identity)):
            async with slot.lock:
                await self._refresh(slot)
        if slot.held is None:
            raise slot.error or KeyUnavailableError(f"identity {name!r} has no certificate yet")
        return slot.held

    async def fault(self, name: str) -> str | None:
        """
        Why what is to be in force cannot be used; `None` where it can, also where nobody can tell now.

        Args:
            name: of the identity.

        """
        with contextlib.suppress(KeyUnavailableError):
            await self.current(name)
        slot = self._slots.get(name)
        if slot is None or slot.error is None or isinstance(slot.error, SignerLostError):
            return None
        return str(slot.error)

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """
        See `KeyLoader.status`.
        """
        return self._keys.status()

    def _is_due(self, slot: _Slot[Own], mark: object | None) -> bool:
        if slot.seen is None or slot.seen != mark:
            return True
        return slot.error is not None and asyncio.get_running_loop().time() >= slot.again_s

    async def _refresh(self, slot: _Slot[Own]) -> None:
        mark = self.mark(slot.identity)
        if not self._is_due(slot, mark):
            return
        in_force = slot.held.generation if slot.held else None
        try:
            held = await self._keys.load(slot.identity, generation=(in_force or 0) + 1)
        except KeyUnavailableError as error:
            is_news = slot.seen != mark or str(error) != str(slot.error)
            slot.error, slot.seen = error, mark
            slot.again_s = asyncio.get_running_loop().time() + RETRY_S
            if is_news:
                self._warning(
                    "identity_not_loaded",
                    identity=slot.identity.name,
                    error=str(error),
                    generation_in_force=in_force,
                )
            return
        slot.held, slot.error, slot.seen = held, None, mark
        leaf = held.chain[0]
        self._info(
            "identity_loaded",
            identity=held.name,
            generation=held.generation,
            subject=leaf.subject.text,
            serial=leaf.serial_hex,
            not_after=leaf.not_after.isoformat(),
        )
