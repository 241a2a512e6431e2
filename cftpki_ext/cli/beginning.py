"""
`cftpki init`: a first configuration.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from cftpki_ext.cli.options import FILE, config_option, config_path
from cftpki_ext.config import load
from cftpki_ext.config.first import first_configuration
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import ServiceSettings

_MODE = 0o644


@click.command()
@config_option(help_text="The configuration file to write; it must not exist.")
@click.option(
    "--socket", type=FILE, default=ServiceSettings().socket, show_default=True, help="Of the service."
)
@click.option("--state", type=FILE, default=ServiceSettings().state, show_default=True, help="Its directory.")
def init(config_file: Path | None, socket: Path, state: Path) -> None:
    """
    Write a first configuration, with comments, which `config check` takes. It lets nobody in yet.
    """
    path = config_path(config_file)
    text = first_configuration(socket=socket.absolute(), state=state.absolute())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except FileExistsError as error:
        msg = f"{printable(str(path))} exists already, and is left as it is"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{printable(str(path))}: {(error.strerror or str(error)).lower()}"
        raise StoreError(msg) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    load(path)
    click.echo(
        f"{printable(str(path))} is written. Next: cftpki trust add NAME root.pem --probe partner.pem, a [[rule]], and"
        " cftpki config check"
    )
