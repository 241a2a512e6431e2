"""
What the process that keeps our own certificates is told of a configuration, as plain values and octets.

Owns the form: values by the codec of evidence (`evidence.record`), octets one after the other in one part. Enrollers'
options go as they stand in the file, each value with its type, and are made again by their plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.forms import form_of
from cftpki_ext.core.identity_settings import EnrollerSettings, ManagedIdentity
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import ServiceSettings, Settings, TrustSet
from cftpki_ext.evidence.record import from_plain, to_plain
from cftpki_ext.identity.issuance.plugins import load_plugin
from cftpki_ext.processes.frames import Message
from cftpki_ext.service.renewals import managed
from cftpki_ext.support.failures import reason_of


def settings_to(settings: Settings) -> Message:
    """
    What the process must know of a configuration: the identities that enrollers keep, and what these need.

    Args:
        settings: those in force.

    Returns:
        Plain data, with all octets in one part.

    """
    octets: dict[str, bytes | LargeOctets] = {}
    kept = managed(settings)
    enrollers = sorted({name for identity in kept.values() for name in identity.enrollers})
    trusts = sorted({identity.trust for identity in kept.values() if identity.trust is not None})
    value = {
        "state": str(settings.service.state),
        "identities": {
            name: to_plain(form_of(ManagedIdentity).dump_python(one, mode="python", warnings=False), octets)
            for name, one in kept.items()
        },
        "enrollers": {
            name: {"type": one.type, "written": _table_to(one.written)}
            for name, one in ((name, settings.enrollers[name]) for name in enrollers)
        },
        "trusts": {name: to_plain(settings.trusts[name].anchors, octets) for name in trusts},
    }
    parts = {digest: bytes(raw) for digest, raw in octets.items() if isinstance(raw, bytes)}
    lengths = [[digest, len(raw)] for digest, raw in parts.items()]
    return Message({**value, "octets": lengths}, (b"".join(parts.values()),))


def settings_from(message: Message) -> Settings:
    """
    The other way, without the enrollers: these are their plugins' business (`enrollers_from`).
    """
    value = message.value
    blob = _octets_of(message).get
    return Settings(
        service=ServiceSettings(state=Path(value["state"])),
        identities=MappingProxyType(
            {
                name: form_of(ManagedIdentity).validate_python(from_plain(one, blob, verify=False))
                for name, one in value["identities"].items()
            }
        ),
        trusts=MappingProxyType(
            {
                name: TrustSet(name=name, anchors=tuple(from_plain(one, blob, verify=False)))
                for name, one in value["trusts"].items()
            }
        ),
    )


def enrollers_from(message: Message) -> Mapping[str, EnrollerSettings]:
    """
    The enrollers of a message of `settings_to`, made again by their plugins.

    Raises:
        ConfigError: a plugin cannot be loaded, or does not take any more what it took.

    """
    made = {}
    for name, one in message.value["enrollers"].items():
        written = {key: _written_from(value) for key, value in one["written"].items()}
        try:
            options = load_plugin(one["type"]).options.model_validate(written)
        except ValueError as error:
            msg = f"enroller {name!r}: {reason_of(error)}"
            raise ConfigError((msg,)) from error
        made[name] = EnrollerSettings(name=name, type=one["type"], options=options, written=written)
    return MappingProxyType(made)


# What TOML, and our own reading of it, has besides what JSON has.
_READ: Mapping[str, Callable[[str], object]] = {
    "path": Path,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}


def _table_to(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _written_to(value) for key, value in table.items()}


def _written_to(value: Any) -> Any:
    """
    A value of the file; one that JSON has no form for, or whose form is taken by these, is said with its kind.
    """
    if isinstance(value, Mapping):
        return {"table": _table_to(value)}
    if isinstance(value, list | tuple):
        return [_written_to(one) for one in value]
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, datetime | date | time):
        return {type(value).__name__: value.isoformat()}
    return value


def _written_from(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_written_from(one) for one in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == "table":
        return {key: _written_from(one) for key, one in value.items()}
    return _READ[kind](value)


def _octets_of(message: Message) -> dict[str, bytes | LargeOctets]:
    (joined,) = message.parts
    found: dict[str, bytes | LargeOctets] = {}
    at = 0
    for digest, length in message.value["octets"]:
        found[digest] = joined[at : at + length]
        at += length
    return found
