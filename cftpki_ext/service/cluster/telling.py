"""
What this node tells all: waits here until the server has it, and is told again where the server has forgotten it.

Owns the bounds of both. For one event loop.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import SIGNED, Announcement, RevokedNews, Told
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.log import Log
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.cluster import ClusterServer

# What waits while the server does not answer; the oldest goes, and its certificate is asked about when its evidence is too old.
_WAITING = 512
# What is told again where the server has lost it: what others may not have heard yet.
_RECENT = 128
_RECENTLY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Sent:
    """
    What was told, and where it stands.
    """

    position: str
    announcement: Announcement


class Telling:
    """
    The way out of one node.

    Args:
        server: what nodes share.
        name: of this node.
        clock: the time.
        log: is told of what cannot be told.

    """

    def __init__(self, server: ClusterServer, *, name: str, clock: Clock, log: Log) -> None:
        self._server = server
        self._name = name
        self._clock = clock
        self._log = log
        self._waiting: deque[Announcement] = deque()
        self._sent: deque[_Sent] = deque(maxlen=_RECENT)
        self._number = 0
        self.told = 0
        self.dropped = 0

    @property
    def last(self) -> str | None:
        """
        The position of what was told last, while others may not have heard it.
        """
        if not self._sent or self._clock.now() - self._sent[-1].announcement.at > _RECENTLY:
            return None
        return self._sent[-1].position

    @property
    def waiting(self) -> int:
        """
        How much could not be told yet.
        """
        return len(self._waiting)

    def revoked(self, chain: tuple[bytes, ...], statement: Statement) -> None:
        """
        Tell of a revocation. What no CA has signed is told to nobody.

        Args:
            chain: certificates, the leaf first, of which one is revoked.
            statement: what proves it.

        """
        if statement.kind not in SIGNED or not chain:
            return
        raw = statement.raw if isinstance(statement.raw, bytes) else b""
        news = RevokedNews(chain=chain, kind=statement.kind, url=statement.url, raw=raw)
        self._wait(self._made(Told.REVOKED, revoked=news))

    async def block(self, told: Told, block: Block) -> bool:
        """
        Tell of an entry that came or went; whether the server has it.
        """
        return await self._tell(self._made(told, block=block))

    async def flush(self) -> None:
        """
        Send what waits, until the server does not take it.
        """
        while self._waiting and self._server.up:
            one = self._waiting.popleft()
            if not await self._tell(one):
                self._waiting.appendleft(one)
                return

    def again(self) -> int:
        """
        Have told again what was told lately: the server has lost it; how much that is.
        """
        lately = [one.announcement for one in self._sent if self._is_late(one.announcement.at)]
        self._sent.clear()
        self._waiting.extendleft(reversed(lately))
        return len(lately)

    def _is_late(self, at: datetime) -> bool:
        return self._clock.now() - at <= _RECENTLY

    def _made(self, told: Told, **more: Any) -> Announcement:
        now = self._clock.now()
        self._number = max(self._number + 1, int(now.timestamp() * 1_000_000))
        return Announcement(told=told, node=self._name, number=self._number, at=now, **more)

    def _wait(self, one: Announcement) -> None:
        if len(self._waiting) >= _WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(one)

    async def _tell(self, one: Announcement) -> bool:
        """
        Tell one; whether it need not be told again. A proof that is too large is left out: others ask the location.
        """
        try:
            position = await self._server.announce(one)
        except InputError as error:
            if one.revoked is None or not one.revoked.raw:
                self._log.warning("cluster_not_told", error=str(error))
                return True
            return await self._tell(replace(one, revoked=replace(one.revoked, raw=b"")))
        if position is None:
            return False
        self.told += 1
        self._sent.append(_Sent(position, one))
        return True
