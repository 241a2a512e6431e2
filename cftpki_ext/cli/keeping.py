"""
`cftpki audit backup`, `archive` and `hold`: the record of verdicts copied whole, written out before it is let go, and held.
"""

from __future__ import annotations

import contextlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cftpki_ext.bootstrap.archiving import (
    ARCHIVE,
    archive_ledger,
    hold_after,
    holds_of,
    lay_hold,
    lift_hold,
    record_hold,
)
from cftpki_ext.cli.evidence import reading_ledger, state_of, state_option, tell_whole
from cftpki_ext.cli.options import FILE, Since, config_option, json_option
from cftpki_ext.cli.owning import go_on_as_owner_of
from cftpki_ext.cli.remarks import remarks_of
from cftpki_ext.cli.render import console, counting, table, working
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.ledger_notes import HoldAct
from cftpki_ext.evidence import row_from
from cftpki_ext.evidence.choosing import Choice, Chooser, partner_term
from cftpki_ext.identity.store.operator_log import this_actor
from cftpki_ext.looking.records import moment_text
from cftpki_ext.ports.evidence import EvidenceReader, Share
from cftpki_ext.stores import back_up_ledger, ledger_remark, open_ledger

NOT_DONE = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.command()
@click.argument("directory", type=FILE)
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
@click.pass_context
def backup(ctx: click.Context, /, directory: Path, **options: Any) -> None:
    """
    Copy the record of verdicts into DIRECTORY, whole and as of one moment, and walk the copy.

    A service may go on writing meanwhile. DIRECTORY is laid out as a state directory: `--state DIRECTORY` of the other
    commands reads it, and its folder `evidence` is what is put back. Status 1 where the chain of records is broken.
    """
    state = state_of(options)
    remark = ledger_remark(state)
    if remark is not None:
        click.echo(f"cftpki: {remark}", err=True)
    with working("copying") as tell:
        copy = back_up_ledger(
            state, directory, lambda done, total: tell(f"copying: {100 * done // max(total, 1)} %")
        )
    with contextlib.closing(copy), counting("verifying") as advance:
        faults = copy.verify(advance)
        count = copy.count()
        first, last = copy.ends()
        remarks = remarks_of(copy)
    tell_whole(faults, count, first, last, remarks=remarks, as_json=options["as_json"])
    if faults:
        ctx.exit(NOT_DONE)


@click.command()
@click.argument("directory", type=FILE)
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
@click.pass_context
def archive(ctx: click.Context, /, directory: Path, **options: Any) -> None:
    """
    Write all records out into a new folder of DIRECTORY, before they are let go by age.

    The folder is called by the first and the last record, and read by `--state` of the other commands. From the first
    call on, no record is let go by age that no archive has (`audit hold release archive` ends that), so run it from a
    timer. Status 1 where a chain is broken, or records are missing between the archive before and the ledger.
    """
    state = state_of(options)
    go_on_as_owner_of(state)
    with working("copying") as tell:
        made = archive_ledger(
            state, directory, lambda done, total: tell(f"copying: {100 * done // max(total, 1)} %")
        )
    # What was removed from the ledger is in no copy: a broken chain is told, and keeps nothing from going later.
    faults: list[str] = [] if made.apart is None else [made.apart]
    with contextlib.closing(open_ledger(made.folder)) as copy, counting("verifying") as advance:
        faults += [fault.detail for fault in copy.verify(advance)]
    if made.apart is None:
        hold_after(state, made.folder)
    if options["as_json"]:
        told = {
            "folder": str(made.folder),
            "last": made.last,
            "hash": made.hash,
            "before": str(made.before) if made.before else None,
            "faults": faults,
        }
        click.echo(json.dumps(told, indent=2))
    else:
        for fault in faults:
            click.echo(printable(fault))
        follows = "the first" if made.before is None else f"it goes on from {made.before.name}"
        click.echo(f"{printable(str(made.folder))}: records to {made.last}, hash {made.hash}; {follows}")
    if faults:
        ctx.exit(NOT_DONE)


@click.group()
def hold() -> None:
    """
    Keep records beyond their time, for a dispute or an investigation; look at what is kept so; end it.
    """


