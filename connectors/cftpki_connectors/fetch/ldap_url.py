"""
What an LDAP URL is (RFC 4516): where a directory is, and what is asked there.

Pure. A strict grammar as in `url`; only the attributes of RFC 4523 in which CAs publish lists and certificates. Whether
the host may be asked is `guard`'s business.
"""

from __future__ import annotations

import enum
import re
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

import sansldap

from cftpki_connectors.fetch.url import URL_BYTES, ForbiddenUrlError, Target, host_of
from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.values import dataclass

SCHEMES = ("ldap://", "ldaps://")
_PORTS = {"ldap": 389, "ldaps": 636}
# Filters in CAs' locations name one object class; AND, OR and NOT within each other so deep are none of a CA's.
FILTER_BYTES = 512
FILTER_DEPTH = 16
# A search with the values of a certificate, each octet of them percent-encoded and escaped at the worst.
SEARCH_CHARACTERS = 64 * 1024
# Lists of users, of CAs, and deltas, each with and without an option.
ATTRIBUTES = 6

# As in `url`: visible ASCII, neither backslash nor fragment, nothing in the authority but host and port. There may be
# no host at all (AD CS writes `ldap:///CN=…`): then a configured server is meant.
_URL = re.compile(
    r"(?P<scheme>[Ll][Dd][Aa][Pp][Ss]?)://"
    r"(?:(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>[0-9]{1,5}))?)?"
    r"(?:/(?P<rest>[!$-;=?-Z_a-z~|]*))?"
)
_SERVER = re.compile(r"[Ll][Dd][Aa][Pp][Ss]?://[^/?]+/?")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Published(enum.Enum):
    """
    What a CA publishes in its entry.
    """

    LISTS = "revocation lists"
    CERTIFICATES = "CA certificates"


# RFC 4523 section 2, and the same by their identifiers.
_ATTRIBUTES = MappingProxyType(
    {
        "certificaterevocationlist": Published.LISTS,
        "authorityrevocationlist": Published.LISTS,
        "deltarevocationlist": Published.LISTS,
        "cacertificate": Published.CERTIFICATES,
        "2.5.4.39": Published.LISTS,
        "2.5.4.38": Published.LISTS,
        "2.5.4.53": Published.LISTS,
        "2.5.4.37": Published.CERTIFICATES,
    }
)
_DEFAULTS = MappingProxyType(
    {
        Published.LISTS: ("certificateRevocationList;binary",),
        Published.CERTIFICATES: ("cACertificate;binary",),
    }
)


class Scope(enum.IntEnum):
    """
    Which entries are meant (RFC 4511 4.5.1.2).
    """

    BASE = 0
    ONE = 1
    SUB = 2


_SCOPES = {"": Scope.BASE, "base": Scope.BASE, "one": Scope.ONE, "sub": Scope.SUB}


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapUrl:
    """
    An LDAP URL that was taken apart; `at` is `None` where it names no host.
    """

    at: Target | None
    dn: str
    attributes: tuple[str, ...]
    scope: Scope
    filter: sansldap.LDAPFilter


def is_ldap(url: str) -> bool:
    """
    Whether a location is one of LDAP, whatever else it is.
    """
    return url[:8].lower().startswith(SCHEMES)


