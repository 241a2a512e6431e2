"""
What several commands take: the configuration file, times, networks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from cftpki_ext.config import DEFAULT_CONFIG
from cftpki_ext.config.units import parse_duration
from cftpki_ext.support.files import STANDARD_INPUT

F = TypeVar("F", bound=Callable[..., Any])

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,38})){1,32}")


class Time(click.ParamType[datetime]):
    """
    An instant: RFC 3339 with its zone, a date (its first moment in UTC), or seconds since 1970 as `@N`.
    """

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """
        Read the instant.
        """
        if isinstance(value, datetime):
            return value
        try:
            if re.fullmatch(r"@\d{1,12}", value):
                return datetime.fromtimestamp(int(value[1:]), UTC)
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
                return datetime.fromisoformat(value).replace(tzinfo=UTC)
            when = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write e.g. 2027-03-31T12:00:00Z", param, ctx)
        if when.tzinfo is None:
            self.fail(f"{value!r} has no time zone: write {value}Z for UTC", param, ctx)
        try:
            return when.astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is beyond the calendar", param, ctx)


class Since(Time):
    """
    A time as `Time` takes it, or how long ago: `7d`, `12h`, `1h30m`.
    """

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """
        Read the instant.
        """
        if isinstance(value, str) and re.fullmatch(r"([0-9]+(ms|s|m|h|d))+", value):
            try:
                return datetime.now(UTC) - parse_duration(value)
            except ValueError as exc:
                self.fail(str(exc), param, ctx)
        return super().convert(value, param, ctx)


class Oid(click.ParamType[str]):
    """
    An object identifier in dotted form.
    """

    name = "oid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """
        Read the identifier.
        """
        if not _OID.fullmatch(value):
            self.fail(f"{value!r} is no object identifier: write e.g. 2.16.840.1.101.3.2.1.48.1", param, ctx)
        return str(value)


# Existence is looked at when the file is read, where a FIFO or device cannot make us wait.
FILE = click.Path(path_type=Path, dir_okay=True)
_STANDARD_INPUT_TAKEN = f"{__name__}.standard_input"


class _Input(click.Path):
    """
    A file to be read, or `-` for standard input, which only one argument or option of a call can have.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """
        Read the name; `./-` stays a file of that name.
        """
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path != STANDARD_INPUT:
            return path
        if value != str(STANDARD_INPUT):
            return Path.cwd() / path
        meta = {} if ctx is None else ctx.meta
        if _STANDARD_INPUT_TAKEN in meta:
            self.fail("standard input (-) can be read once", param, ctx)
        meta[_STANDARD_INPUT_TAKEN] = True
        return path


# What a command reads; where it writes is a `FILE`.
INPUT = _Input(path_type=Path, dir_okay=True)


def config_option(*, help_text: str) -> Callable[[F], F]:
    """
    The option `--config`, which the environment variable CFTPKI_CONFIG may set.

    Args:
        help_text: what the command does with it.

    Returns:
        The decorator.

    """
    return click.option("--config", "config_file", type=FILE, envvar="CFTPKI_CONFIG", help=help_text)


def config_path(given: Path | None) -> Path:
    """
    The configuration that is meant: the given one, else the system's.
    """
    return DEFAULT_CONFIG if given is None else given


json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
