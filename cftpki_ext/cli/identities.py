"""
`cftpki identity …`: the certificates of our own that enrollers keep.

A command and a running service come to terms by the identity's lock; the service sees what a command has done at
its next call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.identity_history import history
from cftpki_ext.cli.identity_show import show
from cftpki_ext.cli.managing import (
    config_file_option,
    name_argument,
    time_text,
    told_by_service,
    wait_option,
    with_manager,
    words_text,
)
from cftpki_ext.cli.options import config_path, json_option
from cftpki_ext.cli.render import console, table, working
from cftpki_ext.config import load
from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.identity.enroller_port import Failed
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.renewal.operator import Checked, Renewal
from cftpki_ext.identity.renewal.overview import Overview
from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.identity.store.generations import Generation
from cftpki_ext.service.monitoring.identities import heard
from cftpki_ext.x509.reasons import CERTIFICATE_HOLD, REASON_CODES, REMOVE_FROM_CRL

# RFC 5280 5.3.1, without what only a CRL can say.
REASONS = tuple(name for name in REASON_CODES if name not in {CERTIFICATE_HOLD, REMOVE_FROM_CRL})


class NotDoneError(CftPkiError):
    """
    What was asked for did not come about; the message says why.
    """


@click.group()
def identity() -> None:
    """
    Look at the certificates of our own that enrollers keep; issue, renew, roll back, revoke, check.
    """


identity.add_command(history)
identity.add_command(show)


@identity.command("list")
@config_file_option
@json_option
def list_identities(config_file: Path | None, *, as_json: bool) -> None:
    """
    Show each identity: how it stands, until when it can live without a CA, and what troubles it.
    """
    settings = load(config_path(config_file))
    rows = with_manager(settings, lambda manager: manager.rows(), changes=False)
    status = told_by_service(settings)
    found = [heard(row.data(), status) for row in rows]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    headings = ("identity", "state", "generation", "stage", "runway", "next", "why", "trouble")
    console().print(table(headings, (_row(one) for one in found)))


@identity.command()
@name_argument
@config_file_option
@wait_option
@json_option
def issue(name: str, config_file: Path | None, wait_s: float, *, as_json: bool) -> None:
    """
    Get the first certificate of the identity NAME now, or what is due; one that is good stays.
    """
    _renew(name, config_file, wait_s, force=False, as_json=as_json, command="issue")


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


def _renew(
    name: str,
    config_file: Path | None,
    wait_s: float,
    *,
    force: bool,
    as_json: bool,
    command: str = "renew",
) -> None:
    settings = load(config_path(config_file))

    async def act(manager: Manager) -> Renewal:
        return await manager.renew(name, force=force, wait_s=wait_s, command=command)

    with working(f"asking for a certificate for {name}"):
        done = with_manager(settings, act, tell=not as_json)
    if as_json:
        data = {
            "identity": done.identity,
            "generation": done.generation,
            "issued": done.issued,
            "failed": done.failed,
            "detail": done.detail,
            "not_taken_over": done.not_taken_over,
        }
        click.echo(json.dumps(data, indent=2))
        if done.failed or done.generation is None or done.not_taken_over is not None:
            click.get_current_context().exit(1)
        return
    if done.generation is None:
        # Also an order that waits for the CA's approval: whoever goes on by the exit status has nothing to go on with.
        msg = f"{name}: {done.detail}; no certificate yet"
        raise NotDoneError(msg)
    if done.failed:
        msg = f"{name}: {done.detail}; generation {done.generation} stays in force"
        raise NotDoneError(msg)
    click.echo(f"{name}: {done.detail}; generation {done.generation} is in force")
    _hooks_done(name, done.not_taken_over)


def _hooks_done(name: str, error: str | None) -> None:
    if error is not None:
        msg = f"{name}: {error}; the service repeats them, and so does: cftpki identity renew {name}"
        raise NotDoneError(msg)


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

    async def act(manager: Manager) -> tuple[Generation, str | None]:
        done = await manager.rollback(name, to=to, wait_s=wait_s)
        rollout = (await manager.overview(name)).state.rollout
        error = None if rollout is None else rollout.hooks.error
        return done, None if error is None else f"hooks: {error}"

    done, not_taken_over = with_manager(settings, act)
    click.echo(f"{name}: generation {done.number} is in force, until {time_text(done.ends)}")
    _hooks_done(name, not_taken_over)


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

    async def act(manager: Manager) -> tuple[Failed | None, Overview]:
        failed = await manager.revoke(name, number=number, reason=reason, wait_s=wait_s)
        return failed, await manager.overview(name)

    with working(f"asking the CA to revoke a certificate of {name}"):
        failed, found = with_manager(settings, act)
    if failed is not None:
        msg = f"{name}: not revoked: {failed.detail}"
        raise NotDoneError(msg)
    in_force = None if found.current is None else found.current.number
    click.echo(f"{name}: generation {number or in_force} is revoked ({reason}); {after_revocation(found)}")


def after_revocation(found: Overview) -> str:
    """
    What becomes of the generation in force, once one has been revoked: that may have been it, or have had its key.
    """
    if found.current is None:
        return "no generation is in force"
    number = found.current.number
    if Standing.REVOKED not in found.words:
        return f"generation {number} stays in force"
    return f"generation {number} is revoked; the service renews it now, or run: cftpki identity renew {found.name}"


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
        found = with_manager(settings, act, checks=True, tell=not as_json)
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


def _row(data: Mapping[str, Any]) -> tuple[object, ...]:
    generation, following = data["generation"], data["next"] or {}
    return (
        data["name"],
        words_text(data),
        "-" if generation is None else generation["number"],
        data["stage"] or "-",
        data["runway"] or "-",
        following.get("at", "-"),
        following.get("why", "-").replace("_", " "),
        data["trouble"] or "",
    )
