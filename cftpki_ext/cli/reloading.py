"""
`cftpki reload`: have the running service read its configuration again, and say what became of it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cftpki_ext.bootstrap.checker import require_sources
from cftpki_ext.cli.options import config_option, config_path, json_option
from cftpki_ext.config import load
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Settings
from cftpki_ext.service.monitoring.asking import ask_status

# Reading, and a login and a probe of the slowest token (15 s); systemd waits for 90 s.
ANSWER_S = 60.0
_POLL_S = 0.05


class ReloadError(CftPkiError):
    """
    The configuration of before is in force.
    """


@click.command("reload")
@config_option(help_text="The configuration file that the service was started with.")
@click.option(
    "--pid",
    type=click.IntRange(min=1),
    help="The service's process; by default the one that answers at the socket.",
)
@json_option
def reload(config_file: Path | None, pid: int | None, *, as_json: bool) -> None:
    """
    Have the running service read its configuration again, and wait for what becomes of it.

    A file with faults is not shown to the service: they are named, and the exit status is 2. It is 1 where the service does
    not take the file over, or does not answer; then the configuration of before is in force.
    """
    settings = load(config_path(config_file), forgive_ended=True)
    require_sources(settings)
    told = _reload(settings, pid)
    if as_json:
        click.echo(json.dumps({"reloaded": True, "reloads": told}, indent=2))
        return
    counts = ((len(settings.rules), "rule"), (len(settings.trusts), "trust set"))
    words = ", ".join(f"{count} {noun if count == 1 else f'{noun}s'}" for count, noun in counts)
    click.echo(f"reloaded: {words}")


def _reload(settings: Settings, pid: int | None) -> Mapping[str, Any]:
    path = settings.service.socket
    status = ask_status(path)
    before, found = _reloads(status), status.get("pid")
    target = pid if pid is not None else found
    if not isinstance(target, int):
        msg = f"the service at {path} does not say which process it is: name it with --pid"
        raise ReloadError(msg)
    try:
        os.kill(target, signal.SIGHUP)
    except OSError as error:
        msg = f"process {target} cannot be asked to reload: {(error.strerror or str(error)).lower()}"
        raise ReloadError(msg) from error
    end = time.monotonic() + ANSWER_S
    while True:
        after = _reloads(ask_status(path))
        if after["failed"] > before["failed"]:
            msg = f"the service keeps the configuration of before: {printable(str(after['last_error']))}"
            raise ReloadError(msg)
        if after["ok"] > before["ok"]:
            return after
        if time.monotonic() > end:
            msg = f"the service at {path} has not said within {ANSWER_S:.0f} s what became of the reload: look at its log"
            raise ReloadError(msg)
        time.sleep(_POLL_S)


def _reloads(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    What STATUS says of reloads.
    """
    found = status.get("reloads")
    if not isinstance(found, Mapping) or not {"ok", "failed", "last_error"} <= found.keys():
        msg = "the service does not say what becomes of reloads: it is of an earlier version, restart it"
        raise ReloadError(msg)
    return found
