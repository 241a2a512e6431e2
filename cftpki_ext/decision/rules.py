"""
Which rule applies to a session. Owns the order of specificity and the search for overlapping rules.

Pure. Order (docs/protocol.md, "Rules"): the direction must fit and every condition that a rule names must hold; of
those, the longest network prefix wins, then a named profile, then a named port.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from cftpki_ext.core.settings import Network, Rule
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction

_ANY_NETWORK = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleKey:
    """
    What a session is matched by. `remote` is the address as the host wrote it, empty where it does not say.

    `port` is the listening port in server mode and the remote port in client mode.
    """

    direction: Direction
    profile: str | None
    remote: str
    port: int


def match(rules: Sequence[Rule], key: RuleKey) -> Rule | None:
    """
    The rule that applies.

    A remote address that the host did not give matches only rules without networks; one that is no address
    matches nothing at all, so that a garbled address never falls through to a laxer rule. An IPv4 address in
    IPv6 clothes (`::ffff:192.0.2.1`) counts as the IPv4 address.

    Args:
        rules: in the order of the configuration, which decides between equals (`overlaps` finds those).
        key: the session's properties.

    Returns:
        The most specific matching rule, `None` where none matches.

    """
    address = None
    if key.remote:
        try:
            address = _plain(key.remote)
        except ValueError:
            return None
    best: tuple[tuple[int, bool, bool], Rule] | None = None
    for rule in rules:
        if rule.direction is not key.direction:
            continue
        if rule.profile is not None and rule.profile != key.profile:
            continue
        if rule.port is not None and rule.port != key.port:
            continue
        prefix = _prefix(rule.networks, address)
        if prefix is None:
            continue
        rank = (prefix, rule.profile is not None, rule.port is not None)
        if best is None or rank > best[0]:
            best = (rank, rule)
    return None if best is None else best[1]


def overlaps(rules: Sequence[Rule]) -> list[tuple[Rule, Rule]]:
    """
    Pairs of rules that some session matches with equal rank, so that only their order would decide.

    Args:
        rules: in the order of the configuration.

    Returns:
        Each pair once, the earlier rule first; empty when every session has one most specific rule.

    """
    return [
        (first, second)
        for index, first in enumerate(rules)
        for second in rules[index + 1 :]
        if first.direction is second.direction
        and first.profile == second.profile
        and first.port == second.port
        and _same_network(first, second)
    ]


def _same_network(first: Rule, second: Rule) -> bool:
    # Two CIDR blocks of one prefix length are equal or disjoint, so a tie needs one that both name.
    if not first.networks or not second.networks:
        return not first.networks and not second.networks
    return not set(first.networks).isdisjoint(second.networks)


def _prefix(networks: Sequence[Network], address: IPv4Address | IPv6Address | None) -> int | None:
    if not networks:
        return _ANY_NETWORK
    if address is None:
        return None
    return max((n.prefixlen for n in networks if n.version == address.version and address in n), default=None)


def _plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:
            return IPv6Address(int(address))
    return address
