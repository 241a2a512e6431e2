"""
The driver of one node: it says that it is there, learns who else is, tells and hears.

Owns the pace. Nobody waits for anything here: what a handshake asks of the server goes by `checking.sharing`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from cftpki_ext.checking.sharing import Sharing
from cftpki_ext.core.cluster import Beat, NodeRow
from cftpki_ext.core.cluster_octets import FORM
from cftpki_ext.core.log import Log
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
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
# What a node says is seen no later than this.
_ON_THE_WAY_S = 2 * _BEAT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signs:
    """
    What a node said of its time, when that was seen first (monotonic), and by how much its clock was ahead of ours then.
    """

    said: datetime
    seen_s: float
    apart_s: float


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
        self._rows: dict[str, _Signs] = {}
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
        self._note(() if self._beat is None else self._beat.nodes)
        if self._beat is not None and self._hearing.compare(position, self._beat):
            self._wake.set()
        self._tell()

    def _note(self, rows: Sequence[NodeRow]) -> None:
        """
        Note who has said something new: whether a node is there does not depend on what its clock says.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic()
        signs: dict[str, _Signs] = {}
        for one in rows:
            before = self._rows.get(one.node)
            if before is not None and before.said == one.at:
                signs[one.node] = before
                continue
            apart_s = (one.at - now).total_seconds()
            # What stood there already may be old: then its time is all that is known.
            ago_s = max(0.0, -apart_s) if before is None else 0.0
            signs[one.node] = _Signs(
                said=one.at,
                seen_s=monotonic - ago_s,
                apart_s=apart_s if before is not None else max(0.0, apart_s),
            )
        if rows:
            self._rows = signs

    async def _look(self) -> None:
        if not self._server.up:
            await self._hearing.catch_up()
        elif await self._hearing.round():
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
        now_s, beat = self._clock.monotonic(), self._beat
        last = None if beat is None else beat.last
        rows = () if beat is None else sorted(beat.nodes, key=lambda one: one.node)
        return {
            **self._server.status(),
            "node": self._name,
            "vouched": self._server.has_secret,
            "lag_s": _lag_s(self._hearing.position, last),
            "nodes": [_row(one, self._rows[one.node], now_s, last) for one in rows],
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


def _row(row: NodeRow, signs: _Signs, now_s: float, last: str | None) -> dict[str, Any]:
    silent_s = max(0.0, now_s - signs.seen_s)
    return {
        "node": row.node,
        "version": row.version,
        "lag_s": _lag_s(row.position, last),
        "silent_s": round(silent_s, 1),
        # By how much its clock is ahead of ours, as far as it shows; what it said took a second or two until it was seen.
        "ahead_s": round(signs.apart_s, 1) if abs(signs.apart_s) > _ON_THE_WAY_S else 0.0,
        "here": silent_s < GONE_S,
    }
