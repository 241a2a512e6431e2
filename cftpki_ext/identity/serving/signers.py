"""
The signers: a process for each identity, begun and ended with the configuration.

Owns which there are. What one of them does is `identity_signer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.identity_settings import AnyIdentity, TokenIdentity
from cftpki_ext.identity import HeldIdentity
from cftpki_ext.identity.serving.doors import DoorSockets, Heard, IdentityDoors
from cftpki_ext.identity.serving.identity_signer import IdentitySigner, Pins
from cftpki_ext.identity.serving.signer import KEPT_KEYS, role_of
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Role, Worker

# How often a signer is asked whether it answers: hosts may use it for hours without the front.
LOOK_S = 2.0


class Processes(Protocol):
    """
    Begins and ends child processes (`service.children.Children`).
    """

    def begin(
        self,
        role: Role,
        *,
        setup: Callable[[], Message],
        ready: Callable[[Worker], None] | None = None,
        noted: Callable[[Message], None] | None = None,
    ) -> Worker:
        """
        Begin one; it is begun again whenever it ends.
        """

    async def end(self, worker: Worker) -> None:
        """
        End one for good.
        """


class Signers:
    """
    A `KeyLoader` by child processes: one for each identity.

    Args:
        identities: by name.
        processes: begins and ends them.
        root: the state directory.
        tokens: the function that opens keys on tokens ("module:function"), `None` where there is none.
        doors: makes the sockets at which hosts ask signers themselves; by default there are none.
        heard: is told what hosts did there.

    """

    def __init__(
        self,
        identities: Mapping[str, AnyIdentity],
        *,
        processes: Processes,
        root: Path,
        tokens: str | None,
        doors: DoorSockets | None = None,
        heard: Heard = lambda _: None,
    ) -> None:
        self._doors = doors
        self._heard = heard
        self._processes = processes
        self._root = root
        self._tokens = tokens
        self._pins = Pins()
        self._signers: dict[str, IdentitySigner] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.replace(identities)
        self._looking = asyncio.create_task(self._look())

    def replace(self, identities: Mapping[str, AnyIdentity]) -> None:
        """
        Take over a new configuration: begin what is new, end what is gone. In the event loop.

        A key that moves between files and a token, or to another module, gets another process: its bounds differ, and
        one process has one module.
        """
        for name, signer in list(self._signers.items()):
            if name not in identities or _home(identities[name]) != _home(signer.identity):
                task = asyncio.create_task(self._end(self._signers.pop(name)))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        for name, identity in identities.items():
            if name not in self._signers:
                self._signers[name] = self._begin(identity)
            else:
                self._signers[name].show_doors()

    async def load(self, identity: AnyIdentity, *, generation: int) -> HeldIdentity:
        """
        See `KeyLoader.load`.
        """
        signer = self._signers.get(identity.name)
        if signer is None:
            msg = f"identity {identity.name!r} is not configured"
            raise KeyUnavailableError(msg)
        return await signer.load(identity, generation=generation)

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """
        See `KeyLoader.status`.
        """
        return {name: signer.status() for name, signer in sorted(self._signers.items())}

    async def aclose(self) -> None:
        """
        Give up what is under way; the processes end with those of the service.
        """
        self._looking.cancel()
        for signer in self._signers.values():
            await signer.close()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for signer in self._signers.values():
                signer.look()

    def _begin(self, identity: AnyIdentity) -> IdentitySigner:
        doors = None
        if self._doors is not None:
            doors = IdentityDoors(identity.name, self._doors, self._heard, kept=KEPT_KEYS)
        signer = IdentitySigner(identity, self._pins, doors)
        setup = {
            "root": str(self._root),
            "salt": self._pins.salt.hex(),
            "tokens": self._tokens if isinstance(identity, TokenIdentity) else None,
        }
        signer.worker = self._processes.begin(
            role_of(identity),
            setup=lambda: Message(setup),
            ready=lambda _: signer.recover(),
            noted=doors.noted if doors is not None else None,
        )
        return signer

    async def _end(self, signer: IdentitySigner) -> None:
        worker, signer.worker = signer.worker, None
        await signer.close()
        if worker is not None:
            await self._processes.end(worker)


def _home(identity: AnyIdentity) -> object:
    """
    What decides about the process that an identity's key lives in.
    """
    return (identity.key.module, identity.module_calls) if isinstance(identity, TokenIdentity) else None