def parse_ldap_url(url: str, wanted: Published) -> LdapUrl:
    """
    Take an LDAP URL apart (RFC 4516 section 2).

    By default the scope is the entry itself and the filter any entry; without attributes those of RFC 4523 are meant
    in which CAs publish what is wanted. A filter without its parentheses, as AD CS writes it, is read. Refused are
    other attributes, critical extensions, a distinguished name or filter that holds control characters or is no UTF-8,
    and whatever `url.parse_url` refuses of an authority part.

    Args:
        url: at most 2048 characters.
        wanted: what is asked for.

    Returns:
        The parts; the port is filled in where a host is named.

    Raises:
        ForbiddenUrlError: for anything outside the grammar.

    """
    match = _match(url)
    parts = (match["rest"] or "").split("?")
    if len(parts) > 5:
        msg = "an LDAP URL with more than four question marks"
        raise ForbiddenUrlError(msg)
    dn, attributes, scope, text, extensions = (*parts, "", "", "", "", "")[:5]
    if any(_text(one, "an extension").startswith("!") for one in extensions.split(",")):
        msg = "has a critical extension, and none is known (RFC 4516 section 2)"
        raise ForbiddenUrlError(msg)
    if scope.lower() not in _SCOPES:
        msg = f"the scope {excerpt(scope, 20)!r} is none of base, one and sub"
        raise ForbiddenUrlError(msg)
    return LdapUrl(
        at=_target(match),
        dn=_text(dn, "the distinguished name"),
        attributes=_attributes(attributes, wanted),
        scope=_SCOPES[scope.lower()],
        filter=_filter(_text(text, "the filter")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """
    A search at configured servers.
    """

    dn: str
    attributes: tuple[str, ...]
    scope: Scope
    filter: sansldap.LDAPFilter


def parse_search(url: str) -> Search:
    """
    Take one of our own searches apart: an LDAP URL without a host, with all its parts (`cftpki_ext.directory.search`).

    Values in it are a partner's, each escaped; what the filter is made of is an administrator's.

    Args:
        url: at most 64 KiB.

    Returns:
        The parts.

    Raises:
        ForbiddenUrlError: it is none.

    """
    parts = url.removeprefix("ldap:///").split("?")
    if len(url) > SEARCH_CHARACTERS or not url.startswith("ldap:///") or len(parts) != 4:
        msg = "is no search of ours"
        raise ForbiddenUrlError(msg)
    dn, attributes, scope, text = (_text(part, "a part of the search") for part in parts)
    if scope not in _SCOPES or not scope:
        msg = f"the scope {excerpt(scope, 20)!r} is none of base, one and sub"
        raise ForbiddenUrlError(msg)
    try:
        found = sansldap.LDAPFilter.from_string(text)
    except (ValueError, RecursionError) as error:
        msg = "the filter is none (RFC 4515)"
        raise ForbiddenUrlError(msg) from error
    return Search(dn=dn, attributes=tuple(attributes.split(",")), scope=_SCOPES[scope], filter=found)


def parse_server(url: str) -> Target:
    """
    Take the address of a directory server apart: `ldap://host[:port]` or `ldaps://host[:port]`.

    Args:
        url: as an administrator wrote it.

    Returns:
        The parts, the port filled in, the path empty.

    Raises:
        ForbiddenUrlError: it is none, or says more than where the server is.

    """
    target = _target(_match(url)) if _SERVER.fullmatch(url) else None
    if target is None:
        msg = "no address of a directory server: ldap://host or ldaps://host, with a port or without"
        raise ForbiddenUrlError(msg)
    return target


def target_of(url: str) -> Target | None:
    """
    The server that a location of LDAP names, `None` where it names none or is no such location.
    """
    try:
        return _target(_match(url))
    except ForbiddenUrlError:
        return None


def attribute_is(description: str, wanted: Published) -> bool:
    """
    Whether an attribute of an entry is one in which CAs publish what is wanted, with options or without.
    """
    return _ATTRIBUTES.get(description.lower().partition(";")[0]) is wanted


def _match(url: str) -> re.Match[str]:
    if len(url) > URL_BYTES:
        msg = f"longer than {URL_BYTES} characters"
        raise ForbiddenUrlError(msg)
    match = _URL.fullmatch(url)
    if match is None:
        msg = "not a plain LDAP URL"
        raise ForbiddenUrlError(msg)
    return match


def _target(match: re.Match[str]) -> Target | None:
    if match["six"] is None and match["host"] is None:
        return None
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        msg = f"port {port} does not exist"
        raise ForbiddenUrlError(msg)
    return Target(scheme=scheme, host=host_of(match["six"], match["host"]), port=port, target="")


def _text(part: str, what: str) -> str:
    """
    A part with its percent-encoding resolved: UTF-8 without control characters.
    """
    if _PERCENT.search(part):
        msg = f"{what} has a percent sign that encodes nothing"
        raise ForbiddenUrlError(msg)
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        msg = f"{what} is no UTF-8"
        raise ForbiddenUrlError(msg) from error
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
        msg = f"{what} holds control characters"
        raise ForbiddenUrlError(msg)
    return text


def _attributes(part: str, wanted: Published) -> tuple[str, ...]:
    if not part:
        return _DEFAULTS[wanted]
    names = tuple(dict.fromkeys(_text(name, "an attribute") for name in part.split(",")))
    if len(names) > ATTRIBUTES:
        msg = f"names more than {ATTRIBUTES} attributes"
        raise ForbiddenUrlError(msg)
    for name in names:
        kind, _, option = name.lower().partition(";")
        if _ATTRIBUTES.get(kind) is not wanted or option not in {"", "binary"}:
            msg = (
                f"the attribute {excerpt(name, 40)!r} is none in which CAs publish {wanted.value} (RFC 4523)"
            )
            raise ForbiddenUrlError(msg)
    return names


def _filter(text: str) -> sansldap.LDAPFilter:
    if not text:
        return sansldap.FilterPresent("objectClass")
    if not text.startswith("("):
        text = f"({text})"
    if len(text.encode()) > FILTER_BYTES or text.count("(") > FILTER_DEPTH:
        msg = f"the filter is longer than {FILTER_BYTES} octets or has more than {FILTER_DEPTH} parts"
        raise ForbiddenUrlError(msg)
    try:
        return sansldap.LDAPFilter.from_string(text)
    except ValueError as error:
        msg = "the filter is none (RFC 4515)"
        raise ForbiddenUrlError(msg) from error
