"""
What is known of all partners, gathered: evidence, the service's memory of who came lately, exceptions, blocks; and as plain data.

Reads only; a service that runs is not disturbed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.checking.sightings import partner_from, unpack_chain
from cftpki_ext.core.blocks import Block, Book, Lifted, block_to_plain, encode_blocks
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.policy import PartnerException
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.decision.blocked import blocked_names, fits, read_blocked
from cftpki_ext.evidence.partners import PartnerRow, Partners
from cftpki_ext.looking.records import unreadable_record
from cftpki_ext.stores import open_blocks, seen_partners, stored_evidence
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# The newest records are looked at: some seconds. `--since` looks at all of a time.
NEWEST_RECORDS = 20_000
_LEAST_DIGITS = 6
_DIGEST_DIGITS = 64


class NoPartnerError(CftPkiError):
    """
    No partner, or no single one, is meant.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    A partner and what is said of it elsewhere: its blocks, and the exceptions of its fingerprint by policy.
    """

    row: PartnerRow
    blocks: tuple[Block, ...]
    exceptions: tuple[tuple[str, PartnerException], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """
    All that is known, and how far back it was looked.
    """

    partners: tuple[Standing, ...]
    book: Book
    exceptions: tuple[tuple[str, PartnerException], ...]
    records: int
    oldest: datetime | None
    let_go: int


def overview_of(
    settings: Settings,
    since: datetime | None,
    *,
    whole: bool = False,
    most: int = NEWEST_RECORDS,
    advance: Callable[[int], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Overview:
    """
    Gather what is known.

    Args:
        settings: name the state directory, and the exceptions.
        since: look at all evidence since then; by default at the newest records.
        whole: have everybody's own certificate at hand, also where nobody is blocked.
        most: how many of the newest records are looked at, where nothing says since when.
        advance: told how many records were looked at; what it raises ends the look.
        tell: told of records that cannot be read.

    Returns:
        Every partner that was seen, the last seen first.

    Raises:
        StoreError: evidence, memory or list of blocks cannot be read.

    """
    gathered = Partners()
    records, oldest = _read_evidence(settings, since, most, gathered, advance=advance, tell=tell)
    for row in _remembered(settings):
        gathered.add(row)
    book = open_blocks(settings.service).book()
    document = encode_blocks(book.blocks)
    by_name = {one.what: one for one in book.blocks}
    exceptions = {
        (policy.name, one)
        for policy in (*settings.policies.values(), *(trust.policy for trust in settings.trusts.values()))
        for one in policy.exceptions
    }
    by_partner: dict[str, list[tuple[str, PartnerException]]] = {}
    for name, one in sorted(exceptions, key=lambda each: (each[0], each[1].until)):
        by_partner.setdefault(one.fingerprint, []).append((name, one))
    return Overview(
        partners=tuple(
            Standing(
                row=row,
                blocks=tuple(by_name[what] for what in _blocks_of(document, row) if what in by_name),
                exceptions=tuple(by_partner.get(row.fingerprint, ())),
            )
            for row in (_with_leaves(settings, gathered.rows) if document or whole else gathered.rows)
        ),
        book=book,
        exceptions=tuple(each for found in by_partner.values() for each in found),
        records=records,
        oldest=oldest,
        let_go=gathered.let_go,
    )


def _read_evidence(
    settings: Settings,
    since: datetime | None,
    most: int,
    gathered: Partners,
    *,
    advance: Callable[[int], None],
    tell: Callable[[str], None],
) -> tuple[int, datetime | None]:
    """
    How many records were looked at, and when the first of them was kept.
    """
    ledger = stored_evidence(settings.service)
    if ledger is None:
        return 0, None
    count, oldest = 0, None
    with contextlib.closing(ledger):
        entries = ledger.since(since) if since is not None else ledger.newest(most)
        for count, entry in enumerate(entries, start=1):
            oldest = oldest or entry.kept_at
            advance(count)
            try:
                gathered.add_record(entry.document, ledger.blob)
            except StoreError as exc:
                tell(unreadable_record(entry, exc))
    return count, oldest


def _with_leaves(settings: Settings, rows: Iterable[PartnerRow]) -> Iterator[PartnerRow]:
    """
    The rows, with the partner's own certificate where only the evidence has it: it stands there under its fingerprint.
    """
    ledger = stored_evidence(settings.service)
    if ledger is None:
        yield from rows
        return
    with contextlib.closing(ledger):
        for row in rows:
            leaf = None if row.chain else ledger.blob(row.fingerprint)
            fits_it = leaf is not None and sha256(leaf).hexdigest() == row.fingerprint
            yield replace(row, chain=(leaf,)) if leaf is not None and fits_it else row


def _remembered(settings: Settings) -> Iterator[PartnerRow]:
    """
    The partners that the service remembers because they were accepted in the last days.
    """
    for one in seen_partners(settings.service):
        known = partner_from(one.name, one.seen, one.document)
        chain = unpack_chain(one.chain or b"", most=settings.limits.chain_bytes)
        if known is None or not chain:
            continue
        source = known.held[0] if known.held else None
        yield PartnerRow(
            fingerprint=sha256(chain[0]).hexdigest(),
            subject=known.subject,
            serial=known.serial,
            ends=known.ends,
            rule=known.rule,
            trust=known.trust,
            last_at=known.seen,
            status="accepted",
            source=None if source is None else f"{source.kind.value} {source.url}",
            accepted_at=known.seen,
            chain=chain,
        )


def _blocks_of(document: bytes | None, row: PartnerRow) -> tuple[str, ...]:
    """
    What a partner is blocked by: as far as its certificates are known, and as the newest verdict found.
    """
    if document is None:
        return ()
    found = blocked_names(
        document, tuple(_certificates(row.chain)), fingerprint=row.fingerprint, subject=row.subject
    )
    return tuple(dict.fromkeys((*found, *row.blocked)))


def _certificates(chain: Sequence[bytes]) -> Iterator[Certificate]:
    for der in chain:
        with contextlib.suppress(InputError):
            yield parse_certificate(der)


def meant(who: str, known: Iterable[Standing]) -> Iterator[Standing]:
    """
    The partners that a person means: by the beginning of a fingerprint, or whose own certificate an entry would fit.
    """
    digits = who.strip().replace(":", "").lower()
    short = len(digits) >= _LEAST_DIGITS and all(one in "0123456789abcdef" for one in digits)
    what = None if short and len(digits) < _DIGEST_DIGITS else read_blocked(who)
    for one in known:
        if short and one.row.fingerprint.startswith(digits):
            yield one
        elif what is not None:
            own = next(_certificates(one.row.chain[:1]), None)
            lone = Block(what=what, reason="-", by="-", at=datetime.min.replace(tzinfo=UTC))
            if (
                fits(what, own)
                if own is not None
                else blocked_names(
                    encode_blocks([lone]), (), fingerprint=one.row.fingerprint, subject=one.row.subject
                )
            ):
                yield one


def overview_data(seen: Overview, chosen: Sequence[Standing], now: datetime) -> dict[str, Any]:
    """
    What is known as plain data, of some partners.
    """
    return {
        "partners": [standing_data(one, now) for one in chosen],
        "blocks": [block_to_plain(one) | {"in_force": one.holds(now)} for one in seen.book.blocks],
        "lifted": [_lifted_data(one) for one in seen.book.lifted],
        "exceptions": [exception_data(name, one, now) for name, one in seen.exceptions],
        "records": {
            "looked_at": seen.records,
            "oldest": _text(seen.oldest),
            "partners_left_out": seen.let_go,
        },
    }


def standing_data(one: Standing, now: datetime) -> dict[str, Any]:
    """
    One partner as plain data.
    """
    row = one.row
    own = next(_certificates(row.chain[:1]), None)
    return {
        "subject": row.subject,
        "serial": row.serial,
        "fingerprint": row.fingerprint,
        "spki": None if own is None else sha256(own.spki).hexdigest(),
        "ends": _text(row.ends),
        "rule": row.rule,
        "trust": row.trust,
        "last": {
            "at": _text(row.last_at),
            "status": row.status,
            "reason": row.reason,
            "alert": row.alert,
            "verdict": row.verdict_id,
            "summary": row.summary,
            "source": row.source,
        },
        "accepted_at": _text(row.accepted_at),
        "refused_at": _text(row.refused_at),
        "verdicts": row.verdicts,
        "excepted": {"at": _text(row.excepted_at), "times": row.excepted_times, "detail": row.excepted},
        "exceptions": [exception_data(name, each, now) for name, each in one.exceptions],
        "blocks": [block_to_plain(each) | {"in_force": each.holds(now)} for each in one.blocks],
    }


def exception_data(policy: str, one: PartnerException, now: datetime) -> dict[str, Any]:
    """
    One exception of a policy as plain data.
    """
    return {
        "policy": policy,
        "fingerprint": one.fingerprint,
        "until": _text(one.until),
        "reason": one.reason,
        "causes": sorted(cause.value for cause in one.causes),
        "in_force": now < one.until,
    }


def _lifted_data(one: Lifted) -> dict[str, Any]:
    return {
        **block_to_plain(one.block),
        "lifted": {"by": one.by, "at": one.at.isoformat(), "reason": one.reason},
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
