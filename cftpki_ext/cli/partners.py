"""
`cftpki partners`: who they are, how they stand, until when they are excepted, and who is shut out.

Only `block` and `unblock` write; a service that runs is not disturbed.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.blocking import block, unblock
from cftpki_ext.cli.options import Since, config_option, config_path, json_option
from cftpki_ext.cli.render import console, counting, table
from cftpki_ext.config import load
from cftpki_ext.core.blocks import Block
from cftpki_ext.core.escape import printable
from cftpki_ext.core.policy import PartnerException
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence.partners import PartnerRow
from cftpki_ext.looking.partners import (
    NoPartnerError,
    Overview,
    Standing,
    overview_data,
    overview_of,
    standing_data,
)

# Rows that a person is shown unless asked for more.
_SHOWN = 100
_SHORT = 16

_config = config_option(help_text="The configuration that names the state directory, rules and exceptions.")
_since = click.option(
    "--since",
    type=Since(),
    help="Look at all evidence since then, e.g. 30d; by default at the newest 20,000 records.",
)


@click.group()
def partners() -> None:
    """
    Look at the partners that were seen; shut one out at once.
    """


for command in (block, unblock):
    partners.add_command(command)


@partners.command("list")
@_since
@click.option("--blocked", is_flag=True, help="Only those that are blocked now.")
@click.option(
    "--limit", type=click.IntRange(0), default=_SHOWN, show_default=True, help="Rows to show; 0: all of them."
)
@_config
@json_option
def list_partners(
    since: datetime | None, limit: int, config_file: Path | None, *, blocked: bool, as_json: bool
) -> None:
    """
    List every partner that was seen: last verdict, whose word it rested on, its certificate's end, exceptions, blocks.

    Known are those that were accepted in the last days and those in the evidence, the last seen first.
    """
    now = datetime.now(UTC)
    seen = _overview(load(config_path(config_file), forgive_ended=True), since)
    chosen = [one for one in seen.partners if not blocked or any(each.holds(now) for each in one.blocks)]
    if as_json:
        for part in _document(chosen, overview_data(seen, now), now):
            click.echo(part, nl=False)
        return
    shown = chosen if limit == 0 else chosen[:limit]
    out = console()
    out.print(
        table(
            ("partner", "last seen", "verdict", "ends", "fingerprint", "notes"),
            (
                (
                    one.row.subject or "(empty subject)",
                    _minute(one.row.last_at),
                    _verdict(one.row),
                    _day(one.row.ends),
                    one.row.fingerprint[:_SHORT],
                    "; ".join(_notes(one, now)),
                )
                for one in shown
            ),
        )
    )
    if len(shown) < len(chosen):
        out.print(f"and {len(chosen) - len(shown)} more: --limit 0 shows all")
    reach = "none" if seen.oldest is None else f"{seen.records}, from {_minute(seen.oldest)}Z on"
    out.print(f"\n{len(chosen)} partners; records looked at: {reach}")
    if seen.book.blocks:
        out.print("\nBlocked:")
        out.print(table(("who", "since", "until", "by", "reason"), _block_rows(seen.book.blocks, now)))
    unseen = _unseen(seen)
    if unseen:
        out.print("\nExceptions of partners that were not seen:")
        out.print(
            table(
                ("fingerprint", "policy", "until", "reason"),
                ((one.fingerprint, name, _ends(one.until, now), one.reason) for name, one in unseen),
            )
        )


@partners.command("show")
@click.argument("who", metavar="FINGERPRINT|SPKI|NAME")
@_since
@_config
@json_option
def show_partner(who: str, since: datetime | None, config_file: Path | None, *, as_json: bool) -> None:
    """
    Show one partner: all that is known of it. The beginning of its fingerprint will do.
    """
    now = datetime.now(UTC)
    seen = _overview(load(config_path(config_file), forgive_ended=True), since, who=who)
    found = seen.partners
    if len(found) != 1:
        several = ", ".join(f"{one.row.subject} ({one.row.fingerprint[:_SHORT]})" for one in found[:10])
        detail = (
            f"{len(found)} partners are meant: {several}" if found else "no partner that was seen is meant"
        )
        msg = f"{printable(who)}: {detail}; see cftpki partners list"
        raise NoPartnerError(msg)
    data = standing_data(found[0], now)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    out = console()
    out.print(table(("what", "value"), _facts(data)))


def _document(chosen: Iterable[Standing], besides: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """
    The list in JSON, a partner at a time: as text, twenty thousand take more memory than all else together.
    """
    before = "\n"
    yield '{\n  "partners": ['
    for one in chosen:
        yield before + textwrap.indent(json.dumps(standing_data(one, now), indent=2), "    ")
        before = ",\n"
    yield (
        ("" if before == "\n" else "\n  ") + "],\n" + json.dumps(besides, indent=2).removeprefix("{\n") + "\n"
    )


def _overview(settings: Settings, since: datetime | None, *, who: str | None = None) -> Overview:
    with counting("reading the evidence") as advance:
        return overview_of(
            settings, since, who=who, advance=advance, tell=lambda line: click.echo(line, err=True)
        )


def _notes(one: Standing, now: datetime) -> Iterator[str]:
    for each in one.blocks:
        yield f"blocked: {each.reason}" if each.holds(now) else f"block ended {_day(each.until)}"
    for _, exception in one.exceptions:
        yield f"exception {'until' if now < exception.until else 'ended'} {_day(exception.until)}"
    if one.row.excepted_times:
        yield f"let in by an exception {one.row.excepted_times} times, last {_day(one.row.excepted_at)}"


def _block_rows(blocks: Iterable[Block], now: datetime) -> Iterator[tuple[str, ...]]:
    for one in blocks:
        until = "lifted" if one.until is None else _ends(one.until, now)
        yield one.what, _minute(one.at), until, one.by, one.reason


def _unseen(seen: Overview) -> tuple[tuple[str, PartnerException], ...]:
    known = {one.row.fingerprint for one in seen.partners}
    return tuple((name, one) for name, one in seen.exceptions if one.fingerprint not in known)


def _facts(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", _cell(each)) for name, each in value.items())
        elif isinstance(value, list):
            for number, each in enumerate(value, start=1):
                yield from ((f"{key}[{number}].{name}", _cell(part)) for name, part in each.items())
        else:
            yield key, _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)


def _verdict(row: PartnerRow) -> str:
    if row.status == "accepted":
        return "accepted"
    return f"refused {row.alert} {row.reason}"


def _ends(until: datetime, now: datetime) -> str:
    return _day(until) if now < until else f"ended {_day(until)}"


def _minute(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d}"
