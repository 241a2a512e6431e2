"""
Whether the key in force can be used: what partners get an alert 80 for must be an alarm, and due at once.

Owns the look at the files, for programs that have no signers. Reads a key when its files have changed, and keeps nothing
of it. The service asks the signers instead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from cftpki_ext.core.errors import KeyUnavailableError, PassingError
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.layout import Site
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.files import is_passing

# Why the key of the generation in force cannot be used, `None` where it can, or where that is not known.
KeyFault = Callable[[Site, Generation], Awaitable[str | None]]
_Mark = tuple[int, ...] | None


class FileKeyFault:
    """
    A `KeyFault` by the files. For one event loop.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, _Mark, _Mark], str | None]] = {}

    async def __call__(self, site: Site, generation: Generation) -> str | None:
        """
        Look at the files; a key whose files are as they were is not read again.

        Only its owner is told: anybody else, root too, may not read what the service can.
        """
        return await asyncio.to_thread(self._look, site, generation)

    def _look(self, site: Site, generation: Generation) -> str | None:
        password_file = site.identity.password_file
        seen = (
            generation.number,
            _mark(generation.path / "key.pem"),
            None if password_file is None else _mark(password_file),
        )
        known = self._known.get(site.identity.name)
        if known is not None and known[0] == seen:
            return known[1]
        fault = None
        try:
            if generation.path.stat().st_uid == os.geteuid():
                generation.key(site.password())
        except KeyUnavailableError as error:
            fault = str(error)
        except OSError as error:
            if is_passing(error):
                msg = f"{generation.path} cannot be read now: {reason_of(error)}"
                raise PassingError(msg) from error
            fault = f"key: {generation.path}: {(error.strerror or str(error)).lower()}"
        self._known[site.identity.name] = seen, fault
        return fault


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode, found.st_uid
