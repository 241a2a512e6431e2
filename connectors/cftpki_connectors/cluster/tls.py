"""
TLS towards the server that nodes share: with `roots` only they say who it is.

Owns the context of a connection: redis-py's own has all roots of the system in it, and adds what is configured.
"""

from __future__ import annotations

import ssl
from typing import Any

from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection


class TlsConnection(SSLConnection):
    """
    A connection over TLS whose only anchors are those that are configured; the system's where there are none.
    """

    def __init__(self, **options: Any) -> None:
        """
        See redis-py.
        """
        super().__init__(**options)
        if self.ssl_context.ca_data:
            self.ssl_context.context = _context(self.ssl_context)


class WatchedTlsConnection(SentinelManagedConnection, TlsConnection):
    """
    The same to a server that Sentinels name.
    """


def _context(held: RedisSSLContext) -> ssl.SSLContext:
    # Verifies the chain and the host's name, and has no root.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = held.min_version or ssl.TLSVersion.TLSv1_2
    for flag in held.include_verify_flags or ():
        context.verify_flags |= flag
    for flag in held.exclude_verify_flags or ():
        context.verify_flags &= ~flag
    context.load_verify_locations(cadata=held.ca_data)
    if held.certfile:
        context.load_cert_chain(held.certfile, held.keyfile, held.password)
    return context
