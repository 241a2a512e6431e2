"""
The front's side of a signer's own sockets: which there are, and what is told of their use.

Owns the sockets of one identity's generations: each is called by its leaf (`cftpki_ext.protocol.door`), lives as long as
the signer keeps the generation, and is held here as well, so that a signer that is begun anew finds it with everybody who
waits. The sockets themselves are made by `DoorSockets`.
"""

from __future__ import annotations

import mmap
import os
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Protocol, TypeGuard

from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.serving.door import COUNTER
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.memory_files import shared_memory
from cftpki_ext.protocol.door import leaf_reference


class DoorSockets(Protocol):
    """
    Makes the sockets (`cftpki_ext.service.beside.Doors`).
    """

    def allows(self, identity: str) -> bool:
        """
        Whether hosts have a use for the identity: a rule names it.
        """

    def open(self, reference: int) -> socket.socket | None:
        """
        Listen for hosts that present this leaf; `None` where that cannot be.
        """

    def close(self, reference: int, listener: socket.socket) -> None:
        """
        Listen there no more.
        """

    def users(self) -> frozenset[int]:
        """
        The user ids that may speak.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorUse:
    """
    One use of a key by a host that asked the signer. `session` is what the host says: 64 bits, a secret like any other.
    """

    identity: str
    generation: int
    session: int
    scheme: int
    user: int
    use: str  # "signed", "handed_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorsHeard:
    """
    What a signer told of its hosts: uses one by one, and how many more of them nobody can tell of.
    """

    identity: str
    uses: tuple[DoorUse, ...] = ()
    untold: int = 0
    strangers: Mapping[int, int] = field(default_factory=dict)  # refused connections, by user id


# A handshake that presented the generation before the change has long ended: nobody signs with that one any more.
SUPERSEDED_S = 600.0
# Users of whose refused connections one note tells at most.
_STRANGERS = 64
_USER = re.compile(r"[0-9]{1,10}")
Heard = Callable[[DoorsHeard], None]


def _is_count(value: object) -> TypeGuard[int]:
    """
    Whether it is a number that the wire has: what a signer says is believed no further than it can be written down.
    """
    return type(value) is int and 0 <= value < 1 << 64


@dataclass(slots=True)
class _Place:
    key: str
    generation: int
    listener: socket.socket | None
    until_s: float | None = None  # of a generation that another has superseded


class IdentityDoors:
    """
    The sockets of one identity.

    Args:
        identity: its name.
        sockets: makes them.
        heard: is told of uses.
        kept: how many generations the signer keeps.
        clock: monotonic seconds.

    """

    def __init__(
        self,
        identity: str,
        sockets: DoorSockets,
        heard: Heard,
        *,
        kept: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._identity = identity
        self._sockets = sockets
        self._heard = heard
        self._kept = kept
        self._places: OrderedDict[int, _Place] = OrderedDict()  # by leaf, the generation in force last
        self._counter: int | None = None
        self._told = 0
        self.failed = 0  # of the process that runs now

    def status(self) -> list[str]:
        """
        The sockets that are open, as their names.
        """
        return [f"{leaf:016x}" for leaf, place in self._places.items() if place.listener is not None]

    def loaded(self, leaf: bytes, *, key: str, generation: int) -> None:
        """
        The signer has loaded a generation.

        Args:
            leaf: its certificate.
            key: what the key is called between front and signer.
            generation: its number.

        """
        reference = leaf_reference(leaf)
        known = self._places.pop(reference, None)
        for place in self._places.values():
            if place.until_s is None:
                place.until_s = self._clock() + SUPERSEDED_S
        self._places[reference] = _Place(key, generation, known.listener if known is not None else None)
        while len(self._places) > self._kept:
            self._drop(next(iter(self._places)))

    def drop_superseded(self) -> bool:
        """
        Listen no more for generations that were superseded long ago; whether there was one.
        """
        now_s = self._clock()
        over = [
            leaf
            for leaf, place in self._places.items()
            if place.until_s is not None and now_s >= place.until_s
        ]
        for reference in over:
            self._drop(reference)
        return bool(over)

    def begun_anew(self) -> None:
        """
        The signer's process has ended: what it did not tell is counted, and it has lost all generations but the last.
        """
        untold = self._done() - self._told
        if untold > 0:
            self._told += untold
            self._heard(DoorsHeard(identity=self._identity, untold=untold))
        while len(self._places) > 1:
            self._drop(next(iter(self._places)))

    def call(self) -> Message:
        """
        The call by which the signer learns its sockets. The descriptors stay ours.

        What is missing is opened first, and what the configuration has no use for any more is closed.
        """
        is_allowed = self._sockets.allows(self._identity)
        for reference, place in self._places.items():
            if is_allowed and place.listener is None:
                place.listener = self._sockets.open(reference)
            elif not is_allowed and place.listener is not None:
                self._sockets.close(reference, place.listener)
                place.listener = None
        if self._counter is None:
            self._counter = shared_memory(mmap.PAGESIZE)
        shown = [place for place in self._places.values() if place.listener is not None]
        return Message(
            {
                "do": "doors",
                "doors": [{"key": place.key, "generation": place.generation} for place in shown],
                "users": sorted(self._sockets.users()),
            },
            (),
            (self._counter, *(place.listener.fileno() for place in shown if place.listener is not None)),
        )

    def noted(self, note: Message) -> None:
        """
        The signer tells of uses.

        Args:
            note: as it came; what cannot be read of it counts as not told.

        """
        value = note.value
        rows, total, strangers = value.get("used"), value.get("total"), value.get("strangers")
        if not isinstance(rows, list) or not _is_count(total) or not isinstance(strangers, dict):
            return
        uses = tuple(use for row in rows if (use := self._use(row)) is not None)
        untold = max(0, total - self._told - len(uses))
        self._told = max(self._told, total)
        if _is_count(value.get("failed")):
            self.failed = value["failed"]
        self._heard(
            DoorsHeard(
                identity=self._identity,
                uses=uses,
                untold=untold,
                strangers={
                    int(uid): count
                    for uid, count in list(strangers.items())[:_STRANGERS]
                    if _USER.fullmatch(str(uid)) is not None and _is_count(count)
                },
            )
        )

    def _use(self, row: object) -> DoorUse | None:
        match row:
            case [
                int(session),
                int(scheme),
                int(generation),
                int(user),
                ("signed" | "handed_over") as use,
            ] if all(map(_is_count, (session, scheme, generation, user))):
                return DoorUse(
                    identity=self._identity,
                    generation=generation,
                    session=session,
                    scheme=scheme,
                    user=user,
                    use=use,
                )
        return None

    def close(self) -> None:
        """
        Listen nowhere any more.
        """
        for reference in list(self._places):
            self._drop(reference)
        if self._counter is not None:
            os.close(self._counter)
            self._counter = None

    def _drop(self, reference: int) -> None:
        place = self._places.pop(reference)
        if place.listener is not None:
            self._sockets.close(reference, place.listener)

    @property
    def done(self) -> int:
        """
        How often the key was used there.
        """
        return self._done()

    def _done(self) -> int:
        if self._counter is None:
            return 0
        (done,) = COUNTER.unpack(os.pread(self._counter, COUNTER.size, 0))
        return int(done)
