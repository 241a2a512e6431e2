"""
A node of a cluster put together from settings; what speaks with the server is imported where there is one.
"""

from __future__ import annotations

import socket

from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.sharing import Sharing
from cftpki_ext.core.cluster import ClusterSettings
from cftpki_ext.core.errors import ConfigError, InputError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.ports import Clock, ClusterServer
from cftpki_ext.service.cluster.node import ClusterNode


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


def make_cluster(settings: Settings, checker: Checker, clock: Clock, log: Log) -> ClusterNode | None:
    """
    Make this node of a cluster.

    Args:
        settings: the configuration.
        checker: shares what it is answered.
        clock: the time.
        log: is told of a server that does not answer, and is back.

    Returns:
        The node, to be run and closed; `None` where there is no cluster.

    Raises:
        ConfigError: see `open_server`.

    """
    if settings.cluster is None:
        return None
    server = open_server(settings.cluster, clock)
    sharing = Sharing(server, clock)
    checker.share_by(sharing)
    return ClusterNode(
        server,
        sharing,
        name=node_name(settings.cluster),
        clock=clock,
        log=log,
    )
