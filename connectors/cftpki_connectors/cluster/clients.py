"""
A client for the server that nodes share: one server, what Sentinels name, or a cluster of servers; over TLS, as a user.

Owns the options of redis-py: its own retries and time-outs, a parser within bounds, TLS that believes only who is configured.
"""

from __future__ import annotations

import base64
import ssl
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialWithJitterBackoff

from cftpki_connectors.cluster.bounded import BoundedParser
from cftpki_connectors.cluster.slots import bounded_slots
from cftpki_connectors.cluster.tls import TlsConnection, WatchedTlsConnection
from cftpki_connectors.support.secret_files import secret_text
from cftpki_ext.core.cluster import ClusterSettings, Layout

Client = Redis | RedisCluster
# A connection is made beside handshakes as well as for them: nobody waits for it longer than for a call.
_CONNECT_S = 2.0
# One that was idle while the server was restarted is made anew, once.
_RETRIES = 1
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.05
CONNECTIONS = 16


def open_client(settings: ClusterSettings) -> tuple[Client, Callable[[], Awaitable[None]]]:
    """
    Make a client; nothing is connected yet. Reads files of secrets. Blocking.

    Args:
        settings: `[cluster]`.

    Returns:
        The client, and what closes it.

    Raises:
        InputError: the file of a secret cannot be read, or others can read it too.

    """
    options = _options(settings)
    if settings.layout is Layout.CLUSTER:
        return _of_cluster(settings, options)
    if settings.layout is Layout.SENTINEL:
        return _of_sentinels(settings, options)
    (address,) = settings.addresses
    pool = ConnectionPool(
        host=address.host,
        port=address.port,
        db=settings.database,
        connection_class=TlsConnection if settings.tls else Connection,
        max_connections=2 * CONNECTIONS,
        **options,
    )
    client = Redis(connection_pool=pool)
    return client, _closer(client, pool)


def unauthenticated(settings: ClusterSettings) -> tuple[Client, Callable[[], Awaitable[None]]] | None:
    """
    A client that says no user and no password, to find a server that lets anybody in; `None` where there is not one address.
    """
    if settings.layout is not Layout.SERVER:
        return None
    options = _options(settings)
    del options["username"], options["password"]
    (address,) = settings.addresses
    pool = ConnectionPool(
        host=address.host,
        port=address.port,
        connection_class=TlsConnection if settings.tls else Connection,
        **options,
    )
    client = Redis(connection_pool=pool)
    return client, _closer(client, pool)


def _options(settings: ClusterSettings) -> dict[str, Any]:
    password = None
    if settings.password_file is not None:
        password = secret_text(settings.password_file, "password_file")
    return {
        "username": settings.user,
        "password": password,
        "socket_timeout": max(_CONNECT_S, settings.patience.total_seconds()),
        "socket_connect_timeout": _CONNECT_S,
        "socket_keepalive": True,
        "retry": _retry(),
        "protocol": 2,
        "parser_class": BoundedParser,
    } | _tls(settings)


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=_FIRST_WAIT_S, cap=_LONGEST_WAIT_S), _RETRIES)


def _tls(settings: ClusterSettings) -> dict[str, Any]:
    if not settings.tls:
        return {}
    password = None
    if settings.client_password_file is not None:
        password = secret_text(settings.client_password_file, "client_password_file")
    certificate, key = settings.client_certificate, settings.client_key
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        # As towards CAs: whatever is configured is an anchor, and many private roots lack key identifiers.
        "ssl_include_verify_flags": [ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN],
        "ssl_exclude_verify_flags": [ssl.VerifyFlags.VERIFY_X509_STRICT],
        "ssl_ca_data": "".join(map(_pem, settings.roots)) or None,
        "ssl_certfile": None if certificate is None else str(certificate),
        "ssl_keyfile": str(key or certificate) if certificate is not None else None,
        "ssl_password": password,
    }


def _pem(der: bytes) -> str:
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def _of_sentinels(
    settings: ClusterSettings, options: dict[str, Any]
) -> tuple[Client, Callable[[], Awaitable[None]]]:
    password = None
    if settings.sentinel_password_file is not None:
        password = secret_text(settings.sentinel_password_file, "sentinel_password_file")
    watching = options | {"username": settings.sentinel_user, "password": password, "retry": _retry()}
    pools = [
        ConnectionPool(
            host=address.host,
            port=address.port,
            connection_class=TlsConnection if settings.tls else Connection,
            **watching,
        )
        for address in settings.addresses
    ]
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [Redis(connection_pool=pool) for pool in pools]
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        settings.service or "",
        sentinel,
        connection_class=WatchedTlsConnection if settings.tls else SentinelManagedConnection,
        db=settings.database,
        max_connections=2 * CONNECTIONS,
        **options,
    )
    client = Redis(connection_pool=pool)
    closers = [_closer(client, pool), *map(_closer, sentinel.sentinels, pools)]

    async def close() -> None:
        for one in closers:
            await one()

    return client, close


def _of_cluster(
    settings: ClusterSettings, options: dict[str, Any]
) -> tuple[Client, Callable[[], Awaitable[None]]]:
    # What a cluster's client does not take, and its connections do.
    beside: dict[str, Any] = {
        name: options.pop(name) for name in ("parser_class", "ssl_password") if name in options
    }
    client = RedisCluster(
        startup_nodes=[ClusterNode(one.host, one.port) for one in settings.addresses],
        ssl=settings.tls,
        require_full_coverage=False,
        max_connections=2 * CONNECTIONS,
        **options,
    )
    for held in (client.connection_kwargs, *(node.connection_kwargs for node in client.startup_nodes)):
        held.update(beside)
    if settings.tls:
        client.connection_kwargs["connection_class"] = TlsConnection
        for node in client.startup_nodes:
            node.connection_class = TlsConnection
    # All servers of the cluster have the same table.
    client.response_callbacks["CLUSTER SLOTS"] = bounded_slots
    return client, client.aclose


def _closer(client: Redis, pool: ConnectionPool) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await client.aclose()
        await pool.disconnect()

    return close
