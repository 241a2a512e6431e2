"""
A CRL built octet by octet, so that any one field may be bent, and a small world in which it is judged.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Leniency, Origin, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl import CrlJudgement, judge_crls
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate, parse_certificate
from cftpki_ext.x509.signed import SignatureStatus, verify
from tests.support import pki
from tests.support.pki import NOW, Entity

HOUR = timedelta(hours=1)
URL = "http://crl.example/issuing.crl"

CRL_NUMBER = "2.5.29.20"
REASON = "2.5.29.21"
DELTA = "2.5.29.27"
IDP = "2.5.29.28"
CERTIFICATE_ISSUER = "2.5.29.29"
AKI = "2.5.29.35"

_DIGESTS = {"md5": hashes.MD5, "sha1": hashes.SHA1, "sha256": hashes.SHA256}


def number(value: int, oid: str = CRL_NUMBER, *, critical: bool = False) -> bytes:
    return pki.extension(oid, pki.integer(value), critical=critical)


def delta(base: int) -> bytes:
    return number(base, DELTA, critical=True)


def key_id(entity: Entity) -> bytes:
    found = entity.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return pki.extension(AKI, der.encode(der.SEQUENCE, der.encode(0x80, found)))


def directory(name: x509.Name) -> bytes:
    """
    A GeneralName that is a distinguished name.
    """
    return der.encode(0xA4, pki.name_der(name))


def uri(text: str) -> bytes:
    return der.encode(0x86, text.encode())


def point(*names: bytes, relative: bytes | None = None) -> bytes:
    """
    A DistributionPointName with its outer tag, as in a DP and in an IDP.
    """
    choice = der.encode(0xA0, *names) if relative is None else der.encode(0xA1, relative)
    return der.encode(0xA0, choice)


def reason_bits(*bits: int) -> bytes:
    octets = bytearray(max(bits) // 8 + 1)
    for bit in bits:
        octets[bit // 8] |= 0x80 >> bit % 8
    return bytes((7 - max(bits) % 8,)) + bytes(octets)


USERS, CAS, INDIRECT, ATTRIBUTES = (der.encode(tag, b"\xff") for tag in (0x81, 0x82, 0x84, 0x85))


def some_reasons(*bits: int) -> bytes:
    return der.encode(0x83, reason_bits(*bits))


def idp(*fields: bytes, critical: bool = True) -> bytes:
    return pki.extension(IDP, der.encode(der.SEQUENCE, *fields), critical=critical)


def points(*distribution_points: Sequence[bytes]) -> tuple[x509.ExtensionType, bool]:
    """
    A cRLDistributionPoints extension for `pki.issue`; each point is the list of its encoded fields.
    """
    value = der.encode(der.SEQUENCE, *(der.encode(der.SEQUENCE, *fields) for fields in distribution_points))
    return pki.raw_extension("2.5.29.31", value), False


def entry(serial: int | bytes, *extensions: bytes, at: datetime = NOW - 2 * HOUR) -> bytes:
    return der.encode(
        der.SEQUENCE,
        pki.integer(serial) if isinstance(serial, int) else serial,
        time(at),
        der.encode(der.SEQUENCE, *extensions) if extensions else b"",
    )


def reason(code: int) -> bytes:
    return pki.extension(REASON, der.encode(der.ENUMERATED, bytes((code,))))


def certificate_issuer(name: x509.Name) -> bytes:
    return pki.extension(CERTIFICATE_ISSUER, der.encode(der.SEQUENCE, directory(name)), critical=True)


UNKNOWN_CRITICAL = pki.extension("1.2.3.4.5", b"\x05\x00", critical=True)
UNKNOWN = pki.extension("1.2.3.4.5", b"\x05\x00")


def time(at: datetime) -> bytes:
    return der.encode(der.UTC_TIME, at.strftime("%y%m%d%H%M%SZ").encode())


@dataclass(frozen=True)
class Crl:
    """
    The fields of a CRL. By default complete, number 7, from an hour before `NOW` for a day, with nobody on it.
    """

    signer: Entity
    issuer: bytes | None = None
    key: Any = None
    digest: str = "sha256"
    version: bytes = field(default_factory=lambda: pki.integer(1))
    inner: bytes | None = None
    outer: bytes | None = None
    this_update: bytes = field(default_factory=lambda: time(NOW - HOUR))
    next_update: bytes = field(default_factory=lambda: time(NOW + 23 * HOUR))
    entries: tuple[bytes, ...] = ()
    extensions: tuple[bytes, ...] | None = None
    behind: bytes = b""

    def encode(self) -> bytes:
        key = self.key or self.signer.key
        algorithm = pki.signature_algorithm(key, self.digest)
        extensions = (key_id(self.signer), number(7)) if self.extensions is None else self.extensions
        tbs = der.encode(
            der.SEQUENCE,
            self.version,
            self.inner or algorithm,
            self.issuer or pki.name_der(self.signer.name),
            self.this_update,
            self.next_update,
            der.encode(der.SEQUENCE, *self.entries) if self.entries else b"",
            der.encode(0xA0, der.encode(der.SEQUENCE, *extensions)) if extensions else b"",
        )
        digest = None if algorithm.startswith(b"\x30\x05\x06\x03\x2b\x65") else _DIGESTS[self.digest]()
        signature = der.encode(der.BIT_STRING, b"\0", pki.sign(key, tbs, digest))
        return der.encode(der.SEQUENCE, tbs, self.outer or algorithm, signature) + self.behind

    def but(self, **changes: Any) -> Crl:
        return replace(self, **changes)


@dataclass(frozen=True)
class World:
    """
    Root, issuing CA and one partner; `pool` holds whatever else may sign CRLs.
    """

    root: Entity
    ca: Entity
    leaf: Entity
    pool: tuple[Entity, ...] = ()
    trust: dict[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    extra: tuple[bytes, ...] = ()  # CRLs at hand for other certificates

    @property
    def crl(self) -> Crl:
        return Crl(self.ca)

    def parsed(self, entity: Entity) -> Certificate:
        return parse_certificate(entity.der, compat=self.compat)

    @property
    def compat(self) -> frozenset[Leniency]:
        return self.trust.get("compat", frozenset())

    def context(self, now: datetime = NOW) -> RevocationContext:
        chain = (self.leaf, self.ca, self.root) if self.ca != self.root else (self.leaf, self.root)
        pool = tuple(self.parsed(e) for e in self.pool)
        anchor = self.parsed(self.root)
        known = (*(self.parsed(e) for e in chain), *pool)

        def issuer_path(certificate: Certificate, _: datetime) -> tuple[Certificate, ...] | None:
            path = [certificate]
            while path[-1] != anchor:
                above = next((c for c in known if c not in path and signed_by(path[-1], c)), None)
                if above is None:
                    return None
                path.append(above)
            return tuple(path)

        return RevocationContext(
            now=now,
            path=tuple(self.parsed(e) for e in chain),
            trust=TrustSet(name="t", anchors=(self.root.der,), **self.trust),
            limits=self.limits,
            pool=pool,
            issuer_path=issuer_path,
            statements=tuple(statement(raw) for raw in self.extra),
        )

    def judge(
        self, *crls: Crl | bytes, url: str | None = None, depth: int = 0, now: datetime = NOW
    ) -> CrlJudgement:
        raws = [crl.encode() if isinstance(crl, Crl) else crl for crl in crls]
        return judge_crls(self.context(now), depth, [statement(raw, url) for raw in raws])

    def but(self, **changes: Any) -> World:
        return replace(self, **changes)


def signed_by(certificate: Certificate, issuer: Certificate) -> bool:
    return (
        certificate.issuer.key == issuer.subject.key
        and verify(certificate.signed, issuer.spki) is SignatureStatus.VALID
    )


def statement(raw: bytes, url: str | None = None) -> Statement:
    origin = Origin.HANDED_IN if url is None else Origin.NETWORK
    return Statement(kind=SourceKind.CRL, origin=origin, received_at=NOW, url=url, raw=raw)


@functools.cache
def world(kind: str = "ec") -> World:
    """
    The same world for the same kind of key.
    """
    root = pki.make_root("Root", private=pki.key(kind, 901))
    ca = pki.issue(root, "Issuing CA", ca=True, private=pki.key(kind, 902))
    leaf = pki.issue(ca, "partner", private=pki.key(kind, 903), serial=0x5EED5EED5EED, crl_urls=[URL])
    return World(root, ca, leaf)
