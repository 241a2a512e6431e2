"""
`cftpki identity …`: the certificates of our own that enrollers keep.

A command and a running service come to terms by the identity's lock; the service sees what a command has done at
its next call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from cftpki_ext.alerts import Alert
from cftpki_ext.bootstrap import SystemClock, make_checker
from cftpki_ext.cli.options import config_option, config_path, json_option
from cftpki_ext.cli.render import console, table, working
from cftpki_ext.config import load
from cftpki_ext.errors import CftPkiError, InputError, StoreError
from cftpki_ext.identity.actions import Actor, Step, action_data
from cftpki_ext.identity.generations import Generation
from cftpki_ext.identity.journal import OrderRecord
from cftpki_ext.identity.manager import Manager
from cftpki_ext.identity.operator import Checked, Renewal
from cftpki_ext.identity.overview import Overview, generation_data
from cftpki_ext.identity.site import site_of
from cftpki_ext.renewals import make_manager, managed, own_status
from cftpki_ext.settings import ManagedIdentity, Settings

T = TypeVar("T")

# Another process is in the middle of an issuance: most end in seconds.
WAIT_S = 60.0
# RFC 5280 5.3.1, without what only a CRL can say.
REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)


class NotDoneError(CftPkiError):
    """
    What was asked for did not come about; the message says why.
    """


@click.group()
def identity() -> None:
    """
    Look at the certificates of our own that enrollers keep; issue, renew, roll back, revoke, check.
    """


config_file_option = config_option(help_text="The configuration file.")
name_argument = click.argument("name")
wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=WAIT_S,
    show_default=True,
    help="Seconds to wait for another process.",
)


@identity.command("list")
@config_file_option
@json_option
def list_identities(config_file: Path | None, *, as_json: bool) -> None:
    """
    Show each identity: its certificate, until when it can live without the CA, and what troubles it.
    """
    settings = load(config_path(config_file))

    async def look(manager: Manager) -> list[Overview]:
        return [await manager.overview(name) for name in manager.names()]

    found = _with_manager(settings, look, changes=False)
    if as_json:
        click.echo(json.dumps([overview.data() for overview in found], indent=2))
        return
    headings = ("identity", "generation", "stage", "runway", "next", "why", "trouble")
    console().print(table(headings, (_row(overview) for overview in found)))


@identity.command()
@name_argument
@config_file_option
@json_option
def show(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """
    Show everything that is known of the identity NAME.
    """
    settings = load(config_path(config_file))
    overview = _with_manager(settings, lambda manager: manager.overview(name), changes=False)
    data = overview.data()
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    rows = [
        (key, json.dumps(value) if isinstance(value, dict | list) else value) for key, value in data.items()
    ]
    console().print(table(("what", "value"), ((key, "" if value is None else value) for key, value in rows)))


@identity.command()
@name_argument
@config_file_option
@wait_option
@json_option
def issue(name: str, config_file: Path | None, wait_s: float, *, as_json: bool) -> None:
    """
    Get the first certificate of the identity NAME now, or what is due; one that is good stays.
    """
    _renew(name, config_file, wait_s, force=False, as_json=as_json)


@identity.command()
@name_argument
@config_file_option
@click.option(
    "--now",
    is_flag=True,
    help="Whatever the schedule, change windows and waits say; asks again for an open order.",
)
@wait_option
@json_option
def renew(name: str, config_file: Path | None, wait_s: float, *, now: bool, as_json: bool) -> None:
    """
    Renew the certificate of the identity NAME if that is due, or with --now in any case.
    """
    _renew(name, config_file, wait_s, force=now, as_json=as_json)


def _renew(name: str, config_file: Path | None, wait_s: float, *, force: bool, as_json: bool) -> None:
    settings = load(config_path(config_file))

    async def act(manager: Manager) -> Renewal:
        return await manager.renew(name, force=force, wait_s=wait_s)

    with working(f"asking for a certificate for {name}"):
        done = _with_manager(settings, act)
    if as_json:
        data = {
            "identity": done.identity,
            "generation": done.generation,
            "issued": done.issued,
            "failed": done.failed,
            "detail": done.detail,
        }
        click.echo(json.dumps(data, indent=2))
        if done.failed:
            click.get_current_context().exit(1)
        return
    if done.failed:
        msg = f"{name}: {done.detail}; generation {done.generation or 'none'} stays in force"
        raise NotDoneError(msg)
    state = f"generation {done.generation} is in force" if done.generation else "no certificate yet"
    click.echo(f"{name}: {done.detail}; {state}")


@identity.command()
@name_argument
@click.option(
    "--to", type=click.IntRange(1), help="The generation; by default the newest before the one in force."
)
@config_file_option
@wait_option
def rollback(name: str, to: int | None, config_file: Path | None, wait_s: float) -> None:
    """
    Put an earlier generation of the identity NAME in force again; it is kept until shortly before its end.
    """
    settings = load(config_path(config_file))

    async def act(manager: Manager) -> Generation:
        return await manager.rollback(name, to=to, wait_s=wait_s)

    done = _with_manager(settings, act)
    click.echo(f"{name}: generation {done.number} is in force, until {_time(done.ends)}")


@identity.command()
@name_argument
@click.option("--generation", "number", type=click.IntRange(1), help="By default the one in force.")
@click.option("--reason", type=click.Choice(REASONS), default="unspecified", show_default=True)
@config_file_option
@wait_option
def revoke(name: str, number: int | None, reason: str, config_file: Path | None, wait_s: float) -> None:
    """
    Ask the CA to revoke a certificate of the identity NAME. Of the one in force, a successor is due at once.
    """
    settings = load(config_path(config_file))

    async def act(manager: Manager) -> str | None:
        failed = await manager.revoke(name, number=number, reason=reason, wait_s=wait_s)
        return None if failed is None else failed.detail

    with working(f"asking the CA to revoke a certificate of {name}"):
        problem = _with_manager(settings, act)
    if problem is not None:
        msg = f"{name}: not revoked: {problem}"
        raise NotDoneError(msg)
    click.echo(f"{name}: revoked ({reason}); the service renews it now, or run: cftpki identity renew {name}")


@identity.command()
@name_argument
@config_file_option
@wait_option
@json_option
def check(name: str, config_file: Path | None, wait_s: float, *, as_json: bool) -> None:
    """
    Ask now whether the certificate of the identity NAME is revoked, by its own trust set.

    Where it is, a successor with a new key is due: the service renews at its next look, within ten seconds. The
    exit status is 0 where it is not revoked, 44 where it is, and 1 where that could not be established.
    """
    settings = load(config_path(config_file))

    async def act(manager: Manager) -> Checked:
        return await manager.check(name, wait_s=wait_s)

    with working(f"asking whether the certificate of {name} is revoked"):
        found = _with_manager(settings, act, checks=True)
    state = {True: "revoked", False: "not_revoked", None: "not_established"}[found.revoked]
    if as_json:
        data = {
            "identity": found.identity,
            "generation": found.generation,
            "status": state,
            "detail": found.detail,
        }
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(f"{name}: generation {found.generation}: {state.replace('_', ' ')}: {found.detail}")
        if found.revoked:
            click.echo(f"the service renews it now with a new key, or run: cftpki identity renew {name}")
    if found.revoked is not False:
        click.get_current_context().exit(int(Alert.CERTIFICATE_REVOKED) if found.revoked else 1)


@identity.command()
@name_argument
@config_file_option
@json_option
def history(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """
    Show the generations and orders of the identity NAME, certificates that nobody uses, and who did what.
    """
    settings = load(config_path(config_file))
    site = site_of(settings.service.state, _known(settings, name))
    current = site.generations.pointer()
    generations = [site.generations.read(number) for number in site.generations.numbers()]
    orders = site.journal.orders()
    actions = site.actions.lines()
    overview = _with_manager(settings, lambda manager: manager.overview(name), changes=False)
    to_come = {one.order: one.next for one in overview.open_orders}
    if as_json:
        data = {
            "generations": [
                {**generation_data(one), "in_force": current == f"generations/{one.path.name}"}
                for one in generations
            ],
            "orders": [_order_data(record) | {"next": to_come.get(record.id)} for record in orders],
            "actions": [action_data(line) for line in actions],
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
                    _time(one.meta.written_at),
                    _time(one.ends),
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
    out.print()
    ended = {line.action for line in actions if line.step is Step.ENDED}
    out.print(
        table(
            ("when", "who", "command", "step", "detail"),
            (
                (
                    _time(line.at),
                    _who(line.by),
                    line.command,
                    "failed" if line.failed else line.step.value if line.action in ended else "not ended",
                    line.detail,
                )
                for line in actions
            ),
        )
    )


def _who(by: Actor) -> str:
    user = by.user or str(by.uid)
    return user if by.sudo_user is None else f"{user} (sudo by {by.sudo_user})"


def _order_data(record: OrderRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "enroller": record.enroller,
        "created_at": _time(record.created_at),
        "submitted_at": None if record.submitted_at is None else _time(record.submitted_at),
        "attempts": record.attempts,
        "outcome": "open" if record.outcome is None else record.outcome.value,
        "closed_at": None if record.closed_at is None else _time(record.closed_at),
        "serial": record.serial,
        "generation": record.generation,
        "orphan": record.orphan,
        "detail": record.detail,
    }


def _row(overview: Overview) -> tuple[object, ...]:
    return (
        overview.name,
        "-" if overview.current is None else overview.current.number,
        "-" if overview.stage is None else overview.stage.value,
        "-" if overview.runway is None else _time(overview.runway),
        _time(overview.plan.at),
        overview.plan.why.value,
        overview.trouble or "",
    )


def _known(settings: Settings, name: str) -> ManagedIdentity:
    found = managed(settings)
    if name not in found:
        msg = f"there is no identity {name!r} with enrollers; there are {', '.join(sorted(found)) or 'none'}"
        raise InputError(msg)
    return found[name]


def _with_manager(
    settings: Settings,
    act: Callable[[Manager], Awaitable[T]],
    *,
    changes: bool = True,
    checks: bool = False,
) -> T:
    state = settings.service.state
    if changes and state.exists() and state.stat().st_uid != os.geteuid():
        # Keys that root writes the service could not read.
        msg = f"state directory {state} belongs to user {state.stat().st_uid}: run this as the service's user"
        raise StoreError(msg)

    async def run() -> T:
        clock = SystemClock()
        async with contextlib.AsyncExitStack() as opened:
            asked = None
            if checks:
                checker = make_checker(settings)
                opened.push_async_callback(checker.aclose)
                asked = own_status(settings, checker, clock)
            manager = make_manager(
                settings, clock=clock, event=_quiet, own_status=asked, look_only=not changes
            )
            opened.push_async_callback(manager.aclose)
            return await act(manager)

    return asyncio.run(run())


def _quiet(event: str, **fields: object) -> None:
    """
    The command says itself what came of it; journal and actions keep the rest, and the service tells it.
    """


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
