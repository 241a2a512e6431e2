"""
The program `cftpki`: its commands, and the one place where an error becomes a line and an exit status.

What a command needs is imported when it runs: shells ask for names and first words at every press of Tab.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import click
from click.shell_completion import get_completion_class

from cftpki_ext.cli.streams import command_streams
from cftpki_ext.core.errors import CftPkiError, ConfigError, InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.support.collector import nothing_dies
from cftpki_ext.support.version import version

USAGE = 2
NOT_DONE = 1
INTERNAL = 80
# Writes a log and no answer: what becomes of lines that nobody takes is the log's business (`logs.SteadyLog`).
_SERVICE = "serve"


class Later(click.Command):
    """
    A command's name and first words; the command itself is in a module that is not imported yet.

    Args:
        name: of the command, and of what it is called in its module.
        module: in this package.
        words: what it does, for the list of commands.

    """

    def __init__(self, name: str, module: str, words: str) -> None:
        super().__init__(name, short_help=words)
        self._module = module

    def load(self) -> click.Command:
        """
        The command itself.
        """
        # Whatever is installed beside us has no business in how configuration and records are read; looking takes time.
        os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
        with nothing_dies():
            command: click.Command = getattr(import_module(f"{__package__}.{self._module}"), str(self.name))
        return command


class Program(click.Group):
    """
    A group whose commands may raise our errors: each becomes one line on standard error.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """
        Find the command that is to run, or whose own words are to be completed.
        """
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Later) else command, rest

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        """
        Be the program: in any locale, and with the command's own exit status whether or not anybody reads all of it.
        """
        given = sys.argv[1:] if args is None else list(args)
        command = next((one for one in given if not one.startswith("-")), None)
        with nullcontext() if command == _SERVICE else command_streams():
            return super().main(args, *others, **options)

    def invoke(self, ctx: click.Context) -> object:
        """
        Run a command; with `--debug` errors keep their traceback.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):  # click ends these itself
            raise
        except Exception as error:  # the boundary: nobody is shown a traceback unasked
            if ctx.params.get("debug"):
                raise
            prefix = "<3>" if _to_journal() else ""  # an error, as the log's lines say it
            for line in _lines(error):
                click.echo(prefix + line, err=True)
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


def _to_journal() -> bool:
    found: bool = import_module("cftpki_ext.support.logs").is_journal(sys.stderr, os.environ)
    return found


def _status(error: Exception, command: str | None) -> int:
    if isinstance(error, ConfigError | InputError):
        return USAGE
    return INTERNAL if command == "check" or not isinstance(error, CftPkiError) else NOT_DONE


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not context.resilient_parsing:
        click.echo(f"cftpki, version {version()}")
        context.exit()


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(*, debug: bool) -> None:  # noqa: ARG001  # `Program.invoke` reads it
    """
    Check partners' certificates against the company's PKI, and keep the service that does so for the host.
    """
    # Keys of ours may be in the memory of any command that issues, renews or revokes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Standard output is the command's own: what is logged on the way goes to standard error.
    import_module("cftpki_ext.support.logs").configure_when_needed("console")


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


for later in (
    Later("audit", "auditing", "List the record of verdicts, report on it, and verify it."),
    Later("cache", "caching", "Look at the cache of OCSP responses and CRLs, or empty it."),
    Later("check", "checking", "Judge certificate chains."),
    Later("config", "configuration", "Look at the configuration file."),
    Later("console", "consoling", "Serve pages that show how all is."),
    Later("doctor", "doctoring", "Ask every responder; look at machine, host and cache."),
    Later(
        "enroller", "enrollers", "Look at CAs, also at one that is not configured yet; change account keys."
    ),
    Later("explain", "replaying", "Say what was asked, heard and decided for a verdict."),
    Later("identity", "identities", "Look at our own certificates; issue, renew, revoke."),
    Later("init", "beginning", "Write a first configuration."),
    Later("lab", "labs", "A small PKI on loopback, for trying things out."),
    Later("metrics", "measuring", "Print numbers for monitoring."),
    Later("notify", "notifying", "Try those who are told of trouble."),
    Later("partners", "partners", "Look at the partners that were seen; shut one out."),
    Later("probe", "probing", "Say why a host's user cannot reach the service."),
    Later("reload", "reloading", "Have the service read its configuration again."),
    Later("replay", "replaying", "Decide stored verdicts again, offline."),
    Later("serve", "serving", "Be the service until SIGTERM."),
    Later("status", "serving", "Ask the running service how it is; count its verdicts."),
    Later("trust", "trusting", "Add a trust set, found out with a partner's certificate."),
):
    main.add_command(later)
