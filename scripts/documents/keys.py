"""
The keys of the configuration: type, range and default as the program's models have them, meanings as the documents say them.

A key has its meaning in one place, a table of a document whose first column is headed `key`; nothing here repeats it. What the two
do not agree on is a fault, which `tests/unit/documents` asks for.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cftpki_ext.config.cluster import ClusterModel
from cftpki_ext.config.console import ConsoleModel
from cftpki_ext.config.directory import DirectoryModel, RequireModel
from cftpki_ext.config.enrolment import ManagedModel
from cftpki_ext.config.evidence import EvidenceModel
from cftpki_ext.config.ldap import LdapModel
from cftpki_ext.config.metrics import MetricsModel
from cftpki_ext.config.models import (
    LIMIT_RANGES,
    Choice,
    ExceptionModel,
    IdentityModel,
    LimitsModel,
    PartnersModel,
    PolicyModel,
    RuleModel,
    ServiceModel,
    TreatmentModel,
    TrustModel,
)
from cftpki_ext.config.notify import MailModel, NotifyModel, SyslogModel, WebhookModel
from cftpki_ext.config.refresh import RefreshModel
from cftpki_ext.config.rest import RestModel
from cftpki_ext.config.units import format_duration, format_size
from cftpki_ext.core.notify import NotifySettings
from cftpki_ext.core.settings import EvidenceSettings, Limits, RefreshSettings, ServiceSettings
from cftpki_ext.identity.issuance.plugins import known_types, load_plugin

# What is written for a type that a validator makes of a string, by the validator's name.
_WORDS = {
    "_duration": "duration",
    "_size": "size",
    "_network": "network (CIDR)",
    "_end": "date, or date and time with zone",
    "_user": "user's name or number",
    "_phase": "phase",
    "_alert": "number of a documented alert",
    "_renew_at": 'share (`"66%"`) or duration',
    "_window": "change window",
    "_listener": "`address:port`",
    "_floor": 'share, `"2%"` to `"50%"`',
    "_share": 'share, `"1%"` to `"100%"`',
    "_check_every": "duration, 10s to 24h",
    "_values": "string, or strings",
    "_treatment": "action, or a table of action, max_stale, until, alert",
    "_fingerprint": "SHA-256, hexadecimal",
    "_https": "https URL",
}
_PLAIN: Mapping[Any, str] = {
    str: "string",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Path: "file",
    timedelta: "duration",
    Any: "table",
}
_MANY = {"string": "strings", "file": "files", "whole number": "whole numbers", "table": "tables"}
_ROW = re.compile(r"\| (`[^|]*) \|(?: ([^|]*) \|)? ((?:[^|]|\\\|)*) \|$")
_TABLE = re.compile(r"\*\*`\[enroller\.NAME\.(\w+)\]`\*\*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """
    What a document says of a key. `default` is `None` where its table has no such column.
    """

    default: str | None
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One key. What is `None` nobody says: neither model nor document.
    """

    name: str  # with the table inside the section that it is in: `http01.listen`
    kind: str
    default: str | None
    told: Told | None


