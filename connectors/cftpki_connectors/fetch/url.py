"""
What a URL is: a strict grammar, and the parts of what passes it.

Pure: no DNS, no socket. Whether a host may be asked is `guard`'s business.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass

Address = IPv4Address | IPv6Address

# Longer ones are seen only in attacks; an OCSP GET adds at most 255 bytes to a location.
URL_BYTES = 2048
# Those that were taken apart lately: a CA names a few locations in thousands of certificates.
_REMEMBERED = 512

# Scheme, authority, path and query. Visible ASCII only, neither backslash nor fragment, nothing in the
# authority but host and port: whatever parsers disagree about is not in the grammar.
_URL = re.compile(
    r"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!$-;=?-Z_a-z~|\[\]]*)?"
)
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[Xx][0-9A-Fa-f]*")


class ForbiddenUrlError(InputError):
    """
    The URL, its host or an address of it is not allowed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    A URL that was taken apart: `host` is a lower-case name or a canonical address, `target` path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def address(self) -> Address | None:
        """
        The address where the host is written as one.
        """
        return literal(self.host)

    @property
    def authority(self) -> str:
        """
        Host, and port where it is not the scheme's own, as a request's Host field says them (RFC 9110 7.2).
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """
        Scheme, host and port: what connections, breakers and bulkheads are told apart by.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """
        The URL without userinfo or fragment.
        """
        return self.origin + self.target


@lru_cache(maxsize=_REMEMBERED)
def literal(host: str) -> Address | None:
    """
    The address where a host is written as one.
    """
    try:
        return ip_address(host)
    except ValueError:
        return None


@lru_cache(maxsize=_REMEMBERED)
def parse_url(url: str) -> Target:
    """
    Take a URL apart by a grammar that leaves nothing for parsers to disagree about (RFC 3986, a subset).

    Refused are other schemes, credentials, control and non-ASCII characters, backslashes, fragments, empty or
    trailing-dot labels, and numbers that some resolvers take for an address (`127.1`, `0x7f.1`, `2130706433`).
    Whether the host may be asked is not looked at.

    Args:
        url: at most 2048 characters.

    Returns:
        The parts, host in lower case, the port filled in, the path at least `/`.

    Raises:
        ForbiddenUrlError: for anything outside the grammar.

    """
    if len(url) > URL_BYTES:
        msg = f"longer than {URL_BYTES} characters"
        raise ForbiddenUrlError(msg)
    match = _URL.fullmatch(url)
    if match is None:
        msg = "not a plain http(s) URL"
        raise ForbiddenUrlError(msg)
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        msg = f"port {port} does not exist"
        raise ForbiddenUrlError(msg)
    target = match["target"] or "/"
    if target.startswith("?"):
        target = "/" + target
    return Target(scheme=scheme, host=host_of(match["six"], match["host"]), port=port, target=target)


def host_of(six: str | None, host: str | None) -> str:
    """
    The canonical host of a URL's authority part.

    Args:
        six: what stood in brackets.
        host: what stood there otherwise.

    Returns:
        A lower-case name, or an address.

    Raises:
        ForbiddenUrlError: neither.

    """
    if six is not None:
        try:
            return str(IPv6Address(six))
        except ValueError as error:
            msg = "not an IPv6 address"
            raise ForbiddenUrlError(msg) from error
    labels = (host or "").lower().split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(".".join(labels)))
        except ValueError as error:
            msg = "a number that is no dotted-quad address"
            raise ForbiddenUrlError(msg) from error
    if not all(_LABEL.fullmatch(label) for label in labels):
        msg = "not a host name"
        raise ForbiddenUrlError(msg)
    return ".".join(labels)
