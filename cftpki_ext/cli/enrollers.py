"""
`cftpki enroller …`: how we stand with each CA, whether it would have us, and a new key for our account there.

Works beside a running service: state is changed under the enrollers' own locks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.cli.finding import find
from cftpki_ext.cli.options import config_option, config_path, json_option
from cftpki_ext.cli.owning import may_write
from cftpki_ext.cli.render import console, table, working
from cftpki_ext.config import load
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import AccountKeyed, Enroller, Fault, Finding, Inspected, Relation
from cftpki_ext.service.renewals import make_enroller, managed
from cftpki_ext.x509.certificate import MalformedCertificateError, parse_certificate

T = TypeVar("T")

TIMEOUT_S = 60.0


class NotDoneError(CftPkiError):
    """
    What was asked for did not come about; the message says why.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """
    One enroller as it is known here; without `relation` it tells nothing, or `trouble` says why.
    """

    name: str
    kind: str
    identities: tuple[str, ...]
    relation: Relation | None
    trouble: str | None

    def data(self, now: datetime) -> dict[str, Any]:
        """
        As plain JSON values, the same keys for every type.
        """
        known = self.relation
        since = None if known is None else known.key_since
        return {
            "enroller": self.name,
            "type": self.kind,
            "identities": list(self.identities),
            "where": None if known is None else known.where,
            "account": None if known is None else known.account,
            "key_since": None if since is None else _time(since),
            "key_age_days": None if since is None else (now - since).days,
            "key_change_open": known is not None and known.key_change_open,
            "roots": [] if known is None else _roots(known.roots),
            "trouble": self.trouble,
        }


@click.group()
def enroller() -> None:
    """
    Look at the CAs that our own certificates come from: accounts, roots, connection; find out what a server speaks.
    """


enroller.add_command(find)

config_file_option = config_option(help_text="The configuration file.")
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 3600, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds for each CA, and for other processes that are busy with it.",
)


@enroller.command("list")
@config_file_option
@json_option
def list_enrollers(config_file: Path | None, *, as_json: bool) -> None:
    """
    Show each enroller by its own state: where, account, age of its key, roots. No CA is asked.
    """
    settings = load(config_path(config_file))
    known = _run(_known(settings, name) for name in sorted(settings.enrollers))
    data = [one.data(SystemClock().now()) for one in known]
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    headings = ("enroller", "type", "where", "account", "key age", "roots until", "identities", "trouble")
    console().print(table(headings, (_row(one) for one in data)))


@enroller.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_file_option
@timeout_option
@json_option
def check(names: Sequence[str], config_file: Path | None, timeout_s: float, *, as_json: bool) -> None:
    """
    Ask the CA of each enroller NAME (all, without any) what it offers and whether it knows us; order nothing.

    Exit status 1: before a certificate comes, somebody has to act.
    """
    settings = load(config_path(config_file))
    names = [_named(settings, name) for name in names] or sorted(settings.enrollers)
    may_write(settings)
    with working(f"asking {len(names)} CAs"):
        found = _run(_looked_at(settings, name, timeout_s) for name in names)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        headings = ("enroller", "what", "", "detail")
        console().print(table(headings, (row for one in found for row in _checked_rows(one))))
    if not all(one["ok"] for one in found):
        click.get_current_context().exit(1)


@enroller.command()
@click.argument("name")
@config_file_option
@timeout_option
@json_option
def rollover(name: str, config_file: Path | None, timeout_s: float, *, as_json: bool) -> None:
    """
    Change the key of the account that the enroller NAME has at its CA.

    Orders that are being moved on are waited for. A command that was killed is to be given again.
    """
    settings = load(config_path(config_file))
    _named(settings, name)
    may_write(settings)

    async def act(made: Enroller) -> Relation:
        if not isinstance(made, AccountKeyed) or not isinstance(made, Inspected):
            msg = (
                f"{name} is of type {settings.enrollers[name].type}, which has no account key: not applicable"
            )
            raise InputError(msg)
        if (await made.relation()).account is None:
            msg = f"{name}: there is no account yet, the first order makes it: nothing to change"
            raise NotDoneError(msg)
        failed = await made.roll_over_account_key(deadline=time.monotonic() + timeout_s)
        if failed is not None:
            settled = (
                "; the next call finds out which key the CA has" if failed.fault is Fault.UNREACHABLE else ""
            )
            msg = f"{name}: not changed: {failed.detail}{settled}"
            raise NotDoneError(msg)
        return await made.relation()

    with working(f"changing the account key of {name}"):
        relation = _run([_with(settings, name, act)])[0]
    since = None if relation.key_since is None else _time(relation.key_since)
    if as_json:
        click.echo(json.dumps({"enroller": name, "account": relation.account, "key_since": since}, indent=2))
        return
    click.echo(f"{name}: account {relation.account} has a new key since {since}")


