"""
Whom the doctor asks, and about which certificates. Pure.

The trust set's own locations are asked about a certificate that nobody has issued: a stand-in with a random
serial number below each CA, which every responder and list must know how to answer. Locations that CA
certificates name are asked about these, and what partners' certificates name about those that are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.policy import Depth
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Fault
from cftpki_ext.path import PathRequest, Purpose, crl_signer_path, find_path
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.plan import plan_lookups
from cftpki_ext.x509.certificate import Certificate, parse_certificate

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_SUBJECT = b"cftpki doctor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    One certificate whose status is asked: `path` is it and what is above it, up to the anchor.

    A `stand_in` was issued by nobody. `lookups` are those of the certificate itself.
    """

    path: tuple[Certificate, ...]
    stand_in: bool
    lookups: tuple[Lookup, ...]

    @property
    def certificate(self) -> Certificate:
        """
        The certificate that is asked about.
        """
        return self.path[0]

    @property
    def issuer(self) -> Certificate:
        """
        Who has issued it.
        """
        return self.path[1]

    @property
    def name(self) -> str:
        """
        What a person calls it.
        """
        return (
            f"certificates of {self.issuer.subject.text}" if self.stand_in else self.certificate.subject.text
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """
    A certificate that leads to no anchor, or not validly: its subject, whether it was handed in, and the faults.
    """

    certificate: Certificate
    handed_in: bool
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What is to be asked for one trust set. `bottom` are the keys of CAs that issue no other CA of the set.
    """

    trust: TrustSet
    authorities: tuple[Certificate, ...]
    targets: tuple[Target, ...]
    broken: tuple[Broken, ...]
    bottom: frozenset[bytes]


def stand_in(authority: Certificate, *, serial: int, now: datetime) -> Certificate:
    """
    A certificate below a CA that the CA has not issued: no signature, no extensions.

    Args:
        authority: whose name it carries as issuer.
        serial: positive, random, at most 19 octets.
        now: in the middle of its validity.

    Returns:
        The certificate. It is good for asking, for nothing else.

    """
    times = b"".join(
        _tlv(0x17, f"{moment:%y%m%d%H%M%S}Z".encode())
        for moment in (now - timedelta(days=1), now + timedelta(days=1))
    )
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    subject = _tlv(0x30, _tlv(0x31, _tlv(0x30, bytes.fromhex("0603550403") + _tlv(0x0C, _SUBJECT))))
    parts = (
        _tlv(0x02, number),
        _ECDSA_SHA256,
        authority.subject.der,
        _tlv(0x30, times),
        subject,
        authority.spki,
    )
    signature = _tlv(0x03, b"\0" + bytes.fromhex("3006020101020101"))
    return parse_certificate(_tlv(0x30, _tlv(0x30, b"".join(parts)) + _ECDSA_SHA256 + signature))


def _tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def plan(
    trust: TrustSet,
    chains: Sequence[tuple[bytes, ...]],
    *,
    limits: Limits,
    now: datetime,
    serial: int,
) -> Plan:
    """
    What to ask for one trust set.

    Args:
        trust: the trust set.
        chains: partners' chains, leaf first (DER); those that lead nowhere in this trust set are left out.
        limits: bounds of paths and lookups.
        now: the time of judgement.
        serial: of the stand-ins.

    Returns:
        Targets, and what leads to no anchor.

    """
    anchors = _parsed(trust.anchors, trust)
    intermediates = _parsed(trust.intermediates, trust)
    paths: dict[Certificate, tuple[Certificate, ...]] = {anchor: (anchor,) for anchor in anchors}
    broken: list[Broken] = []
    targets: list[Target] = []
    leaf_only = trust.policy.depth is Depth.LEAF  # nobody asks for the status of its CAs
    for authority in intermediates:
        found = find_path(_request((authority,), anchors, intermediates, trust, limits, now))
        if found.faults or len(found.path) < 2:
            broken.append(Broken(certificate=authority, handed_in=False, faults=found.faults))
        else:
            paths.setdefault(authority, found.path)
            targets += () if leaf_only else (_target(found.path, trust, limits),)
    for ders in chains:
        presented = _parsed(ders, trust)
        if not presented:
            continue
        found = find_path(_request(presented, anchors, intermediates, trust, limits, now))
        if not found.trusted:
            continue  # another trust set's partner
        if found.faults:
            broken.append(Broken(certificate=presented[0], handed_in=True, faults=found.faults))
        depths = range(1 if leaf_only else len(found.path) - 1)
        targets += (_target(found.path[depth:], trust, limits) for depth in depths)
    if trust.ocsp_urls or trust.crl_urls or trust.crl_files or trust.rest is not None:
        for authority, path in paths.items():
            below = stand_in(authority, serial=serial, now=now)
            lookups = plan_lookups((below, *path), trust, limits)
            asked = tuple(lookup for lookup in lookups if lookup.depth == 0)
            targets.append(Target(path=(below, *path), stand_in=True, lookups=asked))
    issuers = {path[1].spki for path in paths.values() if len(path) > 1}
    return Plan(
        trust=trust,
        authorities=tuple(paths),
        targets=tuple(_once(targets)),
        broken=tuple(broken),
        bottom=frozenset(authority.spki for authority in paths if authority.spki not in issuers),
    )


def is_trusted(chain: Sequence[bytes], trust: TrustSet, *, limits: Limits, now: datetime) -> bool:
    """
    Whether a chain leads to an anchor of a trust set, whatever else is wrong with it.

    Args:
        chain: DER, leaf first.
        trust: the trust set.
        limits: bounds of paths.
        now: the time of judgement.

    """
    presented = _parsed(chain, trust)
    if not presented:
        return False
    anchors, pool = _parsed(trust.anchors, trust), _parsed(trust.intermediates, trust)
    return find_path(_request(presented, anchors, pool, trust, limits, now)).trusted


def context_of(
    target: Target, trust: TrustSet, statements: tuple[Statement, ...], *, limits: Limits, now: datetime
) -> RevocationContext:
    """
    What the status of a target is judged in, as in a handshake.
    """
    pool = (*_parsed(trust.intermediates, trust), *target.path[1:-1])

    def issuer_path(signer: Certificate, at: datetime) -> tuple[Certificate, ...] | None:
        return crl_signer_path(signer, anchor=target.path[-1], pool=pool, at=at, trust=trust, limits=limits)

    return RevocationContext(
        now=now,
        path=target.path,
        trust=trust,
        limits=limits,
        pool=pool,
        issuer_path=issuer_path,
        statements=statements,
    )


def _request(  # noqa: PLR0917  # one value is made of them
    chain: tuple[Certificate, ...],
    anchors: tuple[Certificate, ...],
    intermediates: tuple[Certificate, ...],
    trust: TrustSet,
    limits: Limits,
    now: datetime,
) -> PathRequest:
    return PathRequest(
        chain=chain,
        anchors=anchors,
        intermediates=intermediates,
        now=now,
        purpose=Purpose.ANY,
        inputs=trust.policy_inputs,
        compat=trust.compat,
        limits=limits,
    )


def _target(path: tuple[Certificate, ...], trust: TrustSet, limits: Limits) -> Target:
    lookups = tuple(lookup for lookup in plan_lookups(path, trust, limits) if lookup.depth == 0)
    return Target(path=path, stand_in=False, lookups=lookups)


def _once(targets: Sequence[Target]) -> Sequence[Target]:
    return tuple({(target.certificate, target.issuer): target for target in targets}.values())


def _parsed(ders: Sequence[bytes], trust: TrustSet) -> tuple[Certificate, ...]:
    found = []
    for der in ders:
        try:
            found.append(parse_certificate(der, compat=trust.compat, form=trust.form))
        except InputError:
            continue  # a trust set's own were looked at when the configuration was read
    return tuple(dict.fromkeys(found))
