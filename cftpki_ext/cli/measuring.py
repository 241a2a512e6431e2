"""
`cftpki metrics`: numbers for monitoring, printed, written to a file, or served.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import click

from cftpki_ext.bootstrap import learning
from cftpki_ext.cli.options import FILE, config_option, config_path
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.service.metrics import exposition

# What collects text files runs as another user; nothing of it is secret.
_MODE = 0o644
# Prometheus gives a scrape ten seconds unless it is told otherwise.
_SCRAPE_S = 4.0


@click.command()
@config_option(help_text="The configuration file that names the socket and the state directory.")
@click.option(
    "--socket", "socket_path", type=FILE, help="The service's socket, whatever the configuration says."
)
@click.option(
    "--output", type=FILE, help="Write to this file, whole or not at all, e.g. for a textfile collector."
)
@click.option("--serve", is_flag=True, help="Serve them where `[metrics] listen` says, until SIGTERM.")
@click.option(
    "--look", is_flag=True, hidden=True
)  # what the process that serves has looked at by another one
@click.option("--listen", help="Serve them here: 127.0.0.1:9105, or the path of a unix socket.")
def metrics(
    config_file: Path | None,
    socket_path: Path | None,
    output: Path | None,
    listen: str | None,
    *,
    serve: bool,
    look: bool,
) -> None:
    """
    Print numbers for monitoring in Prometheus' text form: the service's counts, and until when identities live.

    A service that does not answer is told as `cftpki_up 0`, a configuration with faults as `cftpki_config_ok 0`; what can be
    learned otherwise is told all the same.
    """
    path = config_path(config_file)
    if look:
        click.echo(json.dumps(asdict(learning.look(path))))
        return
    if serve or listen is not None:
        if output is not None:
            msg = "--output writes once, and --serve and --listen serve: choose one"
            raise InputError(msg)
        learner = learning.Learner(path, socket=socket_path, timeout_s=_SCRAPE_S, looks=learning.look_apart)
        import_module("cftpki_ext.cli.exporting").serve_metrics(learner, listen)
        return
    text = exposition(learning.Learner(path, socket=socket_path).learn())
    if output is None:
        click.echo(text, nl=False)
    else:
        _replace(output, text)


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
