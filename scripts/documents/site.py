"""
The folder that the site is built from: the documents, laid out for readers, and the reference that the program writes itself.

Owns which file becomes which page. `docs/README.md` is the front page, and its lists are the navigation: what is not in them is no page,
and Sphinx, for which a page outside the navigation is an error, says so.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from documents.reference import command_reference, key_reference

# A link of Markdown, outside of code; none of ours has a space or a bracket in its target.
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^\* \[[^\]]*\]\(([^)#\s]+)\)", re.MULTILINE)
# Besides the documents: what they name that is a page of its own.
_PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_RESOURCE = re.compile(
    r"<(?:link|script|img|source|iframe)\b[^>]*\b(?:href|src|srcset)=\"((?:https?:)?//[^\"]*)\""
    r"|(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)"
)


def page_of(name: str) -> str | None:
    """
    Where a file of the repository is in the site.

    Args:
        name: its path in the repository.

    Returns:
        The path in the folder that Sphinx reads; `None` where it is no page.

    """
    if name in {"README.md", "docs/README.md"}:
        return "index.md"
    if name in _PROJECT:
        return f"project/{name}"
    if name.startswith("docs/") and Path(name).suffix in {".md", ".svg", ".png"}:
        return name.removeprefix("docs/")
    return None


def lay_out(root: Path, to: Path) -> int:
    """
    Make the folder anew.

    Args:
        root: the repository.
        to: the folder; what is in it is deleted.

    Returns:
        How many pages it has.

    """
    shutil.rmtree(to, ignore_errors=True)
    files = sorted(path for path in (root / "docs").rglob("*") if path.is_file())
    for path in [*files, *(root / name for name in _PROJECT)]:
        name = str(path.relative_to(root))
        page = page_of(name)
        if page is None:
            continue
        target = to / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(_relinked(path.read_text(encoding="utf-8"), root, name, to), encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    _write(to, command_reference())
    _write(to, key_reference(root / "docs"))
    index = to / "index.md"
    index.write_text(_navigation(index.read_text(encoding="utf-8")), encoding="utf-8")
    decisions = sorted(path.stem for path in (to / "adr").glob("[0-9]*.md"))
    with (to / "adr/README.md").open("a", encoding="utf-8") as file:
        file.write(_toctree(None, decisions))
    return len(list(to.rglob("*.md")))


def _write(to: Path, pages: Iterator[tuple[str, str]]) -> None:
    for name, text in pages:
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _relinked(text: str, root: Path, name: str, to: Path) -> str:
    """
    A document whose links lead to pages of the site: what is no page is copied beside them, a folder is left as words.
    """
    here = Path(str(page_of(name))).parent

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        place, sharp, anchor = target.partition("#")
        if not place or re.match(r"[a-z][a-z0-9+.-]*:", place):
            return found[0]
        file = (root / name).parent.joinpath(place).resolve()
        if file.is_dir() and (file / "README.md").is_file():
            file /= "README.md"
        if file.is_dir():
            return words
        inside = str(file.relative_to(root))
        page = page_of(inside)
        if page is None:
            page = f"files/{inside}"
            (to / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to / page)
        elif words == Path(place).name and file.suffix == ".md":
            words = _title(file)  # nobody who reads a site knows files by their names
        return f"{mark}[{words}]({os.path.relpath(page, here)}{sharp}{anchor})"

    # Code spans are put back after the links around them were looked at: a link's words may be code.
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    changed = _LINK.sub(link, _CODE.sub(keep, text))
    return re.sub(r"\0(\d+)\0", lambda found: kept[int(found[1])], changed)


def _title(document: Path) -> str:
    with document.open(encoding="utf-8") as file:
        return file.readline().removeprefix("# ").strip()


def _navigation(index: str) -> str:
    """
    The front page with a list for the side of every page: a part for each heading, in its order.
    """
    parts = re.split(r"^## (.+)\n", index, flags=re.MULTILINE)
    trees = [
        _toctree(title, [re.sub(r"\.md$", "", entry) for entry in _ENTRY.findall(body)])
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    ]
    reference = _toctree("Reference", ["commands/cftpki", "configuration-keys"])
    return "".join((index.rstrip("\n"), "\n", *trees, reference))


def _toctree(caption: str | None, entries: list[str]) -> str:
    head = [] if caption is None else [f":caption: {caption}"]
    return "\n".join(("", "```{toctree}", ":hidden:", *head, "", *entries, "```", ""))


def foreign_resources(site: Path) -> Iterator[str]:
    """
    What a built page would get from another host: fonts, scripts, pictures. Links that a reader may follow are none.

    Args:
        site: the folder of the built site.

    Yields:
        `file: address`.

    """
    for path in sorted(site.rglob("*")):
        if path.suffix in {".html", ".css", ".svg"}:
            for found in _RESOURCE.finditer(path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(site)}: {found[1] or found[2]}"
