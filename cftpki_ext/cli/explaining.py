"""
One stored verdict for a person: what was asked, by whom, and every source with its times and bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from cftpki_ext.cli.render import Text, console, show_verdict
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.evidence import Record
from cftpki_ext.looking.explained import certificate_lines, facts_of, status_lines
from cftpki_ext.ports.evidence import LedgerEntry

_SUFFIXES = {
    SourceKind.OCSP: "ocsp.der",
    SourceKind.CRL: "crl.der",
    SourceKind.REST: "rest.json",
    SourceKind.DIRECTORY: "directory.ldap",
}


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
    for name, value in facts_of(record, place):
        out.print(Text(f"{name:<9}").append(printable(value)), whole=True)
    for index, entry in enumerate(record.verdict.evidence.path):
        out.print()
        out.print(Text(f"depth {index}  {printable(entry.subject)}", style="bold"), whole=True)
        for line in certificate_lines(entry):
            out.print(Text(f"         {printable(line)}"), whole=True)
        for finding in record.verdict.evidence.findings:
            if finding.depth == index:
                for line in status_lines(finding):
                    out.print(Text(f"         {printable(line)}"), whole=True)
    known = record.verdict.evidence.directory
    if known is not None:
        out.print()
        out.print(Text("directory", style="bold"), whole=True)
        for line in status_lines(known):
            out.print(Text(f"         {printable(line)}"), whole=True)


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
