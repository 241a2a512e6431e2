"""
`cftpki console`: pages for people on call, served by a process of its own.
"""

from __future__ import annotations

from pathlib import Path

import click

from cftpki_ext.cli.options import config_option, config_path
from cftpki_ext.console.serving import serve_console
from cftpki_ext.support.logs import SteadyLog, event_log


@click.command()
@config_option(help_text="The configuration file; of one with faults the console shows them.")
@click.option(
    "--listen",
    help="Serve here, whatever the configuration says: the path of a unix socket, or 127.0.0.1:8443.",
)
def console(config_file: Path | None, listen: str | None) -> None:
    """
    Serve pages that show how all is: partners, verdicts, sources, identities, exceptions; until SIGTERM.

    They change nothing. By default on a unix socket, for its user and group; on a loopback address for whoever has the link
    that is printed; elsewhere by TLS alone, for who has a token or a client certificate (`[console]`).
    """
    serve_console(config_path(config_file), listen, SteadyLog(event_log()))
