"""
Where receivers of notices may be: the hosts that the configuration names, at addresses that are public or allowed.

The rules are those of fetching (`fetch.guard`): resolved once, every address checked, connected to one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from cftpki_connectors.fetch.guard import Guard
from cftpki_connectors.fetch.resolve import Resolver
from cftpki_connectors.fetch.url import ForbiddenUrlError, literal
from cftpki_ext.core.errors import NotTakenError
from cftpki_ext.core.settings import Network
from cftpki_ext.support.failures import reason_of


def guard_for(
    host: str,
    port: int,
    networks: Sequence[Network],
    *,
    proxy: str | None = None,
    roots: tuple[bytes, ...] = (),
) -> Guard:
    """
    The permissions of one receiver: its own host and port.

    Args:
        host: a name, or an address.
        port: of it.
        networks: those that are not public and that a name may lead to.
        proxy: through which it is reached.
        roots: that vouch for its server (DER).

    Returns:
        The guard.

    """
    address = literal(host)
    return Guard(
        names=frozenset() if address is not None else frozenset({host.lower()}),
        literals=frozenset() if address is None else frozenset({(address, port)}),
        networks=tuple(networks),
        proxy=proxy,
        https_roots=roots,
    )


async def addresses(
    host: str, port: int, guard: Guard, resolver: Resolver
) -> tuple[IPv4Address | IPv6Address, ...]:
    """
    The addresses of a receiver, all of them allowed.

    Args:
        host: a name, or an address.
        port: of it.
        guard: from `guard_for`.
        resolver: finds the addresses of names.

    Returns:
        In the order of the resolver.

    Raises:
        NotTakenError: there is none, or one is not allowed.

    """
    try:
        address = literal(host)
        if address is not None:
            found: tuple[IPv4Address | IPv6Address, ...] = (address,)
        else:
            found = tuple(ip_address(one) for one in await resolver.resolve(host, port))
        for one in found:
            guard.check_address(host.lower(), port, one)
    except ForbiddenUrlError as error:
        raise NotTakenError(str(error)) from error
    except (OSError, ValueError) as error:
        msg = f"{host} cannot be resolved: {reason_of(error)}"
        raise NotTakenError(msg) from error
    return found
