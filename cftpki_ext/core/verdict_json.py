"""
The one JSON form of a verdict, used by every door and by what is stored.

Field names and nesting are those of `cftpki_ext.core.verdict`; times are RFC 3339 in UTC, enumerations their
values, what is absent is null. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cftpki_ext.core.forms import form_of
from cftpki_ext.core.verdict import Verdict


def prepare_verdicts() -> None:
    """
    Make what reads and writes verdicts, before the first is to be written.
    """
    form_of(Verdict)


def verdict_to_json(verdict: Verdict, *, indent: int | None = None, octets: int | None = None) -> str:
    """
    Write a verdict: whole, or without its evidence where a hostile chain made that too large.

    Args:
        verdict: any verdict.
        indent: spaces per level for a reader, or `None` for one line.
        octets: how long the text may be with its evidence; by default any length.

    Returns:
        JSON text. What a partner wrote into a certificate appears in it escaped, never raw.

    """
    text = form_of(Verdict).dump_json(verdict, indent=indent, ensure_ascii=True, by_alias=True).decode()
    if octets is None or len(text) <= octets:
        return text
    evidence = replace(verdict.evidence, path=(), faults=(), findings=(), notes=("too long",))
    return verdict_to_json(replace(verdict, evidence=evidence), indent=indent)


def verdict_to_data(verdict: Verdict) -> dict[str, Any]:
    """
    The same form as plain data, to be put into a larger document.

    Args:
        verdict: any verdict.

    Returns:
        Dictionaries, lists, strings, numbers, booleans and `None`.

    """
    data: dict[str, Any] = form_of(Verdict).dump_python(verdict, mode="json", by_alias=True)
    return data


def verdict_from_json(text: str | bytes) -> Verdict:
    """
    Read a verdict back.

    Args:
        text: what `verdict_to_json` wrote.

    Returns:
        The same verdict.

    Raises:
        ValueError: anything else.

    """
    verdict: Verdict = form_of(Verdict).validate_json(text)
    return verdict
