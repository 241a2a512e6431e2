"""
Name constraints along a path: RFC 5280 4.2.1.10, 6.1.3 (b) and (c), 6.1.4 (g).

Owns the permitted and excluded subtrees and their matching by type. A name that cannot be judged against a
constraint of its type counts as outside. Imports x509.
"""

from __future__ import annotations

import re

from cftpki_ext.core.escape import printable
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import NameConstraints
from cftpki_ext.x509.general_name import GeneralName
from cftpki_ext.x509.name import COMMON_NAME, EMAIL_ADDRESS, Name

# Comparisons of names with subtrees on one path. Real constraints need a few dozen; two hostile 32-KiB
# certificates could ask for millions.
_COMPARISONS = 20_000

_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.IGNORECASE)
_HOST_IN_COMMON_NAME = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+", re.IGNORECASE)
_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_NUMERIC = re.compile(r"[0-9.]+")
_SMTP_UTF8_MAILBOX = bytes.fromhex("06082b06010505070809")


class _Unjudgeable(ValueError):  # noqa: N818  # a signal within this module, never an error to a caller
    """
    The name has no form that a constraint of its type speaks about.
    """


def _below(host: str, base: str) -> bool:
    """
    Whether the host is the base or ends in it at a label's edge.
    """
    return not base or host == base or host.endswith("." + base)


def _dns(name: str, base: str, *, excluded: bool) -> bool:
    host = name.lower()
    wildcard = host.startswith("*.")
    if _HOST.fullmatch(host[2:] if wildcard else host) is None:
        raise _Unjudgeable
    base = base.lower()
    if base.startswith(
        "."
    ):  # parsed only under a leniency: subdomains; excluding also what it is the domain of
        if not excluded:
            return host.endswith(base)
        base = base[1:]
    if _below(host, base):
        return True
    # `*.example.com` may turn out to be `evil.example.com`, which an excluded subtree names.
    return excluded and wildcard and base.partition(".")[2] == host[2:]


def _email(name: str, base: str, *, excluded: bool) -> bool:
    local, at, host = name.rpartition("@")
    if not at or not local or "@" in local or '"' in local or _HOST.fullmatch(host) is None:
        raise _Unjudgeable
    host = host.lower()
    base_local, base_at, base_host = base.rpartition("@")
    base_host = base_host.lower()
    if base_at:
        same = local.lower() == base_local.lower() if excluded else local == base_local
        return same and host == base_host
    if base_host.startswith("."):
        return host.endswith(base_host)
    return host == base_host


def _uri(name: str, base: str) -> bool:
    found = _AUTHORITY.match(name)
    if found is None or "\\" in found[1]:  # browsers end the authority there, RFC 3986 does not
        raise _Unjudgeable
    host = found[1].rpartition("@")[2].partition(":")[0].lower()
    if _HOST.fullmatch(host) is None or _NUMERIC.fullmatch(host) is not None:
        raise _Unjudgeable
    base = base.lower()
    return host.endswith(base) if base.startswith(".") else host == base


def _address(name: bytes, base: bytes) -> bool:
    half = len(base) // 2
    if len(name) != half:
        return False
    return all(n & m == b & m for n, b, m in zip(name, base[:half], base[half:], strict=True))


def _matches(name: GeneralName, base: GeneralName, *, excluded: bool) -> bool:
    """
    Whether a name lies within a subtree of its own type.

    Raises:
        _Unjudgeable: the type is not supported, or the name has a form that cannot be compared.

    """
    value, root = name.value, base.value
    if isinstance(value, Name) and isinstance(root, Name):
        return value.rdns[: len(root.rdns)] == root.rdns
    if isinstance(value, str) and isinstance(root, str):
        if name.kind == "dns":
            return _dns(value, root, excluded=excluded)
        if name.kind == "email":
            return _email(value, root, excluded=excluded)
        if name.kind == "uri":
            return _uri(value, root)
    if name.kind == "ip" and isinstance(value, bytes) and isinstance(root, bytes):
        return _address(value, root)
    raise _Unjudgeable


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
    host_named = any(name.kind == "dns" for name in certificate.subject_alt_names)
    for oid, text in certificate.subject.attributes:
        if oid == EMAIL_ADDRESS:
            names.append(GeneralName("email", text))
        elif oid == COMMON_NAME and final and not host_named:
            host = text.strip().rstrip(".")
            if _HOST_IN_COMMON_NAME.fullmatch(host):
                names.append(GeneralName("dns", host))
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
        return value.text
    return value.hex() if isinstance(value, bytes) else printable(value)


class NameState:
    """
    The permitted and excluded subtrees, carried from the anchor down.

    A name must lie within a permitted subtree of every certificate that permits some of its type, and within
    no excluded one.
    """

    def __init__(self) -> None:
        self._permitted: list[dict[str, list[GeneralName]]] = []
        self._excluded: dict[str, list[GeneralName]] = {}
        self._left = _COMPARISONS

    def add(self, constraints: NameConstraints) -> None:
        """
        RFC 5280 6.1.4 (g): take on the constraints of a CA.

        Args:
            constraints: the CA's.

        """
        if constraints.permitted:
            permitted: dict[str, list[GeneralName]] = {}
            for base in constraints.permitted:
                permitted.setdefault(base.kind, []).append(base)
            self._permitted.append(permitted)
        for base in constraints.excluded:
            self._excluded.setdefault(base.kind, []).append(base)

    def violations(self, certificate: Certificate, *, final: bool) -> list[str]:
        """
        RFC 5280 6.1.3 (b) and (c).

        Args:
            certificate: whose names are looked at.
            final: whether it is the leaf; only others are let off for being self-issued.

        Returns:
            One clause per name that is outside; none where all are within.

        """
        if not (self._permitted or self._excluded) or (certificate.self_issued and not final):
            return []
        found = []
        for name in constrained_names(certificate, final=final):
            why = self._violation(name)
            if why is not None:
                found.append(f"{name.kind} name {_shown(name)!r} {why}")
            if self._left < 0:
                found.append("more names and subtrees than are compared")
                break
        return found

    def _violation(self, name: GeneralName) -> str | None:
        try:
            for permitted in self._permitted:
                bases = permitted.get(name.kind)
                if bases is not None and not self._within(name, bases, excluded=False):
                    return "is outside the permitted subtrees"
            if self._within(name, self._excluded.get(name.kind, []), excluded=True):
                return "is in an excluded subtree"
        except _Unjudgeable:
            return "cannot be judged against the constraints of its type"
        return None

    def _within(self, name: GeneralName, bases: list[GeneralName], *, excluded: bool) -> bool:
        self._left -= len(bases)
        if self._left < 0:
            return excluded
        return any(_matches(name, base, excluded=excluded) for base in bases)
