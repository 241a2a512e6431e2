"""
Which URLs and addresses may be asked: one trust set's permissions.

Pure: no DNS, no socket. Everything that is not clearly allowed is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from cftpki_connectors.fetch.ldap_url import is_ldap, target_of
from cftpki_connectors.fetch.url import Address, ForbiddenUrlError, Target, literal, parse_url
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.settings import Network, TrustSet
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509.certificate import parse_certificate
from cftpki_ext.x509.distribution import locations

_FIELD = re.compile(r"\{[a-z_]+\}")

# Not global, whatever a version of the ipaddress module says: carrier NAT, protocol assignments,
# benchmarking, relays and translators that carry an IPv4 address inside, Azure's platform address.
_SPECIAL: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_special(address: Address) -> bool:
    """
    Whether an address is anything but ordinary public unicast (RFC 6890 and what carries IPv4 inside IPv6).
    """
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or any(address in network for network in _SPECIAL if network.version == address.version)
    )


def _forms(address: Address) -> Iterator[Address]:
    """
    The address, and the IPv4 address that it stands for where it is mapped or translated.
    """
    yield address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        elif address.sixtofour is not None:
            yield address.sixtofour
        elif address in _NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(
        form in network for form in _forms(address) for network in networks if form.version == network.version
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """
    Where one trust set may go. By default nowhere.

    `literals` are addresses that the administrator wrote down, with the port where it was in a URL (`None`:
    any); they need no further permission, but only where the URL's host is that very address. `ranges` are
    the CIDRs of `allow_hosts`. Special addresses (private, loopback, link-local, metadata …) count as
    allowed in `networks`, and in ranges that hold nothing but special addresses. `https_roots` vouch for TLS servers; none:
    the system's do. `directories` are names, and addresses with their port, that may be asked by LDAP alone; `None`:
    LDAP is not allowed at all.
    """

    names: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()
    literals: frozenset[tuple[Address, int | None]] = frozenset()
    hosts: frozenset[Address] = frozenset()
    ranges: tuple[Network, ...] = ()
    networks: tuple[Network, ...] = ()
    proxy: str | None = None
    https_roots: tuple[bytes, ...] = ()
    directories: frozenset[str | tuple[Address, int]] | None = None
    _hash: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """
        By what is allowed. Made once: each request looks for what it shares with others of the same permissions.
        """
        if not self._hash:
            parts = (self.names, self.suffixes, self.literals, self.hosts, self.ranges, self.networks)
            self._hash.append(hash((*parts, self.proxy, self.https_roots, self.directories)))
        return self._hash[0]

    @property
    def of_directories(self) -> Guard:
        """
        The permissions for LDAP, which goes through no proxy.
        """
        found = self.directories or frozenset()
        return replace(
            self,
            names=self.names | {one for one in found if isinstance(one, str)},
            literals=self.literals | {one for one in found if not isinstance(one, str)},
            proxy=None,
        )

    def check(self, target: Target) -> None:
        """
        Refuse a URL whose host this trust set does not allow, before anything is resolved.

        Args:
            target: a parsed URL.

        Raises:
            ForbiddenUrlError: with what to allow.

        """
        address = target.address
        if address is not None:
            self._checkliteral(address, target.port)
        elif not self._named(target.host) and (not self.ranges or self.proxy is not None):
            msg = f"host {target.host!r} is not in allow_hosts"
            raise ForbiddenUrlError(msg)

    def _checkliteral(self, address: Address, port: int) -> None:
        if self._written_down(address, port):
            return
        if address not in self.hosts and not _within(address, self.ranges):
            msg = f"address {address} is not in allow_hosts"
            raise ForbiddenUrlError(msg)
        self._check_special(address)

    def check_address(self, host: str, port: int, address: Address) -> None:
        """
        Refuse one address to which an allowed host leads.

        Args:
            host: as in the URL.
            port: as in the URL.
            address: what the host was resolved to, or is.

        Raises:
            ForbiddenUrlError: with what to allow.

        """
        if literal(host) is not None:
            self._checkliteral(address, port)
            return
        if not self._named(host) and not _within(address, self.ranges):
            msg = f"host {host!r} is not in allow_hosts, nor is its address {address}"
            raise ForbiddenUrlError(msg)
        self._check_special(address)

    def _written_down(self, address: Address, port: int) -> bool:
        return (address, None) in self.literals or (address, port) in self.literals

    def _named(self, host: str) -> bool:
        return host in self.names or any(host.endswith(suffix) for suffix in self.suffixes)

    def _check_special(self, address: Address) -> None:
        if not any(is_special(form) for form in _forms(address)):
            return
        ranges = (network for network in self.ranges if _all_special(network))
        if not _within(address, self.networks) and not _within(address, ranges):
            msg = f"address {address} is not public and not in allow_networks"
            raise ForbiddenUrlError(msg)


def _all_special(network: Network) -> bool:
    if network.is_private or network.is_loopback or network.is_link_local:
        return True
    return any(
        network.subnet_of(special)
        for special in _SPECIAL
        if isinstance(network, IPv4Network) and isinstance(special, IPv4Network)
    ) or any(
        network.subnet_of(special)
        for special in _SPECIAL
        if isinstance(network, IPv6Network) and isinstance(special, IPv6Network)
    )


def guard_of(trust: TrustSet) -> Guard:
    """
    The permissions of a trust set.

    By default these are the hosts that its own CA certificates name (AIA, CRL distribution points) and those
    of its configured URLs; `allow_hosts` adds to them. A CA certificate or an entry that cannot be read adds
    nothing; naming it as a fault is the configuration check's work.

    Args:
        trust: the trust set.

    Returns:
        The guard, the same object for the same permissions while it is remembered.

    """
    # A trust set is the same object for thousands of requests, and hashing what it allows takes longer than a look at it.
    known = _guards.get(id(trust))
    if known is not None and known[0] is trust:
        return known[1]
    guard = _guard_of(
        certificates=trust.anchors + trust.intermediates,
        urls=(*trust.ocsp_urls, *trust.crl_urls, *_template(trust)),
        servers=None if trust.ldap is None else trust.ldap.servers,
        allow_hosts=trust.allow_hosts,
        networks=trust.allow_networks,
        proxy=trust.proxy,
        https_roots=trust.https_roots,
        compat=trust.compat,
    )
    _guards.keep(id(trust), (trust, guard), 1)
    return guard


# As many as trust sets, a few generations of the configuration over.
_REMEMBERED = 256
# The trust set beside its guard, so that its identity stays its own.
_guards: Memo[int, tuple[TrustSet, Guard]] = Memo(_REMEMBERED)


@functools.lru_cache(maxsize=_REMEMBERED)
def _guard_of(
    *,
    certificates: tuple[bytes, ...],
    urls: tuple[str, ...],
    servers: tuple[str, ...] | None,
    allow_hosts: tuple[str, ...],
    networks: tuple[Network, ...],
    proxy: str | None,
    https_roots: tuple[bytes, ...],
    compat: frozenset[Leniency],
) -> Guard:
    names: set[str] = set()
    suffixes: set[str] = set()
    literals: set[tuple[Address, int | None]] = set()
    hosts: set[Address] = set()
    ranges: list[Network] = []
    for target in _targets(urls):
        if target.address is None:
            names.add(target.host)
        else:
            literals.add((target.address, target.port))
    directories: set[str | tuple[Address, int]] = set()
    for target in _directories((*urls, *(servers or ()))):
        directories.add(target.host if target.address is None else (target.address, target.port))
    for der in certificates:
        named = _locations(der, compat)
        for target in _targets(named):
            if target.address is None:
                names.add(target.host)
            else:
                hosts.add(target.address)
        directories |= {target.host for target in _directories(named) if target.address is None}
    for entry in allow_hosts:
        address = literal(entry.strip("[]"))
        if address is not None:
            literals.add((address, None))
        elif "/" in entry:
            ranges.extend(_networks(entry))
        elif entry.startswith("*.") and len(entry) > 2:
            suffixes.add(entry[1:].lower())
        else:
            names.add(entry.lower())
    return Guard(
        names=frozenset(names),
        suffixes=frozenset(suffixes),
        literals=frozenset(literals),
        hosts=frozenset(hosts),
        ranges=tuple(ranges),
        networks=networks,
        proxy=proxy,
        https_roots=https_roots,
        directories=None if servers is None else frozenset(directories),
    )


def _template(trust: TrustSet) -> Iterator[str]:
    """
    The REST lookup's address with its fields filled in, where they are all in path and query.
    """
    if trust.rest is not None:
        filled = _FIELD.sub("x", trust.rest.url)
        if (
            filled.partition("://")[2].partition("/")[0]
            == trust.rest.url.partition("://")[2].partition("/")[0]
        ):
            yield filled


def _targets(urls: Iterable[str]) -> Iterator[Target]:
    for url in urls:
        try:
            yield parse_url(url)
        except ForbiddenUrlError:
            continue


def _directories(urls: Iterable[str]) -> Iterator[Target]:
    return (target for url in urls if is_ldap(url) and (target := target_of(url)) is not None)


def _networks(entry: str) -> Iterator[Network]:
    try:
        yield ip_network(entry, strict=False)
    except ValueError:
        return


def _locations(der: bytes, compat: frozenset[Leniency]) -> tuple[str, ...]:
    try:
        certificate = parse_certificate(der, compat=compat)
    except InputError:
        return ()
    points = locations((*certificate.distribution_points, *certificate.freshest_crl))
    return (*certificate.ocsp_urls, *certificate.ca_issuer_urls, *points)
