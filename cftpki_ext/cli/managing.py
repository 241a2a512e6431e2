"""
What the commands of `cftpki identity` have in common: their options, and a manager for the time of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import click

from cftpki_ext.bootstrap.checker import SystemClock, make_checker
from cftpki_ext.cli.options import config_option
from cftpki_ext.cli.owning import may_write
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.settings import Settings
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.operator_log import this_actor
from cftpki_ext.service.monitoring.asking import ServiceUnreachableError, ask_status
from cftpki_ext.service.renewals import make_manager, managed, own_status

T = TypeVar("T")

# What is said of events while a command works.
_LINES = {
    "identity_busy": "{identity}: {who} works on it now; waiting for what it issues",
    "identity_order_begun": "{identity}: {enroller}: order {order} begun",
    "identity_attempt_failed": "{identity}: {enroller}: {fault}: {detail}",
    "identity_staged": "{identity}: issued, generation {generation} is on the disk",
    "identity_hooks_run": "{identity}: hooks: {error}",
    "identity_fell_back": "{identity}: generation {generation} stands in for what is damaged: {detail}",
    "identity_damage_put_aside": "{identity}: put aside: {detail}",
}

# Another process is in the middle of an issuance: most end in seconds, and one attempt at a CA after ten minutes.
WAIT_S = 660.0
# Between lines that say no more than that something is waited for.
BEAT_S = 15
# The service answers from memory; a list does not wait for one that is stuck.
STATUS_S = 2.0

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


def known(settings: Settings, name: str) -> ManagedIdentity:
    """
    The identity of a name, where enrollers keep it; raises `InputError` else.
    """
    found = managed(settings)
    if name not in found:
        msg = f"there is no identity {name!r} with enrollers; there are {', '.join(sorted(found)) or 'none'}"
        raise InputError(msg)
    return found[name]


def with_manager(
    settings: Settings,
    act: Callable[[Manager], Awaitable[T]],
    *,
    changes: bool = True,
    checks: bool = False,
    tell: bool = True,
) -> T:
    """
    Do something with a manager that lives as long as the call.

    Args:
        settings: the configuration.
        act: what is to be done.
        changes: make enrollers; by default it may write. Without, it only looks.
        checks: make a checker for our own check too.
        tell: say on standard error what goes on.

    Returns:
        What `act` gave.

    Raises:
        StoreError: the state directory is another user's.

    """
    by = this_actor()
    if changes:
        may_write(settings)

    async def run() -> T:
        clock = SystemClock()
        async with contextlib.AsyncExitStack() as opened:
            asked = None
            if checks:
                checker = make_checker(settings)
                opened.push_async_callback(checker.aclose)
                asked = own_status(settings, checker, clock)
            manager = make_manager(
                settings,
                clock=clock,
                event=_progress if tell else _quiet,
                own_status=asked,
                look_only=not changes,
                by=by,
            )
            opened.push_async_callback(manager.aclose)
            waiting = asyncio.create_task(_beat()) if changes and tell else None
            try:
                return await act(manager)
            finally:
                if waiting is not None:
                    waiting.cancel()

    return asyncio.run(run())


def told_by_service(settings: Settings) -> Mapping[str, Any] | None:
    """
    What the running service says of itself; `None` where none answers this user.
    """
    try:
        return ask_status(settings.service.socket, timeout_s=STATUS_S)
    except ServiceUnreachableError:
        return None


def words_text(data: Mapping[str, Any]) -> str:
    """
    The words of a row, for a table.
    """
    return ", ".join(str(word).replace("_", " ") for word in data["states"])


def _quiet(event: str, **fields: Any) -> None:
    """
    A program reads what comes, perhaps both streams as one.
    """


def _progress(event: str, **fields: Any) -> None:
    """
    Say on standard error what goes on; journal and actions keep the rest, and the service tells it.
    """
    line = _LINES.get(event)
    if line is None or (event == "identity_hooks_run" and fields["error"] is None):
        return
    fields.setdefault("enroller", "")
    if event == "identity_busy":
        process = fields["process"]
        fields["who"] = "another process" if process is None else f"process {process}"
    click.echo(printable(line.format_map(fields)), err=True)


async def _beat() -> None:
    """
    Say that it is being waited, where nothing else is said for long.
    """
    waited_s = 0
    while True:
        await asyncio.sleep(BEAT_S)
        waited_s += BEAT_S
        click.echo(f"still at work, {waited_s} s", err=True)


def time_text(at: datetime) -> str:
    """
    A time as it is shown, to the second.
    """
    return at.isoformat(timespec="seconds")
