"""
The record of verdicts, read by commands: opened, searched, walked; and `cftpki audit verify`, which says whether it is whole.

What reads disturbs no service that runs. The other commands of `audit` are in `cftpki_ext.cli.auditing`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.options import FILE, config_option, config_path, json_option
from cftpki_ext.cli.remarks import Remarks, forgotten_in, remarks_of
from cftpki_ext.cli.render import counting
from cftpki_ext.config import load
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence import Row, row_from
from cftpki_ext.ports import EvidenceReader, LedgerEntry, LedgerFault
from cftpki_ext.stores import ledger_remark, open_ledger

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
    # A partner that comes again and again repeats one record.
    blob = lru_cache(maxsize=_REPEATED)(ledger.blob)
    for entry in ledger.since(since):
        # A clock that was set back may make a later record an earlier one: the walk does not end here.
        if until is not None and entry.kept_at > until:
            continue
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


def place_of(entry: LedgerEntry) -> dict[str, Any]:
    """
    Where a record is in the chain, as plain data.
    """
    return {
        "seq": entry.seq,
        "id": entry.id,
        "hash": entry.hash,
        "kept_at": moment_text(entry.kept_at),
        "share": entry.share.value,
    }


def moment_text(when: datetime) -> str:
    """
    A time to the second, RFC 3339.
    """
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
