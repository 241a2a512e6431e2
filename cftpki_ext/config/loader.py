"""
The reading of one file: all its faults, or the settings.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from cftpki_ext.config.credentials import FaultsOf, key_faults
from cftpki_ext.config.evidence import read_evidence
from cftpki_ext.config.exposure import note_exposed
from cftpki_ext.config.faults import Faults
from cftpki_ext.config.ldap import with_ldap
from cftpki_ext.config.metrics import read_metrics
from cftpki_ext.config.partners import read_partners
from cftpki_ext.config.policies import read_policies
from cftpki_ext.config.positions import key_lines
from cftpki_ext.config.refresh import read_refresh
from cftpki_ext.config.rest import with_rest
from cftpki_ext.config.sections import Names, Reader
from cftpki_ext.core.cluster import ClusterSettings
from cftpki_ext.core.errors import ConfigError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.notify import NotifySettings
from cftpki_ext.core.policy import PROFILES
from cftpki_ext.core.settings import ConsoleSettings, Rule, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.vocabulary import Phase
from cftpki_ext.decision.rules import overlaps
from cftpki_ext.support.files import MAX_TEXT_BYTES, read_regular
from cftpki_ext.support.guarded import Guard, trusted_users

_SECTIONS = (
    "service",
    "limits",
    "evidence",
    "refresh",
    "notify",
    "metrics",
    "console",
    "cluster",
    "trust",
    "policy",
    "identity",
    "enroller",
    "rule",
)
# The keys of a rule that say which sessions it applies to.
_CONDITIONS = ("direction", "profile", "networks", "port")
T = TypeVar("T")
_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def read_file(
    path: Path, *, now: datetime | None, forgive_ended: bool, look: FaultsOf | None = None
) -> Settings:
    """
    See `cftpki_ext.config.load`.
    """
    origin = printable(str(path))
    document, text = _parse(path, origin)
    faults = Faults(origin=origin, lines=key_lines(text))
    for key in document:
        if key not in _SECTIONS:
            faults.add((key,), "unknown section", wanted=key, known=_SECTIONS)
    tables = {kind: _tables(faults, document, kind) for kind in ("trust", "policy", "identity", "enroller")}
    reader = Reader(
        faults=faults,
        directory=path.absolute().parent,
        guard=Guard(users=trusted_users(_state_of(document, path))),
        now=now or datetime.now(UTC),
        forgive_ended=forgive_ended,
        look=key_faults if look is None else look,
        names=Names(
            trusts=frozenset(tables["trust"]),
            identities=frozenset(tables["identity"]),
            policies=frozenset(tables["policy"]) | frozenset(PROFILES),
        ),
    )
    settings = _read(reader, document, tables)
    note_exposed(faults, settings, trusted=reader.guard.users)
    report = faults.report()
    if report:
        raise ConfigError(report)
    return replace(settings, notes=tuple(map(printable, faults.notes)))


def read_service(path: Path) -> ServiceSettings:
    """
    See `cftpki_ext.config.load_service`.
    """
    document, reader = _alone(path)
    return _sound(reader, reader.service(document.get("service", {})))


def read_console_alone(path: Path) -> ConsoleSettings:
    """
    See `cftpki_ext.config.load_console`.
    """
    document, reader = _alone(path)
    trusts = document.get("trust")
    names = replace(reader.names, trusts=frozenset(trusts if isinstance(trusts, dict) else ()))
    reader = replace(reader, names=names)
    return _sound(reader, _console(reader, document))


def _alone(path: Path) -> tuple[dict[str, Any], Reader]:
    """
    A file, and what reads one section of it.
    """
    origin = printable(str(path))
    document, text = _parse(path, origin)
    reader = Reader(
        faults=Faults(origin=origin, lines=key_lines(text)),
        directory=path.absolute().parent,
        guard=Guard(users=trusted_users(_state_of(document, path))),
        now=datetime.now(UTC),
        names=Names(trusts=frozenset(), identities=frozenset(), policies=frozenset()),
    )
    return document, reader


def _sound(reader: Reader, made: T) -> T:
    """
    What was read, where it has no fault.
    """
    report = reader.faults.report()
    if report:
        raise ConfigError(report)
    return made


def _read(reader: Reader, document: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> Settings:
    reader = replace(reader, limits=reader.read_limits(document.get("limits", {})))
    service = reader.service(document.get("service", {}))
    reader = replace(reader, unanswered=frozenset(Phase) - service.phases)
    policies = read_policies(reader, tables["policy"])
    enrolment = _enrolment(tables)
    identities = {
        name: enrolment.read_managed(reader, name, raw, tables["enroller"])
        if enrolment is not None and _is_managed(raw)
        else reader.identity(name, raw)
        for name, raw in tables["identity"].items()
    }
    return Settings(
        service=service,
        limits=reader.limits,
        evidence=read_evidence(reader, document.get("evidence", {})),
        refresh=read_refresh(reader, document.get("refresh", {})),
        notify=_notify(reader, document),
        metrics=read_metrics(reader, document.get("metrics", {})),
        console=_console(reader, document),
        cluster=_cluster(reader, document),
        trusts=MappingProxyType(
            {
                name: _with_directory(
                    reader,
                    with_ldap(reader, with_rest(reader, reader.trust(name, raw, policies), raw), raw),
                    raw,
                )
                for name, raw in tables["trust"].items()
            }
        ),
        identities=MappingProxyType({name: made for name, made in identities.items() if made is not None}),
        enrollers=MappingProxyType({})
        if enrolment is None
        else enrolment.read_enrollers(reader, tables["enroller"]),
        policies=policies,
        rules=_rules(reader, document.get("rule", [])),
    )


def _console(reader: Reader, document: Mapping[str, Any]) -> ConsoleSettings:
    """
    The console; what reads it is imported where there is something to read (ADR 0030).
    """
    if "console" not in document:
        return ConsoleSettings()
    made: ConsoleSettings = import_module("cftpki_ext.config.console").read_console(
        reader, document["console"]
    )
    return made


def _with_directory(reader: Reader, trust: TrustSet, raw: object) -> TrustSet:
    """
    A trust set with its directory; what reads it is imported where there is one (ADR 0030).
    """
    if not isinstance(raw, dict) or "directory" not in raw:
        return trust
    made: TrustSet = import_module("cftpki_ext.config.directory").with_directory(
        reader, trust, raw["directory"]
    )
    return made


def _notify(reader: Reader, document: Mapping[str, Any]) -> NotifySettings:
    """
    Whom to tell; what reads it is imported where somebody is to be told (ADR 0030).
    """
    if "notify" not in document:
        return NotifySettings()
    made: NotifySettings = import_module("cftpki_ext.config.notify").read_notify(reader, document["notify"])
    return made


def _cluster(reader: Reader, document: Mapping[str, Any]) -> ClusterSettings | None:
    """
    The server that nodes share; what reads it is imported where there is one (ADR 0030).
    """
    if "cluster" not in document:
        return None
    made: ClusterSettings | None = import_module("cftpki_ext.config.cluster").read_cluster(
        reader, document["cluster"]
    )
    return made


def _is_managed(raw: object) -> bool:
    """
    Whether a section `[identity.NAME]` is of the form with enrollers.
    """
    return isinstance(raw, dict) and ("enrollers" in raw or "names" in raw)


def _enrolment(tables: Mapping[str, Mapping[str, Any]]) -> ModuleType | None:
    """
    What reads enrollers and the identities that they keep: files without any do not pay for it (ADR 0030).
    """
    if not tables["enroller"] and not any(map(_is_managed, tables["identity"].values())):
        return None
    return import_module("cftpki_ext.config.enrolment")


def _parse(path: Path, origin: str) -> tuple[dict[str, Any], str]:
    try:
        content = read_regular(path, cap=MAX_TEXT_BYTES, what="configuration")
    except InputError as exc:
        raise ConfigError((str(exc),)) from exc
    why = Guard().fault(path)
    if why is not None:
        raise ConfigError((f"{origin}:1: [file] {why}",))
    try:
        text = content.data.decode()
        return tomllib.loads(text), text
    except UnicodeDecodeError as exc:
        line = content.data.count(b"\n", 0, exc.start) + 1
        msg = f"{origin}:{line}: [file] is not UTF-8 text"
        raise ConfigError((msg,)) from exc
    except tomllib.TOMLDecodeError as exc:
        message = str(exc)
        found = _LINE.search(message)
        last = max(1, len(content.data.splitlines()))
        line = int(found[1]) if found else last
        clause = printable(_LINE.sub("", message).strip())
        msg = f"{origin}:{line}: [file] is no TOML: {clause[:1].lower()}{clause[1:]}"
        raise ConfigError((msg,)) from exc
    except ValueError as exc:  # of a number: longer than Python reads
        msg = f"{origin}:1: [file] holds a number of thousands of digits"
        raise ConfigError((msg,)) from exc
    except RecursionError as exc:
        msg = f"{origin}:1: [file] is no TOML that can be read: nested too deeply"
        raise ConfigError((msg,)) from exc


def _state_of(document: Mapping[str, Any], path: Path) -> Path:
    """
    The state directory, whose owner is the service's user, of a file that nobody else can write.
    """
    service = document.get("service")
    named = service.get("state") if isinstance(service, dict) else None
    return path.absolute().parent / named if isinstance(named, str) and named else ServiceSettings().state


def _tables(faults: Faults, document: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = document.get(kind, {})
    if isinstance(found, dict):
        return found
    faults.add((kind,), f"must be tables with names: [{kind}.NAME]")
    return {}


def _rules(reader: Reader, raw: object) -> tuple[Rule, ...]:
    if not isinstance(raw, list):
        reader.faults.add(("rule",), "must be an array of tables: [[rule]]")
        return ()
    made: list[tuple[int, Rule]] = []
    for index, item in enumerate(raw):
        rule = reader.rule(index, item)
        lists = item.get("partners") if isinstance(item, dict) else None
        partners = read_partners(reader, ("rule", index, "partners"), lists)
        if rule is not None:
            made.append((index, replace(rule, partners=partners)))
    counts = Counter(rule.name for _, rule in made)
    first: dict[str, int] = {}
    for index, rule in made:
        if counts[rule.name] > 1 and rule.name in first:
            reader.faults.add(
                ("rule", index, "name"), f"{rule.name!r} is also the name of rule[{first[rule.name] + 1}]"
            )
        first.setdefault(rule.name, index)
    places = {id(rule): index for index, rule in made}
    # What could not be read of a rule is left out of it, and would make it overlap with others for no reason.
    whole = [
        rule
        for index, rule in made
        if not any(reader.faults.within(("rule", index, key)) for key in _CONDITIONS)
    ]
    for earlier, later in overlaps(whole):
        reader.faults.add(
            ("rule", places[id(later)]),
            f"applies to the same sessions as rule[{places[id(earlier)] + 1}] ({earlier.name!r}):"
            " tell them apart by networks, profile or port",
        )
    return tuple(rule for _, rule in made)
