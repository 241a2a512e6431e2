"""
What the documentation names is there: commands, files, links, decisions.
"""

import re
import subprocess
from pathlib import Path

import click
import pytest

from cftpki_ext.cli import main
from cftpki_ext.cli.program import Later
from documents.links import faults

ROOT = Path(__file__).parents[2]
# What git knows, so that nothing unpacked beside it is read.
KNOWN = frozenset(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
)
DOCUMENTS = sorted(path for path in KNOWN if path.suffix == ".md")
# The program, and not the user (-u) or group (-G) of that name.
_COMMAND = re.compile(r"(?<!-u )(?<!-G )(?<![\w.-])cftpki ([a-z][a-z-]*(?: [a-z][a-z-]*)?)")


def itself(command):
    return command.load() if isinstance(command, Later) else command


def commands(group, prefix=""):
    """
    Every command and subcommand, by its words.
    """
    found = set()
    for name, entry in group.commands.items():
        command = itself(entry)
        found.add(prefix + name)
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
    return found


def test_readmes_command_list_is_that_of_the_program():
    text = (ROOT / "README.md").read_text()
    block = text.partition("<!-- commands:")[2].partition("<!-- end of commands -->")[0]
    listed = re.findall(r"^\| `cftpki ([a-z-]+)` \|", block, re.MULTILINE)
    assert sorted(main.commands) == listed


def test_links_of_every_document_lead_to_files_and_headings():
    assert [] == list(faults(ROOT, DOCUMENTS, known=KNOWN))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_a_document_shows_exist(document):
    """
    In code only: in prose "cftpki" is followed by any verb.
    """
    text = document.read_text()
    code = "\n".join(re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    code += "\n" + "\n".join(f"`{inline}`" for inline in re.findall(r"`([^`\n]+)`", text))
    known = commands(main)
    shown = set(_COMMAND.findall(code))
    # A command's first argument may look like a subcommand: then its first word must be a command without any.
    wrong = {
        words
        for words in shown
        if words not in known
        and (
            words.split()[0] not in known or isinstance(itself(main.commands[words.split()[0]]), click.Group)
        )
    }
    assert set() == wrong


def test_every_document_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    names = {path.name for path in DOCUMENTS if path.parent == ROOT / "docs"} - {"README.md"}
    assert set() == {name for name in names if f"]({name})" not in index}


def test_every_decision_is_in_the_list_and_has_a_number_of_its_own():
    index = (ROOT / "docs/adr/README.md").read_text()
    names = [path.name for path in DOCUMENTS if path.parent == ROOT / "docs/adr" and path.name != "README.md"]
    assert [] == [name for name in names if f"]({name})" not in index]
    numbers = [name[:4] for name in names]
    assert sorted(set(numbers)) == numbers


def test_make_targets_that_documents_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target for document in DOCUMENTS for target in re.findall(r"`make ([a-z-]+)", document.read_text())
    }
    assert named
    assert set() == named - targets
