"""
`cftpki serve` and `cftpki status`: being the service, and asking it how it is.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import import_module
from pathlib import Path

import click

from cftpki_ext.bootstrap.service import run_service
from cftpki_ext.cli.evidence import rows_of
from cftpki_ext.cli.options import FILE, Since, config_option, config_path, json_option
from cftpki_ext.cli.render import console, counting, facts, table
from cftpki_ext.config import load
from cftpki_ext.core.errors import CftPkiError, StoreError, WireError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import BatchLog
from cftpki_ext.core.settings import Settings
from cftpki_ext.evidence import Tally
from cftpki_ext.protocol.codec import Frame, Message, Tag, decode, encode
from cftpki_ext.stores import open_ledger
from cftpki_ext.support.failures import reason_of

# The service answers STATUS from memory.
TIMEOUT_S = 5.0


class ServiceUnreachableError(CftPkiError):
    """
    Nobody answers at the socket.
    """


@click.command()
@config_option(help_text="The configuration file.")
def serve(config_file: Path | None) -> None:
    """
    Be the service: answer the exit on the unix socket until SIGTERM; SIGHUP reads the configuration again.
    """
    run_service(config_path(config_file), _log)


def _log(log_format: str) -> BatchLog:
    # The library of the log, for a service that has a configuration.
    made: BatchLog = import_module("cftpki_ext.support.log_lines").configure(log_format)
    return made


@click.command()
@config_option(help_text="The configuration file that names the socket and the state directory.")
@click.option("--socket", "socket_path", type=FILE, help="The socket, without a configuration.")
@click.option(
    "--since",
    type=Since(),
    default="7d",
    show_default=True,
    help="Count the evidence since then, e.g. 24h; only with a configuration.",
)
@json_option
def status(config_file: Path | None, socket_path: Path | None, since: datetime, *, as_json: bool) -> None:
    """
    Ask the running service how it is; count its verdicts, and name who would be refused where a policy audits.
    """
    settings = None if socket_path is not None and config_file is None else load(config_path(config_file))
    told = ask_status(socket_path or (settings or Settings()).service.socket)
    tally = None if settings is None else _tally(settings.service.state, since)
    if as_json:
        if tally is not None:
            told["recorded"] = {
                "since": since.isoformat(timespec="seconds"),
                **tally.counts(),
                "would_be_refused_partners": [asdict(shadow) for shadow in tally.shadows],
            }
        click.echo(json.dumps(told, indent=2))
        return
    if tally is not None:
        told[f"since {since:%Y-%m-%d %H:%M}Z"] = tally.counts()
    out = console()
    out.print(table(("what", "value"), facts(told)))
    warning = _evidence_warning(told)
    if warning:
        out.print(f"\nEvidence: {warning}")
    if tally is not None and tally.shadows:
        out.print("\nAccepted only because their policy audits; it would refuse:")
        out.print(
            table(
                ("partner", "reason", "times", "last", "verdict"),
                ((s.partner, s.reason, s.times, s.last_at, s.last_id) for s in tally.shadows),
            )
        )


def _evidence_warning(told: Mapping[str, object]) -> str | None:
    """
    What the service warns of: its evidence was broken, or will be let go of before it is as old as it is to be kept.
    """
    evidence = told.get("evidence")
    warning = evidence.get("warning") if isinstance(evidence, Mapping) else None
    return None if warning is None else printable(str(warning))


def _tally(state: Path, since: datetime) -> Tally:
    """
    What the evidence counts; nothing where none was kept yet.
    """
    try:
        ledger = open_ledger(state)
    except StoreError:
        return Tally()
    with contextlib.closing(ledger), counting("counting") as advance:
        tally = Tally()
        for number, row in enumerate(rows_of(ledger, since), start=1):
            tally.add(row)
            advance(number)
    return tally


def ask_status(path: Path, *, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """
    Send STATUS and wait for the answer.

    Args:
        path: the service's socket.
        timeout_s: for the whole exchange.

    Returns:
        What the service says of itself.

    Raises:
        ServiceUnreachableError: no service there, not allowed, or no answer in time.

    """
    deadline = time.monotonic() + timeout_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(encode(Frame(message=Message.STATUS, response=False, sequence=1, fields={})))
            answer = _answer(connection, deadline)
        text = answer.fields.get(Tag.JSON)
        told = json.loads(text) if isinstance(text, str) else None
    except (OSError, ValueError, WireError) as exc:
        msg = f"no answer at {path}: {reason_of(exc)}; is the service running (cftpki serve)?"
        raise ServiceUnreachableError(msg) from exc
    if not isinstance(told, dict):
        detail = answer.fields.get(Tag.DETAIL, "no reason given")
        msg = f"the service at {path} does not tell: {printable(str(detail))}"
        raise ServiceUnreachableError(msg)
    return told


def _answer(connection: socket.socket, deadline: float) -> Frame:
    received = b""
    while True:
        found = decode(received)
        if found is not None:
            return found[0]
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            msg = "timed out"
            raise TimeoutError(msg)
        connection.settimeout(left_s)
        more = connection.recv(65536)
        if not more:
            msg = "the connection was closed"
            raise ConnectionError(msg)
        received += more
