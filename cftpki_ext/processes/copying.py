"""
Copies of large octets for another process, made beside the event loop.

Owns what becomes of one that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import os

from cftpki_ext.processes.memory_files import memory_file


async def memory_file_in_thread(raw: bytes) -> int:
    """
    See `memory_file`. Copying a list of fifty megabytes takes as long as a handshake may.

    Args:
        raw: the octets.

    Returns:
        The descriptor, the caller's to close. Where the caller is cancelled meanwhile, it is closed.

    Raises:
        OSError: see `memory_file`.

    """
    making = asyncio.get_running_loop().run_in_executor(None, memory_file, raw)
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(_close)
        raise


def _close(made: asyncio.Future[int]) -> None:
    if not made.cancelled() and made.exception() is None:
        os.close(made.result())
