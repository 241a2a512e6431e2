"""
`cftpki explain`, `replay` and `audit`: what was decided and why, and whether the record of it is whole.

All of them only read; a service that runs is not disturbed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.explaining import show_record, write_raw
from cftpki_ext.cli.options import FILE, Since, config_option, config_path, json_option
from cftpki_ext.cli.render import console, counting, table
from cftpki_ext.config import load
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence import Record, Row, data_of, decode, row_from
from cftpki_ext.evidence.again import plain_of, readable, repeated_by
from cftpki_ext.evidence.what_if import Trial, try_again, try_under
from cftpki_ext.ports import EvidenceReader, LedgerEntry
from cftpki_ext.stores import open_ledger
from cftpki_ext.support.failures import reason_of

NOT_DONE = 1
_ID_DIGITS = 32
_REPEATED = 256
# The 64-byte area in hexadecimal, and where the verdict's id is in it (docs/protocol.md, "Global area").
_AREA_DIGITS = 128
_ID_IN_AREA = slice(16, 48)

state_option = click.option(
    "--state", "state", type=FILE, help="The state directory, without or instead of the configuration's."
)


class NotFoundError(CftPkiError):
    """
    No verdict, or no single one, has this id.
    """


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
    with _ledger(options) as ledger:
        entry = find(ledger, verdict_id)
        record = decode(entry.document, ledger.blob)
        data = data_of(entry.document, ledger.blob)
        repeats = repeated_by(plain_of(entry.document))
        repeated = None if repeats is None else ledger.blob(repeats)
    trial = _tried(record, None) if options["again"] else None
    if isinstance(trial, str):
        raise StoreError(trial)
    if options["raw_directory"] is not None:
        write_raw(options["raw_directory"], readable(entry.document), record, repeated=repeated)
    if options["as_json"]:
        told: dict[str, Any] = {"record": _place(entry), **data}
        if trial is not None:
            told["replay"] = _trial_data(trial)
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
    report = _Report()
    with _ledger(options, under) as ledger, counting("deciding again") as advance:
        entries = iter((find(ledger, verdict_id),)) if verdict_id else ledger.since(options["since"])
        for number, entry in enumerate(entries, start=1):
            report.add(entry, _trial(ledger, entry, under), ledger.blob)
            advance(number)
    report.show(as_json=options["as_json"])
    if report.differing or report.unreadable:
        ctx.exit(NOT_DONE)


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
    with _ledger(options) as ledger, counting("verifying") as advance:
        faults = ledger.verify(advance)
        count = ledger.count()
        first, last = ledger.ends()
    if options["as_json"]:
        data = {
            "whole": not faults,
            "records": count,
            "first": _place(first) if first else None,
            "last": _place(last) if last else None,
            "faults": [asdict(fault) for fault in faults],
        }
        click.echo(json.dumps(data, indent=2))
    else:
        for fault in faults:
            click.echo(printable(fault.detail))
        ends = (
            f", {_moment(first.kept_at)} to {_moment(last.kept_at)}, newest hash {last.hash}"
            if first and last
            else ""
        )
        word = "whole" if not faults else f"broken in {len(faults)} places" if len(faults) > 1 else "broken"
        click.echo(f"{word}: {count} records{ends}")
    if faults:
        ctx.exit(NOT_DONE)


@audit.command("list")
@click.option(
    "--since", type=Since(), default="24h", show_default=True, help="E.g. 7d, or 2027-03-01T03:00:00Z."
)
@click.option("--until", type=Since(), help="Up to then.")
@click.option("--refused", is_flag=True, help="Only who was turned away, or would be if the policy enforced.")
@click.option("--reason", help="Only this reason, e.g. revoked.")
@click.option("--partner", help="Only partners whose subject, serial, fingerprint or address contains this.")
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
def list_(**options: Any) -> None:
    """
    List verdicts by time: when, what, who, by which rule, and the id for `cftpki explain`.
    """
    with _ledger(options) as ledger:
        rows = [row for row in rows_of(ledger, options["since"]) if _wanted(row, options)]
    if options["as_json"]:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    console().print(
        table(
            ("time", "answer", "partner", "from", "rule", "verdict"),
            (
                (row.at, _answer(row), row.partner, row.remote or row.door, row.rule or "-", row.id)
                for row in rows
            ),
        )
    )


def rows_of(ledger: EvidenceReader, since: datetime | None) -> Iterator[Row]:
    """
    The rows of a ledger, oldest first; a record that cannot be read is named on standard error and left out.
    """
    # A partner that comes again and again repeats one record.
    blob = lru_cache(maxsize=_REPEATED)(ledger.blob)
    for entry in ledger.since(since):
        try:
            yield row_from(entry.document, blob)
        except StoreError as exc:
            click.echo(
                f"record {entry.seq} ({printable(entry.id)}): {exc}; see cftpki audit verify", err=True
            )


def find(ledger: EvidenceReader, given: str) -> LedgerEntry:
    """
    The one record that an id, its beginning, or a global area means.

    Args:
        ledger: where to look.
        given: as typed.

    Returns:
        The record's entry.

    Raises:
        InputError: this is no id.
        NotFoundError: none, or several, have it.

    """
    digits = "".join(given.split()).replace(":", "").lower()
    if len(digits) == _AREA_DIGITS:
        digits = digits[_ID_IN_AREA]
    if not digits or len(digits) > _ID_DIGITS or set(digits) - set("0123456789abcdef"):
        msg = f"{printable(given)!r} is no verdict id: 32 hexadecimal digits, their beginning, or a 64-byte area"
        raise InputError(msg)
    if not digits.strip("0") and len(digits) == _ID_DIGITS:
        msg = "this area names no verdict: the partner's chain was not judged in that session"
        raise NotFoundError(msg)
    found = ledger.find(digits)
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"more than one verdict begins with {digits}: give more digits ({', '.join(printable(e.id) for e in found)}, …)"
        raise NotFoundError(msg)
    hint = (
        " (at least six digits)" if len(digits) < _ID_DIGITS else "; it may have been let go by age or size"
    )
    msg = f"no verdict {digits} in the evidence{hint}"
    raise NotFoundError(msg)


@contextlib.contextmanager
def _ledger(options: dict[str, Any], under: Settings | None = None) -> Iterator[EvidenceReader]:
    state: Path | None = options["state"]
    if state is None:
        settings = under or load(config_path(options["config_file"]))
        state = settings.service.state
    with contextlib.closing(open_ledger(state)) as ledger:
        yield ledger


def _trial(ledger: EvidenceReader, entry: LedgerEntry, under: Settings | None) -> Trial | str:
    try:
        record: Record = decode(entry.document, ledger.blob)
    except CftPkiError as exc:
        return str(exc)
    return _tried(record, under)


def _tried(record: Record, under: Settings | None) -> Trial | str:
    """
    Decide again, or say why that cannot be: times at the ends of the calendar, say, of a ledger from elsewhere.
    """
    try:
        return try_again(record) if under is None else try_under(record, under)
    except Exception as exc:  # noqa: BLE001 - the boundary: one record of a stranger's must not end the walk
        return f"cannot be decided: {reason_of(exc)}"


class _Report:
    """
    What a replay found.
    """

    def __init__(self) -> None:
        self.replayed = 0
        self.differing: list[tuple[Row, Trial]] = []
        self.unreadable: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []

    def add(self, entry: LedgerEntry, trial: Trial | str, blob: Callable[[str], bytes | None]) -> None:
        """
        Count one record.
        """
        if isinstance(trial, str):
            self.unreadable.append((entry.id, trial))
            return
        if trial.skipped:
            self.skipped.append((entry.id, trial.skipped))
            return
        self.replayed += 1
        if trial.differences:
            self.differing.append((row_from(entry.document, blob), trial))

    def show(self, *, as_json: bool) -> None:
        """
        Print it.
        """
        if as_json:
            data = {
                "replayed": self.replayed,
                "skipped": [{"id": name, "why": why} for name, why in self.skipped],
                "unreadable": [{"id": name, "why": why} for name, why in self.unreadable],
                "differing": [
                    {"id": row.id, "at": row.at, "partner": row.partner, **_trial_data(trial)}
                    for row, trial in self.differing
                ],
            }
            click.echo(json.dumps(data, indent=2))
            return
        if self.differing:
            console().print(
                table(
                    ("time", "verdict", "partner", "what", "recorded", "now", "why"),
                    (line for row, trial in self.differing for line in _lines(row, trial)),
                )
            )
        for name, why in self.unreadable:
            click.echo(printable(f"{name} cannot be decided again: {why}"))
        for row, trial in self.differing:
            if trial.not_asked:
                click.echo(printable(f"{row.id}: nothing is recorded of {', '.join(trial.not_asked)}"))
        click.echo(
            f"{self.replayed} decided again, {len(self.differing)} differ"
            + (f", {len(self.unreadable)} unreadable" if self.unreadable else "")
            + (f", {len(self.skipped)} without a rule left out" if self.skipped else "")
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


def _trial_data(trial: Trial) -> dict[str, Any]:
    return {
        "agrees": not trial.differences,
        "rule": trial.rule,
        "summary": trial.now.summary if trial.now else None,
        "differences": [asdict(difference) for difference in trial.differences],
        "not_asked": list(trial.not_asked),
    }


def _wanted(row: Row, options: dict[str, Any]) -> bool:
    if options["until"] is not None and datetime.fromisoformat(row.at) > options["until"]:
        return False
    if options["refused"] and not row.refused and row.would_refuse is None:
        return False
    if options["reason"] and options["reason"] not in {row.reason, row.would_refuse}:
        return False
    partner: str | None = options["partner"]
    places = (row.partner, row.serial or "", row.fingerprint or "", row.remote)
    return not partner or any(partner.lower() in place.lower() for place in places)


def _answer(row: Row) -> str:
    if row.refused:
        return f"refused {row.alert} {row.reason}"
    if row.would_refuse:
        return f"accepted (audit: {row.would_refuse})"
    return "accepted, warned" if row.warned else "accepted"


def _place(entry: LedgerEntry) -> dict[str, Any]:
    return {"seq": entry.seq, "id": entry.id, "hash": entry.hash, "kept_at": _moment(entry.kept_at)}


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
