"""
Programs of the operator that are run for us: an argument list and never a shell, a small environment, a time limit.

Owns how they are started, bounded and ended. What they are for, and what a failure means, is the caller's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping

from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass

# What is kept of a program's last words; the rest is read and let go.
MAX_OUTPUT = 4096
# Our own PATH may lead through folders of whoever started us.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOLD = 400
# What a program wrote right before its end is waited for so long, where a child of it keeps the pipe open.
_LAST_WORDS_S = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How a program ended: its exit status (negative = by a signal), and its last words, fit for a log line.
    """

    status: int
    words: str


async def run_program(argv: tuple[str, ...], environment: Mapping[str, str], *, timeout_s: float) -> Ended:
    """
    Run a program and wait for its end.

    By default it sees `PATH`, `LANG` and `TZ` and nothing else of our environment, which may hold secrets. Its own
    end counts: a child that it leaves behind, a daemon say, goes on and is not waited for. Not checked: who may
    write to the program's file.

    Args:
        argv: program and arguments.
        environment: what it sees besides.
        timeout_s: then it is killed with all that it started.

    Returns:
        How it ended.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it did not end in time.

    """
    kept = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
    async with _listening() as (words, writing):
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env={"PATH": PATH, **kept, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(timeout_s):
                status = await process.wait()
        finally:
            if process.returncode is None:
                # With all that it started: it is the leader of a session of its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        await words.end()
    return Ended(status=status, words=printable(words.last.decode(errors="replace").strip()[-_TOLD:]))


class _Words(asyncio.Protocol):
    """
    What comes out of a pipe; its end alone is kept.
    """

    def __init__(self) -> None:
        self.last = b""
        self._ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.last = (self.last + data)[-MAX_OUTPUT:]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ended.set()

    async def end(self) -> None:
        """
        Wait for the end of the pipe, but not for those who keep it open.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._ended.wait()


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[tuple[_Words, int]]:
    """
    A pipe of our own, whose writing end the caller closes.

    asyncio's would count the program as alive for as long as a child of it holds the other end.
    """
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    transport, words = await loop.connect_read_pipe(_Words, os.fdopen(reading, "rb", buffering=0))
    try:
        yield words, writing
    finally:
        transport.close()
