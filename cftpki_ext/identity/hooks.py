"""
Programs that are run when a new generation is in force: argument lists, no shell, a small environment.

Owns how they are started, bounded and reported. A failure is repeated by the manager and never issues anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

from cftpki_ext.identity.generations import Generation
from cftpki_ext.settings import HookRules
from cftpki_ext.text import printable

# What is kept of a failed hook's last words.
MAX_OUTPUT = 400
# The pipe is read this far and no further; a hook that floods is told by its status alone.
MAX_READ = 64 * 1024
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run_hooks(rules: HookRules, identity: str, generation: Generation) -> str | None:
    """
    Run all hooks of an identity, one after the other, until one fails.

    They see `CFTPKI_IDENTITY`, `CFTPKI_GENERATION`, `CFTPKI_DIRECTORY` (holding key.pem and chain.pem),
    `CFTPKI_SERIAL` and `CFTPKI_NOT_AFTER`, and nothing of our own environment but `LANG` and `TZ`.

    Args:
        rules: the commands and their time limit.
        identity: its name.
        generation: that is in force.

    Returns:
        `None` where all ended with status 0, else what went wrong, in one line.

    """
    environment = {
        "PATH": _PATH,
        **{name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ},
        "CFTPKI_IDENTITY": identity,
        "CFTPKI_GENERATION": str(generation.number),
        "CFTPKI_DIRECTORY": str(generation.path),
        "CFTPKI_SERIAL": generation.leaf.serial_hex,
        "CFTPKI_NOT_AFTER": generation.ends.isoformat(),
    }
    for command in rules.commands:
        error = await _run(command, environment, rules.timeout.total_seconds())
        if error is not None:
            return printable(f"{command[0]}: {error}")
    return None


async def _run(command: tuple[str, ...], environment: Mapping[str, str], timeout_s: float) -> str | None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return (error.strerror or str(error)).lower()
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while process.stdout is not None and (piece := await process.stdout.read(4096)):
                output += piece[: max(0, MAX_READ - len(output))]
            status = await process.wait()
    except TimeoutError:
        return f"no end within {timeout_s:g} s"
    finally:
        if process.returncode is None:
            # With all that it started: it is the leader of a session of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status == 0:
        return None
    said = output[-MAX_OUTPUT:].decode(errors="replace").strip()
    return f"status {status}" + (f": {said}" if said else "")
