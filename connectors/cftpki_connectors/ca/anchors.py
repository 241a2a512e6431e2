"""
The CA's certificates from /cacerts: which of them are anchors, and what a change of roots proves.

Pure, but for the file in which they are kept (`Kept`).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cftpki_connectors.ca.values import MAX_CERTIFICATES
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.store.durable import make_directory, replace_file
from cftpki_ext.support.files import read_regular
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate
from cftpki_ext.x509.signed import SignatureStatus, verify

# 64 certificates of 4 KB in base64, twice.
MAX_KEPT_BYTES = 1024 * 1024
FILE_NAME = "cacerts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    The explicit trust anchor database (RFC 7030 3.6.1).

    `source` says of which server and by whose word; what another source kept does not count. `roots` are
    the anchors, `certificates` everything that /cacerts held (DER).
    """

    source: str
    roots: tuple[bytes, ...]
    certificates: tuple[bytes, ...]


def load(folder: Path, source: str) -> Kept | None:
    """
    What is kept of this source; `None` where there is nothing, or nothing that can be read.

    A damaged file, and one that somebody else could have written, counts as none: the first contact then happens again, with the trust that it needs.
    """
    try:
        content = read_regular(folder / FILE_NAME, cap=MAX_KEPT_BYTES, what="kept CA certificates")
        if content.owner != os.geteuid() or content.mode & 0o022:
            return None
        document = json.loads(content.data)
        kept = Kept(
            source=document["source"],
            roots=_decoded(document["roots"]),
            certificates=_decoded(document["certificates"]),
        )
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return kept if kept.source == source and kept.roots else None


def _decoded(listed: object) -> tuple[bytes, ...]:
    if not isinstance(listed, list) or len(listed) > 2 * MAX_CERTIFICATES:
        msg = "no list of certificates"
        raise ValueError(msg)
    try:
        return tuple(binascii.a2b_base64(one, strict_mode=True) for one in listed)
    except (binascii.Error, TypeError) as error:
        msg = "no base64"
        raise ValueError(msg) from error


def save(folder: Path, kept: Kept) -> None:
    """
    Keep it, in one step and durably.

    Raises:
        StoreError: the disk refuses.

    """
    document = {
        "source": kept.source,
        "roots": [base64.b64encode(one).decode() for one in kept.roots],
        "certificates": [base64.b64encode(one).decode() for one in kept.certificates],
    }
    make_directory(folder)
    replace_file(folder / FILE_NAME, json.dumps(document, indent=1).encode() + b"\n")


def parsed(ders: Iterable[bytes]) -> tuple[Certificate, ...]:
    """
    The certificates that can be read; the others cannot be anybody's issuer.
    """
    found = []
    for one in ders:
        try:
            found.append(parse_certificate(one))
        except MalformedCertificateError:
            continue
    return tuple(found)


def is_self_signed(certificate: Certificate) -> bool:
    """
    Whether a certificate is a root: the same name twice, and its own key's signature.

    By default a weak digest under that signature does not matter: who is an anchor is not said by it.
    """
    status = verify(certificate.signed, certificate.spki)
    return certificate.self_issued and status in {SignatureStatus.VALID, SignatureStatus.WEAK}


def _signed_by(certificate: Certificate, issuer: Certificate) -> bool:
    return (
        certificate.issuer.key == issuer.subject.key
        and verify(certificate.signed, issuer.spki) is SignatureStatus.VALID
    )


def anchors(ders: Sequence[bytes], now: datetime) -> tuple[bytes, ...]:
    """
    The anchors in an authenticated /cacerts (RFC 7030 4.1.3): its self-signed CA certificates that are valid now.

    Where it holds none, although it must, the CA certificates that none of the others issued.
    """
    authorities = [one for one in parsed(ders) if one.is_ca and one.not_before <= now <= one.not_after]
    roots = [one for one in authorities if is_self_signed(one)]
    if not roots:
        roots = [
            one
            for one in authorities
            if not any(other is not one and _signed_by(one, other) for other in authorities)
        ]
    return tuple(one.der for one in roots)


def proven(old: Sequence[bytes], ders: Sequence[bytes], now: datetime) -> tuple[bytes, ...]:
    """
    New roots that an old one vouches for (RFC 4210 4.4, "NewWithOld"), whoever handed them over.

    Taken is a self-signed CA certificate whose key and name are also in a *self-issued* CA certificate with
    an old root's signature. Cross-certificates under another name prove nothing: any issuing CA has one.

    Args:
        old: anchors that are believed.
        ders: certificates from a channel that is not.
        now: all must be valid then.

    Returns:
        Those that are new.

    """
    received = [one for one in parsed(ders) if one.is_ca and one.not_before <= now <= one.not_after]
    believed = [one for one in parsed(old) if one.not_before <= now <= one.not_after]
    found = []
    for new in received:
        if new.der in old or not is_self_signed(new):
            continue
        if any(
            link.self_issued
            and link.spki == new.spki
            and link.subject.key == new.subject.key == root.subject.key
            and _signed_by(link, root)
            for link in received
            for root in believed
        ):
            found.append(new.der)
    return tuple(found)


def changes(
    old: Sequence[bytes], new: Sequence[bytes], ders: Sequence[bytes], now: datetime
) -> tuple[str, ...]:
    """
    One clause for each root that came or went.
    """
    linked = proven(old, ders, now)
    notes = []
    for der in new:
        if der not in old:
            how = "signed over by the old one" if der in linked else "told over the authenticated channel"
            notes.append(f"the CA has a new root, {how}: {describe(der)}")
    notes += [f"the CA no longer lists the root {describe(der)}" for der in old if der not in new]
    return tuple(notes)


def describe(der: bytes) -> str:
    """
    Subject, fingerprint and end of a certificate.
    """
    try:
        certificate = parse_certificate(der)
    except MalformedCertificateError:
        return "(unreadable)"
    return (
        f"{certificate.subject.text[:100]!r} (sha-256 {certificate.digest.hex()[:16]}…, "
        f"until {certificate.not_after:%Y-%m-%d})"
    )
