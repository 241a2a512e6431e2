"""
The document of the folders, against the folders: what it names is there, and nothing that is there is missing.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs/architecture.md").read_text()
# A table row whose first cell is in backticks: one or several paths.
ROWS = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", TEXT, re.MULTILINE)
NAMED = {path for row in ROWS for path in re.findall(r"`([^`]+)`", row)}


def test_every_folder_and_file_of_the_package_has_a_row():
    package = REPOSITORY / "cftpki_ext"
    folders = {f"cftpki_ext/{one.parent.name}/" for one in package.glob("*/__init__.py")}
    files = {f"cftpki_ext/{one.name}" for one in package.glob("*.py") if one.name != "__init__.py"}
    assert folders | files == {path for path in NAMED if path.startswith("cftpki_ext/")}


def test_every_path_that_is_named_is_there():
    paths = NAMED | set(re.findall(r"`((?:cftpki_ext|connectors|cache|native|tests)/[\w/.]+)`", TEXT))
    assert set() == {path for path in paths if not (REPOSITORY / path).exists()}


def test_floors_are_those_of_the_contracts():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    names = {"cftpki_connectors": "connectors", "cftpki_cache": "cache"}

    def floor(layer: str) -> list[str]:
        found = [one.strip().removeprefix("cftpki_ext.") for one in layer.split("|")]
        return [names.get(one, one) for one in found]

    held = [floor(layer) for layer in contracts[0]["layers"]]
    told = next(block for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL) if block.startswith("cli\n"))
    assert held == [[one.strip() for one in line.split("|")] for line in told.splitlines()]


def test_first_line_of_every_module_says_something():
    silent = [
        str(path.relative_to(REPOSITORY))
        for folder in ("cftpki_ext", "connectors", "cache")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        if not re.match(r'"""\n\S[^\n]{8,}', path.read_text())
    ]
    assert [] == silent


def test_file_of_more_than_400_lines_says_why_it_stays_whole():
    silent = [
        str(path.relative_to(REPOSITORY))
        for folder in ("cftpki_ext", "connectors", "cache", "native", "tests", "bench", "examples")
        for path in sorted((REPOSITORY / folder).rglob("*"))
        if path.suffix in {".py", ".c", ".h", ".cpp"}
        and len(lines := path.read_text().splitlines()) > 400
        and "More than 400 lines: " not in "\n".join(lines[:40])
    ]
    assert [] == silent
