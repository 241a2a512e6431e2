"""
The first page: whether all is well, and if not, why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cftpki_ext.console.blocks import (
    Block,
    Cell,
    Facts,
    Mark,
    Note,
    Page,
    Table,
    Text,
    answer_cell,
    at_cell,
    number,
    partner_link,
    verdict_link,
)
from cftpki_ext.console.views.cluster import cluster_cell

_ORDER = ("fail", "warn", "note", "ok")
_FAULTS = 20
_LEADS = {
    "fail": (Mark.FAIL, "Red: partners are refused, or would be"),
    "warn": (Mark.WARN, "Yellow: nobody is refused for it yet; look at the warnings"),
    "ok": (Mark.OK, "Green: nothing found that refuses partners"),
}


def now_page(
    *,
    service: Sequence[Mapping[str, Any]],
    status: Mapping[str, Any] | None,
    health: Mapping[str, Any] | None,
    trouble: str | None,
    show_all: bool,
) -> Page:
    """
    What whoever is on call sees first.

    Args:
        service: findings on the service, just now.
        status: the service's own word, `None` where it does not answer.
        health: what was found on this machine.
        trouble: why that could not be looked at.
        show_all: what is well, too.

    Returns:
        The page.

    """
    findings = [*service, *_configuration(health), *(health or {}).get("findings", ())]
    if trouble is not None:
        findings.append(
            _finding("fail", "state directory", "look", trouble, "run the console as the service's user")
        )
    findings.sort(key=lambda one: _ORDER.index(one["level"]))
    counts = Counter(one["level"] for one in findings)
    worst = next((level for level in ("fail", "warn") if counts[level]), "ok")
    mark, words = _LEADS[worst]
    reasons = tuple(f"{one['about']}: {one['detail']}" for one in findings if one["level"] == worst != "ok")
    shown = [one for one in findings if show_all or one["level"] != "ok"]
    blocks: list[Block] = [
        Facts(pairs=tuple(_facts(status, health))),
        Table(
            caption="Findings, the worst first",
            headings=("level", "about", "what", "found", "do"),
            rows=tuple(map(_row, shown)),
            empty="nothing but what is well",
        ),
        Text(
            text=", ".join(f"{counts[level]} {level}" for level in _ORDER)
            + ". As cftpki doctor finds it, without asking the CAs.",
            link=None if show_all else Cell(text="show what is well, too", href="/?all=1"),
        ),
    ]
    refused = (health or {}).get("refused", ())
    blocks.append(
        Table(
            caption="Refused last",
            headings=("time", "answer", "partner", "rule", "from"),
            rows=tuple(verdict_row(one) for one in refused),
            empty="nobody among the newest records",
        )
    )
    return Page(
        title="Now",
        here="/",
        lead=Note(mark=mark, text=words, more=reasons[:5]),
        blocks=tuple(blocks),
        at=(health or {}).get("at"),
    )


def verdict_row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    """
    One verdict under time, answer, partner, rule, from.
    """
    return (
        Cell(text=one["at"], is_time=True, href=verdict_link(one["id"])),
        answer_cell(one["answer"]),
        Cell(text=one["partner"] or "(empty subject)", href=partner_link(one["fingerprint"])),
        Cell(text=one["rule"] or "-"),
        Cell(text=one["from"]),
    )


def _configuration(health: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    config = (health or {}).get("config")
    if config is None or config["ok"]:
        return []
    if config["ok"] is None:
        detail = f"this user cannot say whether it is sound: {'; '.join(config['faults'][:3])}"
        return [_finding("note", "configuration", "file", detail, "run the console as the service's user")]
    faults = config["faults"]
    more = f"; and {len(faults) - _FAULTS} more" if len(faults) > _FAULTS else ""
    detail = f"the service could not begin with it: {'; '.join(faults[:_FAULTS])}{more}"
    return [_finding("fail", "configuration", "file", detail, "cftpki config check")]


def _finding(level: str, about: str, check: str, detail: str, action: str) -> dict[str, Any]:
    return {"level": level, "about": about, "check": check, "detail": detail, "action": action}


def _row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(text=one["level"], mark=Mark(one["level"])),
        Cell(text=one["about"]),
        Cell(text=one["check"]),
        Cell(text=one["detail"]),
        Cell(text=one["action"] or "-"),
    )


def _facts(status: Mapping[str, Any] | None, health: Mapping[str, Any] | None) -> list[tuple[str, Cell]]:
    if status is None:
        found = [("service", Cell(text="does not answer", mark=Mark.FAIL))]
    else:
        found = [
            ("service", Cell(text="answers", mark=Mark.OK)),
            ("version", Cell(text=str(status.get("version", "-")))),
            ("runs for", Cell(text=_span(status.get("uptime_s")))),
            ("sessions now", number(status.get("sessions"))),
        ]
        verdicts = status.get("verdicts")
        if isinstance(verdicts, Mapping):
            found += [
                ("accepted since the start", number(verdicts.get("accepted"))),
                ("refused since the start", number(_sum(verdicts.get("refused")))),
                ("only audited", number(_sum(verdicts.get("would_be_refused")))),
            ]
        sources = status.get("sources")
        if isinstance(sources, Mapping) and "down" in sources:
            down = sources["down"]
            found.append(
                (
                    "sources down",
                    Cell(
                        text=f"{down} of {sources.get('known')}",
                        mark=Mark.WARN if down else Mark.OK,
                        href="/sources",
                    ),
                )
            )
        cluster = status.get("cluster")
        if isinstance(cluster, Mapping):
            found.append(("cluster", cluster_cell(cluster, href="/cluster")))
    if health is not None:
        found.append(("records of the last 7 days", number(health.get("records"))))
        found.append(("looked at", at_cell(health.get("at"))))
    return found


def _sum(value: object) -> object:
    return sum(value.values()) if isinstance(value, Mapping) else value


def _span(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    minutes = int(seconds) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
