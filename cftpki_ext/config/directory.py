"""
`[trust.NAME.directory]` → `source_settings.DirectoryProfile`: how a partner is found in a directory, and what its entry must be like.

Looks at the files that are named, asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cftpki_ext.config.ldap import LdapModel, access_of
from cftpki_ext.config.models import Choice, Section
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import TrustSet
from cftpki_ext.core.source_settings import Demand, DirectoryProfile, Matching, Requirement, Scope, Several
from cftpki_ext.directory.fields import check_field
from cftpki_ext.directory.templates import Field as TemplateField
from cftpki_ext.directory.templates import fields_in, parse_base, parse_filter
from cftpki_ext.x509.dn_text import names_of

# More would be asked for with each partner than an administrator compares by hand.
MAX_REQUIREMENTS = 16
# Each is a search of its own within the handshake.
MAX_GROUP_SEARCHES = 4
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}(;binary)?|[0-2](\.[0-9]{1,10}){1,20}(;binary)?")
_INTEGER = re.compile(r"-?[0-9]{1,40}")


def _values(value: object) -> object:
    return [value] if isinstance(value, str) else value


ScopeName = Annotated[Scope, BeforeValidator(Choice({one.value: one for one in Scope}))]
SeveralName = Annotated[Several, BeforeValidator(Choice({one.value: one for one in Several}))]
MatchingName = Annotated[Matching, BeforeValidator(Choice({one.value: one for one in Matching}))]
Values = Annotated[list[str], BeforeValidator(_values)]


class DirectoryModel(LdapModel):
    """
    `[trust.NAME.directory]`.
    """

    base: str | None = None
    filter: str | None = None
    scope: ScopeName = Scope.SUBTREE
    several: SeveralName = Several.REFUSE
    certificate: str | None = None
    unsafe_plain_ldap: bool = False
    # Read one by one, so that a fault in one hides none in another.
    require: list[Any] = Field(default_factory=list)


class RequireModel(Section):
    """
    `[[trust.NAME.directory.require]]`.
    """

    attribute: str | None = None
    equals: Values | None = None
    matching: MatchingName | None = None
    present: bool | None = None
    group: str | None = None
    group_filter: str | None = None
    group_base: str | None = None
    group_scope: ScopeName | None = None


def with_directory(reader: Reader, trust: TrustSet, section: object) -> TrustSet:
    """
    A trust set with what its table `directory` says.

    Args:
        reader: notes the faults.
        trust: as read so far.
        section: the table as tomllib read it.

    Returns:
        The trust set; without a directory where the table has a fault that leaves nothing to ask by.

    """
    path: KeyPath = ("trust", trust.name, "directory")
    model = reader.validate(DirectoryModel, path, section)
    written = section if isinstance(section, dict) else {}
    access = access_of(reader, path, model)
    if not model.servers and "servers" not in written:
        reader.faults.add((*path, "servers"), "is missing: ldaps://host, or ldap://host with starttls = true")
    plain = [server for server in model.servers if server.lower().startswith("ldap://")]
    if plain and not model.starttls and not model.unsafe_plain_ldap:
        reader.faults.add(
            (*path, "servers"),
            "an answer without TLS could be anybody's: write ldaps://, or set starttls = true",
        )
    for key, remedy in {
        "base": "where the partners are, e.g. ou=partners,dc=example",
        "filter": "by what they are found, e.g. (cn={subject.CN})",
    }.items():
        if getattr(model, key) is None and key not in written:
            reader.faults.add((*path, key), f"is missing: {remedy}")
    _template(reader, (*path, "base"), model.base, _base_fields)
    fields = _template(reader, (*path, "filter"), model.filter, _filter_fields)
    sound = not reader.faults.within((*path, "filter"))
    if (
        sound
        and not fields
        and model.filter
        and not _fields_of_base(model.base)
        and model.certificate is None
    ):
        reader.faults.add(
            (*path, "filter"),
            "finds the same entry for every partner: name a field of the certificate, e.g. (cn={subject.CN})",
        )
    _attribute(reader, (*path, "certificate"), model.certificate)
    made = [_requirement(reader, (*path, "require", index), raw) for index, raw in enumerate(model.require)]
    requirements = tuple(one for one in made if one is not None)
    if len(model.require) > MAX_REQUIREMENTS:
        reader.faults.add((*path, "require"), f"has {len(model.require)} entries, at most {MAX_REQUIREMENTS}")
    searches = sum(one.demand is Demand.GROUP for one in requirements)
    if searches > MAX_GROUP_SEARCHES:
        reader.faults.add(
            (*path, "require"),
            f"searches for {searches} groups, at most {MAX_GROUP_SEARCHES} in one handshake",
        )
    if reader.faults.within(path):
        return trust
    return replace(
        trust,
        directory=DirectoryProfile(
            access=access,
            base=model.base or "",
            filter=model.filter or "",
            scope=model.scope,
            several=model.several,
            certificate=model.certificate,
            requirements=requirements,
            unsafe_plain_ldap=model.unsafe_plain_ldap,
        ),
    )


def _base_fields(text: str) -> list[str]:
    return [part.name for part in parse_base(text) if isinstance(part, TemplateField)]


def _filter_fields(text: str) -> list[str]:
    return list(fields_in(parse_filter(text)))


def _fields_of_base(text: str | None) -> bool:
    try:
        return bool(_base_fields(text or ""))
    except InputError:
        return True


def _template(
    reader: Reader,
    path: KeyPath,
    text: str | None,
    fields_of: Callable[[str], list[str]],
    *,
    of_entry: bool = False,
) -> list[str]:
    """
    Note what is wrong with a template; the fields in it.
    """
    if text is None:
        return []
    fields: list[str] = []
    try:
        fields = fields_of(text)
        for name in fields:
            check_field(name, of_entry=of_entry)
    except InputError as error:
        reader.faults.add(path, str(error))
    return fields


def _attribute(reader: Reader, path: KeyPath, name: str | None) -> None:
    if name is not None and not _ATTRIBUTE.fullmatch(name):
        reader.faults.add(
            path, f"{name!r} is no attribute: a name or a dotted identifier, with ;binary or without"
        )


# By what a requirement is told, and the keys that belong to it.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "equals": ("attribute", "equals", "matching"),
    "present": ("attribute", "present"),
    "group": ("attribute", "group"),
    "group_filter": ("group_filter", "group_base", "group_scope"),
}


def _requirement(reader: Reader, path: KeyPath, raw: object) -> Requirement | None:
    """
    Read one `[[trust.NAME.directory.require]]`; `None` where it demands nothing that can be compared.
    """
    model = reader.validate(RequireModel, path, raw)
    written = raw if isinstance(raw, dict) else {}
    kinds = [key for key in _KINDS if key in written]
    if len(kinds) != 1:
        said = f"says {' and '.join(kinds)}" if kinds else "demands nothing"
        reader.faults.add(path, f"{said}: write one of {', '.join(_KINDS)} in each entry of require")
        return None
    kind = kinds[0]
    for key in written:
        if key in RequireModel.model_fields and key not in _KINDS[kind]:
            reader.faults.add((*path, key), f"means nothing beside {kind}")
    if kind in {"equals", "present"} and "attribute" not in written:
        reader.faults.add((*path, "attribute"), "is missing: which attribute of the entry is compared")
    _attribute(reader, (*path, "attribute"), model.attribute)
    if getattr(model, kind) is None or reader.faults.within(path):
        return None
    if kind == "equals":
        return _value(reader, path, model)
    if kind == "present":
        return Requirement(
            demand=Demand.PRESENT if model.present else Demand.ABSENT, attribute=model.attribute or ""
        )
    if kind == "group":
        if not names_of(model.group or ""):
            reader.faults.add(
                (*path, "group"),
                f"{model.group!r} is no distinguished name: write e.g. cn=mft,ou=groups,dc=example",
            )
        return Requirement(
            demand=Demand.MEMBER, attribute=model.attribute or "memberOf", group=model.group or ""
        )
    return _group_search(reader, path, model)


def _value(reader: Reader, path: KeyPath, model: RequireModel) -> Requirement:
    values, matching = tuple(model.equals or ()), model.matching or Matching.CASE_IGNORE
    if not values:
        reader.faults.add((*path, "equals"), "is empty: nothing would ever be equal")
    for index, value in enumerate(values):
        if not value:
            reader.faults.add((*path, "equals", index), "is empty: no value of a directory is")
        elif matching is Matching.BOOLEAN and value.upper() not in {"TRUE", "FALSE"}:
            reader.faults.add((*path, "equals", index), f"{value!r} is none of TRUE and FALSE")
        elif matching is Matching.INTEGER and not _INTEGER.fullmatch(value):
            reader.faults.add((*path, "equals", index), f"{value!r} is no whole number")
    return Requirement(demand=Demand.VALUE, attribute=model.attribute or "", values=values, matching=matching)


def _group_search(reader: Reader, path: KeyPath, model: RequireModel) -> Requirement:
    if model.group_base is None:
        reader.faults.add(
            (*path, "group_base"), "is missing: where the groups are, e.g. ou=groups,dc=example"
        )
    _template(reader, (*path, "group_base"), model.group_base, _base_fields)
    fields = _template(reader, (*path, "group_filter"), model.group_filter, _filter_fields, of_entry=True)
    if not fields:
        reader.faults.add(
            (*path, "group_filter"),
            "finds the same group for every partner: name the entry, e.g. (&(cn=mft)(member={entry}))",
        )
    return Requirement(
        demand=Demand.GROUP,
        base=model.group_base or "",
        scope=model.group_scope or Scope.SUBTREE,
        filter=model.group_filter or "",
    )
