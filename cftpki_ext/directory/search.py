"""
The searches that a profile asks for, as LDAP URLs without a host (RFC 4516): of the partner's entry, and of its groups.

A URL is the whole question: it is asked as it stands, kept with the answer, and made again when an answer is judged. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cftpki_ext.core.source_settings import Demand, DirectoryProfile, Requirement, Scope
from cftpki_ext.directory.answer import Entry
from cftpki_ext.directory.fields import ENTRY, attribute_of_entry, values_of
from cftpki_ext.directory.templates import Missing, fields_in, filled, filled_base, parse_filter
from cftpki_ext.x509.certificate import Certificate

_SCOPES = {Scope.BASE: "base", Scope.ONE: "one", Scope.SUBTREE: "sub"}
# What stands for itself in the parts of an LDAP URL; a comma and a question mark never do.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~=,()&!*:;@+")
# "No attributes" (RFC 4511 4.5.1.8).
_NOTHING = "1.1"


def entry_search(profile: DirectoryProfile, certificate: Certificate) -> str | Missing:
    """
    The search for a partner's entry.

    Args:
        profile: base, filter, and what is demanded of the entry.
        certificate: the partner's.

    Returns:
        The URL; or what the certificate lacks, so that nobody needs to be asked.

    """
    return search_for(profile, lambda name: values_of(certificate, name))


def search_for(profile: DirectoryProfile, values: Callable[[str], Sequence[str]]) -> str | Missing:
    """
    The search for whoever has these values.

    Args:
        profile: base, filter, and what is demanded of the entry.
        values: the values of a field.

    Returns:
        See `entry_search`.

    """
    base = filled_base(profile.base, values)
    if isinstance(base, Missing):
        return base
    text = filled(parse_filter(profile.filter), lambda name: _octets(values(name)))
    if isinstance(text, Missing):
        return text
    return _url(base, wanted_of(profile), profile.scope, text)


def group_search(requirement: Requirement, certificate: Certificate, entry: Entry) -> str | Missing:
    """
    The search for a group that names an entry.

    Args:
        requirement: a `GROUP`.
        certificate: the partner's.
        entry: that was found for it.

    Returns:
        The URL; or what is lacking, so that the entry is in no such group.

    """

    def values(name: str) -> Sequence[bytes]:
        if name == ENTRY:
            return (entry.name.encode(),)
        attribute = attribute_of_entry(name)
        if attribute is not None:
            return entry.values(attribute)
        return _octets(values_of(certificate, name))

    base = filled_base(requirement.base, lambda name: values_of(certificate, name))
    text = filled(parse_filter(requirement.filter), values)
    if isinstance(base, Missing):
        return base
    return text if isinstance(text, Missing) else _url(base, (), requirement.scope, text)


def wanted_of(profile: DirectoryProfile) -> tuple[str, ...]:
    """
    The attributes of an entry that are asked for, and no others.
    """
    names = [] if profile.certificate is None else [profile.certificate]
    for one in profile.requirements:
        if one.demand is Demand.GROUP:
            names += filter(None, map(attribute_of_entry, fields_in(parse_filter(one.filter))))
        else:
            names.append(one.attribute)
    return tuple({name.lower(): name for name in names}.values())


def _octets(values: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(value.encode("utf-8", "surrogatepass") for value in values)


def _url(base: str, attributes: Sequence[str], scope: Scope, text: str) -> str:
    wanted = ",".join(map(_percent, attributes)) or _NOTHING
    return f"ldap:///{_percent(base)}?{wanted}?{_SCOPES[scope]}?{_percent(text)}"


def _percent(text: str) -> str:
    return "".join(
        chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in text.encode("utf-8", "surrogatepass")
    )
