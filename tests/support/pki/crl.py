"""
CRLs with any field bent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.support.pki.bend import rebuild, tbs_fields
from tests.support.pki.certificates import DAY, NOW, Entity, default_hash, name


@dataclass(frozen=True)
class Revoked:
    """
    An entry of a CRL. `reason` is an `x509.ReasonFlags` member; `issuer` makes it indirect.
    """

    serial: int
    at: datetime = NOW - timedelta(hours=2)
    reason: x509.ReasonFlags | None = None
    issuer: str | x509.Name | None = None
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()


def make_crl(
    issuer: Entity,
    revoked: Iterable[Revoked | int] = (),
    *,
    number: int | None = 1,
    delta_base: int | None = None,
    this_update: datetime | None = None,
    next_update: datetime | bool | None = True,
    idp: x509.IssuingDistributionPoint | None = None,
    freshest: Sequence[str] = (),
    issuer_name: str | x509.Name | None = None,
    signing_key: Any = None,
    digest: hashes.HashAlgorithm | None = None,
    key_ids: bool = True,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """
    A CRL signed by `issuer`, DER. By default complete, number 1, from an hour before `NOW` for a day.

    Args:
        issuer: who signs.
        revoked: entries, or plain serial numbers.
        number: the CRL number; `None` leaves it out.
        delta_base: makes it a delta CRL with that base number.
        this_update: default an hour before `NOW`.
        next_update: `True` a day after `this_update`, `None` left out (RFC 5280 forbids that), or the time.
        idp: an issuing distribution point (critical).
        freshest: locations of delta CRLs.
        issuer_name: another name than the signer's.
        signing_key: another key than the signer's.
        digest: default SHA-256.
        key_ids: add the authority key identifier.
        extensions: any others, with their criticality.

    Returns:
        The DER.

    """
    start = this_update or NOW - timedelta(hours=1)
    signer = signing_key or issuer.key
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer_name) if issuer_name is not None else issuer.name)
        .last_update(start)
        .next_update(next_update if isinstance(next_update, datetime) else start + DAY)
    )
    for one in revoked:
        entry = one if isinstance(one, Revoked) else Revoked(one)
        item = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.at)
        if entry.reason is not None:
            item = item.add_extension(x509.CRLReason(entry.reason), critical=False)
        if entry.issuer is not None:
            names = [x509.DirectoryName(name(entry.issuer))]
            item = item.add_extension(x509.CertificateIssuer(names), critical=True)
        for value, critical in entry.extensions:
            item = item.add_extension(value, critical)
        builder = builder.add_revoked_certificate(item.build())
    added: list[tuple[x509.ExtensionType, bool]] = []
    if key_ids:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        added.append((identifier, False))
    if number is not None:
        added.append((x509.CRLNumber(number), False))
    if delta_base is not None:
        added.append((x509.DeltaCRLIndicator(delta_base), True))
    if idp is not None:
        added.append((idp, True))
    if freshest:
        points = [
            x509.DistributionPoint([x509.UniformResourceIdentifier(u)], None, None, None) for u in freshest
        ]
        added.append((x509.FreshestCRL(points), False))
    added += extensions
    for value, critical in added:
        builder = builder.add_extension(value, critical)
    encoded = builder.sign(signer, digest or default_hash(signer)).public_bytes(serialization.Encoding.DER)
    if next_update is None:
        fields = tbs_fields(encoded)
        encoded = rebuild(encoded, fields[:4] + fields[5:], signer)
    return encoded


def idp(
    *,
    urls: Sequence[str] = (),
    users_only: bool = False,
    cas_only: bool = False,
    attributes_only: bool = False,
    reasons: Iterable[x509.ReasonFlags] = (),
    indirect: bool = False,
) -> x509.IssuingDistributionPoint:
    """
    An issuing distribution point.
    """
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(u) for u in urls] or None,
        relative_name=None,
        only_contains_user_certs=users_only,
        only_contains_ca_certs=cas_only,
        only_some_reasons=frozenset(reasons) or None,
        indirect_crl=indirect,
        only_contains_attribute_certs=attributes_only,
    )
