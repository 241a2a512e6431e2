"""
A verdict in words: its headline, its facts, its faults, and what each source said; for terminals and pages alike. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.verdict import CertificateFinding, Fault, PathEntry, SourceFinding, Verdict

if TYPE_CHECKING:  # who judges one chain loads no evidence (docs/adr/0030-start-up.md)
    from cftpki_ext.evidence import Record
    from cftpki_ext.ports.evidence import LedgerEntry

FAULT_HEADINGS = ("depth", "fault", "rule", "detail")
SOURCE_HEADINGS = ("status", "source", "from", "age", "next update", "detail")


def headline_of(verdict: Verdict) -> tuple[str, str]:
    """
    The answer in one word, and the alert with its name where one is sent.
    """
    if verdict.accepted:
        return "ACCEPTED", ""
    try:
        name = Alert(verdict.alert).name.lower()
    except ValueError:
        name = "alert"
    return "REFUSED", f"{verdict.alert} {name}"


def verdict_facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """
    Names and values of what a verdict says of the whole chain; what is empty is left out.
    """
    evidence = verdict.evidence
    facts = (
        ("reason", verdict.summary),
        ("rule", evidence.rule),
        ("trust", evidence.trust),
        ("policy", evidence.policy),
        ("decided", evidence.decided_at.isoformat(timespec="seconds")),
        ("verdict", verdict.id),
        *(("warning", warning) for warning in verdict.warnings),
        *(("note", note) for note in evidence.notes if note not in verdict.warnings),
    )
    for name, value in facts:
        if value:
            yield name, str(value)


def fault_cells(fault: Fault) -> tuple[str, ...]:
    """
    One broken rule under `FAULT_HEADINGS`.
    """
    depth = "-" if fault.depth is None else str(fault.depth)
    return depth, fault.reason.value, fault.rule, fault.detail


def detail_of(one: CertificateFinding | SourceFinding) -> str:
    """
    Why a status was not established, and what is to be said of it.
    """
    return ": ".join(filter(None, (one.cause and one.cause.value, one.detail)))


def source_cells(source: SourceFinding) -> tuple[str, ...]:
    """
    What one source said, under `SOURCE_HEADINGS`.
    """
    detail = detail_of(source)
    if source.revoked_at is not None:
        reason = f" ({source.revocation_reason})" if source.revocation_reason else ""
        detail = f"revoked {source.revoked_at.isoformat(timespec='seconds')}{reason} {detail}".strip()
    place = source.origin.value if source.url is None else f"{source.origin.value} {source.url}"
    age = "" if source.age_s is None else f"{source.age_s} s"
    until = "" if source.next_update is None else source.next_update.isoformat(timespec="seconds")
    return source.status.value, source.kind.value, place, age, until, detail


def facts_of(record: Record, place: LedgerEntry) -> Iterator[tuple[str, str]]:
    """
    Who asked, what was presented, and where the record is: names and values.
    """
    asked, question = record.asked, record.question
    who = [f"by {asked.door.value}", f"our side {question.direction.value}"]
    if asked.remote:
        who.append(f"partner's address {asked.remote} port {asked.remote_port}")
    if asked.port:
        who.append(f"port {asked.port}")
    if asked.profile:
        who.append(f"profile {asked.profile}")
    if asked.host_task is not None:
        who.append(f"host's task {asked.host_task} session {asked.host_session}, in the log {asked.session}")
    yield "asked", ", ".join(who)
    message = f", a message of {len(question.message)} bytes" if question.message is not None else ""
    yield "chain", f"{len(question.chain)} certificates presented{message}"
    yield "record", f"{place.seq}, kept {_when(place.kept_at)}, hash {place.hash}"


def certificate_lines(entry: PathEntry) -> tuple[str, ...]:
    """
    One certificate of the judged path, in lines.
    """
    return (
        f"issuer {entry.issuer}",
        f"serial {entry.serial}, valid {_when(entry.not_before)} to {_when(entry.not_after)}",
        f"sha256 {entry.fingerprint}",
    )


def status_lines(finding: CertificateFinding) -> Iterator[str]:
    """
    What every source said of one certificate, in lines.
    """
    cause = f" ({finding.cause.value})" if finding.cause else ""
    yield f"status {finding.status.value}{cause}: {finding.detail}"
    for source in finding.sources:
        yield from _source(source)


def _source(source: SourceFinding) -> Iterator[str]:
    cause = f" ({source.cause.value})" if source.cause else ""
    yield f"  {source.kind.value}, {source.origin.value}, {source.url or 'no location'}: {source.status.value}{cause} {source.detail}".rstrip()
    if source.this_update is not None:
        age = "" if source.age_s is None else f", {source.age_s} s old"
        yield f"    this update {_when(source.this_update)}, next update {_when(source.next_update)}{age}"
    if source.revoked_at is not None:
        yield f"    revoked {_when(source.revoked_at)} {source.revocation_reason or ''}".rstrip()
    if source.responder is not None:
        yield f"    signed by {source.responder}"
    if source.digest is not None:
        yield f"    sha256 {source.digest}"
    if source.elapsed_ms:
        yield f"    took {source.elapsed_ms} ms"


def _when(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