@dataclass(frozen=True, slots=True)
class Place:
    """
    Tables of a document: in one of its parts, or anywhere; with these words above the first column.
    """

    document: str
    part: str | None = None
    head: str = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    One kind of table of the configuration file.
    """

    heading: str
    model: type[BaseModel]
    places: tuple[Place, ...]  # where its keys are explained, the page that says most of it first
    defaults: Any = None  # values, where the model leaves them to the settings


# Where an enroller has no page of its own.
_PLACES = {"file": Place("identities.md", "Configuration", "key of type `file`")}


def sections() -> Iterator[Section]:
    """
    Every kind of table that a configuration may hold, enrollers of every installed type included.
    """
    yield Section(
        heading="[service]", model=ServiceModel, places=_own("[service]"), defaults=ServiceSettings()
    )
    yield Section(heading="[limits]", model=LimitsModel, places=_own("[limits]"), defaults=Limits())
    yield Section(
        heading="[evidence]", model=EvidenceModel, places=_own("[evidence]"), defaults=EvidenceSettings()
    )
    yield Section(
        heading="[refresh]", model=RefreshModel, places=_own("[refresh]"), defaults=RefreshSettings()
    )
    yield Section(heading="[notify]", model=NotifyModel, places=_own("[notify]"), defaults=NotifySettings())
    for name, model, words in (
        ("webhook", WebhookModel, "key of a webhook"),
        ("mail", MailModel, "key of a mail server"),
        ("syslog", SyslogModel, "key of a system log"),
    ):
        places = (*_own("[notify]", words), *_own("[notify]", "key of a receiver"))
        yield Section(heading=f"[notify.{name}.NAME]", model=model, places=places)
    yield Section(heading="[metrics]", model=MetricsModel, places=_own("[metrics]"))
    yield Section(heading="[console]", model=ConsoleModel, places=_own("[console]"))
    yield Section(heading="[cluster]", model=ClusterModel, places=_own("[cluster]"))
    yield Section(heading="[trust.NAME]", model=TrustModel, places=_own("[trust.NAME]"))
    yield Section(heading="[trust.NAME.ldap]", model=LdapModel, places=(Place("ldap.md"),))
    yield Section(
        heading="[trust.NAME.directory]", model=DirectoryModel, places=(Place("directory.md", "Keys"),)
    )
    yield Section(
        heading="[[trust.NAME.directory.require]]",
        model=RequireModel,
        places=(Place("directory.md", "Requirements"),),
    )
    directory = "[trust.NAME.directory]"
    yield Section(heading=directory, model=DirectoryModel, places=(Place("directory.md", "Keys"),))
    yield Section(
        heading="[[trust.NAME.directory.require]]",
        model=RequireModel,
        places=(Place("directory.md", "Requirements"),),
    )
    yield Section(heading="[trust.NAME.rest]", model=RestModel, places=(Place("rest-lookup.md"),))
    policy = "[policy.NAME]"
    causes = (
        Place("policies.md", "Who is heard", "row"),
        Place("policies.md", "Causes and actions", "cause"),
    )
    yield Section(heading=policy, model=PolicyModel, places=(*_own(policy), *causes))
    yield Section(
        heading="[policy.NAME] CAUSE = { … }", model=TreatmentModel, places=_own(policy, "key of a cause")
    )
    yield Section(
        heading="[[policy.NAME.exception]]",
        model=ExceptionModel,
        places=_own(policy, "key of an exception"),
    )
    yield Section(heading="[identity.NAME] with chain", model=IdentityModel, places=_own("[identity.NAME]"))
    yield Section(
        heading="[identity.NAME] with enrollers",
        model=ManagedModel,
        places=(Place("identities.md", "Configuration"),),
    )
    for kind in known_types():
        yield Section(
            heading=f'[enroller.NAME] type = "{kind}"',
            model=load_plugin(kind).options,
            places=(_PLACES.get(kind, Place(f"enroll-{kind}.md")),),
        )
    yield Section(heading="[[rule]]", model=RuleModel, places=_own("[[rule]]"))
    yield Section(
        heading="[rule.partners]",
        model=PartnersModel,
        places=(Place("policies.md", "Partners of a rule", "list"),),
    )


def _own(part: str, head: str = "key") -> tuple[Place, ...]:
    return (Place("configuration.md", part, head),)


def keys_of(section: Section, documents: Path) -> tuple[list[Key], list[str]]:
    """
    Every key of a section.

    Args:
        section: one of `sections()`.
        documents: the folder of the documents.

    Returns:
        The keys in the order of the model, and those that the document has and the program does not know.

    """
    told: dict[str, Told] = {}
    for place in reversed(section.places):
        told.update(_told(place, (documents / place.document).read_text(encoding="utf-8")))
    found = [
        Key(
            name=name,
            kind=_kind(name, field),
            default=_default(section, name, field),
            told=told.pop(name, None),
        )
        for name, field in _fields(section.model, "")
    ]
    return found, sorted(told)


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = _table_of(field)
        if inner is None or issubclass(inner, TreatmentModel):
            yield prefix + name, field
        else:
            yield from _fields(inner, f"{prefix}{name}.")


def _table_of(field: FieldInfo) -> type[BaseModel] | None:
    for one in (field.annotation, *typing.get_args(field.annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _told(place: Place, text: str) -> Iterator[tuple[str, Told]]:
    """
    The rows of the tables at a place.
    """
    part, prefix = None, ""
    columns: bool | None = None  # whether the table that we are in has a column of defaults; none outside
    for line in text.splitlines():
        if line.startswith("## "):
            part, prefix = line.removeprefix("## "), ""
        if named := _TABLE.search(line):
            prefix = f"{named[1]}."
        if line.startswith(f"| {place.head} |"):
            columns = line.startswith(f"| {place.head} | default |")
        elif not line.startswith("|"):
            columns = None
        row = _ROW.match(line) if columns is not None and place.part in {None, part} else None
        if row is None:
            continue
        for name in re.findall(r"`([\w.]+)`", row[1]):
            default = row[2].strip() if columns else None
            meaning = f"{row[2]}: {row[3]}" if row[2] and not columns else row[3]
            yield prefix + name, Told(default=default, meaning=meaning)


def _kind(name: str, field: FieldInfo) -> str:
    if name in LIMIT_RANGES:
        return _limit(name)
    return _words(field.annotation, list(field.metadata))


def _limit(name: str) -> str:
    low, high = LIMIT_RANGES[name]
    if name.endswith("_bytes"):
        return f"size, {format_size(low)} to {format_size(high)}"
    if isinstance(low, timedelta):
        return f"duration, {format_duration(low)} to {format_duration(high)}"
    unit = "milliseconds, or a duration" if name.endswith("_ms") else "whole number"
    return f"{unit}, {low} to {high}"


def _words(annotation: Any, metadata: list[Any]) -> str:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(inside[0], [*inside[1:], *metadata])
    if origin in {typing.Union, types.UnionType} and _own_words(metadata) is None:
        return _bounded(" or ".join(_words(one, []) for one in inside if one is not types.NoneType), metadata)
    return _bounded(_own_words(metadata) or _plain(annotation, origin, inside), metadata)


def _own_words(metadata: list[Any]) -> str | None:
    for one in reversed(metadata):
        if not isinstance(one, BeforeValidator | AfterValidator):
            continue
        validator = one.func
        if isinstance(validator, Choice):
            return ", ".join(f'`"{name}"`' for name in validator.table)
        words = _WORDS.get(getattr(validator, "__name__", ""))
        if words is not None:
            return words
    return None


def _plain(annotation: Any, origin: Any, inside: tuple[Any, ...]) -> str:
    if origin in {list, tuple}:
        one = _words(inside[0], [])
        return f"list of {_MANY.get(one, one)}"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f'`"{one.value}"`' for one in annotation)
    return _PLAIN.get(annotation, "string")


def _bounded(words: str, metadata: list[Any]) -> str:
    bounds = [inner for one in metadata for inner in getattr(one, "metadata", [one])]
    low = next((one.ge for one in bounds if isinstance(one, annotated_types.Ge)), None)
    high = next((one.le for one in bounds if isinstance(one, annotated_types.Le)), None)
    if low is None and high is None:
        return words

    def spelt(bound: Any) -> str:
        if isinstance(bound, timedelta):
            return format_duration(bound)
        return format_size(bound) if words == "size" else str(bound)

    if high is None:
        return f"{words}, at least {spelt(low)}"
    return f"{words}, {'at most' if low is None else f'{spelt(low)} to'} {spelt(high)}"


def _default(section: Section, name: str, field: FieldInfo) -> str | None:
    value = None if section.defaults is None else _of_settings(section.defaults, name)
    if value is None:
        value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    for one in field.metadata:
        if isinstance(one, BeforeValidator) and isinstance(one.func, Choice):
            value = next((word for word, meant in one.func.table.items() if meant == value), value)
    return None if value is None or value is PydanticUndefined else _spelt(name, value)


def _of_settings(settings: Any, name: str) -> Any:
    known = {one.name for one in fields(settings)}
    # The size of the evidence is bytes inside, and a size outside.
    inside = {"max_size": "max_bytes"}.get(name, name)
    return getattr(settings, inside) if inside in known else None


def _spelt(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f'`"{format_duration(value)}"`'
    if isinstance(value, int) and (name.endswith("_bytes") or name == "max_size"):
        return f'`"{format_size(value)}"`'
    if isinstance(value, enum.Enum):
        return f'`"{value.value}"`'
    if isinstance(value, str | Path):
        return f'`"{value}"`'
    if isinstance(value, list | tuple | frozenset | Mapping):
        return "none" if not value else "all" if isinstance(value, frozenset) else f"`{list(value)}`"
    return f"`{value}`"
