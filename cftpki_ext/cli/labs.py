"""
`cftpki lab …`: the small PKI for trying things out.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from cftpki_ext import lab as lab_of
from cftpki_ext.cli.options import FILE, json_option
from cftpki_ext.cli.render import console, table, working
from cftpki_ext.core.escape import printable


@click.group()
def lab() -> None:
    """
    A small PKI on loopback, for trying things out: CAs, OCSP responder, CRLs, partners good and bad.
    """


@lab.command()
@click.argument("directory", type=FILE)
@click.option("--foreground", is_flag=True, help="Answer in this process, until Ctrl-C.")
@json_option
def up(directory: Path, *, foreground: bool, as_json: bool) -> None:
    """
    Make the PKI in DIRECTORY, or start the one that is there again.
    """
    if foreground:
        lab_of.serve(directory, ready=lambda: _show(lab_of.status(directory), as_json=as_json))
        return
    with working("making keys and certificates"):
        state = lab_of.up(directory)
    _show(state, as_json=as_json)


@lab.command()
@click.argument("directory", type=FILE)
def down(directory: Path) -> None:
    """
    Stop the lab in DIRECTORY; its certificates stay.
    """
    ran = lab_of.down(directory)
    click.echo("stopped" if ran else "it was not running")


@lab.command("status")
@click.argument("directory", type=FILE)
@json_option
def lab_status(directory: Path, *, as_json: bool) -> None:
    """
    Show whether the lab in DIRECTORY runs, and who is revoked. The exit status is 1 where it does not run.
    """
    state = lab_of.status(directory)
    _show(state, as_json=as_json)
    if state.pid is None:
        click.get_current_context().exit(1)


@lab.command()
@click.argument("directory", type=FILE)
@click.argument("partner")
def revoke(directory: Path, partner: str) -> None:
    """
    Revoke the certificate of PARTNER for good.
    """
    lab_of.revoke(directory, partner)
    click.echo(
        f"{printable(partner)} is revoked; the next OCSP answer and CRL say so"
        " (what a service has cached is asked again after limits.ocsp_refresh)"
    )


def _show(state: lab_of.LabStatus, *, as_json: bool) -> None:
    if as_json:
        data = {
            "directory": str(state.directory),
            "configuration": str(state.configuration),
            "pid": state.pid,
            "ocsp_url": state.ocsp_url,
            "crl_url": state.crl_url,
            "partners": {name: {"revoked": revoked} for name, revoked in state.partners.items()},
        }
        click.echo(json.dumps(data, indent=2))
        return
    out = console()
    rows = [
        ("lab", state.directory),
        ("running", "no" if state.pid is None else f"yes, process {state.pid}"),
        ("OCSP", state.ocsp_url),
        ("CRL", state.crl_url),
        ("configuration", state.configuration),
        ("revoked", ", ".join(name for name, revoked in state.partners.items() if revoked) or "nobody"),
        ("partners", ", ".join(name for name in state.partners if name != "host")),
    ]
    out.print(table(("", ""), rows))
    if state.pid is not None:
        chain = state.directory / "partners" / "good" / "chain.pem"
        click.echo()
        click.echo(
            "try:  " + shlex.join(["cftpki", "check", str(chain), "--config", str(state.configuration)])
        )
