"""
The driver of one node: it says that it is there, and learns who else is.

Owns the pace. Nobody waits for anything here: what a handshake asks of the server goes by `checking.sharing`.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Any

from cftpki_ext.checking.sharing import Sharing
from cftpki_ext.core.cluster import Beat, NodeRow
from cftpki_ext.core.cluster_octets import FORM
from cftpki_ext.core.log import Log
from cftpki_ext.ports import Clock, ClusterServer
from cftpki_ext.support.version import version

# How often a node says that it is there, and how soon a server that does not answer is asked again.
_BEAT_S = 2.0
_DOWN_S = 0.5
# Who has said nothing for so long is told as gone.
GONE_S = 15.0


class ClusterNode:
    """
    One node. For one event loop.

    Args:
        server: what nodes share; closed by `aclose`.
        sharing: what checks use of it; likewise.
        name: of this node.
        clock: the time.
        log: is told where the server does not answer, and is back.

    """

    def __init__(self, server: ClusterServer, sharing: Sharing, *, name: str, clock: Clock, log: Log) -> None:
        self.sharing = sharing
        self._server = server
        self._name = name
        self._clock = clock
        self._log = log
        self._version = version()
        self._beat: Beat | None = None
        self._was_up: bool | None = None
        self._position = "0-0"

    async def run(self) -> None:
        """
        Be there until cancelled.
        """
        while True:
            try:
                up = await self._say()
            except Exception as error:  # noqa: BLE001 - the service goes on without a cluster
                up = False
                with contextlib.suppress(Exception):
                    self._log.error("cluster_failed", error=repr(error))
            await asyncio.sleep(_BEAT_S if up else _DOWN_S)

    async def _say(self) -> bool:
        row = NodeRow(
            node=self._name,
            version=self._version,
            position=self._position,
            at=self._clock.now(),
            format=FORM,
        )
        self._beat = await self._server.beat(row)
        self._tell()
        return self._beat is not None

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
        now = self._clock.now()
        beat = self._beat
        return {
            **self._server.status(),
            "node": self._name,
            "nodes": [] if beat is None else [_row(one, now) for one in sorted(beat.nodes, key=_by_name)],
            "sharing": self.sharing.status(),
        }

    async def aclose(self) -> None:
        """
        Release leases and connections.
        """
        await self.sharing.aclose()
        await self._server.aclose()


def _by_name(row: NodeRow) -> str:
    return row.node


def _row(row: NodeRow, now: datetime) -> dict[str, Any]:
    silent_s = (now - row.at).total_seconds()
    return {
        "node": row.node,
        "version": row.version,
        "position": row.position,
        "silent_s": round(max(0.0, silent_s), 1),
        # By how much its clock is ahead of ours, at least: what it said was said before now.
        "ahead_s": round(max(0.0, -silent_s), 1),
        "here": silent_s < GONE_S,
    }
