"""
The server that nodes share, tried: a probe is put there and found again, and it is asked without a password.
"""

from __future__ import annotations

import secrets
import time
from datetime import datetime

from cftpki_connectors.cluster.clients import unauthenticated
from cftpki_connectors.cluster.server import SharedServer
from cftpki_ext.core.cluster import ClusterSettings, NodeRow, Probe
from cftpki_ext.ports.clock import Clock

# Of a probe: longer than it takes to look.
_KEPT_S = 10
_NAME = "probe"


async def probe(settings: ClusterSettings, clock: Clock, *, node: str, version: str) -> Probe:
    """
    Try a server as a node uses it.

    Args:
        settings: `[cluster]`.
        clock: the time.
        node: of whom the probe is.
        version: of this program.

    Returns:
        What was learned.

    Raises:
        InputError: a file of a secret cannot be read.

    """
    server = SharedServer(settings, clock)
    begun = time.monotonic()
    try:
        # Told under another name, so that the service of this node is not taken for gone or back.
        row = NodeRow(node=f"{node}.doctor"[:200], version=version, position="0-0", at=clock.now())
        beat = await server.beat(row)
        if beat is None:
            status = server.status()
            return Probe(fault=_text(status["fault"]), refused=_text(status["refused"]))
        kept = await _keeps(server, clock.now())
        took_ms = int((time.monotonic() - begun) * 1000)
        return Probe(
            refused=_text(server.status()["refused"]),
            kept=kept,
            took_ms=took_ms,
            anonymous=await _takes_anybody(settings),
            nodes=tuple(one for one in beat.nodes if not one.node.endswith(".doctor")),
        )
    finally:
        await server.aclose()


async def _keeps(server: SharedServer, now: datetime) -> bool:
    key, octets = f"{_NAME}:{secrets.token_hex(8)}", secrets.token_bytes(32)
    if not await server.put(key, octets, received_at=now, keep_s=_KEPT_S, lease=None):
        return False
    found = await server.find(key)
    return found is not None and found.raw == octets


async def _takes_anybody(settings: ClusterSettings) -> bool | None:
    made = unauthenticated(settings)
    if made is None:
        return None
    client, close = made
    try:
        return await client.ping() is not None
    except Exception:  # noqa: BLE001 - whatever it says, it is no answer to a command
        return False
    finally:
        await close()


def _text(found: object) -> str | None:
    return found if isinstance(found, str) else None
