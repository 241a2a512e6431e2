"""
What the stores hold, chosen and paged as plain data: partners, verdicts, identities.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.core.errors import InputError, StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import CertificateFinding
from cftpki_ext.doctor import Finding
from cftpki_ext.evidence import Door, Row, decode
from cftpki_ext.evidence.choosing import Choice, Chooser, partner_term
from cftpki_ext.evidence.grouping import answer_of
from cftpki_ext.identity.renewal.overview import generation_data
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.looking.explained import (
    certificate_lines,
    detail_of,
    facts_of,
    fault_cells,
    headline_of,
    source_cells,
    verdict_facts,
)
from cftpki_ext.looking.partners import NoPartnerError, Overview, Standing
from cftpki_ext.looking.records import find, place_of, read_rows
from cftpki_ext.service.monitoring.exceptions import rows_with_end
from cftpki_ext.service.renewals import make_manager, managed
from cftpki_ext.stores import stored_evidence

# Of one partner, and of those that were refused last.
PARTNERS_VERDICTS, REFUSED = 50, 10
GENERATIONS = 12
# A page that is looked at, not printed.
PAGE = 50
ENDING = timedelta(days=30)
CHARACTERS = 200
# Of a text, in the lists that are searched.
_KEPT = 1024
FILTERS = ("all", "accepted", "refused", "blocked", "excepted", "ending")
ANSWERS = ("all", "refused", "warned", "exception")


def finding_data(one: Finding) -> dict[str, Any]:
    """
    A finding as plain data.
    """
    return {
        "level": one.level.name.lower(),
        "about": one.about,
        "check": one.check,
        "detail": one.detail,
        "action": one.action,
    }


def rows(service: ServiceSettings, most: int) -> tuple[Row, ...]:
    """
    The rows of the newest records, the newest first; none where there is no evidence yet.

    Args:
        service: where the evidence is.
        most: how many records.

    Returns:
        The rows; a text of thousands of characters is cut, the page of its verdict has it whole.

    """
    ledger = stored_evidence(service)
    if ledger is None:
        return ()
    with contextlib.closing(ledger):
        found = [_cut(row) for row in read_rows(ledger.newest(most), ledger, tell=lambda _: None)]
    return tuple(reversed(found))


def _cut(row: Row) -> Row:
    if len(row.partner) <= _KEPT and len(row.summary) <= _KEPT:
        return row
    return replace(row, partner=row.partner[:_KEPT], summary=row.summary[:_KEPT])


def row_data(row: Row) -> dict[str, Any]:
    """
    One verdict in a list. What is long is cut: its own page has it whole.
    """
    return {
        "id": row.id,
        "at": row.at,
        "answer": answer_of(row),
        "partner": row.partner[:CHARACTERS],
        "fingerprint": row.fingerprint,
        "rule": row.rule,
        "policy": row.policy,
        "from": row.remote or row.door,
    }


def newest_refused(found: Sequence[Row]) -> list[dict[str, Any]]:
    """
    The newest refusals of partners that came.
    """
    refused = (row for row in found if row.refused and row.door != Door.REFRESH.value)
    return [row_data(row) for row, _ in zip(refused, range(REFUSED), strict=False)]


def rows_of_partner(found: Sequence[Row], fingerprint: str) -> list[dict[str, Any]]:
    """
    The newest verdicts on one certificate.
    """
    theirs = (row for row in found if row.fingerprint == fingerprint)
    return [row_data(row) for row, _ in zip(theirs, range(PARTNERS_VERDICTS), strict=False)]


def verdict_page(service: ServiceSettings, found: Sequence[Row], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    The verdicts that fit what was asked for, one page of them.

    Args:
        service: where the evidence is, which names of partners are compared with.
        found: from `rows`.
        given: `q` a partner as `audit list --partner` takes it, `answer` one of `ANSWERS`, `page` from 1.

    Returns:
        Plain data.

    """
    choice = Choice(
        refused=given["answer"] == "refused",
        warned=given["answer"] == "warned",
        exception=given["answer"] == "exception",
        partners=(partner_term(given["q"]),) if given["q"] else (),
    )
    ledger = stored_evidence(service) if found else None
    with contextlib.ExitStack() as opened:
        if ledger is not None:
            opened.callback(ledger.close)
        chooser = Chooser(choice, (lambda _: None) if ledger is None else ledger.blob)
        chosen = [row for row in found if chooser.wants(row)]
    first = (given["page"] - 1) * PAGE
    return {
        "rows": [row_data(row) for row in chosen[first : first + PAGE]],
        "chosen": len(chosen),
        "page": given["page"],
        "pages": max(1, -(-len(chosen) // PAGE)),
        "looked": len(found),
        "oldest": found[-1].at if found else None,
    }


def verdict_data(service: ServiceSettings, verdict_id: str) -> dict[str, Any]:
    """
    One verdict as `cftpki explain` shows it.

    Args:
        service: where the evidence is.
        verdict_id: an id, its beginning, or a global area.

    Returns:
        Plain data, in words.

    Raises:
        InputError: this is no id.
        StoreError: the record cannot be read.

    """
    ledger = stored_evidence(service)
    if ledger is None:
        msg = "there is no evidence yet"
        raise InputError(msg)
    with contextlib.closing(ledger):
        entry = find(ledger, verdict_id)
        record = decode(entry.document, ledger.blob)
    verdict = record.verdict
    evidence = verdict.evidence
    known = () if evidence.directory is None else (evidence.directory,)
    answer, alert = headline_of(verdict)
    return {
        "id": verdict.id,
        "answer": answer,
        "alert": alert,
        "fingerprint": evidence.path[0].fingerprint if evidence.path else None,
        "facts": [list(pair) for pair in (*verdict_facts(verdict), *facts_of(record, entry))],
        "faults": [list(fault_cells(one)) for one in evidence.faults],
        "certificates": [
            {
                "subject": one.subject,
                "lines": list(certificate_lines(one)),
                "statuses": [_status(each) for each in (*evidence.findings, *known) if each.depth == depth],
            }
            for depth, one in enumerate(evidence.path)
        ],
        "place": place_of(entry),
    }


def _status(finding: CertificateFinding) -> dict[str, Any]:
    return {
        "status": finding.status.value,
        "detail": detail_of(finding),
        "sources": [list(source_cells(source)) for source in finding.sources],
    }


def partner_of(seen: Overview, fingerprint: str) -> Standing:
    """
    The partner with a fingerprint.

    Raises:
        NoPartnerError: nobody that was seen has it.

    """
    for one in seen.partners:
        if one.row.fingerprint == fingerprint:
            return one
    msg = f"no partner that was seen has the fingerprint {printable(fingerprint)}"
    raise NoPartnerError(msg)


def partner_page(seen: Overview, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """
    The partners that fit what was asked for, one page of them.

    Args:
        seen: all that is known.
        given: `q` a part of a name, fingerprint, rule or trust set, `show` one of `FILTERS`, `page` from 1.
        now: the time.

    Returns:
        Plain data.

    """
    counts: Counter[str] = Counter()
    chosen = []
    wanted = given["q"].casefold().strip()
    digits = wanted.replace(":", "").replace(" ", "")
    for one in seen.partners:
        words = _words(one, now)
        counts.update(words)
        if given["show"] not in words:
            continue
        row = one.row
        names = (row.subject, row.serial or "", row.rule or "", row.trust or "")
        if wanted and not (
            any(wanted in name.casefold() for name in names)
            or (digits and row.fingerprint.startswith(digits))
        ):
            continue
        chosen.append(one)
    first = (given["page"] - 1) * PAGE
    return {
        "rows": [_partner_row(one, now) for one in chosen[first : first + PAGE]],
        "counts": dict(counts),
        "chosen": len(chosen),
        "page": given["page"],
        "pages": max(1, -(-len(chosen) // PAGE)),
        "looked": seen.records,
        "oldest": _text(seen.oldest),
        "let_go": seen.let_go,
    }


def _words(one: Standing, now: datetime) -> set[str]:
    """
    Under which of `FILTERS` a partner is.
    """
    row, words = one.row, {"all"}
    words.add("accepted" if row.status == "accepted" else "refused")
    if any(each.holds(now) for each in one.blocks):
        words.add("blocked")
    if any(now < each.until for _, each in one.exceptions):
        words.add("excepted")
    if row.ends is not None and row.ends - now < ENDING:
        words.add("ending")
    return words


def _partner_row(one: Standing, now: datetime) -> dict[str, Any]:
    row = one.row
    return {
        "subject": row.subject[:CHARACTERS],
        "fingerprint": row.fingerprint,
        "at": _text(row.last_at),
        "status": row.status,
        "reason": row.reason,
        "alert": row.alert,
        "ends": _text(row.ends),
        "rule": row.rule,
        "verdicts": row.verdicts,
        "words": sorted(_words(one, now)),
    }


async def identities(settings: Settings) -> dict[str, Any]:
    """
    How our own certificates stand, each with its newest generations.

    Args:
        settings: the configuration.

    Returns:
        Plain data. No key is in it.

    """
    found = []
    async with contextlib.aclosing(
        make_manager(settings, clock=SystemClock(), event=_quiet, look_only=True)
    ) as manager:
        for row in await manager.rows():
            found.append(row.data() | {"generations": [], "damaged": []})
            identity = managed(settings).get(row.name)
            if identity is None:
                continue
            site = site_of(settings.service.state, identity)
            try:
                current = site.generations.pointer()
                numbers = sorted(site.generations.numbers())[-GENERATIONS:]
            except (StoreError, OSError):
                continue  # the row says so
            for number in numbers:
                try:
                    one = site.generations.read(number)
                except (StoreError, OSError) as error:
                    found[-1]["damaged"].append(str(error))
                    continue
                found[-1]["generations"].append(
                    generation_data(one) | {"in_force": current == f"generations/{one.path.name}"}
                )
    return {"identities": found}


def _quiet(event: str, **fields: object) -> None:
    """
    Looking makes no history.
    """


def ending_rows(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """
    The rows of policies that hold for a while.
    """
    return [
        {"policy": name, "cause": cause, "action": action, "until": _text(until), "in_force": now < until}
        for until, name, cause, action in rows_with_end(settings)
    ]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
