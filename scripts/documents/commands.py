"""
The commands of the program as values, for manual pages and for the site: what `--help` says, and what all commands share.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from cftpki_ext.cli.program import Later

PROGRAM = "cftpki"
# By the words of the module `cftpki_ext.cli`: `check` ends with the alert, every other command says whether it is done.
_STATUS_OF_CHECK = (
    ("0", "The chain is accepted."),
    ("the number of a TLS alert", "The chain is refused; the partner would see this alert."),
    ("2", "A wrong call, or a fault of the configuration."),
    ("80", "The program itself failed; nothing was decided."),
)
_STATUS = (
    ("0", "Done."),
    ("1", "Not done; standard error says why."),
    ("2", "A wrong call, or a fault of the configuration."),
    ("80", "The program itself failed."),
)
FILES = (
    ("/etc/cftpki/cftpki.toml", "The configuration, where no other is named."),
    ("/var/lib/cftpki", "The state directory, where the configuration names no other."),
    ("/usr/share/doc/cftpki", "The documentation; configuration.md has every key."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandPage:
    """
    What is to be said of a command. Terms come with their meanings; all is plain text.
    """

    words: tuple[str, ...]  # as they are typed, the program first
    paragraphs: tuple[str, ...]
    usage: tuple[str, ...]  # what follows the words
    options: tuple[tuple[str, str], ...]
    below: tuple[tuple[str, str], ...]  # the commands of a group, by their last word
    status: tuple[tuple[str, str], ...]  # none for a group
    environment: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """
        The words in one, such as `cftpki-check`.
        """
        return "-".join(self.words)


def command_pages(command: click.Command, parent: click.Context | None = None) -> Iterator[CommandPage]:
    """
    The page of a command and those of all below it.

    Args:
        command: the program, a group or a command; not hidden.
        parent: the context of the group that it is in.

    Yields:
        A group before its commands; those in the order of `--help`.

    """
    itself = command.load() if isinstance(command, Later) else command
    called = PROGRAM if parent is None else command.name
    context = click.Context(itself, info_name=called, parent=parent, **itself.context_settings)
    below = _below(context)
    of_check = itself.name == "check" and parent is not None and parent.parent is None
    yield CommandPage(
        words=tuple(context.command_path.split(" ")),
        paragraphs=tuple(_whole(one) for one in inspect.cleandoc(itself.help or "").split("\n\n")),
        usage=tuple(itself.collect_usage_pieces(context)),
        options=tuple(_options(context)),
        below=tuple((str(one.name), _whole(_words(one))) for one in below),
        status=() if below else _STATUS_OF_CHECK if of_check else _STATUS,
        environment=tuple(_environment(context)),
    )
    for one in below:
        yield from command_pages(one, context)


def _below(context: click.Context) -> tuple[click.Command, ...]:
    group = context.command
    if not isinstance(group, click.Group):
        return ()
    found = (group.get_command(context, name) for name in group.list_commands(context))
    return tuple(one for one in found if one is not None and not one.hidden)


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    for one in context.command.get_params(context):
        record = one.get_help_record(context) if isinstance(one, click.Option) else None
        if record is not None:
            yield record[0], _whole(record[1])


def _environment(context: click.Context) -> Iterator[tuple[str, str]]:
    for one in context.command.params:
        if isinstance(one, click.Option) and isinstance(one.envvar, str):
            yield one.envvar, f"What {one.opts[0]} says where it is not given."


def _words(command: click.Command) -> str:
    return command.short_help or inspect.cleandoc(command.help or "").split("\n\n")[0]


def _whole(text: str) -> str:
    return " ".join(text.split())
