"""
`cftpki metrics`: numbers for monitoring.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.cli.managing import heard
from cftpki_ext.cli.options import FILE, config_option, config_path
from cftpki_ext.cli.serving import ServiceUnreachableError, ask_status
from cftpki_ext.config import load
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import Settings
from cftpki_ext.service.metrics import Seen, exposition
from cftpki_ext.service.renewals import make_manager

# What collects text files runs as another user; nothing of it is secret.
_MODE = 0o644


@click.command()
@config_option(help_text="The configuration file that names the socket and the state directory.")
@click.option(
    "--output", type=FILE, help="Write to this file, whole or not at all, e.g. for a textfile collector."
)
def metrics(config_file: Path | None, output: Path | None) -> None:
    """
    Print numbers for monitoring in Prometheus' text form: the service's counts, and until when identities live.

    A service that does not answer is told as `cftpki_up 0`; what is on the disk is told all the same.
    """
    settings = load(config_path(config_file), forgive_ended=True)
    try:
        status = ask_status(settings.service.socket)
    except ServiceUnreachableError:
        status = None
    text = exposition(Seen(status=status, identities=asyncio.run(_identities(settings, status))))
    if output is None:
        click.echo(text, nl=False)
    else:
        _replace(output, text)


async def _identities(settings: Settings, status: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    manager = make_manager(
        settings, clock=SystemClock(), event=lambda _event, **_fields: None, look_only=True
    )
    return {row.name: heard(row.data(), status) for row in await manager.rows()}


def _replace(path: Path, text: str) -> None:
    try:
        # A collector takes every file with the right ending: the partial one has another.
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), _MODE)
            Path(partial).rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(partial).unlink()
            raise
    except OSError as error:
        msg = f"{path}: {(error.strerror or str(error)).lower()}"
        raise StoreError(msg) from error
