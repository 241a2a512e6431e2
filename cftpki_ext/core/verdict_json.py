"""
The one JSON form of a verdict, used by every door and by what is stored.

Field names and nesting are those of `cftpki_ext.core.verdict`; times are RFC 3339 in UTC, enumerations their
values, what is absent is null. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cftpki_ext.core.forms import form_of
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import CertificateFinding, Verdict


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
    evidence = replace(verdict.evidence, path=(), faults=(), findings=(), directory=None, notes=("too long",))
    return verdict_to_json(replace(verdict, evidence=evidence), indent=indent)


def _moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


# What stands in the text where something else is to be written; ages in the order in which they come.
_MARKED_ID = "0" * 32
_MARKED_AT = datetime(9999, 12, 31, 23, 59, 58, 999_999, tzinfo=UTC)
_MARKED_AGE = 8_999_999_999_999_000_000
_MARK = re.compile(f"{_MARKED_ID}|{_moment(_MARKED_AT)}|8999999999999[0-9]{{6}}")
_ID = re.compile("[0-9a-f]{32}")


class VerdictText:
    """
    The text of a verdict that is given again and again, each time with another id, time and ages.

    Args:
        verdict: any.

    """

    def __init__(self, verdict: Verdict) -> None:
        evidence = verdict.evidence
        number = iter(range(_MARKED_AGE, _MARKED_AGE + 1_000_000))
        marked = replace(
            verdict,
            id=_MARKED_ID,
            evidence=replace(
                evidence,
                decided_at=_MARKED_AT,
                findings=_marked(evidence.findings, number),
                beside=_marked(evidence.beside, number),
            ),
        )
        text = verdict_to_json(marked)
        expected = [_MARKED_ID, _moment(_MARKED_AT), *map(str, _ages(marked))]
        found = _MARK.findall(text)
        # Somebody may have written what looks like a mark into a certificate.
        self._usable = sorted(expected) == sorted(found)
        self._pieces = _MARK.split(text)
        self._places = tuple(expected.index(one) for one in found) if self._usable else ()
        self.octets = 2 * len(text)

    def of(self, verdict: Verdict) -> str | None:
        """
        The text of the verdict as it is given now.

        Args:
            verdict: but for id, time and ages the one of which this was made.

        Returns:
            What `verdict_to_json` would write; `None` where that has to be asked.

        """
        if not self._usable or _ID.fullmatch(verdict.id) is None:
            return None
        values = (verdict.id, _moment(verdict.evidence.decided_at), *map(str, _ages(verdict)))
        if len(values) != len(self._places):
            return None
        parts = [self._pieces[0]]
        for place, piece in zip(self._places, self._pieces[1:], strict=True):
            parts += (values[place], piece)
        return "".join(parts)


def _ages(verdict: Verdict) -> list[int]:
    evidence = verdict.evidence
    return [
        source.age_s
        for finding in (*evidence.findings, *evidence.beside)
        for source in finding.sources
        if source.age_s is not None
    ]


def _marked(findings: Sequence[CertificateFinding], number: Iterator[int]) -> tuple[CertificateFinding, ...]:
    return tuple(
        replace(
            one,
            sources=tuple(
                source if source.age_s is None else replace(source, age_s=next(number))
                for source in one.sources
            ),
        )
        for one in findings
    )


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
