"""
The program `cftpki`: its commands, and the one place where an error becomes a line and an exit status.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cftpki_ext.cli.caching import cache
from cftpki_ext.cli.checking import check
from cftpki_ext.cli.configuration import config
from cftpki_ext.cli.doctoring import doctor
from cftpki_ext.cli.evidence import audit, explain, replay
from cftpki_ext.cli.identities import identity
from cftpki_ext.cli.labs import lab
from cftpki_ext.cli.serving import serve, status
from cftpki_ext.errors import CftPkiError, ConfigError, InputError
from cftpki_ext.text import printable

USAGE = 2
NOT_DONE = 1
INTERNAL = 80


class Program(click.Group):
    """
    A group whose commands may raise our errors: each becomes one line on standard error.
    """

    def invoke(self, ctx: click.Context) -> object:
        """
        Run a command; with `--debug` errors keep their traceback.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            # click ends these itself; a reader that went away is status 1, never 0.
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            for line in _lines(error):
                click.echo(line, err=True)
            ctx.exit(_status(error, ctx.invoked_subcommand))


def _lines(error: Exception) -> tuple[str, ...]:
    if isinstance(error, ConfigError):
        return error.faults
    if isinstance(error, CftPkiError):
        return (f"cftpki: {printable(str(error))}",)
    name = type(error).__name__
    return (
        f"cftpki: internal error: {name}: {printable(str(error))}; run again with cftpki --debug for more",
    )


def _status(error: Exception, command: str | None) -> int:
    if isinstance(error, ConfigError | InputError):
        return USAGE
    return INTERNAL if command == "check" or not isinstance(error, CftPkiError) else NOT_DONE


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cftpki-ext", prog_name="cftpki")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(*, debug: bool) -> None:
    """
    Check partners' certificates against the company's PKI, and keep the service that does so for the host.
    """


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print the completion script of SHELL, e.g. for bash: eval "$(cftpki completion bash)".
    """
    made = get_completion_class(shell)
    if made is None:
        msg = f"no completion for {shell}"
        raise InputError(msg)
    click.echo(made(main, {}, "cftpki", "_CFTPKI_COMPLETE").source())


for command in (check, serve, status, explain, replay, audit, config, identity, cache, lab, doctor):
    main.add_command(command)
