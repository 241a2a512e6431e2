"""
The driver of one node: it says that it is there, learns who else is, tells and hears.

Owns the pace. Nobody waits for anything here: what a handshake asks of the server goes by `checking.sharing`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from cftpki_ext.checking.sharing import Sharing
from cftpki_ext.core.cluster import Beat, NodeRow
from cftpki_ext.core.cluster_octets import FORM
from cftpki_ext.core.log import Log
from cftpki_ext.core.statement import Statement
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.cluster import ClusterServer
from cftpki_ext.service.cluster.hearing import Hearing
from cftpki_ext.service.cluster.place import order_of
from cftpki_ext.service.cluster.telling import Telling
from cftpki_ext.support.version import version

# How often a node says that it is there, and how soon a server that does not answer is asked again.
_BEAT_S = 1.0
_DOWN_S = 0.5
# Between two looks for announcements: no command of the server blocks.
_LOOK_S = 0.1
# Who has said nothing for so long is told as gone.
GONE_S = 15.0


class ClusterNode:
    """
    One node. For one event loop.

    Args:
        server: what nodes share; closed by `aclose`.
        sharing: what checks use of it; likewise.
        telling: the way out.
        hearing: the way in.
        name: of this node.
        clock: the time.
        log: is told where the server does not answer, and is back.

    """

    def __init__(
        self,
        server: ClusterServer,
        sharing: Sharing,
        telling: Telling,
        hearing: Hearing,
        *,
        name: str,
        clock: Clock,
        log: Log,
    ) -> None:
        self._sharing = sharing
        self._server = server
        self._telling = telling
        self._hearing = hearing
        self._name = name
        self._clock = clock
        self._log = log
        self._version = version()
        self._beat: Beat | None = None
        self._was_up: bool | None = None
        self._wake, self._say_now = asyncio.Event(), asyncio.Event()

    def revealed(self, chain: tuple[bytes, ...], statement: Statement) -> None:
        """
        Have all nodes told of a revocation that this one established. Never raises: the verdict goes on.

        Args:
            chain: certificates, the leaf first.
            statement: the proof.

        """
        try:
            self._telling.revoked(chain, statement)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not hold up a verdict
            self._log.error("cluster_failed", error=repr(error))
        self._wake.set()

    async def run(self) -> None:
        """
        Be there until cancelled.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                self._again(self._say, self._say_now, lambda: _BEAT_S if self._server.up else _DOWN_S)
            )
            tasks.create_task(self._again(self._look, self._wake, lambda: _LOOK_S))

    async def _again(
        self, work: Callable[[], Awaitable[None]], wake: asyncio.Event, pause_s: Callable[[], float]
    ) -> None:
        """
        Do something again and again; a fault of ours does not end it, and is told once.
        """
        failing = False
        while True:
            wake.clear()
            try:
                await work()
                failing = False
            except Exception as error:  # noqa: BLE001 - the service goes on without a cluster
                if not failing:
                    with contextlib.suppress(Exception):
                        self._log.error("cluster_failed", error=repr(error))
                failing = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s()):
                    await wake.wait()

    async def _say(self) -> None:
        position = self._hearing.position
        row = NodeRow(
            node=self._name,
            version=self._version,
            position=position,
            at=self._clock.now(),
            format=FORM,
        )
        self._beat = await self._server.beat(row, self._telling.last)
        if self._beat is not None and self._hearing.compare(position, self._beat):
            self._wake.set()
        self._tell()

    async def _look(self) -> None:
        if self._server.up and await self._hearing.round():
            self._say_now.set()  # which flush counts

    def _tell(self) -> None:
        status = self._server.status()
        up = self._beat is not None
        if up == self._was_up:
            return
        if up:
            self._log.info("cluster_up", server=status["server"])
        else:
            self._log.warning("cluster_down", server=status["server"], error=status["fault"])
        self._was_up = up

    def status(self) -> dict[str, Any]:
        """
        For STATUS.
        """
        now, beat = self._clock.now(), self._beat
        last = None if beat is None else beat.last
        rows = () if beat is None else sorted(beat.nodes, key=lambda one: one.node)
        return {
            **self._server.status(),
            "node": self._name,
            "vouched": self._server.has_secret,
            "lag_s": _lag_s(self._hearing.position, last),
            "nodes": [_row(one, now, last) for one in rows],
            "sharing": self._sharing.status(),
            "news": self._hearing.status(),
        }

    async def aclose(self) -> None:
        """
        Release leases and connections.
        """
        await self._sharing.aclose()
        await self._server.aclose()


def _lag_s(position: str, last: str | None) -> float:
    """
    By how much what was heard last is older than what was told last.
    """
    try:
        behind = 0 if last is None else order_of(last)[0] - order_of(position)[0]
        if last is None or order_of(position) >= order_of(last):
            return 0.0
    except ValueError:  # of another node's word
        return 0.0
    return round(max(0, behind) / 1000, 3) if order_of(position)[0] else 0.0


def _row(row: NodeRow, now: datetime, last: str | None) -> dict[str, Any]:
    silent_s = (now - row.at).total_seconds()
    return {
        "node": row.node,
        "version": row.version,
        "lag_s": _lag_s(row.position, last),
        "silent_s": round(max(0.0, silent_s), 1),
        # By how much its clock is ahead of ours, at least: what it said was said before now.
        "ahead_s": round(max(0.0, -silent_s), 1),
        "here": silent_s < GONE_S,
    }
