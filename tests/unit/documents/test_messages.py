"""
Messages that a document explains are those of the program.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONNECTORS = ROOT / "connectors" / "cftpki_connectors"
HEADING = "## When it does not work\n"
# What a document leaves out, and where it has a number for what the program fills in.
_GAPS = re.compile(r"…|\b\d{3}\b")


def texts(*folders):
    """
    The texts in the code of some folders; a gap stands where an f-string has a value.
    """
    found = []
    for folder in folders:
        for file in sorted((CONNECTORS / folder).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (one.value if isinstance(one, ast.Constant) else "\0" for one in node.values)
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\1".join(found)


def explained(page):
    """
    The messages in the first column of the page's last table.
    """
    (table,) = (ROOT / "docs" / page).read_text("utf-8").split(HEADING)[1:]
    rows = re.findall(r"^\| (.*?) \|", table.split("\n## ")[0], re.MULTILINE)
    return [message for row in rows for message in re.findall("`([^`]+)`", row)]


@pytest.mark.parametrize(("page", "folders"), [("enroll-scep.md", ("scep", "ca", "support"))])
def test_messages_that_a_document_explains_are_in_the_code(page, folders):
    code, messages = texts(*folders), explained(page)

    assert len(messages) > 10
    assert [] == [
        (message, part)
        for message in messages
        for part in map(str.strip, _GAPS.split(message))
        if part not in code
    ]
