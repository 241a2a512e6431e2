"""
The reference as Markdown pages: every command, and every key of the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cftpki_ext.cli import main
from documents.commands import FILES, CommandPage, command_pages
from documents.keys import Key, Section, keys_of, sections

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|])")


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)


def command_reference() -> Iterator[tuple[str, str]]:
    """
    A page for each command that follows the program's name, with those below it, and one that lists them.

    Yields:
        Names of files and their texts.

    """
    program, *pages = command_pages(main)
    first = [page for page in pages if len(page.words) == 2]
    lines = ["# Commands", "", *_body(program)]
    lines += ["", "## Files", "", *_definitions(FILES), "", "## The commands", ""]
    lines += [f"* [cftpki {name}](cftpki-{name}.md): {_plain(words)}" for name, words in program.below]
    lines += ["", "```{toctree}", ":hidden:", "", *(page.name for page in first), "```"]
    yield "commands/cftpki.md", _text(lines)
    for page in first:
        below = [one for one in pages if one.words[: len(page.words)] == page.words]
        yield f"commands/{page.name}.md", _text(_command_page(below))


def _command_page(pages: list[CommandPage]) -> Iterator[str]:
    for page in pages:
        yield from (f"{'#' * (len(page.words) - 1)} {' '.join(page.words)}", "", *_body(page), "")


def _body(page: CommandPage) -> Iterator[str]:
    yield from ("```text", " ".join((*page.words, *page.usage)), "```")
    for paragraph in page.paragraphs:
        yield from ("", _plain(paragraph))
    if page.options:
        yield from ("", "**Options**", "", *_definitions(page.options))
    if page.status:
        yield from ("", "**Exit status**", "", *_definitions(page.status))
    if page.environment:
        yield from ("", "**Environment**", "", *_definitions(page.environment))


def _definitions(entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, meaning in entries:
        yield from (f"`{term}`", f": {_plain(meaning) or 'no more to say'}", "")


def key_reference(documents: Path) -> Iterator[tuple[str, str]]:
    """
    One page with every key: type and default from the program, meaning from the documents.

    Args:
        documents: the folder of the documents.

    Yields:
        The name of the file and its text.

    """
    lines = [
        "# Every key of the configuration",
        "",
        "Made from the program: what it takes, in which bounds, and what it does without the key. The pages that are named explain more;",
        "[configuration.md](configuration.md) is the one to begin with.",
    ]
    for section in sections():
        keys, _ = keys_of(section, documents)
        pages = dict.fromkeys(place.document for place in section.places)
        more = ", ".join(f"[{page}]({page})" for page in pages)
        lines += ["", f"## {_plain(section.heading)}", "", f"Explained in {more}.", ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|", *_rows(section, keys)]
    yield "configuration-keys.md", _text(lines)


def _rows(section: Section, keys: list[Key]) -> Iterator[str]:
    here = section.places[0].document
    for key in keys:
        told = key.told
        default = (told.default if told is not None else None) or key.default or "\N{EN DASH}"
        # A link within its document leads there from here.
        meaning = "" if told is None else told.meaning.replace("](#", f"]({here}#")
        yield f"| `{key.name}` | {key.kind} | {default} | {meaning} |"


def _text(lines: list[str] | Iterator[str]) -> str:
    return "\n".join(lines) + "\n"
