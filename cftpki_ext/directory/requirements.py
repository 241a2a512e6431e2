"""
Whether an entry is as it must be: the certificate it holds, its attributes, its groups by their names. Pure.

A group that is searched for (`Demand.GROUP`) is another question, see `judge`.
"""

from __future__ import annotations

import re
import unicodedata

from cftpki_ext.core.escape import excerpt
from cftpki_ext.core.source_settings import Demand, DirectoryProfile, Matching, Requirement
from cftpki_ext.directory.answer import Entry, base_of
from cftpki_ext.directory.search import wanted_of
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.dn_text import same_name, spelt

# Longer values are none of those that a person wrote into a configuration, and folding them costs time.
_COMPARED_OCTETS = 1024
_INTEGER = re.compile(rb"-?[0-9]{1,40}")
# Groups whose names are read in full, where none was spelt as the configuration spells it: of those that are about as long
# (each octet in hexadecimal takes three), a few.
_READ_NAMES = 32
_LONGER = 3
_SHOWN = 60


def unmet(profile: DirectoryProfile, entry: Entry, certificate: Certificate) -> str | None:
    """
    The first requirement that an entry does not meet, of all but those of groups that are searched for.

    Args:
        profile: what is demanded.
        entry: as the directory gave it.
        certificate: the partner's.

    Returns:
        A clause with both sides of the comparison, printable; `None` where all are met.

    """
    if profile.certificate is not None and certificate.der not in entry.values(profile.certificate):
        count = len(entry.values(profile.certificate))
        return f"its {profile.certificate} has {count or 'no'} values, and none is the partner's certificate"
    asked = {base_of(name) for name in wanted_of(profile)}
    others = sorted(name for name, values in entry.attributes.items() if values and name not in asked)
    for requirement in profile.requirements:
        why = None if requirement.demand is Demand.GROUP else _unmet(requirement, entry)
        if why is not None:
            return why
        if requirement.demand is Demand.ABSENT and others:
            # A directory may answer by another name of the same attribute (RFC 4511 4.5.2): then it is there.
            named = excerpt(others[0], _SHOWN)
            return f"whether it has {requirement.attribute} is not known: the directory answered by the name {named}"
    return None


def _unmet(wanted: Requirement, entry: Entry) -> str | None:
    values = entry.values(wanted.attribute)
    if wanted.demand is Demand.PRESENT:
        return None if values else f"it has no {wanted.attribute}"
    if wanted.demand is Demand.ABSENT:
        return f"it has {wanted.attribute} ({_shown(values)})" if values else None
    if wanted.demand is Demand.MEMBER:
        if _is_member(wanted.group, values):
            return None
        some = ", of which the directory sent some only" if wanted.attribute.lower() in entry.partial else ""
        return f"its {wanted.attribute} does not name {wanted.group} ({len(values)} values{some})"
    if any(_same(value, ours, wanted.matching) for value in values for ours in wanted.values):
        return None
    said = f"is {_shown(values)}" if values else "is absent"
    return f"{wanted.attribute} {said}, wanted is {' or '.join(wanted.values)}"


def _shown(values: tuple[bytes, ...]) -> str:
    shown = excerpt(values[0][:_COMPARED_OCTETS].decode("utf-8", "backslashreplace"), _SHOWN)
    return shown if len(values) == 1 else f"{shown} and {len(values) - 1} more"


def _same(value: bytes, ours: str, matching: Matching) -> bool:
    if len(value) > _COMPARED_OCTETS:
        return False
    if matching is Matching.EXACT:
        return value == ours.encode()
    if matching is Matching.BOOLEAN:
        return value.upper() in {b"TRUE", b"FALSE"} and value.upper() == ours.upper().encode()
    if matching is Matching.INTEGER:
        return _INTEGER.fullmatch(value) is not None and int(value) == int(ours)
    try:
        return _folded(value.decode()) == _folded(ours)
    except UnicodeDecodeError:
        return False


def _folded(text: str) -> str:
    """
    Without regard to capitals and to how many blanks there are (RFC 4518, as far as names and words need it).
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_member(group: str, values: tuple[bytes, ...]) -> bool:
    wanted = spelt(group)
    texts = [value.decode("utf-8", "replace") for value in values if len(value) <= _COMPARED_OCTETS]
    if any(spelt(text) == wanted for text in texts):
        return True
    near = (
        text for text in texts if len(wanted) <= _LONGER * len(text) and len(text) <= _LONGER * len(wanted)
    )
    return any(same_name(text, group) for text, _ in zip(near, range(_READ_NAMES), strict=False))
