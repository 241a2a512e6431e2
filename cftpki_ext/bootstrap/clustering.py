"""
A node of a cluster put together from settings; what speaks with the server is imported where there is one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.sharing import Sharing
from cftpki_ext.core.cluster import Announcement, ClusterSettings, Probe, Told
from cftpki_ext.core.errors import ConfigError, InputError, StoreError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.cluster import ClusterServer
from cftpki_ext.service.cluster.acts import Acts
from cftpki_ext.service.cluster.hearing import Hearing
from cftpki_ext.service.cluster.node import ClusterNode
from cftpki_ext.service.cluster.place import load_place
from cftpki_ext.service.cluster.revocations import Revocations
from cftpki_ext.service.cluster.telling import Telling
from cftpki_ext.service.judging.remote import Judges
from cftpki_ext.service.refresher import Refresher
from cftpki_ext.stores import cluster_place, flush_cache, flush_numbers, open_blocks
from cftpki_ext.support.version import version


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """
    The parts of a service that a node works on. `settings` are those in force.
    """

    checker: Checker
    judges: Judges
    refresher: Refresher
    settings: Callable[[], Settings]


def open_server(settings: ClusterSettings, clock: Clock) -> ClusterServer:
    """
    What speaks with the server that nodes share; nothing is connected yet.

    Args:
        settings: `[cluster]`.
        clock: the time.

    Returns:
        The server, to be closed.

    Raises:
        ConfigError: a file of a secret cannot be read.

    """
    from cftpki_connectors.cluster.server import SharedServer  # noqa: PLC0415 - see the module

    try:
        return SharedServer(settings, clock)
    except InputError as exc:
        raise ConfigError((f"[cluster] {exc}",)) from exc


def node_name(settings: ClusterSettings) -> str:
    """
    What this node is called among the others.
    """
    return settings.node or socket.gethostname()[:64] or "node"


def make_cluster(settings: Settings, parts: Parts, clock: Clock, log: Log) -> ClusterNode | None:
    """
    Make this node of a cluster.

    Args:
        settings: the configuration.
        parts: the service.
        clock: the time.
        log: is told of a server that does not answer, and is back.

    Returns:
        The node, to be run and closed; `None` where there is no cluster.

    Raises:
        ConfigError: see `open_server`.

    """
    if settings.cluster is None:
        return None
    server, name, service = (
        open_server(settings.cluster, clock),
        node_name(settings.cluster),
        settings.service,
    )

    async def flush() -> None:
        server.flushed()
        await asyncio.to_thread(flush_cache, service)

    def doubt() -> None:
        parts.judges.end_standing()
        parts.refresher.doubt()

    revocations = Revocations(parts.judges, parts.refresher.record, settings=parts.settings, clock=clock)
    sharing, telling = Sharing(server, clock), Telling(server, name=name, clock=clock, log=log)
    acts = Acts(revoked=revocations.hear, flush=flush, doubt=doubt, blocks=open_blocks(service))
    hearing = Hearing(server, telling, acts, cluster_place(service), clock=clock, log=log)
    node = ClusterNode(server, sharing, telling, hearing, name=name, clock=clock, log=log)
    parts.checker.share_by(sharing)
    parts.checker.revealed = node.revealed
    return node


def tell_flushed(settings: Settings, clock: Clock) -> None:
    """
    Have all nodes forget what they and the server have cached, from a command.

    Args:
        settings: the configuration, which has a cluster.
        clock: the time.

    Raises:
        ConfigError: see `open_server`.
        StoreError: the server does not take it, or the number of it cannot be kept.

    """
    if settings.cluster is not None:
        asyncio.run(_tell_flushed(settings.cluster, clock, _flush_number(settings, settings.cluster, clock)))


def _flush_number(settings: Settings, cluster: ClusterSettings, clock: Clock) -> int:
    """
    A number that no other node has heard of this one, also where the clock was set back since, or one of both files is gone.
    """
    heard = dict(load_place(cluster_place(settings.service).load()).flushes)
    least = max(int(clock.now().timestamp() * 1_000_000), heard.get(node_name(cluster), -1) + 1)
    return flush_numbers(settings.service).take(least)


async def _tell_flushed(settings: ClusterSettings, clock: Clock, number: int) -> None:
    server = open_server(settings, clock)
    one = Announcement(told=Told.FLUSHED, node=node_name(settings), number=number, at=clock.now())
    try:
        if await server.announce(one) is None:
            status = server.status()
            msg = f"{status['server']}: {status['fault'] or status['refused']}: the other nodes have not forgotten"
            raise StoreError(msg)
    finally:
        await server.aclose()


def probe_server(settings: ClusterSettings, clock: Clock) -> Probe:
    """
    Try the server that nodes share, for the doctor.

    Args:
        settings: `[cluster]`.
        clock: the time.

    Returns:
        What was learned.

    """
    from cftpki_connectors.cluster.probing import probe  # noqa: PLC0415 - see the module

    try:
        return asyncio.run(probe(settings, clock, node=node_name(settings), version=version()))
    except InputError as exc:
        return Probe(fault=str(exc))
