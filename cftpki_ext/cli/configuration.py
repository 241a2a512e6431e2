"""
`cftpki config check` and `cftpki config show`.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from cftpki_ext.bootstrap.checker import require_sources
from cftpki_ext.cli.options import config_option, config_path, json_option
from cftpki_ext.config import load
from cftpki_ext.config.advice import warnings_of
from cftpki_ext.config.shown import shown_as_toml
from cftpki_ext.config.units import format_duration
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate


@click.group()
def config() -> None:
    """
    Look at the configuration file.
    """


@config.command("check")
@config_option(help_text="The configuration file.")
@json_option
def check_config(config_file: Path | None, *, as_json: bool) -> None:
    """
    Name every fault of the configuration at once, with file, line and a suggestion; warn of what will be trouble.

    The exit status is 2 where there is a fault. Warnings (no rule, certificates that have expired or soon will, an anchor that
    is no CA's, a chain without its intermediate) leave it 0.
    """
    path = config_path(config_file)
    try:
        settings = load(path)
        require_sources(settings)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"ok": False, "faults": list(error.faults)}, indent=2))
        click.get_current_context().exit(2)
    warnings = warnings_of(settings, datetime.now(UTC))
    if as_json:
        told = {"ok": True, "faults": [], "warnings": list(warnings), "notes": list(settings.notes)}
        click.echo(json.dumps(told, indent=2))
        return
    for note in settings.notes:
        click.echo(f"cftpki: {note}", err=True)
    for warning in warnings:
        click.echo(f"cftpki: warning: {warning}", err=True)
    counts = (
        (len(settings.trusts), "trust set"),
        (len(settings.identities), "identity"),
        (len(settings.rules), "rule"),
    )
    click.echo(f"{printable(str(path))}: ok, {', '.join(_counted(count, noun) for count, noun in counts)}")


@config.command("show")
@config_option(help_text="The configuration file.")
@click.option(
    "--toml",
    "as_toml",
    is_flag=True,
    help="As a configuration: TOML with the real keys, which can be used as the file.",
)
@json_option
def show_config(config_file: Path | None, *, as_toml: bool, as_json: bool) -> None:
    """
    Show what the configuration means, defaults included; secrets are named, never shown.

    By default a line for each value, by the names of the program (scripts compare them); --toml by the names of the file.
    """
    path = config_path(config_file)
    settings = load(path)
    if as_toml and as_json:
        msg = "--toml or --json, not both"
        raise click.UsageError(msg)
    if as_toml:
        click.echo(shown_as_toml(path, settings), nl=False)
        return
    data = settings_data(settings)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    for key, value in _flat("", data):
        click.echo(f"{key} = {json.dumps(value)}")


def settings_data(settings: Settings) -> dict[str, Any]:
    """
    The settings as plain data, in the words of the configuration file.

    Args:
        settings: the checked configuration.

    Returns:
        Dictionaries, lists, strings, numbers and booleans; certificates by subject and SHA-256.

    """
    plain: dict[str, Any] = _plain(settings)
    plain.pop("notes")
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return _certificate(value)
    if isinstance(value, enum.IntEnum):
        return value.name.lower()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _certificate(der: bytes) -> dict[str, str]:
    try:
        subject = parse_certificate(der).subject.text
    except MalformedCertificateError:
        subject = "(needs compat to be read)"
    return {"subject": subject, "sha256": sha256(der).hexdigest()}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, item)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value, start=1):
            yield from _flat(f"{prefix}[{number}]", item)
    else:
        yield prefix, value


def _counted(count: int, noun: str) -> str:
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else noun + "s"
    return f"{count} {noun if count == 1 else plural}"
