"""
Proof of activation: a handshake with the host's own listener, and the leaf that it serves.

Owns the comparison of what is in force with what is seen. Nothing is trusted by it: no verification is made,
because the question is only whose certificate comes.
"""

from __future__ import annotations

import asyncio
import ssl
from hashlib import sha256

from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.support.failures import reason_of

# A listener on this machine or beside it.
HANDSHAKE_S = 10.0
# Hosts have a new generation a moment after its files are there.
_PATIENCE_S = 2.0
_LOOK_AGAIN_S = 0.1


async def served_fingerprint(
    host: str, port: int, *, server_name: str | None, timeout_s: float = HANDSHAKE_S
) -> str:
    """
    The SHA-256 of the certificate that a listener serves now.

    Args:
        host: its address.
        port: its port.
        server_name: sent as SNI.
        timeout_s: for connection and handshake.

    Returns:
        Lower-case hexadecimal.

    Raises:
        OSError: no connection, no handshake in time.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # we look at what is there, and believe nothing of it
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=server_name or "", ssl_handshake_timeout=timeout_s
        )
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return sha256(der).hexdigest()


async def observe(
    listeners: tuple[tuple[str, int], ...], generation: Generation, *, server_name: str | None
) -> str | None:
    """
    Look whether every listener serves the generation.

    A listener that asks for a client certificate is seen too where it speaks TLS 1.3; in 1.2 it ends the
    handshake before it can be looked at, which is reported as it is.

    Args:
        listeners: address and port.
        generation: that is in force.
        server_name: sent as SNI.

    Returns:
        `None` where all do, else which one does not, and what it serves. One that serves another certificate is looked at
        again for 2 s: what listens has been told of the new one a moment ago.

    """
    wanted = generation.leaf.fingerprint
    loop = asyncio.get_running_loop()
    patient_until = loop.time() + _PATIENCE_S
    for host, port in listeners:
        try:
            seen = await served_fingerprint(host, port, server_name=server_name)
            while seen != wanted and loop.time() < patient_until:
                await asyncio.sleep(_LOOK_AGAIN_S)
                seen = await served_fingerprint(host, port, server_name=server_name)
        except ConnectionRefusedError:
            return f"{host}:{port} (observe): no handshake: nothing listens there"
        except (OSError, ValueError) as error:
            return f"{host}:{port} (observe): no handshake: {reason_of(error)}"
        if seen != wanted:
            return f"{host}:{port} (observe) serves {seen[:16]}…, in force is {wanted[:16]}…"
    return None
