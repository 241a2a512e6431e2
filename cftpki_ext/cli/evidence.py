"""
The record of verdicts, read by commands: opened, searched, walked; and `cftpki audit verify`, which says whether it is whole.

What reads disturbs no service that runs. The other commands of `audit` are in `cftpki_ext.cli.auditing`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.options import FILE, config_option, config_path, json_option
from cftpki_ext.cli.remarks import Remarks, forgotten_in, remarks_of
from cftpki_ext.cli.render import counting
from cftpki_ext.config import load
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence import Row
from cftpki_ext.looking.records import moment_text, place_of, read_rows
from cftpki_ext.ports.evidence import EvidenceReader, LedgerEntry, LedgerFault
from cftpki_ext.stores import ledger_remark, open_ledger

NOT_DONE = 1

state_option = click.option(
    "--state", "state", type=FILE, help="The state directory, without or instead of the configuration's."
)


@click.group()
def audit() -> None:
    """
    Look through the record of verdicts, and make sure that nobody touched it.
    """


@audit.command()
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
@click.pass_context
def verify(ctx: click.Context, /, **options: Any) -> None:
    """
    Walk the whole chain of records. Status 0 where it is whole, 1 where anything was changed or removed.
    """
    with reading_ledger(options) as ledger, counting("verifying") as advance:
        faults = ledger.verify(advance) + forgotten_in(ledger, state_of(options))
        count = ledger.count()
        first, last = ledger.ends()
        remarks = remarks_of(ledger)
    tell_whole(faults, count, first, last, remarks=remarks, as_json=options["as_json"])
    if faults:
        ctx.exit(NOT_DONE)


def tell_whole(
    faults: Sequence[LedgerFault],
    count: int,
    first: LedgerEntry | None,
    last: LedgerEntry | None,
    *,
    remarks: Remarks,
    as_json: bool,
) -> None:
    """
    Print what a walk over a chain of records found.
    """
    if as_json:
        data = {
            "whole": not faults,
            "records": count,
            "first": place_of(first) if first else None,
            "last": place_of(last) if last else None,
            "faults": [asdict(fault) for fault in faults],
            **remarks.data(),
        }
        click.echo(json.dumps(data, indent=2))
    else:
        for fault in faults:
            click.echo(printable(fault.detail))
        for line in remarks.lines():
            click.echo(line)
        ends = (
            f", {moment_text(first.kept_at)} to {moment_text(last.kept_at)}, newest hash {last.hash}"
            if first and last
            else ""
        )
        word = "whole" if not faults else f"broken in {len(faults)} places" if len(faults) > 1 else "broken"
        click.echo(f"{word}: {count} records{ends}")


def rows_of(ledger: EvidenceReader, since: datetime | None, until: datetime | None = None) -> Iterator[Row]:
    """
    The rows of what a ledger kept in a window, oldest first; a record that cannot be read is named on standard error and left out.
    """
    return read_rows(ledger.since(since), ledger, until=until, tell=lambda line: click.echo(line, err=True))


@contextlib.contextmanager
def reading_ledger(options: dict[str, Any], under: Settings | None = None) -> Iterator[EvidenceReader]:
    """
    The ledger that a command's options name, open for reading.

    Args:
        options: `state` and `config_file`.
        under: a configuration that was read already.

    Raises:
        StoreError: there is none, or it cannot be read by this user.

    """
    state = state_of(options, under)
    remark = ledger_remark(state)
    if remark is not None:
        click.echo(f"cftpki: {remark}", err=True)
    with contextlib.closing(open_ledger(state)) as ledger:
        yield ledger


def state_of(options: dict[str, Any], under: Settings | None = None) -> Path:
    """
    The state directory that a command's options name.
    """
    state: Path | None = options["state"]
    return state or (under or load(config_path(options["config_file"]))).service.state
