"""
`cftpki serve` and `cftpki status`: being the service, and asking it how it is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from cftpki_ext.bootstrap.configured import Configured, configured
from cftpki_ext.bootstrap.service import run_service
from cftpki_ext.cli.evidence import rows_of
from cftpki_ext.cli.options import FILE, Since, config_option, config_path, json_option
from cftpki_ext.cli.render import console, counting, facts, table
from cftpki_ext.config.places import Places
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import BatchLog
from cftpki_ext.evidence import Tally
from cftpki_ext.service.monitoring.asking import ServiceUnreachableError, ask_status
from cftpki_ext.stores import open_ledger
from cftpki_ext.support.collector import nothing_dies

# Faults of a configuration that are shown beside what the service says; `config check` shows all.
_FAULTS = 20


@click.command()
@config_option(help_text="The configuration file.")
@click.option(
    "--no-metrics",
    is_flag=True,
    envvar="CFTPKI_NO_METRICS",
    help="Leave `[metrics] listen` to another process: cftpki metrics --serve.",
)
def serve(config_file: Path | None, *, no_metrics: bool) -> None:
    """
    Be the service: answer the exit on the unix socket until SIGTERM; SIGHUP reads the configuration again.
    """
    run_service(config_path(config_file), _log, metrics=not no_metrics)


def _log(log_format: str) -> BatchLog:
    # The library of the log, for a service that has a configuration.
    with nothing_dies():
        lines = import_module("cftpki_ext.support.log_lines")
    made: BatchLog = lines.configure(log_format)
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
    found = None if socket_path is not None and config_file is None else configured(config_path(config_file))
    try:
        told = ask_status(socket_path or (Places() if found is None else found.places).socket)
    except ServiceUnreachableError as error:
        _tell_absence(error, found, as_json=as_json)
    tally = None if found is None else _tally(found.places.state, since)
    if as_json:
        if found is not None:
            told["config"] = {"ok": found.ok, "faults": list(found.faults)}
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
    if found is not None and found.ok is False:
        out.print(
            "\nThe configuration has faults; the service goes on with what it read before, and could not begin again:"
        )
        for fault in _few(found.faults):
            out.print(fault, whole=True)
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


def _tell_absence(error: ServiceUnreachableError, found: Configured | None, *, as_json: bool) -> NoReturn:
    """
    Say that the service does not answer, and whether it could begin with its configuration.
    """
    faults = found.faults if found is not None and found.ok is False else ()
    if as_json:
        told = {
            "answers": False,
            "absence": error.absence.value,
            "error": str(error),
            "config": None if found is None else {"ok": found.ok, "faults": list(found.faults)},
        }
        click.echo(json.dumps(told, indent=2))
        click.get_current_context().exit(1)
    if faults:
        click.echo("the service could not begin: its configuration has faults", err=True)
        for fault in _few(faults):
            click.echo(fault, err=True)
    raise error


def _few(faults: tuple[str, ...]) -> tuple[str, ...]:
    more = len(faults) - _FAULTS
    return faults if more <= 0 else (*faults[:_FAULTS], f"and {more} more: cftpki config check")


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
