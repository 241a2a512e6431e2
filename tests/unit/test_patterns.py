"""
Patterns of the product match the same with every Python that it runs on.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A possessive quantifier behind a group: before Python 3.11.5 it matches what is not there (python/cpython#106052).
FAULTY = re.compile(r"\)(?:[*+?]|\{[^}\n]*\})\+")


def faulty(text):
    return [found.group() for found in FAULTY.finditer(text)]


def test_possessive_quantifiers_stand_behind_single_characters_only():
    assert [")*+", "){1,%d}+"] == faulty('rb"(?:ab?c)*+"; b"(?:x){1,%d}+"')
    assert [] == faulty(r'"[^x]*+(?>(?:ab?c)*)(?:a)+b"')
    found = {
        path.relative_to(ROOT): faulty(path.read_text())
        for folder in ("cftpki_ext", "connectors", "cache")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert {} == {path: patterns for path, patterns in found.items() if patterns}
