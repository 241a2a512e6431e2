"""
`cftpki identity history`: generations, orders, and who did what.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.managing import config_file_option, known, name_argument, time_text, with_manager
from cftpki_ext.cli.options import config_path, json_option
from cftpki_ext.cli.render import Text, console, table
from cftpki_ext.config import load
from cftpki_ext.core.errors import StoreError
from cftpki_ext.identity.renewal.overview import generation_data
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.identity.store.journal import OrderRecord
from cftpki_ext.identity.store.layout import Site, site_of
from cftpki_ext.identity.store.operator_log import Actor, Step, action_data


@click.command()
@name_argument
@config_file_option
@json_option
def history(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """
    Show the generations and orders of the identity NAME, certificates that nobody uses, and who did what.
    """
    settings = load(config_path(config_file))
    site = site_of(settings.service.state, known(settings, name))
    current = site.generations.pointer()
    overview = with_manager(settings, lambda manager: manager.overview(name), changes=False)
    generations, damaged = _generations(site)
    orders = site.journal.orders()
    damaged += [f"order {one.id}: {one.detail}" for one in site.journal.damaged()]
    try:
        actions = site.actions.lines()
    except StoreError as error:
        actions = ()
        damaged.append(str(error))
    to_come = {one.order: one.next for one in overview.open_orders}
    if as_json:
        data = {
            "generations": [
                {**generation_data(one), "in_force": current == f"generations/{one.path.name}"}
                for one in generations
            ],
            "orders": [_order_data(record) | {"next": to_come.get(record.id)} for record in orders],
            "actions": [action_data(line) for line in actions],
            "damaged": damaged,
        }
        click.echo(json.dumps(data, indent=2))
        return
    out = console()
    headings = ("generation", "in force", "written", "until", "enroller", "serial", "subject")
    out.print(
        table(
            headings,
            (
                (
                    one.number,
                    "yes" if current == f"generations/{one.path.name}" else "",
                    time_text(one.meta.written_at),
                    time_text(one.ends),
                    one.meta.enroller,
                    one.leaf.serial_hex,
                    one.leaf.subject.text,
                )
                for one in generations
            ),
        )
    )
    out.print()
    headings = ("order", "enroller", "attempts", "state", "orphan", "serial", "detail")
    rows = (_order_data(record) for record in orders)
    out.print(
        table(
            headings,
            (
                (
                    row["id"],
                    row["enroller"],
                    row["attempts"],
                    row["outcome"],
                    "yes" if row["orphan"] else "",
                    row["serial"] or "",
                    to_come.get(row["id"], row["detail"]),
                )
                for row in rows
            ),
        )
    )
    for one in damaged:
        out.print(Text(f"damaged: {one}"))
    out.print()
    ended = {line.action for line in actions if line.step is Step.ENDED}
    out.print(
        table(
            ("when", "who", "command", "step", "detail"),
            (
                (
                    time_text(line.at),
                    _who(line.by),
                    line.command,
                    "failed" if line.failed else line.step.value if line.action in ended else "not ended",
                    line.detail,
                )
                for line in actions
            ),
        )
    )


def _generations(site: Site) -> tuple[list[Generation], list[str]]:
    """
    Those that are whole, and what is wrong with the others.
    """
    found, damaged = [], []
    for number in site.generations.numbers():
        try:
            found.append(site.generations.read(number))
        except StoreError as error:
            damaged.append(str(error))
    return found, damaged


def _who(by: Actor) -> str:
    user = by.user or str(by.uid)
    return user if by.sudo_user is None else f"{user} (sudo by {by.sudo_user})"


def _order_data(record: OrderRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "enroller": record.enroller,
        "created_at": time_text(record.created_at),
        "submitted_at": None if record.submitted_at is None else time_text(record.submitted_at),
        "attempts": record.attempts,
        "outcome": "open" if record.outcome is None else record.outcome.value,
        "closed_at": None if record.closed_at is None else time_text(record.closed_at),
        "serial": record.serial,
        "generation": record.generation,
        "orphan": record.orphan,
        "detail": record.detail,
    }
