"""
Connections to one CA by files that may change: its roots, our own certificate, the proxy's password.

Owns which connections are used now, and ends those that were used before once nothing needs them.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from cftpki_connectors.ca.client import CaClient
from cftpki_connectors.ca.options import with_password
from cftpki_connectors.support.secret_files import MAX_PASSWORD_BYTES, secret_bytes
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Held
from cftpki_ext.ports.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """
    What connections are made by: the CA's roots (those of the system where there are none), our certificate, the proxy.
    """

    roots: tuple[bytes, ...] | None
    identity: Held | None
    proxy: str | None = field(repr=False)  # with its password


class Connections:
    """
    The client by the surroundings as they are now; another one when they change.

    Args:
        clock: for deadlines.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made_by: tuple[object, ...] | None = None
        self._current: CaClient | None = None
        self._retired: list[CaClient] = []

    @property
    def current(self) -> CaClient | None:
        """
        The client that was given last.
        """
        return self._current

    def by(self, surroundings: Surroundings) -> CaClient:
        """
        The client that goes with some surroundings. Orders under way go on with the one that they have.
        """
        identity = surroundings.identity
        mark = (surroundings.roots, surroundings.proxy, None if identity is None else identity.chain)
        if self._current is None or self._made_by != mark:
            if self._current is not None:
                self._retired.append(self._current)
            self._made_by = mark
            self._current = CaClient(
                clock=self._clock, roots=surroundings.roots, identity=identity, proxy=surroundings.proxy
            )
        return self._current

    async def aclose(self) -> None:
        """
        Close all.
        """
        if self._current is not None:
            self._retired.append(self._current)
            self._current = None
        while self._retired:
            await self._retired.pop().aclose()


def with_password_in(proxy: str | None, password_file: Path | None) -> str | None:
    """
    The proxy's URL with the password of its file, without the end of line. Blocking.

    Args:
        proxy: as configured; `None` where there is none.
        password_file: `None` where it needs none.

    Returns:
        The URL, which is a secret where there is a password.

    Raises:
        InputError: the file cannot be read, or others can read it.

    """
    if proxy is None or password_file is None:
        return proxy
    password = secret_bytes(password_file, "proxy_password_file", MAX_PASSWORD_BYTES)
    return with_password(proxy, password.rstrip(b"\r\n"))
