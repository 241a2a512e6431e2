"""
`cftpki audit backup`: the record of verdicts, copied whole while a service writes it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from cftpki_ext.cli.evidence import state_of, state_option, tell_whole
from cftpki_ext.cli.options import FILE, config_option, json_option
from cftpki_ext.cli.remarks import remarks_of
from cftpki_ext.cli.render import counting, working
from cftpki_ext.stores import back_up_ledger, ledger_remark

NOT_DONE = 1


@click.command()
@click.argument("directory", type=FILE)
@config_option(help_text="The configuration that names the state directory.")
@state_option
@json_option
@click.pass_context
def backup(ctx: click.Context, /, directory: Path, **options: Any) -> None:
    """
    Copy the record of verdicts into DIRECTORY, whole and as of one moment, and walk the copy.

    A service may go on writing meanwhile. DIRECTORY is laid out as a state directory: `--state DIRECTORY` of the other
    commands reads it, and its folder `evidence` is what is put back. Status 1 where the chain of records is broken.
    """
    state = state_of(options)
    remark = ledger_remark(state)
    if remark is not None:
        click.echo(f"cftpki: {remark}", err=True)
    with working("copying") as tell:
        copy = back_up_ledger(
            state, directory, lambda done, total: tell(f"copying: {100 * done // max(total, 1)} %")
        )
    with contextlib.closing(copy), counting("verifying") as advance:
        faults = copy.verify(advance)
        count = copy.count()
        first, last = copy.ends()
        remarks = remarks_of(copy)
    tell_whole(faults, count, first, last, remarks=remarks, as_json=options["as_json"])
    if faults:
        ctx.exit(NOT_DONE)
