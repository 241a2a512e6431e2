"""
`[enroller.NAME]`, and `[identity.NAME]` where enrollers keep it: ways to CAs, and what is asked of them.

The options of an enroller are its plugin's own model; its faults are named like ours, with file and line.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from cftpki_ext.config.faults import words_of
from cftpki_ext.config.models import Choice, Duration, Oid, Section
from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader
from cftpki_ext.config.units import parse_duration
from cftpki_ext.core.errors import ConfigError, InputError, KeyUnavailableError
from cftpki_ext.core.identity_settings import (
    ChangeWindow,
    EnrollerSettings,
    HookRules,
    ManagedIdentity,
    RenewalRules,
)
from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.issuance.plugins import known_types, load_plugin
from cftpki_ext.identity.issuance.request import normalise_names
from cftpki_ext.identity.store.private_keys import read_password

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)"
)
_LISTENER = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_PERCENT = re.compile(r"(\d{1,3})%")
MAX_HOOKS = 16
# Identities are looked at every ten seconds; more rarely than daily is not "at once" by any reading.
SHORTEST_CHECK, LONGEST_CHECK = timedelta(seconds=10), timedelta(days=1)


def _percent(value: object, *, low: int, high: int) -> float:
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or not low <= int(found[1]) <= high:
        msg = f'must be a share from "{low}%" to "{high}%"'
        raise ValueError(msg)
    return int(found[1]) / 100


def _renew_at(value: object) -> float | timedelta:
    """
    A share of the life that is gone, or how long before the end.
    """
    if isinstance(value, str) and value.endswith("%"):
        return _percent(value, low=10, high=95)
    if not isinstance(value, str):
        msg = 'must be a share of the life that is gone ("66%") or a duration before the end ("10d")'
        raise ValueError(msg)  # noqa: TRY004 - pydantic reports ValueError, a TypeError would end the program
    return parse_duration(value)


def _window(value: object) -> ChangeWindow:
    text = value.lower() if isinstance(value, str) else ""
    found = _WINDOW.fullmatch(text)
    try:
        if found is None:
            raise ValueError  # noqa: TRY301 - one message for all
        first = _DAYS.index(found["first"]) if found["first"] else 0
        last = _DAYS.index(found["last"]) if found["last"] else (first if found["first"] else 6)
        begin, end = time.fromisoformat(found["begin"]), time.fromisoformat(found["end"])
    except ValueError:
        msg = f'{value!r} is no change window: write e.g. "mon-fri 22:00-04:00" or "sun 06:00-12:00", in UTC'
        raise ValueError(msg) from None
    days = frozenset((first + offset) % 7 for offset in range((last - first) % 7 + 1))
    return ChangeWindow(days=days, begin=begin, end=end)


def _listener(value: object) -> tuple[str, int]:
    found = _LISTENER.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found["port"]) <= 65535:
        msg = f'{value!r} is no listener: write e.g. "127.0.0.1:1762"'
        raise ValueError(msg)
    return found["host"].strip("[]"), int(found["port"])


def _floor(value: object) -> float:
    # Below a twentieth of the life an outage of a working day could not be survived any more.
    return _percent(value, low=2, high=50)


def _share(value: object) -> float:
    return _percent(value, low=1, high=100)


def _check_every(value: timedelta) -> timedelta:
    if not SHORTEST_CHECK <= value <= LONGEST_CHECK:
        msg = "must be from 10s to 1d"
        raise ValueError(msg)
    return value


KeyName = Annotated[str, BeforeValidator(Choice({kind.value: kind.value for kind in KeyKind}))]
UsageName = Annotated[str, BeforeValidator(Choice({usage.value: usage.value for usage in Usage}))]
RenewAt = Annotated[float | timedelta, BeforeValidator(_renew_at)]
Window = Annotated[ChangeWindow, BeforeValidator(_window)]
Listener = Annotated[tuple[str, int], BeforeValidator(_listener)]
Floor = Annotated[float, BeforeValidator(_floor)]
CheckEvery = Annotated[Duration, AfterValidator(_check_every)]
Share = Annotated[float, BeforeValidator(_share)]
Command = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(min_length=1, max_length=64)
]


class ManagedModel(Section):
    """
    `[identity.NAME]` with `enrollers`.
    """

    enrollers: list[str] = Field(default_factory=list)
    names: list[str] = Field(default_factory=list)
    common_name: str | None = None
    key: KeyName | None = None
    reuse_key: bool = False
    usages: Annotated[list[UsageName], Field(min_length=1)] | None = None
    lifetime: Duration | None = None
    min_lifetime: Share | None = None
    issuers: list[str] = Field(default_factory=list)
    policies: list[Oid] = Field(default_factory=list)
    trust: str | None = None
    renew_at: RenewAt | None = None
    min_interval: Duration | None = None
    windows: list[Window] = Field(default_factory=list)
    floor: Floor | None = None
    keep: Annotated[int, Field(ge=1, le=100)] | None = None
    keep_root: bool = False
    password_file: str | None = None
    hand_over_key: bool = False
    hooks: Annotated[list[Command], Field(max_length=MAX_HOOKS)] = Field(default_factory=list)
    hook_timeout: Duration | None = None
    observe: list[Listener] = Field(default_factory=list)
    check_every: CheckEvery | None = None


def read_enrollers(reader: Reader, raw: Mapping[str, Any]) -> Mapping[str, EnrollerSettings]:
    """
    Read every `[enroller.NAME]`.

    Args:
        reader: of the file.
        raw: the sections by name.

    Returns:
        By name, those without faults.

    """
    made = {name: _enroller(reader, name, section) for name, section in raw.items()}
    return MappingProxyType({name: settings for name, settings in made.items() if settings is not None})


def _enroller(reader: Reader, name: str, raw: object) -> EnrollerSettings | None:
    path: KeyPath = ("enroller", name)
    reader.name(path, name)
    if not isinstance(raw, dict):
        reader.faults.add(path, "must be a table")
        return None
    kind = raw.get("type")
    known = known_types()
    if not isinstance(kind, str):
        reader.faults.add(
            (*path, "type"), f"'type' is missing: one of {', '.join(known) or 'none installed'}"
        )
        return None
    if kind not in known:
        message = f"{kind!r} is no type of enroller; there are {', '.join(known) or 'none'}"
        reader.faults.add((*path, "type"), message, wanted=kind, known=known)
        return None
    try:
        plugin = load_plugin(kind)
    except ConfigError as error:
        reader.faults.add((*path, "type"), str(error))
        return None
    values = {key: value for key, value in raw.items() if key != "type"}
    written = _resolved(plugin.options, values, reader.directory)
    try:
        options = plugin.options.model_validate(written)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            _note(reader, path, plugin.options, raw, fault)
        return None
    for key, file in _files(options):
        reader.guarded((*path, *key), file)
    return EnrollerSettings(name=name, type=kind, options=options, written=written)


def _files(value: Any, key: KeyPath = ()) -> Iterator[tuple[KeyPath, Path]]:
    """
    Every file that options name: roots, keys, passwords, programs. A folder is for what is put there.
    """
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            # An argument list: its first is the program.
            yield from _files(
                Path(inner[0]) if name == "hook" and inner else inner, (*key, field.alias or name)
            )
    elif isinstance(value, Path):
        if value.is_file():
            yield key, value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _files(item, (*key, index))


def _note(reader: Reader, path: KeyPath, options: type[BaseModel], raw: Any, fault: Any) -> None:
    place: KeyPath = ()
    value = raw
    for part in fault["loc"]:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            break
        place = (*place, part)
    message = words_of(fault)
    if fault["type"] == "missing":
        reader.faults.add((*path, *place, str(fault["loc"][-1])), f"{fault['loc'][-1]!r} is missing")
    elif fault["type"] == "extra_forbidden":
        known = options.model_fields if len(place) == 1 else ()
        reader.faults.add((*path, *place), "unknown key", wanted=str(fault["loc"][-1]), known=known)
    else:
        reader.faults.add((*path, *place), message)


def _resolved(model: type[BaseModel], values: dict[str, Any], directory: Path) -> dict[str, Any]:
    """
    The values with every text that is to be a path taken from the directory of the file.
    """
    resolved = dict(values)
    for name, field in model.model_fields.items():
        for key in {name, field.alias or name} & resolved.keys():
            resolved[key] = _path(field.annotation, resolved[key], directory)
    return resolved


def _path(annotation: Any, value: Any, directory: Path) -> Any:
    if annotation is Path:
        return directory / value if isinstance(value, str) and value else value
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _resolved(annotation, value, directory) if isinstance(value, dict) else value
    for inner in typing.get_args(annotation):
        if isinstance(value, list):
            value = [_path(inner, item, directory) for item in value]
        elif isinstance(value, dict) and not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            value = {key: _path(inner, item, directory) for key, item in value.items()}
        else:
            value = _path(inner, value, directory)
    return value


def read_managed(
    reader: Reader, name: str, raw: object, enrollers: typing.Collection[str]
) -> ManagedIdentity | None:
    """
    Read one `[identity.NAME]` that enrollers keep.

    Args:
        reader: of the file.
        name: of the identity.
        raw: the section.
        enrollers: the names of all sections `[enroller.NAME]`, sound or not.

    Returns:
        The identity; `None` where it lacks what it needs.

    """
    path: KeyPath = ("identity", name)
    reader.name(path, name)
    model = reader.validate(ManagedModel, path, raw)
    written = raw if isinstance(raw, dict) else {}
    if not model.enrollers and not written.get("enrollers"):
        reader.faults.add((*path, "enrollers"), "names no enroller: nobody would issue anything")
    for index, enroller in enumerate(model.enrollers):
        if enroller not in enrollers:
            reader.unknown((*path, "enrollers", index), "enroller", enroller, frozenset(enrollers))
    if len(set(model.enrollers)) != len(model.enrollers):
        reader.faults.add((*path, "enrollers"), "names an enroller twice")
    if model.trust is not None and model.trust not in reader.names.trusts:
        reader.unknown((*path, "trust"), "trust", model.trust, reader.names.trusts)
    password_file = None if model.password_file is None else reader.path(model.password_file)
    try:
        read_password(password_file)
    except KeyUnavailableError as error:
        reader.faults.add((*path, "password_file"), str(error))
    if password_file is not None and not reader.faults.within((*path, "password_file")):
        reader.guarded((*path, "password_file"), password_file)
    for index, command in enumerate(model.hooks):
        if any("\0" in word for word in command):
            reader.faults.add((*path, "hooks", index), "holds a NUL, which no program can be given")
        elif not Path(command[0]).is_absolute():
            reader.faults.add(
                (*path, "hooks", index), f"{command[0]!r} is not an absolute path: there is no shell"
            )
        else:
            reader.guarded((*path, "hooks", index), Path(command[0]))
    defaults = RenewalRules()
    renewal = RenewalRules(
        renew_at=model.renew_at if isinstance(model.renew_at, float) else defaults.renew_at,
        renew_before=model.renew_at if isinstance(model.renew_at, timedelta) else None,
        windows=tuple(model.windows),
        floor=defaults.floor if model.floor is None else model.floor,
        min_interval=defaults.min_interval if model.min_interval is None else model.min_interval,
    )
    hooks = HookRules(commands=tuple(tuple(command) for command in model.hooks))
    if model.hook_timeout is not None:
        hooks = HookRules(commands=hooks.commands, timeout=model.hook_timeout)
    issuers = reader.certificates((*path, "issuers"), model.issuers)
    try:
        names = normalise_names(model.names, common_name=model.common_name)
    except InputError as error:
        if not reader.faults.within((*path, "names")):
            reader.faults.add((*path, "names"), str(error))
        return None
    optional: dict[str, Any] = {}
    if model.key is not None:
        optional["key"] = KeyKind(model.key)
    if model.usages is not None:
        optional["usages"] = frozenset(Usage(usage) for usage in model.usages)
    if model.keep is not None:
        optional["keep"] = model.keep
    if model.check_every is not None:
        optional["check_every"] = model.check_every
    if model.min_lifetime is not None:
        optional["lifetime_share"] = model.min_lifetime
    return ManagedIdentity(
        name=name,
        enrollers=tuple(model.enrollers),
        common_name=names.common_name,
        dns=names.dns,
        addresses=names.addresses,
        reuse_key=model.reuse_key,
        lifetime=model.lifetime,
        issuers=issuers,
        policies=frozenset(model.policies),
        trust=model.trust,
        keep_root=model.keep_root,
        password_file=password_file,
        hand_over_key=model.hand_over_key,
        renewal=renewal,
        hooks=hooks,
        observe=tuple(model.observe),
        **optional,
    )