async def _with(
    settings: Settings, name: str, act: Callable[[Enroller], Awaitable[T]], *, look_only: bool = False
) -> T:
    made = make_enroller(settings, name, clock=SystemClock(), look_only=look_only)
    async with aclosing(made):
        return await act(made)


async def _known(settings: Settings, name: str) -> Known:
    async def ask(made: Enroller) -> Relation | None:
        return await made.relation() if isinstance(made, Inspected) else None

    relation, trouble = None, None
    try:
        relation = await _with(settings, name, ask, look_only=True)
    except (CftPkiError, OSError) as error:
        trouble = str(error)
    users = (one.name for one in managed(settings).values() if name in one.enrollers)
    return Known(
        name=name,
        kind=settings.enrollers[name].type,
        identities=tuple(sorted(users)),
        relation=relation,
        trouble=trouble,
    )


async def _looked_at(settings: Settings, name: str, timeout_s: float) -> dict[str, Any]:
    kind = settings.enrollers[name].type

    async def ask(made: Enroller) -> tuple[tuple[Finding, ...], tuple[bytes, ...]]:
        if not isinstance(made, Inspected):
            return (Finding(what="check", detail=f"type {kind} cannot be checked", good=False),), ()
        found = await made.check(deadline=time.monotonic() + timeout_s)
        try:
            return found, (await made.relation()).roots
        except CftPkiError as error:
            return (*found, Finding(what="state", detail=str(error), good=False)), ()

    try:
        findings, roots = await _with(settings, name, ask)
    except (CftPkiError, OSError) as error:
        # One enroller's fault must not hide how the others stand.
        findings, roots = (Finding(what="state", detail=str(error), good=False),), ()
    return {
        "enroller": name,
        "type": kind,
        "ok": all(one.good for one in findings),
        "findings": [{"what": one.what, "ok": one.good, "detail": one.detail} for one in findings],
        "roots": _roots(roots),
    }


def _run(work: Any) -> list[Any]:
    """
    All at once, in the order given.
    """

    async def gathered() -> list[Any]:
        return list(await asyncio.gather(*work))

    return asyncio.run(gathered())


def _named(settings: Settings, name: str) -> str:
    if name not in settings.enrollers:
        msg = f"there is no enroller {name!r}; there are {', '.join(sorted(settings.enrollers)) or 'none'}"
        raise InputError(msg)
    return name


def _roots(ders: Sequence[bytes]) -> list[dict[str, str]]:
    told = []
    for der in ders:
        try:
            one = parse_certificate(der)
        except MalformedCertificateError as error:
            told.append({"subject": f"unreadable: {error}", "sha256": "", "until": ""})
            continue
        until = _time(one.not_after)
        told.append({"subject": one.subject.text, "sha256": one.digest.hex(), "until": until})
    return told


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    age = "" if one["key_age_days"] is None else f"{one['key_age_days']} d"
    return (
        one["enroller"],
        one["type"],
        one["where"] or "-",
        one["account"] or "-",
        f"{age}, a change is open" if one["key_change_open"] else age or "-",
        ", ".join(root["until"] for root in one["roots"]) or "-",
        ", ".join(one["identities"]) or "-",
        one["trouble"] or "",
    )


def _checked_rows(one: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        (one["enroller"], finding["what"], "ok" if finding["ok"] else "FAULT", finding["detail"])
        for finding in one["findings"]
    ]
    for root in one["roots"]:
        detail = f"{root['subject']}, until {root['until']}, sha-256 {root['sha256']}"
        rows.append((one["enroller"], "root", "", detail))
    return rows


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
