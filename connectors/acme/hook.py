"""
Answers that somebody else's program publishes.

Owns how that program is called: an argument list and never a shell, a bounded environment, a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from cftpki_ext.ports import Clock
from connectors._ca_http import printable
from connectors.acme.solver import SolverError

# What of its error output is kept for the operator.
MAX_OUTPUT_BYTES = 4096
# Where programs are looked for; the environment of the service itself is not handed on, it may hold secrets.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Hook:
    """
    A program called as `argv… present|cleanup NAME VALUE`, with the same in its environment.

    `CFTPKI_ACTION`, `CFTPKI_CHALLENGE`, `CFTPKI_IDENTIFIER`, `CFTPKI_NAME`, `CFTPKI_VALUE` and, for http-01,
    `CFTPKI_TOKEN` are all there is besides `PATH`. Success is exit status 0.

    Args:
        argv: program and first arguments.
        timeout_s: then the program and all its children are killed.
        clock: for the deadline.

    """

    def __init__(self, argv: tuple[str, ...], timeout_s: float, clock: Clock) -> None:
        self._argv = argv
        self._timeout_s = timeout_s
        self._clock = clock

    async def run(self, action: str, name: str, value: str, *, deadline: float, **more: str) -> None:
        """
        Call the program and wait for it.

        Raises:
            SolverError: it cannot be started, failed, or took too long.

        """
        named = {"action": action, "name": name, "value": value, **more}
        environment = {"PATH": _PATH, **{f"CFTPKI_{key.upper()}": text for key, text in named.items()}}
        left_s = min(self._timeout_s, max(deadline - self._clock.monotonic(), 0))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                action,
                name,
                value,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            detail = f"hook {printable(self._argv[0])!r} cannot be started: {error.strerror or error}"
            raise SolverError(detail, permanent=True) from error
        try:
            async with asyncio.timeout(left_s):
                said = await _last_words(process)
                status = await process.wait()
        except TimeoutError:
            detail = f"hook {printable(self._argv[0])!r} did not end within {left_s:.0f} s"
            raise SolverError(detail) from None
        finally:
            # The program may have left children behind, or not have ended at all.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if status != 0:
            detail = f"hook {printable(self._argv[0])!r} {action} ended with status {status}: {said}"
            raise SolverError(detail)


async def _last_words(process: asyncio.subprocess.Process) -> str:
    kept = b""
    if process.stderr is not None:
        while part := await process.stderr.read(MAX_OUTPUT_BYTES):
            kept = (kept + part)[-MAX_OUTPUT_BYTES:]
    lines = kept.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1]) if lines else "no words"
