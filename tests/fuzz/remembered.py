"""
Targets for what is remembered of partners over a restart: whatever the disk says, the schedule goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cftpki_ext.checking.held import Held, Partner, ending
from cftpki_ext.checking.refreshing import Ahead
from cftpki_ext.checking.sightings import document_of, pack_chain, partner_from, unpack_chain
from cftpki_ext.core.settings import Limits, RefreshSettings, TrustSet
from cftpki_ext.core.validators import Validators, unpack
from cftpki_ext.core.vocabulary import Direction, SourceKind

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


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (remembered_partner, remembered_chain, list_validators)
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "remembered_partner": (
        document_of(_PARTNER).encode(),
        document_of(_PARTNER).replace("2026-06-01T11", "9999-12-31T11").encode(),
        document_of(_PARTNER).replace("2026-06-01T10", "0001-01-01T00").encode(),
    ),
    "remembered_chain": (pack_chain((b"leaf", b"issuer")),),
    "list_validators": (
        Validators(location="0" * 64, etag='W/"a"').pack(),
        Validators(location="0" * 64, last_modified="Sun, 01 Nov 2026 00:00:00 GMT").pack(),
    ),
}
