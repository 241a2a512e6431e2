"""
Links in Markdown files: which lead nowhere in this repository. Nothing is asked of the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

# A scheme (RFC 3986 3.1) or another host: not ours to look at.
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_IN_HTML = re.compile(r"\b(?:src|srcset|href)=\"([^\"]*)\"")
_ID_IN_HTML = re.compile(r"\b(?:id|name)=\"([^\"]+)\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """
    A link or a picture, with the line that its paragraph begins in.
    """

    line: int
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    What of a Markdown file matters to links: its own, and the anchors that others may name.
    """

    links: tuple[Link, ...]
    anchors: frozenset[str]


def slug(heading: str) -> str:
    """
    The anchor of a heading, as the code hosts make it: lower case, punctuation gone, hyphens for spaces.

    Args:
        heading: its text without markup.

    Returns:
        The anchor; a heading that was there before gets a number besides, which is not added here.

    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def read(text: str) -> Document:
    """
    Read a Markdown file (CommonMark with tables).

    Args:
        text: all of it.

    Returns:
        Its links and anchors; what stands in code is neither.

    """
    links: list[Link] = []
    anchors: dict[str, int] = {}
    named: set[str] = set()
    heading = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        line = (token.map or (0, 0))[0] + 1
        pieces = [token, *(token.children or ())]
        for piece in pieces:
            links += (Link(line=line, target=target) for target in _targets(piece))
            if piece.type in {"html_block", "html_inline"}:
                named.update(_ID_IN_HTML.findall(piece.content))
        if heading and token.type == "inline":
            name = slug(_plain(token))
            count = anchors.get(name, 0)
            anchors[name] = count + 1
            named.add(f"{name}-{count}" if count else name)
        heading = token.type == "heading_open"
    return Document(links=tuple(links), anchors=frozenset(named))


def _targets(token: Token) -> Iterator[str]:
    for attribute in ("href", "src"):
        value = token.attrGet(attribute)
        if isinstance(value, str):
            yield value
    if token.type in {"html_block", "html_inline"}:
        yield from _IN_HTML.findall(token.content)


def _plain(inline: Token) -> str:
    return "".join(one.content for one in inline.children or () if one.type in {"text", "code_inline"})


def faults(root: Path, documents: Sequence[Path], *, known: frozenset[Path]) -> Iterator[str]:
    """
    Every link that leads nowhere.

    Args:
        root: the repository.
        documents: Markdown files in it.
        known: the files that the repository has: what only lies there on this machine is no target.

    Yields:
        `file:line: what is wrong`, in the order of the documents.

    """
    folders = {parent for path in known for parent in path.parents}

    @cache
    def document(path: Path) -> Document:
        return read(path.read_text(encoding="utf-8"))

    for path in documents:
        for link in document(path).links:
            if not link.target or _ELSEWHERE.match(link.target):
                continue
            place, _, anchor = unquote(link.target).partition("#")
            to = (path.parent / place).resolve() if place else path
            where = f"{path.relative_to(root)}:{link.line}"
            if to not in known and to not in folders:
                yield f"{where}: {link.target}: no such file in the repository"
            elif anchor and (to.suffix != ".md" or anchor not in document(to).anchors):
                yield f"{where}: {link.target}: no such heading"
