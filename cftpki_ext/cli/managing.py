"""
What the commands of `cftpki identity` have in common: their options, and a manager for the time of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import click

from cftpki_ext.bootstrap import SystemClock, make_checker
from cftpki_ext.cli.options import config_option
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.settings import ManagedIdentity, Settings
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.service.renewals import make_manager, managed, own_status

T = TypeVar("T")

# Another process is in the middle of an issuance: most end in seconds.
WAIT_S = 60.0

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
) -> T:
    """
    Do something with a manager that lives as long as the call.

    Args:
        settings: the configuration.
        act: what is to be done.
        changes: make enrollers; by default it may write. Without, it only looks.
        checks: make a checker for our own check too.

    Returns:
        What `act` gave.

    Raises:
        StoreError: the state directory is another user's.

    """
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


def time_text(at: datetime) -> str:
    """
    A time as it is shown, to the second.
    """
    return at.isoformat(timespec="seconds")
