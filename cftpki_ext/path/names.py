"""
Name constraints along a path: RFC 5280 4.2.1.10, 6.1.3 (b) and (c), 6.1.4 (g).

Owns the permitted and excluded subtrees and their matching by type: a name is looked up in the bases of its type, not
compared with each. One that cannot be judged against a constraint of its type counts as outside.

More than 400 lines: one comparison for each type of name, over one count of their work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from cftpki_ext.core.escape import printable
from cftpki_ext.core.work import COMPARISONS, ELEMENT, Work
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import NameConstraints
from cftpki_ext.x509.general_name import UNREADABLE, GeneralName
from cftpki_ext.x509.name import COMMON_NAME, EMAIL_ADDRESS, Name

# RFC 1035 3.1: a longer text is no host, and nobody has to look for its labels.
_HOST_OCTETS = 253
# Names that one certificate may show outside; the rest is counted.
_SHOWN = 8
_ELLIPSIS = 200
# Parts of distinguished names that are hashed in the time of one operation.
_HASHED = 32
_AT = "comparing names with constraints"

_ADDRESS_OCTETS = (4, 16)

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.IGNORECASE)
_HOST_IN_COMMON_NAME = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+", re.IGNORECASE)
_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_NUMERIC = re.compile(r"[0-9.]+")
_SMTP_UTF8_MAILBOX = bytes.fromhex("06082b06010505070809")


class _Unjudgeable(ValueError):  # noqa: N818  # a signal within this module, never an error to a caller
    """
    The name has no form that a constraint of its type speaks about.
    """


def _host(text: str) -> str:
    """
    A host in lower case.

    Raises:
        _Unjudgeable: it is none.

    """
    if len(text) > _HOST_OCTETS or _HOST.fullmatch(text) is None:
        raise _Unjudgeable
    return text.lower()


def _domains(host: str) -> Iterator[str]:
    """
    What a host lies in, from its parent on.
    """
    at = host.find(".")
    while at >= 0:
        yield host[at + 1 :]
        at = host.find(".", at + 1)


class _Hosts:
    """
    DNS bases: a name is within one that it ends in at a label's edge; the empty one holds everything.
    """

    def __init__(self, *, excluded: bool) -> None:
        self._excluded = excluded
        self._bases: set[str] = set()
        self._below: set[str] = set()  # of bases with a leading dot: subdomains only
        self._parents: set[str] = set()

    def add(self, root: str | bytes | Name) -> None:
        base = str(root).lower()
        if base.startswith("."):  # parsed only under a leniency
            (self._bases if self._excluded else self._below).add(base[1:])
        else:
            self._bases.add(base)
        self._parents.add(base.removeprefix(".").partition(".")[2])

    def holds(self, value: str | bytes | Name) -> bool:
        if not isinstance(value, str):
            raise _Unjudgeable
        wildcard = value.startswith("*.")
        host = _host(value[2:] if wildcard else value)
        own = f"*.{host}" if wildcard else host
        if "" in self._bases or own in self._bases:
            return True
        if any(domain in self._bases or domain in self._below for domain in _domains(own)):
            return True
        # `*.example.com` may turn out to be `evil.example.com`, which an excluded subtree names.
        return self._excluded and wildcard and host in self._parents


class _Mailboxes:
    """
    E-mail bases: a mailbox, all mailboxes of a host, or (with a leading dot) those of the hosts below one.
    """

    def __init__(self, *, excluded: bool) -> None:
        self._excluded = excluded
        self._hosts: set[str] = set()
        self._mailboxes: set[tuple[str, str]] = set()

    def add(self, root: str | bytes | Name) -> None:
        local, at, host = str(root).rpartition("@")
        if at:
            self._mailboxes.add((self._local(local), host.lower()))
        else:
            self._hosts.add(host.lower())

    def holds(self, value: str | bytes | Name) -> bool:
        if not isinstance(value, str):
            raise _Unjudgeable
        local, at, text = value.rpartition("@")
        if not at or not local or "@" in local or '"' in local:
            raise _Unjudgeable
        host = _host(text)
        return (self._local(local), host) in self._mailboxes or _among(host, self._hosts)

    def _local(self, local: str) -> str:
        return local.lower() if self._excluded else local


class _Locations:
    """
    URI bases: a host, or (with a leading dot) the hosts below one.
    """

    def __init__(self, *, excluded: bool) -> None:
        del excluded
        self._hosts: set[str] = set()

    def add(self, root: str | bytes | Name) -> None:
        self._hosts.add(str(root).lower())

    def holds(self, value: str | bytes | Name) -> bool:
        if not isinstance(value, str):
            raise _Unjudgeable
        found = _AUTHORITY.match(value)
        if found is None or "\\" in found[1]:  # browsers end the authority there, RFC 3986 does not
            raise _Unjudgeable
        host = _host(found[1].rpartition("@")[2].partition(":")[0])
        if _NUMERIC.fullmatch(host) is not None:
            raise _Unjudgeable
        return _among(host, self._hosts)


def _among(host: str, bases: set[str]) -> bool:
    return host in bases or any(f".{domain}" in bases for domain in _domains(host))


class _Addresses:
    """
    Bases of addresses: networks, by their masks.
    """

    def __init__(self, *, excluded: bool) -> None:
        del excluded
        self._networks: dict[tuple[int, int], set[int]] = {}

    def add(self, root: str | bytes | Name) -> None:
        if isinstance(root, bytes):
            half = len(root) // 2
            mask = int.from_bytes(root[half:], "big")
            network = int.from_bytes(root[:half], "big") & mask
            self._networks.setdefault((half, mask), set()).add(network)

    def holds(self, value: str | bytes | Name) -> bool:
        if not isinstance(value, bytes) or len(value) not in _ADDRESS_OCTETS:
            raise _Unjudgeable
        address = int.from_bytes(value, "big")
        return any(
            size == len(value) and address & mask in found for (size, mask), found in self._networks.items()
        )


class _Directories:
    """
    Distinguished names as bases: a name is within one that it begins with.
    """

    def __init__(self, *, excluded: bool) -> None:
        del excluded
        self._bases: dict[int, set[tuple[str, ...]]] = {}

    def add(self, root: str | bytes | Name) -> None:
        if isinstance(root, Name):
            self._bases.setdefault(len(root.rdns), set()).add(root.rdns)

    def holds(self, value: str | bytes | Name) -> bool:
        if not isinstance(value, Name):
            raise _Unjudgeable
        return any(
            value.rdns[:length] in found for length, found in self._bases.items() if length <= len(value.rdns)
        )


class _Unsupported:
    """
    Bases of a type whose names cannot be compared (RFC 5280 4.2.1.10: then the certificate is refused).
    """

    def __init__(self, *, excluded: bool) -> None:
        del excluded

    def add(self, root: str | bytes | Name) -> None:
        del root

    def holds(self, value: str | bytes | Name) -> bool:
        del value
        raise _Unjudgeable


class _Bases(Protocol):
    """
    The bases of one type: whether a name lies within one of them costs the name's length, however many there are.
    """

    def add(self, root: str | bytes | Name) -> None:
        """
        Take on one more.
        """

    def holds(self, value: str | bytes | Name) -> bool:
        """
        Whether a name of this type lies within one.

        Raises:
            _Unjudgeable: the name has no form that can be compared.

        """


_KINDS: Mapping[str, Callable[..., _Bases]] = MappingProxyType(
    {
        "dns": _Hosts,
        "email": _Mailboxes,
        "uri": _Locations,
        "ip": _Addresses,
        "directory": _Directories,
    }
)


class _Subtrees:
    """
    Subtrees by the type of their names.
    """

    def __init__(self, bases: Iterable[GeneralName], *, excluded: bool) -> None:
        self._kinds: dict[str, _Bases] = {}
        for base in bases:
            kind = self._kinds.get(base.kind)
            if kind is None:
                kind = self._kinds[base.kind] = _KINDS.get(base.kind, _Unsupported)(excluded=excluded)
            kind.add(base.value)

    def bases(self, kind: str) -> _Bases | None:
        """
        Those of one type; `None` where there are none.
        """
        return self._kinds.get(kind)


def constrained_names(certificate: Certificate, *, final: bool) -> list[GeneralName]:
    """
    The names of a certificate that constraints are applied to (RFC 5280 4.2.1.10).

    By default that is the subject, its e-mail addresses and the alternative names; for a leaf without DNS
    names also a common name that looks like a host, because peers use it as one.

    Args:
        certificate: whose names.
        final: whether it is the leaf.

    Returns:
        The names.

    """
    names = list(certificate.subject_alt_names)
    for alternative in certificate.subject_alt_names:
        if alternative.kind == "other" and isinstance(alternative.value, bytes):
            names += _international_mailbox(alternative.value)
    if certificate.subject.rdns:
        names.append(GeneralName("directory", certificate.subject))
    # Peers that find no name of that kind which they can read go on to the common name.
    host_named = any(n.kind == "dns" and isinstance(n.value, str) for n in certificate.subject_alt_names)
    for oid, text in certificate.subject.attributes:
        if oid == EMAIL_ADDRESS:
            names.append(GeneralName("email", text))
        elif oid == COMMON_NAME and final and not host_named:
            host = text.strip().rstrip(".")
            if _HOST_IN_COMMON_NAME.fullmatch(host):
                names.append(GeneralName("dns", host))
    parts = (part for rdn in certificate.subject.rdns for part in rdn.split("\x1f"))
    if any(part.startswith(f"{EMAIL_ADDRESS}#") for part in parts):
        names.append(GeneralName("email", ""))  # an address that is no text lies nowhere
    return names


def _international_mailbox(raw: bytes) -> list[GeneralName]:
    """
    The e-mail address in an otherName SmtpUTF8Mailbox, which e-mail constraints bind as well (RFC 9598 6).

    One that cannot be read is the empty address, which no constraint of its type can be judged against.
    """
    if not raw.startswith(_SMTP_UTF8_MAILBOX):
        return []
    try:
        wrapped = der.whole(raw[len(_SMTP_UTF8_MAILBOX) :], 0xA0)
        data = raw[len(_SMTP_UTF8_MAILBOX) + wrapped.content :]
        text = der.content(data, der.whole(data, der.UTF8_STRING)).decode()
    except ValueError:
        text = ""
    return [GeneralName("email", text)]


def _shown(name: GeneralName) -> str:
    value = name.value
    if isinstance(value, Name):
        text = value.text
    else:
        text = value.hex() if isinstance(value, bytes) else printable(value[:_ELLIPSIS])
    return text if len(text) <= _ELLIPSIS else text[:_ELLIPSIS] + "…"


class NameState:
    """
    The permitted and excluded subtrees, carried from the anchor down.

    A name must lie within a permitted subtree of every certificate that permits some of its type, and within
    no excluded one.

    Args:
        work: where comparisons are counted.

    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._permitted: list[_Subtrees] = []
        self._excluded: list[_Subtrees] = []

    def add(self, constraints: NameConstraints) -> None:
        """
        RFC 5280 6.1.4 (g): take on the constraints of a CA.

        Args:
            constraints: the CA's.

        Raises:
            WorkExceededError: the question costs too much.

        """
        self._work.spend(ELEMENT * (len(constraints.permitted) + len(constraints.excluded)), _AT)
        if constraints.permitted:
            self._permitted.append(_Subtrees(constraints.permitted, excluded=False))
        if constraints.excluded:
            self._excluded.append(_Subtrees(constraints.excluded, excluded=True))

    def violations(self, certificate: Certificate, *, final: bool) -> list[str]:
        """
        RFC 5280 6.1.3 (b) and (c).

        Args:
            certificate: whose names are looked at.
            final: whether it is the leaf; only others are let off for being self-issued.

        Returns:
            One clause per name that is outside, and one for those that are too many to be named.

        Raises:
            WorkExceededError: the question costs too much.

        """
        if not (self._permitted or self._excluded) or (certificate.self_issued and not final):
            return []
        found: list[str] = []
        more = 0
        for name in constrained_names(certificate, final=final):
            self._work.spend(self._cost(name), _AT)
            why = self._violation(name)
            if why is not None and len(found) < _SHOWN:
                found.append(f"{name.kind} name {_shown(name)!r} {why}")
            elif why is not None:
                more += 1
        if more:
            found.append(f"{more} more names violate the name constraints")
        return found

    def _cost(self, name: GeneralName) -> int:
        """
        The operations of looking for a name: its parts, once for each CA that constrains.
        """
        value = name.value
        if isinstance(value, Name):
            parts = len(value.rdns) ** 2 // _HASHED + len(value.rdns)
        else:
            parts = value.count(".") if isinstance(value, str) else len(value)
        return (len(self._permitted) + len(self._excluded)) * (ELEMENT + parts // COMPARISONS)

    def _violation(self, name: GeneralName) -> str | None:
        if name.kind == UNREADABLE:
            return "cannot be judged against constraints of whichever type it is"
        try:
            for permitted in self._permitted:
                bases = permitted.bases(name.kind)
                if bases is not None and not bases.holds(name.value):
                    return "is outside the permitted subtrees"
            for excluded in self._excluded:
                bases = excluded.bases(name.kind)
                if bases is not None and bases.holds(name.value):
                    return "is in an excluded subtree"
        except _Unjudgeable:
            return "cannot be judged against the constraints of its type"
        return None
