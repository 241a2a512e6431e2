"""
The folder that the site is built from: pages by reader, links between them, the reference of the program.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cftpki_ext.cli import main
from documents.reference import command_reference, key_reference
from documents.site import foreign_resources, lay_out

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "source"
    lay_out(ROOT, folder)
    return folder


def test_every_document_is_a_page_of_the_navigation(source):
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (source / "index.md").read_text(), re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages | {"adr/README", "commands/cftpki", "configuration-keys"} == {
        name for name in listed if not name.startswith("project/")
    }


def test_navigation_has_a_part_for_each_reader(source):
    captions = re.findall(r":caption: (.+)", (source / "index.md").read_text())
    assert [
        "Administrators",
        "Operators",
        "Auditors",
        "PKI engineers",
        "Developers",
        "Reference",
    ] == captions


def made(tmp_path, text):
    """
    A page of a small repository, as it is laid out.
    """
    for name, content in {
        "docs/README.md": "# Front\n\n## Readers\n\n* [page](page.md): it\n",
        "docs/page.md": text,
        "docs/adr/README.md": "# Decisions\n",
        "docs/adr/0001-first.md": "# First\n",
        "deploy/unit/one.service": "[Unit]\n",
        "README.md": "",
        "CHANGELOG.md": "",
        "CONTRIBUTING.md": "",
        "SECURITY.md": "[back](docs/page.md#part)\n",
    }.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return path.parents[0]


@pytest.mark.parametrize(
    ("written", "laid_out"),
    [
        ("[a](adr/0001-first.md#x)", "[a](adr/0001-first.md#x)"),
        ("[0001-first.md](adr/0001-first.md)", "[First](adr/0001-first.md)"),
        ("[`a`](adr/)", "[`a`](adr/README.md)"),
        ("[a](../SECURITY.md)", "[a](project/SECURITY.md)"),
        ("[a](../README.md)", "[a](index.md)"),
        ("[a](../deploy/unit/one.service)", "[a](files/deploy/unit/one.service)"),
        ("[`a` b](../deploy/unit)", "`a` b"),
        ("[a](https://ca.example/) [b](#part)", "[a](https://ca.example/) [b](#part)"),
        ("`[a](../deploy/unit)`", "`[a](../deploy/unit)`"),
        ("```\n[a](../deploy/unit)\n```", "```\n[a](../deploy/unit)\n```"),
    ],
)
def test_links_of_a_page_lead_to_pages_or_files_of_the_site(tmp_path, monkeypatch, written, laid_out):
    monkeypatch.setattr("documents.site.key_reference", lambda _: iter(()))
    monkeypatch.setattr("documents.site.command_reference", lambda: iter(()))
    root = made(tmp_path, written)
    lay_out(root, tmp_path / "source")
    assert laid_out == (tmp_path / "source/page.md").read_text()
    assert "[back](../page.md#part)\n" == (tmp_path / "source/project/SECURITY.md").read_text()
    assert (tmp_path / "source/files/deploy/unit/one.service").exists() == ("files/" in laid_out)


def test_reference_has_a_page_for_every_command():
    pages = dict(command_reference())
    assert {f"commands/cftpki-{name}.md" for name in main.commands} | {"commands/cftpki.md"} == set(pages)
    assert "## cftpki audit verify" in pages["commands/cftpki-audit.md"].splitlines()
    assert "`the number of a TLS alert`" in pages["commands/cftpki-check.md"]
    assert "`the number of a TLS alert`" not in pages["commands/cftpki-audit.md"]


def test_reference_of_keys_gives_type_default_and_meaning():
    ((name, text),) = key_reference(ROOT / "docs")
    assert "configuration-keys.md" == name
    row = next(line for line in text.splitlines() if line.startswith("| `board_bytes`"))
    assert row.startswith('| `board_bytes` | size, 1MiB to 64GiB | `"64MiB"` | what hosts may know')
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert r'## \[enroller.NAME\] type = "acme"' in headings


def test_what_a_page_gets_from_another_host_is_named(tmp_path):
    (tmp_path / "page.html").write_text(
        '<a href="https://ca.example/">x</a><script src="own.js"></script>'
        '<link rel="stylesheet" href="https://fonts.example/f.css"><img src="//pictures.example/p.png">'
    )
    (tmp_path / "own.css").write_text(
        "a { background: url(https://pictures.example/q.png); } b { c: url(d.png) }"
    )
    assert [
        "own.css: https://pictures.example/q.png",
        "page.html: https://fonts.example/f.css",
        "page.html: //pictures.example/p.png",
    ] == list(foreign_resources(tmp_path))
