"""
Finding out which protocols a server speaks: what a plug-in may offer for `cftpki enroller find`, as values and ports.

Owns what a plug-in is handed and what it gives back. Who asks is an adapter in `connectors/`; who shows it is the command.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from cftpki_ext.core.values import dataclass

__all__ = [
    "Explorer",
    "Heard",
    "Key",
    "Recognised",
    "Recognition",
    "Trusted",
    "TrustedBy",
    "placeholder",
]


class TrustedBy(enum.StrEnum):
    """
    Why the server is believed to be who it says.
    """

    SYSTEM = "system"  # the system's trust store
    FILE = "file"  # roots in a file of the operator
    FINGERPRINT = "fingerprint"  # a certificate whose SHA-256 the operator gave
    NOTHING = "nothing"  # plain http: anybody may have answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One key of a ready table `[enroller.NAME]`.

    With `fill` the value is a placeholder, which somebody has to replace. `note` is said beside it, in one line.
    """

    name: str
    value: object  # what TOML has: text, number, truth, a sequence or a mapping of them
    note: str = ""
    fill: bool = False


def placeholder(name: str, what: str, *, note: str = "") -> Key:
    """
    A key that only the operator knows the value of.

    Args:
        name: of the key.
        what: what belongs there, as a noun: "file with the password".
        note: said beside it.

    Returns:
        The key, its value in angle brackets.

    """
    return Key(name=name, value=f"<{what}>", note=note, fill=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """
    By what the server was verified. `file` is the file with the roots, if there is one; `anchors` are these (DER).
    """

    by: TrustedBy
    file: Path | None = None
    anchors: tuple[bytes, ...] = ()
    fingerprint: str | None = None  # 64 hex digits

    def root_keys(self, name: str) -> tuple[Key, ...]:
        """
        The key that names a file with roots, for a table.

        Args:
            name: of the key, as `root_file`.

        Returns:
            Nothing where the system's trust store counts.

        """
        if self.file is not None:
            return (Key(name=name, value=str(self.file)),)
        if self.by is TrustedBy.FINGERPRINT:
            return (placeholder(name, f"PEM file of the certificate with SHA-256 {self.fingerprint}"),)
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """
    An answer of the server, whatever its status. Header names are lower-case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str  # where it came from, after redirects

    @property
    def content_type(self) -> str:
        """
        Lower case, without parameters; empty where there is none.
        """
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Explorer(Protocol):
    """
    What a plug-in asks the server by. Bounded in time, number and size; never sends a credential of ours.

    `url` is what the operator gave, without a slash at the end; `origin` is its scheme, host and port.
    """

    url: str
    origin: str
    trust: Trusted

    async def get(self, url: str) -> Heard | None:
        """
        Ask for a resource; a verified server's redirects are followed as the enrollers' client does.

        Args:
            url: absolute, at the host that the operator named.

        Returns:
            The answer; `None` where nothing usable came, or as much was asked as may be. Why is noted.

        """

    async def post(self, url: str, body: bytes, *, content_type: str) -> Heard | None:
        """
        Ask by a body, where a protocol has nothing that can be had by GET. Must change nothing at the server.

        Args:
            url: absolute, at the host that the operator named.
            body: what is sent; no secret.
            content_type: of the body.

        Returns:
            As `get`.

        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """
    A protocol that the server speaks, and the table that would use it.

    `protocol` is the `type` of the table, `where` the address that names this offer among others, `detail` what was
    seen, in one bounded line. Nothing of the server's own text need be escaped: whoever shows it does.
    """

    protocol: str
    where: str
    detail: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """
    How a plug-in recognises a server that speaks its protocol.

    `look` asks and returns what was recognised, nothing where the server is another one. It raises nothing for what
    a server does. By default it is looked for over https only: `schemes` has "http" too where the protocol's messages
    protect themselves, and the options take such a URL. `root` gets, from a server that is not trusted yet, the certificate (DER) with a SHA-256 that the
    operator gave; whoever calls it compares.
    """

    look: Callable[[Explorer], Awaitable[tuple[Recognised, ...]]]
    schemes: frozenset[str] = frozenset({"https"})
    root: Callable[[Explorer, str], Awaitable[bytes | None]] | None = None