@hold.command("add")
@click.argument("name")
@click.option("--since", type=Since(), required=True, help="From then on, e.g. 90d or 2027-03-01.")
@click.option(
    "--partner",
    "partners",
    multiple=True,
    help="From this partner's first record since then, in any spelling.",
)
@click.option("--reason", required=True, help="For whoever asks later, e.g. the number of a case.")
@config_option(help_text="The configuration that names the state directory.")
@state_option
def add(name: str, since: datetime, partners: tuple[str, ...], reason: str, **options: Any) -> None:
    """
    Hold everything that was kept since a time, and what is yet to come, under NAME, until it is released.

    A chain of records can only lose its beginning: a hold for one partner keeps all that came after the first record of
    it. Held records go for want of room alone (`evidence.max_size`), and the service logs that as an error.
    """
    if _NAME.fullmatch(name) is None or name == ARCHIVE:
        msg = f"{printable(name)!r} is no name of a hold: letters, digits, dots, dashes, at most 64; not {ARCHIVE!r}"
        raise InputError(msg)
    state, by = state_of(options), _who()
    go_on_as_owner_of(state)
    first: dict[str, int] = {}
    if partners:
        with reading_ledger(options) as ledger:
            first = _first_of(ledger, since, partners)
        if not first:
            click.echo(
                f"no record of this partner since {moment_text(since)}: what is yet to come is held", err=True
            )
            since = datetime.now(since.tzinfo)
    lay_hold(state, name, since=since, first=first, reason=reason)
    record_hold(state, HoldAct.LAID, name, by=by, reason=reason, since=since, partner=" or ".join(partners))
    click.echo(f"{name}: held from {moment_text(since)} on, until `cftpki audit hold release {name}`")


def _first_of(ledger: EvidenceReader, since: datetime, partners: tuple[str, ...]) -> dict[str, int]:
    """
    The first record of a partner since a time; nothing where there is none.
    """
    chooser = Chooser(Choice(partners=tuple(map(partner_term, partners))), ledger.blob)
    with counting("reading") as advance:
        for number, entry in enumerate(ledger.since(since), start=1):
            advance(number)
            with contextlib.suppress(StoreError):
                # Of strangers, who have a ledger of their own, everything since that time is held.
                if entry.share is Share.PARTNERS and chooser.wants(row_from(entry.document, ledger.blob)):
                    return {"evidence": entry.seq}
    return {}


@hold.command("list")
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
def list_holds(**options: Any) -> None:
    """
    Show what is held: since when, from which record on, how many of it went for want of room, and why it is held.
    """
    found = holds_of(state_of(options))
    if options["as_json"]:
        told = [
            {
                "name": one.name,
                "ledger": ledger,
                "first": one.first,
                "since": moment_text(one.since),
                "broken": one.broken,
                "reason": one.reason,
            }
            for ledger, one in found
        ]
        click.echo(json.dumps(told, indent=2))
    elif not found:
        click.echo("nothing is held")
    else:
        rows = (
            (one.name, moment_text(one.since), one.first, ledger, one.broken or "", one.reason)
            for ledger, one in found
        )
        console().print(table(("hold", "since", "first record", "ledger", "went", "reason"), rows))


@hold.command("release")
@click.argument("name")
@click.option("--reason", required=True, help="For whoever asks later.")
@config_option(help_text="The configuration that names the state directory.")
@state_option
def release(name: str, reason: str, **options: Any) -> None:
    """
    End the hold NAME: its records are let go by age and size again, unless another holds them.
    """
    state, by = state_of(options), _who()
    go_on_as_owner_of(state)
    if not lift_hold(state, name):
        msg = f"there is no hold {printable(name)!r}: see cftpki audit hold list"
        raise NoHoldError(msg)
    record_hold(state, HoldAct.RELEASED, name, by=by, reason=reason)
    click.echo(f"{name}: released ({printable(reason)})")


def _who() -> str:
    """
    Who runs this, for the record.
    """
    actor = this_actor()
    user = actor.user or str(actor.uid)
    return f"{user} (sudo by {actor.sudo_user})" if actor.sudo_user else user


class NoHoldError(CftPkiError):
    """
    Nothing is held under this name.
    """
