"""
`cftpki explain` and `replay`: what was decided and why, and whether it would be decided so again.

Both only read; a service that runs is not disturbed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from cftpki_ext.cli.evidence import reading_ledger, state_option
from cftpki_ext.cli.explaining import show_record, write_raw
from cftpki_ext.cli.options import FILE, Since, config_option, json_option
from cftpki_ext.cli.render import console, counting, table
from cftpki_ext.config import load
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.evidence import Row, data_of, decode
from cftpki_ext.evidence.again import plain_of, readable, repeated_by
from cftpki_ext.evidence.what_if import Trial
from cftpki_ext.looking.records import find, place_of
from cftpki_ext.looking.trials import Trials, trial_data, trial_of, try_record

NOT_DONE = 1


@click.command()
@click.argument("verdict_id", metavar="ID")
@click.option(
    "--replay", "again", is_flag=True, help="Decide again from the stored bytes; status 1 if it differs."
)
@click.option(
    "--raw",
    "raw_directory",
    type=FILE,
    help="Write every stored certificate and statement into this directory, which is made.",
)
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
@click.pass_context
def explain(ctx: click.Context, /, verdict_id: str, **options: Any) -> None:
    """
    Say what was asked, heard and decided for the verdict ID.

    ID is the verdict's id, its beginning where that is unique, or the 64-byte global area in hexadecimal.
    """
    with reading_ledger(options) as ledger:
        entry = find(ledger, verdict_id)
        record = decode(entry.document, ledger.blob)
        data = data_of(entry.document, ledger.blob)
        repeats = repeated_by(plain_of(entry.document))
        repeated = None if repeats is None else ledger.blob(repeats)
    trial = try_record(record, None) if options["again"] else None
    if isinstance(trial, str):
        raise StoreError(trial)
    if options["raw_directory"] is not None:
        write_raw(options["raw_directory"], readable(entry.document), record, repeated=repeated)
    if options["as_json"]:
        told: dict[str, Any] = {"record": place_of(entry), **data}
        if trial is not None:
            told["replay"] = trial_data(trial)
        click.echo(json.dumps(told, indent=2))
    else:
        show_record(record, place=entry)
        if trial is not None:
            _show_replay(trial)
    if trial is not None and trial.differences:
        ctx.exit(NOT_DONE)


@click.command()
@click.argument("verdict_id", metavar="[ID]", required=False)
@click.option(
    "--since", type=Since(), help="Only what was decided since, e.g. 7d or 2027-03-01; everything by default."
)
@click.option(
    "--summary", is_flag=True, help="Only what changes and how often, without a row for each verdict."
)
@click.option(
    "--recorded", is_flag=True, help="Decide under the recorded settings; --config only names the state."
)
@config_option(help_text="Decide under this configuration instead of the recorded settings.")
@state_option
@json_option
@click.pass_context
def replay(ctx: click.Context, /, verdict_id: str | None, **options: Any) -> None:
    """
    Decide stored verdicts again, offline, from the stored bytes at the original time, and list every difference.

    With --config on the command line this is a trial of that configuration on real partners: the rule that now
    fits each session, its trust set, partners and policy. Status 0 without a difference, 1 with one or more.
    """
    given = ctx.get_parameter_source("config_file") is click.core.ParameterSource.COMMANDLINE
    under = load(options["config_file"]) if given and not options["recorded"] else None
    if verdict_id is not None and options["since"] is not None:
        msg = "an ID or --since, not both"
        raise click.UsageError(msg)
    found = Trials()
    with reading_ledger(options, under) as ledger, counting("deciding again") as advance:
        entries = iter((find(ledger, verdict_id),)) if verdict_id else ledger.since(options["since"])
        for number, entry in enumerate(entries, start=1):
            found.add(entry, trial_of(ledger, entry, under), ledger.blob)
            advance(number)
    _Report(found).show(as_json=options["as_json"], summary=options["summary"])
    if found.differing or found.unreadable:
        ctx.exit(NOT_DONE)


class _Report:
    """
    What a replay found, printed.
    """

    def __init__(self, found: Trials) -> None:
        self._found = found

    def show(self, *, as_json: bool, summary: bool) -> None:
        """
        Print it.

        Args:
            as_json: as data.
            summary: without what differs of each verdict.

        """
        found = self._found
        rows = () if summary else tuple(found.differing)
        if as_json:
            data = {
                "replayed": found.replayed,
                "summary": {
                    "differing": len(found.differing),
                    "changes": [asdict(change) for change in found.changes()],
                },
                "skipped": [{"id": name, "why": why} for name, why in found.skipped],
                "unreadable": [{"id": name, "why": why} for name, why in found.unreadable],
                "differing": [
                    {"id": row.id, "at": row.at, "partner": row.partner, **trial_data(trial)}
                    for row, trial in rows
                ],
            }
            click.echo(json.dumps(data, indent=2))
            return
        if rows:
            console().print(
                table(
                    ("time", "verdict", "partner", "what", "recorded", "now", "why"),
                    (line for row, trial in rows for line in _lines(row, trial)),
                )
            )
        for name, why in found.unreadable:
            click.echo(printable(f"{name} cannot be decided again: {why}"))
        for row, trial in rows:
            if trial.not_asked:
                click.echo(printable(f"{row.id}: nothing is recorded of {', '.join(trial.not_asked)}"))
        for one in found.changes():
            whose = f"{one.partners} partners" if one.partners > 1 else "1 partner"
            click.echo(printable(f"{one.times:5}  {one.recorded}, now {one.now}"))
            click.echo(f"       of {whose}, for instance {one.example}")
        click.echo(
            f"{found.replayed} decided again, {len(found.differing)} differ"
            + (f", {len(found.unreadable)} unreadable" if found.unreadable else "")
            + (f", {len(found.skipped)} without a rule left out" if found.skipped else "")
        )


def _lines(row: Row, trial: Trial) -> Iterator[tuple[object, ...]]:
    for index, difference in enumerate(trial.differences):
        head: tuple[object, ...] = (row.at, row.id, row.partner) if index == 0 else ("", "", "")
        why = trial.now.summary if trial.now is not None and index == 0 else ""
        yield (*head, difference.what, difference.recorded, difference.now, why)


def _show_replay(trial: Trial) -> None:
    if not trial.differences:
        click.echo("\nreplay   decided again from the stored bytes: the same")
        return
    click.echo("\nreplay   decided again from the stored bytes: DIFFERENT")
    console().print(
        table(("what", "recorded", "now"), ((d.what, d.recorded, d.now) for d in trial.differences))
    )
