"""
Answers that somebody else's program publishes.

Owns how that program is called: an argument list and never a shell, a bounded environment, a time limit.
"""

from __future__ import annotations

from cftpki_connectors.acme.solver import SolverError
from cftpki_connectors.ca.client import printable
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.programs import run_program


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
        environment = {f"CFTPKI_{key.upper()}": text for key, text in named.items()}
        left_s = min(self._timeout_s, max(deadline - self._clock.monotonic(), 0))
        program = printable(self._argv[0])
        try:
            ended = await run_program((*self._argv, action, name, value), environment, timeout_s=left_s)
        except TimeoutError:
            detail = f"hook {program!r} did not end within {left_s:.0f} s"
            raise SolverError(detail) from None
        except OSError as error:
            detail = f"hook {program!r} cannot be started: {error.strerror or error}"
            raise SolverError(detail, permanent=True) from error
        if ended.status != 0:
            said = ended.words or "no words"
            detail = f"hook {program!r} {action} ended with status {ended.status}: {said}"
            raise SolverError(detail)
