"""
Which URLs and addresses may be asked: a strict URL grammar, and one trust set's permissions.

Pure: no DNS, no socket. Everything that is not clearly allowed is refused.

More than 400 lines: the grammar of URLs and what is allowed by it are one argument.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import Network, TrustSet
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509.certificate import parse_certificate
from cftpki_ext.x509.distribution import locations

Address = IPv4Address | IPv6Address

# Longer ones are seen only in attacks; an OCSP GET adds at most 255 bytes to a location.
URL_BYTES = 2048

# Scheme, authority, path and query. Visible ASCII only, neither backslash nor fragment, nothing in the
# authority but host and port: whatever parsers disagree about is not in the grammar.
_URL = re.compile(
    r"(?P<scheme>[Hh][Tt][Tt][Pp][Ss]?)://"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!$-;=?-Z_a-z~|\[\]]*)?"
)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_FIELD = re.compile(r"\{[a-z_]+\}")
_NUMBER = re.compile(r"[0-9]+|0[Xx][0-9A-Fa-f]*")

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
        return _literal(self.host)

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


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


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
    port = int(match["port"]) if match["port"] else (443 if scheme == "https" else 80)
    if not 0 < port < 65536:
        msg = f"port {port} does not exist"
        raise ForbiddenUrlError(msg)
    target = match["target"] or "/"
    if target.startswith("?"):
        target = "/" + target
    return Target(scheme=scheme, host=_host(match["six"], match["host"]), port=port, target=target)


def _host(six: str | None, host: str | None) -> str:
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
    the system's do.
    """

    names: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()
    literals: frozenset[tuple[Address, int | None]] = frozenset()
    hosts: frozenset[Address] = frozenset()
    ranges: tuple[Network, ...] = ()
    networks: tuple[Network, ...] = ()
    proxy: str | None = None
    https_roots: tuple[bytes, ...] = ()

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
            self._check_literal(address, target.port)
        elif not self._named(target.host) and (not self.ranges or self.proxy is not None):
            msg = f"host {target.host!r} is not in allow_hosts"
            raise ForbiddenUrlError(msg)

    def _check_literal(self, address: Address, port: int) -> None:
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
        if _literal(host) is not None:
            self._check_literal(address, port)
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
    return _guard_of(
        certificates=trust.anchors + trust.intermediates,
        urls=(*trust.ocsp_urls, *trust.crl_urls, *_template(trust)),
        allow_hosts=trust.allow_hosts,
        networks=trust.allow_networks,
        proxy=trust.proxy,
        https_roots=trust.https_roots,
        compat=trust.compat,
    )


@functools.lru_cache(maxsize=256)  # as many as trust sets, a few generations of the configuration over
def _guard_of(
    *,
    certificates: tuple[bytes, ...],
    urls: tuple[str, ...],
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
    for der in certificates:
        for target in _targets(_locations(der, compat)):
            if target.address is None:
                names.add(target.host)
            else:
                hosts.add(target.address)
    for entry in allow_hosts:
        address = _literal(entry.strip("[]"))
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
