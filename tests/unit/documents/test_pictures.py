"""
Pictures of documents: words for who does not see them, colours for dark pages, nothing from other hosts.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from documents.links import read
from documents.picture import terminal_picture

ROOT = Path(__file__).parents[3]
PICTURES = sorted((ROOT / "docs/pictures").glob("*.svg"))


def title(text):
    return re.findall(r"<title[^>]*>([^<]+)</title>", text)[0]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_picture_has_a_title_and_gets_nothing_from_elsewhere(picture):
    text = picture.read_text()
    assert title(text)
    assert [] == re.findall(r"url\((?!#)[^)]*\)|@import|<image|xlink:href|<script", text)


def test_diagram_has_colours_for_dark_pages():
    text = (ROOT / "docs/pictures/processes.svg").read_text()
    light, _, dark = text.partition("@media (prefers-color-scheme: dark)")
    classes = {name for names in re.findall(r'class="([^"]+)"', text) for name in names.split()} - {"thin"}
    for style in (light, dark):
        assert classes == set(
            re.findall(r"\.(\w+)", "".join(re.findall(r"\n +((?:\.\w+,? )+)\{ ", style)))
        ) - {"thin"}


def test_every_picture_in_a_document_has_words():
    silent = [
        path.name
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        if "![](" in path.read_text()
    ]
    assert [] == silent
    assert "docs/pictures/demo.svg" in {link.target for link in read((ROOT / "README.md").read_text()).links}


def test_terminal_picture_shows_what_was_printed_and_names_no_host(tmp_path):
    console = Console(width=40, record=True, file=io.StringIO())
    console.print("refused 44", style="red")
    terminal_picture(console, title="one line", words="A refusal", to=tmp_path / "made.svg")
    text = (tmp_path / "made.svg").read_text()
    assert "A refusal" == title(text)
    assert ["refused&#160;", "44"] == re.findall(r"<text[^>]*>([^<\s]+)</text>", text)[-2:]
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"https?://[^\"')\s<]+", text)
