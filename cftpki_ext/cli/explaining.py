"""
One stored verdict for a person: what was asked, by whom, and every source with its times and bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cftpki_ext.cli.render import Text, console, show_verdict
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.verdict import CertificateFinding, SourceFinding
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.evidence import Record
from cftpki_ext.ports import LedgerEntry

_SUFFIXES = {SourceKind.OCSP: "ocsp.der", SourceKind.CRL: "crl.der", SourceKind.REST: "rest.json"}


def show_record(record: Record, *, place: LedgerEntry) -> None:
    """
    Print a record to standard output.

    Args:
        record: the decision.
        place: where it is in the ledger.

    """
    out = console()
    show_verdict(record.verdict, sources=False)
    out.print()
    for name, value in _facts(record, place):
        out.print(Text(f"{name:<9}").append(printable(value)), whole=True)
    for index, entry in enumerate(record.verdict.evidence.path):
        out.print()
        out.print(Text(f"depth {index}  {printable(entry.subject)}", style="bold"), whole=True)
        for line in (
            f"issuer {entry.issuer}",
            f"serial {entry.serial}, valid {_when(entry.not_before)} to {_when(entry.not_after)}",
            f"sha256 {entry.fingerprint}",
        ):
            out.print(Text(f"         {printable(line)}"), whole=True)
        for finding in record.verdict.evidence.findings:
            if finding.depth == index:
                for line in _status(finding):
                    out.print(Text(f"         {printable(line)}"), whole=True)


def _facts(record: Record, place: LedgerEntry) -> Iterator[tuple[str, str]]:
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


def _status(finding: CertificateFinding) -> Iterator[str]:
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


def write_raw(directory: Path, document: bytes, record: Record, *, repeated: bytes | None = None) -> None:
    """
    Write the stored bytes as files: record.json, chain, anchors, intermediates, and each statement.

    Args:
        directory: made; it must not be there yet, so that nothing is overwritten and no link of another's is followed.
        document: the record's document.
        record: the same, decoded.
        repeated: the document that it repeats, written as repeated.json.

    Raises:
        InputError: the directory is there already, or cannot be written.

    """
    question = record.question
    files: dict[str, bytes] = {"record.json": document}
    if repeated is not None:
        files["repeated.json"] = repeated
    if question.message is not None:
        files["message.bin"] = question.message
    for what, ders in (
        ("chain", question.chain),
        ("anchor", question.trust.anchors),
        ("intermediate", (*question.trust.intermediates, *question.untrusted)),
    ):
        files |= {f"{what}-{index}.der": der for index, der in enumerate(ders)}
    for index, statement in enumerate(record.statements):
        if statement.raw is not None:
            files[f"statement-{index}-{digest_of(statement.raw)[:8]}.{_SUFFIXES[statement.kind]}"] = whole_of(
                statement.raw
            )
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
        made = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name, raw in files.items():
                number = os.open(
                    name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=made
                )
                with os.fdopen(number, "wb") as stream:
                    stream.write(raw)
        finally:
            os.close(made)
    except FileExistsError as exc:
        msg = f"{printable(str(directory))} is there already: name a new directory"
        raise InputError(msg) from exc
    except OSError as exc:
        msg = f"{printable(str(directory))}: {(exc.strerror or str(exc)).lower()}"
        raise InputError(msg) from exc


def _when(moment: datetime | None) -> str:
    return "-" if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
