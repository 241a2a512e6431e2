"""
Programs that are run when a new generation is in force.

Owns what they are told and how they are reported. A failure is repeated by the manager and never issues anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from cftpki_ext.core.escape import printable
from cftpki_ext.core.identity_settings import HookRules
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.support.programs import run_program


async def run_hooks(rules: HookRules, identity: str, generation: Generation) -> str | None:
    """
    Run all hooks of an identity, one after the other, until one fails.

    They see `CFTPKI_IDENTITY`, `CFTPKI_GENERATION`, `CFTPKI_DIRECTORY` (holding key.pem and chain.pem),
    `CFTPKI_SERIAL` and `CFTPKI_NOT_AFTER`.

    Args:
        rules: the commands and their time limit.
        identity: its name.
        generation: that is in force.

    Returns:
        `None` where all ended with status 0, else what went wrong, in one line.

    """
    environment = {
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
        ended = await run_program(command, environment, timeout_s=timeout_s)
    except TimeoutError:
        return f"no end within {timeout_s:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if ended.status == 0:
        return None
    return f"status {ended.status}" + (f": {ended.words}" if ended.words else "")
