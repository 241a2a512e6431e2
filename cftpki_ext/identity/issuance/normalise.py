"""
What a CA sent, made into one chain: leaf first, in order, leading to an anchor. Pure.

CAs send the leaf alone, the root too, the order upside down, or somebody else's certificate; what differs among
them ends here. The leaf is the certificate with our public key and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Issued
from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate

# More than any CA sends with all its alternates; each may cost a signature check.
MAX_CERTIFICATES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """
    A chain that can be sent, and the anchor that it leads to.
    """

    certificates: tuple[Certificate, ...]  # leaf first; without the root unless that was asked for
    anchor: Certificate
    notes: tuple[str, ...] = ()

    @property
    def leaf(self) -> Certificate:
        """
        Our certificate.
        """
        return self.certificates[0]

    @property
    def ends(self) -> datetime:
        """
        When the chain stops being valid: with the first of its certificates.
        """
        return min(certificate.not_after for certificate in self.certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """
    No chain can be made of the answer. `serial` is the leaf's, where there is a leaf for our key.
    """

    detail: str
    serial: str | None = None


def normalise(
    issued: Issued,
    *,
    public_key: bytes,
    anchors: Sequence[Certificate],
    now: datetime,
    keep_root: bool = False,
) -> Chain | Unusable:
    """
    Make one chain of a CA's answer.

    The path is valid at `now`, or at the leaf's notBefore where that is still to come. The CA's first chain is
    preferred, then its alternates in their order, then anything that can be put together from all of them.
    Whether the leaf is what was asked for is *not* looked at (`gate`), nor is revocation.

    Args:
        issued: unverified.
        public_key: our SubjectPublicKeyInfo (DER).
        anchors: whom the chain must lead to.
        now: the wall-clock time.
        keep_root: send the self-signed root too.

    Returns:
        The chain, or why there is none.

    """
    offered = (issued.certificates, *issued.alternates)
    distinct = tuple(dict.fromkeys(der for chain in (*offered, issued.extra) for der in chain))
    if len(distinct) > MAX_CERTIFICATES:
        return Unusable(detail=f"the answer holds more than {MAX_CERTIFICATES} certificates")
    parsed: dict[bytes, Certificate] = {}
    broken: list[str] = []
    for der in distinct:
        try:
            parsed[der] = parse_certificate(der)
        except MalformedCertificateError as error:
            broken.append(str(error))
    ours = [c for c in parsed.values() if c.spki == public_key]
    if not ours:
        reason = f"; unreadable: {broken[0]}" if broken else ""
        return Unusable(detail=f"none of {len(parsed)} certificates is for our key{reason}")
    # Several for one key: an old one came along. The one that lives longest is the new one.
    leaf = max(ours, key=lambda certificate: certificate.not_after)
    pools = [tuple(parsed[der] for der in (*chain, *issued.extra) if der in parsed) for chain in offered]
    pools.append(tuple(parsed.values()))
    at = max(now, leaf.not_before)
    detail = "no trust anchor is known"
    for pool in pools:
        if leaf not in pool and pool is not pools[-1]:
            continue
        others = tuple(c for c in pool if c.spki != public_key)
        result = find_path(
            PathRequest(chain=(leaf, *others), anchors=tuple(anchors), now=at, purpose=Purpose.ANY)
        )
        if result.valid:
            return _chain(result.path, pool, keep_root=keep_root, broken=broken)
        first = result.faults[0]
        detail = f"{first.detail} ({first.rule})"
    return Unusable(detail=f"does not lead to a trusted root: {detail}", serial=leaf.serial_hex)


def _chain(
    path: tuple[Certificate, ...], pool: tuple[Certificate, ...], *, keep_root: bool, broken: list[str]
) -> Chain:
    anchor = path[-1]
    keep = keep_root or not anchor.self_issued or len(path) == 1
    sent = path if keep else path[:-1]
    left_out = [c.subject.text for c in dict.fromkeys(pool) if c not in path]
    notes = [f"not part of the chain: {text}" for text in left_out]
    notes += [f"unreadable: {detail}" for detail in broken]
    return Chain(certificates=sent, anchor=anchor, notes=tuple(notes))
