"""
What is known of all partners, gathered: evidence, the service's memory of who came lately, exceptions, blocks; and as plain data.

Reads only; a service that runs is not disturbed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cftpki_ext.checking.sightings import partner_from, unpack_chain
from cftpki_ext.core.blocks import Block, Book, Lifted, block_to_plain, encode_blocks
from cftpki_ext.core.errors import CftPkiError, InputError, StoreError
from cftpki_ext.core.policy import PartnerException
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.values import dataclass
from cftpki_ext.decision.blocked import blocked_names, fits, read_blocked
from cftpki_ext.evidence.partners import PartnerRow, Partners
from cftpki_ext.looking.records import unreadable_record
from cftpki_ext.stores import open_blocks, seen_partners, stored_evidence
from cftpki_ext.x509.certificate import Certificate, parse_certificate

# The newest records are looked at: some seconds. `--since` looks at all of a time.
NEWEST_RECORDS = 20_000
# Reading a certificate takes longer than keeping it, unless it is much longer than most are.
_SHORT_LEAF = 4096
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

    `leaf` is its certificate, where that was not looked at yet and is short; else `spki` is the SHA-256 (hex) of its key, as far as
    that is known.
    """

    row: PartnerRow
    leaf: bytes | None = None
    spki: str | None = None
    blocks: tuple[Block, ...]
    exceptions: tuple[tuple[str, PartnerException], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """
    What a partner's certificates say, so that nobody need keep them.

    `blocks` are the entries that mean one of them, `leaf` and `spki` as in `Standing`; `is_meant` says whether it is whom we look for.
    """

    blocks: tuple[str, ...] = ()
    leaf: bytes | None = None
    spki: str | None = None
    is_meant: bool = True


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
    who: str | None = None,
    most: int = NEWEST_RECORDS,
    advance: Callable[[int], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Overview:
    """
    Gather what is known.

    Args:
        settings: name the state directory, and the exceptions.
        since: look at all evidence since then; by default at the newest records.
        who: the only ones that are wanted, as a person writes it (`read_blocked`, or the beginning of a fingerprint); by default all.
        most: how many of the newest records are looked at, where nothing says since when.
        advance: told how many records were looked at; what it raises ends the look.
        tell: told of records that cannot be read.

    Returns:
        Every partner that was seen, or each that is meant, the last seen first.

    Raises:
        InputError: nobody can be meant by `who`.
        StoreError: evidence, memory or list of blocks cannot be read.

    """
    means = _meaning(who)
    book = open_blocks(settings.service).book()
    document = encode_blocks(book.blocks)

    def look(row: PartnerRow, chain: Sequence[bytes]) -> _Looked:
        if document is None and who is None and len(b"".join(chain[:1])) <= _SHORT_LEAF:
            return _Looked(leaf=next(iter(chain), None))
        return _look(row, chain, document, means)

    gathered = Partners()
    records, oldest = _read_evidence(settings, since, most, gathered, advance=advance, tell=tell)
    looked: dict[str, _Looked] = {}
    for row, chain in _remembered(settings):
        looked[row.fingerprint] = look(row, chain)
        gathered.add(row)
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
                leaf=known.leaf,
                spki=known.spki,
                blocks=_blocks(by_name, known, row),
                exceptions=tuple(by_partner.get(row.fingerprint, ())),
            )
            for row, known in _each(settings, gathered.rows, looked, look, leaves=bool(document) or bool(who))
            if known.is_meant
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


def _each(
    settings: Settings,
    rows: Iterable[PartnerRow],
    looked: Mapping[str, _Looked],
    look: Callable[[PartnerRow, Sequence[bytes]], _Looked],
    *,
    leaves: bool,
) -> Iterator[tuple[PartnerRow, _Looked]]:
    """
    The rows with what their certificates say, read one by one: that of whom the service does not remember stands in the evidence.

    Args:
        settings: name the state directory.
        rows: of all partners.
        looked: what is known of them already.
        look: looks at a chain.
        leaves: whether certificates are looked for in the evidence.

    """
    with contextlib.ExitStack() as opened:
        ledger = stored_evidence(settings.service) if leaves else None
        if ledger is not None:
            opened.callback(ledger.close)
        for row in rows:
            known = looked.get(row.fingerprint)
            if known is None:
                leaf = None if ledger is None else ledger.blob(row.fingerprint)
                fits_it = leaf is not None and sha256(leaf).hexdigest() == row.fingerprint
                known = look(row, (leaf,) if leaf is not None and fits_it else ())
            yield row, known


def _remembered(settings: Settings) -> Iterator[tuple[PartnerRow, tuple[bytes, ...]]]:
    """
    The partners that the service remembers because they were accepted in the last days, each with its chain.
    """
    for one in seen_partners(settings.service):
        known = partner_from(one.name, one.seen, one.document)
        chain = unpack_chain(one.chain or b"", most=settings.limits.chain_bytes)
        if known is None or not chain:
            continue
        source = known.held[0] if known.held else None
        yield (
            PartnerRow(
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
            ),
            chain,
        )


def _look(
    row: PartnerRow,
    chain: Sequence[bytes],
    document: bytes | None,
    means: Callable[[PartnerRow, Certificate | None], bool],
) -> _Looked:
    """
    What the certificates of a partner say, as far as they are known.
    """
    certificates = tuple(_certificates(chain))
    own = next(_certificates(chain[:1]), None)
    blocks = blocked_names(document, certificates, fingerprint=row.fingerprint, subject=row.subject)
    return _Looked(blocks=blocks, spki=_spki(*chain[:1]), is_meant=means(row, own))


def _spki(leaf: bytes | None = None) -> str | None:
    own = None if leaf is None else next(_certificates((leaf,)), None)
    return None if own is None else sha256(own.spki).hexdigest()


def _blocks(by_name: Mapping[str, Block], known: _Looked, row: PartnerRow) -> tuple[Block, ...]:
    """
    What a partner is blocked by: as far as its certificates are known, and as the newest verdict found.
    """
    return tuple(by_name[what] for what in dict.fromkeys((*known.blocks, *row.blocked)) if what in by_name)


def _certificates(chain: Sequence[bytes]) -> Iterator[Certificate]:
    for der in chain:
        with contextlib.suppress(InputError):
            yield parse_certificate(der)


def _meaning(who: str | None) -> Callable[[PartnerRow, Certificate | None], bool]:
    """
    Whether a partner is meant: by the beginning of a fingerprint, or because an entry would fit its own certificate.
    """
    if who is None:
        return lambda _row, _own: True
    digits = who.strip().replace(":", "").lower()
    short = len(digits) >= _LEAST_DIGITS and all(one in "0123456789abcdef" for one in digits)
    what = None if short and len(digits) < _DIGEST_DIGITS else read_blocked(who)
    lone = (
        None
        if what is None
        else encode_blocks([Block(what=what, reason="-", by="-", at=datetime.min.replace(tzinfo=UTC))])
    )

    def means(row: PartnerRow, own: Certificate | None) -> bool:
        if short and row.fingerprint.startswith(digits):
            return True
        if what is None:
            return False
        if own is not None:
            return fits(what, own)
        return bool(blocked_names(lone, (), fingerprint=row.fingerprint, subject=row.subject))

    return means


def overview_data(seen: Overview, now: datetime) -> dict[str, Any]:
    """
    What is known as plain data, besides the partners.
    """
    return {
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
    return {
        "subject": row.subject,
        "serial": row.serial,
        "fingerprint": row.fingerprint,
        "spki": one.spki or _spki(one.leaf),
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
