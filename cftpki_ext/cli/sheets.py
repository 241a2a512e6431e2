"""
CSV for spreadsheets (RFC 4180), on standard output in UTF-8, whatever the locale.

Owns the escaping of cells: what a partner wrote into a certificate must not be a formula in the auditor's spreadsheet.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable

from cftpki_ext.core.escape import printable

# What Excel, LibreOffice and Google Sheets take for the begin of a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Written at once: a record takes some 500 octets.
_WRITTEN_CHARACTERS = 1 << 16


def cell(value: object) -> str:
    """
    What is written for a value: nothing for `None`, no control characters, and an apostrophe before what would be a formula.

    Args:
        value: a number, a truth, or any text.

    Returns:
        The text; numbers of ours stay numbers.

    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    # Blanks before a formula do not keep every program from reading one.
    formula = text.lstrip(" ").startswith(_FORMULA)
    return f"'{printable(text)}" if formula else printable(text)


class Sheet:
    """
    Rows on standard output.

    Args:
        headings: the first row.

    """

    def __init__(self, headings: Iterable[str]) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._writer.writerow(headings)

    def add(self, values: Iterable[object]) -> None:
        """
        One row.
        """
        self._writer.writerow(map(cell, values))
        if self._text.tell() > _WRITTEN_CHARACTERS:
            self._write()

    def end(self) -> None:
        """
        Write what is left.
        """
        self._write()

    def _write(self) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(self._text.getvalue().encode())
        sys.stdout.buffer.flush()
        self._text.seek(0)
        self._text.truncate()
