"""
The auditor's report: one HTML page that prints, without scripts, pictures or anything from elsewhere.

The page is made as a tree of elements, which the standard library writes: a text cannot become anything but text, whatever a
partner wrote into a certificate. It is ASCII with character references, so that no encoding is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from cftpki_ext.core.escape import printable
from cftpki_ext.core.values import dataclass
from cftpki_ext.evidence import Row
from cftpki_ext.evidence.grouping import Group, answer_of
from cftpki_ext.support.version import version

_TITLE = "Verdicts on partners' certificates"
# Headings are printed anew on each page, and no row is cut in two. What is red or yellow has its word, too.
_STYLE = """
@page { size: A4 landscape; margin: 14mm 12mm; @bottom-right { content: counter(page) " / " counter(pages); } }
* { box-sizing: border-box; }
body { font: 10pt/1.35 sans-serif; color: #111; background: #fff; margin: 1.5em auto; max-width: 72em; padding: 0 1em; }
h1 { font-size: 16pt; margin: 0 0 .3em; }
h2 { font-size: 12pt; margin: 1.6em 0 .4em; break-after: avoid; }
table { border-collapse: collapse; width: 100%; }
thead { display: table-header-group; }
tr { break-inside: avoid; }
th, td { border-bottom: 1px solid #bbb; padding: .2em .5em .2em 0; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #444; }
td { overflow-wrap: anywhere; }
td.number { text-align: right; padding-right: 1.2em; white-space: nowrap; }
td.whole { white-space: nowrap; }
td.code { font-family: monospace; font-size: 8.5pt; }
tr.refused td.answer, p.broken { color: #a00; font-weight: bold; }
tr.warned td.answer { color: #850; }
p.note { border-left: 3px solid #850; padding-left: .6em; }
@media print { body { margin: 0; max-width: none; padding: 0; font-size: 8.5pt; } td.code { font-size: 7pt; } }
""".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What the report says. Times are RFC 3339.

    `faults` are breaks of the chain of records, `None` where it was not walked. `left_out` counts verdicts that were chosen and
    have no row of their own.
    """

    made_at: str
    window: str
    conditions: tuple[str, ...]
    remarks: tuple[str, ...]
    records: int
    reach: tuple[str, str] | None
    newest: str | None
    faults: tuple[str, ...] | None
    answers: tuple[tuple[str, int], ...]
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    left_out: int


def page(report: Report) -> bytes:
    """
    The report as an HTML page.

    Args:
        report: what it says; any text of it may be a stranger's.

    Returns:
        ASCII.

    """
    html = ET.Element("html", lang="en")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    # Whatever should get into it all the same loads and runs nothing.
    ET.SubElement(
        head,
        "meta",
        {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"},
    )
    ET.SubElement(head, "title").text = f"{_TITLE}, {report.window}"
    ET.SubElement(head, "style").text = _STYLE
    body = ET.SubElement(html, "body")
    ET.SubElement(body, "h1").text = _TITLE
    _scope(body, report)
    _totals(body, report)
    _partners(body, report.groups)
    _verdicts(body, report)
    written: bytes = ET.tostring(html, encoding="us-ascii", method="html")
    return b"<!DOCTYPE html>\n" + written + b"\n"


def _scope(body: ET.Element, report: Report) -> None:
    reach = "no records" if report.reach is None else f"{report.reach[0]} to {report.reach[1]}"
    facts = [
        ("window", report.window),
        ("chosen", "; ".join(report.conditions) or "all verdicts"),
        ("evidence", f"{report.records} records, {reach}"),
        ("newest record's hash", report.newest or "-"),
        ("report made", f"{report.made_at} by cftpki {version()}"),
    ]
    table = ET.SubElement(body, "table")
    rows = ET.SubElement(table, "tbody")
    for name, value in facts:
        row = ET.SubElement(rows, "tr")
        ET.SubElement(row, "th", scope="row").text = name
        _cell(row, value)
    if report.faults is None:
        _line(body, "The chain of records was not walked.", "note")
    elif not report.faults:
        _line(body, "The chain of records is whole: none was changed, removed or put elsewhere.", "whole")
    else:
        _line(body, f"The chain of records is broken in {len(report.faults)} places:", "broken")
        for fault in report.faults:
            _line(body, fault, "broken")
    for remark in report.remarks:
        _line(body, remark, "note")


def _totals(body: ET.Element, report: Report) -> None:
    rows = _table(body, f"Answers ({sum(count for _, count in report.answers)})", ("answer", "verdicts"))
    for answer, count in report.answers:
        row = ET.SubElement(rows, "tr", {"class": _class(answer)})
        _cell(row, answer, "answer")
        _cell(row, str(count), "number")


def _partners(body: ET.Element, groups: Sequence[Group]) -> None:
    headings = ("partner", "first", "last", "accepted", "refused", "warned", "by exception", "last answer")
    rows = _table(body, f"Partners ({len(groups)})", headings)
    for group in groups:
        row = ET.SubElement(rows, "tr", {"class": _class(group.last_answer)})
        _cell(row, group.name)
        _cell(row, group.first, "whole")
        _cell(row, group.last, "whole")
        for count in (group.accepted, group.refused, group.warned, group.excepted):
            _cell(row, str(count), "number")
        _cell(row, group.last_answer, "answer")


def _verdicts(body: ET.Element, report: Report) -> None:
    headings = ("time", "answer", "partner", "serial number", "address", "rule", "policy", "verdict")
    rows = _table(body, f"Verdicts ({len(report.rows)})", headings)
    for one in report.rows:
        row = ET.SubElement(rows, "tr", {"class": _class(answer_of(one))})
        _cell(row, one.at, "whole")
        _cell(row, answer_of(one), "answer")
        _cell(row, one.partner)
        _cell(row, one.serial or "", "code")
        _cell(row, one.remote or one.door)
        _cell(row, one.rule or "-")
        _cell(row, one.policy)
        _cell(row, one.id, "code")
    if report.left_out:
        _line(
            body,
            f"{report.left_out} more verdicts are counted above and not listed: `cftpki audit list --csv` has them all.",
            "note",
        )


def _table(body: ET.Element, title: str, headings: Iterable[str]) -> ET.Element:
    ET.SubElement(body, "h2").text = title
    table = ET.SubElement(body, "table")
    row = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for heading in headings:
        ET.SubElement(row, "th", scope="col").text = heading
    return ET.SubElement(table, "tbody")


def _cell(row: ET.Element, text: str, kind: str = "") -> None:
    ET.SubElement(row, "td", {"class": kind} if kind else {}).text = printable(text)


def _line(body: ET.Element, text: str, kind: str) -> None:
    ET.SubElement(body, "p", {"class": kind}).text = printable(text)


def _class(answer: str) -> str:
    if answer.startswith("refused"):
        return "refused"
    return "accepted" if answer == "accepted" else "warned"
