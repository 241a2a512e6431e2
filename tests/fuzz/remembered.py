"""
Targets for what is remembered of partners over a restart: whatever the disk says, the schedule goes on, and nobody who was shut
out is forgotten.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cftpki_ext.checking.held import Held, Partner, ending
from cftpki_ext.checking.refreshing import Ahead
from cftpki_ext.checking.sightings import document_of, pack_chain, partner_from, unpack_chain
from cftpki_ext.core.blocks import (
    Block,
    Book,
    Lifted,
    decode_blocks,
    encode_blocks,
    read_book,
    write_book,
)
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.ledger_notes import Break, BreakKind, Gap, Hold, HoldAct, Repeats, note_from
from cftpki_ext.core.settings import Limits, RefreshSettings, TrustSet
from cftpki_ext.core.validators import Validators, unpack
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.blocked import blocked_faults, read_blocked
from cftpki_ext.decision.examine import examine
from tests.support import evidence_samples

_NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_LIMITS = Limits()
_MOST = 4096
_PARTNER = Partner(
    name=b"n" * 32,
    rule="in",
    trust="t",
    direction=Direction.SERVER,
    subject="CN=partner",
    serial="01",
    ends=_NOW + timedelta(days=365),
    ending="CN=partner",
    seen=_NOW,
    held=(
        Held(
            key="ocsp",
            kind=SourceKind.OCSP,
            url="http://ca.example/",
            issuer="CN=CA",
            received_at=_NOW - timedelta(hours=1),
            this_update=_NOW - timedelta(hours=2),
            next_update=_NOW + timedelta(hours=12),
        ),
        Held(
            key="list",
            kind=SourceKind.CRL,
            url="http://ca.example/crl",
            issuer="CN=Root",
            received_at=_NOW,
            this_update=_NOW,
            next_update=None,
        ),
    ),
)
_BLOCK = Block(what="dns:a.example", reason="key stolen", by="root (uid 0)", at=_NOW, until=_NOW)
_BOOK = Book(
    blocks=(_BLOCK, Block(what="subject:CN=partner", reason="r", by="b", at=_NOW)),
    lifted=(Lifted(block=_BLOCK, by="b", at=_NOW, reason="l"),),
)
_QUESTION = evidence_samples.record(*evidence_samples.GOOD).question
_PATH = examine(_QUESTION).path


def remembered_partner(data: bytes) -> None:
    """
    A row of the partners that came lately, and all that the schedule makes of it.
    """
    partner = partner_from(b"n" * 32, 1.0, data.decode(errors="replace"))
    if partner is None:
        return
    again = partner_from(partner.name, 1.0, document_of(partner))
    assert partner == again
    plan = Ahead(RefreshSettings(), _LIMITS, {"t": TrustSet(name="t", anchors=())})
    plan.accepted(partner)
    list(ending(plan.partners, _NOW, within=timedelta(days=366)))
    plan.next_at()
    while (job := plan.take(_NOW, 0.0)) is not None:
        plan.done(job, job.partner, failures={}, requests=1, now=_NOW, monotonic=0.0)
    plan.troubles()
    plan.forget_unseen(_NOW)


def remembered_chain(data: bytes) -> None:
    """
    A chain as it is kept.
    """
    chain = unpack_chain(data, most=_MOST)
    if chain is not None:
        assert data == pack_chain(chain)
        assert sum(map(len, chain)) <= _MOST


def list_validators(data: bytes) -> None:
    """
    What was said of a list's version as it is kept, and what of that goes into a request.
    """
    said = unpack(data)
    if said is not None:
        assert data == said.pack()
        assert all(value.isprintable() and value.isascii() for value in said.conditions.values())


def ledger_note(data: bytes) -> None:
    """
    What a ledger, perhaps from elsewhere, says besides verdicts.
    """
    try:
        note = note_from(data)
    except ValueError:
        return
    assert note == note_from(note.document()) or len(data) > 512
    assert note.detail.isprintable()


def blocked_partners(data: bytes) -> None:
    """
    The list of partners that are shut out, as a file and as a question carries it: read as it was written, or refused.
    """
    with contextlib.suppress(InputError):
        book = read_book(data)
        assert book == read_book(write_book(book))
    with contextlib.suppress(InputError):
        blocks = decode_blocks(data)
        assert set(blocks) == set(decode_blocks(encode_blocks(blocks) or b"[]"))
    asked = replace(_QUESTION, blocks=data)
    assert _PATH == examine(asked).path
    blocked_faults(asked, _PATH)


def blocked_spelling(data: bytes) -> None:
    """
    What an operator types: one meaning, or an error.
    """
    with contextlib.suppress(InputError):
        what = read_blocked(data.decode(errors="replace"))
        assert what == read_blocked(what)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        remembered_partner,
        remembered_chain,
        list_validators,
        ledger_note,
        blocked_partners,
        blocked_spelling,
    )
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "remembered_partner": (
        document_of(_PARTNER).encode(),
        document_of(_PARTNER).replace("2026-06-01T11", "9999-12-31T11").encode(),
        document_of(_PARTNER).replace("2026-06-01T10", "0001-01-01T00").encode(),
    ),
    "remembered_chain": (pack_chain((b"leaf", b"issuer")),),
    "ledger_note": (
        Break(
            id="a" * 32,
            noticed_at=_NOW,
            kind=BreakKind.TORN,
            seq=9,
            expected="1" * 64,
            newest=7,
            found="2" * 64,
        ).document(),
        Gap(id="b" * 32, first=_NOW, last=_NOW, counts={"accepted": 1}, why="disk full").document(),
        Hold(id="d" * 32, at=_NOW, act=HoldAct.LAID, name="a", by="root", reason="r", since=_NOW).document(),
        Repeats(id="c" * 32, of="d" * 32, first=_NOW, last=_NOW, count=9, reason="no_path").document(),
    ),
    "blocked_partners": (write_book(_BOOK), encode_blocks(_BOOK.blocks) or b""),
    "blocked_spelling": (
        b"sha256 Fingerprint=" + b":".join([b"AB"] * 32),
        b"spki:" + b"cd" * 32,
        b"CN=mft,O=Partner\\, Inc.,C=FR",
        b"dns:mft.partner.example",
    ),
    "list_validators": (
        Validators(location="0" * 64, etag='W/"a"').pack(),
        Validators(location="0" * 64, last_modified="Sun, 01 Nov 2026 00:00:00 GMT").pack(),
    ),
}
