"""
Who is who among the certificates of GetCACert (RFC 8894 2.2, 4.2): the CA, its RAs, and strangers.

Pure. The answer comes over http and unsigned: a certificate counts only where what the configuration names vouches for
it. A CA that we believe has also issued certificates to servers and people, any of whom could stand in the line and
hand out their own: such a one is no RA, and is never given a password.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256

from cftpki_connectors.ca.anchors import describe, parsed
from cftpki_connectors.scep.vocabulary import Legacy
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import KeyUsage
from cftpki_ext.x509.keys import KeyKind
from cftpki_ext.x509.signed import SignatureStatus, verify

# RFC 6402 2.10 (id-kp-cmcRA), and Microsoft's Certificate Request Agent, which both of NDES' certificates have.
_RA_USAGES = frozenset({"1.3.6.1.5.5.7.3.28", "1.3.6.1.4.1.311.20.2.1"})
# CAs between an anchor and an RA.
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """
    The certificates of a CA that are vouched for.

    `anchors` are the CAs that the configuration names, `cas` these and the CAs below them, `ras` their RAs,
    `strangers` everything else that came.
    """

    anchors: tuple[Certificate, ...]
    cas: tuple[Certificate, ...]
    ras: tuple[Certificate, ...]
    strangers: tuple[Certificate, ...]

    @property
    def signers(self) -> tuple[Certificate, ...]:
        """
        Who may sign an answer.
        """
        allowed = {KeyUsage.DIGITAL_SIGNATURE, KeyUsage.CONTENT_COMMITMENT}
        return (*(one for one in self.ras if one.key_usage is None or one.key_usage & allowed), *self.cas)

    @property
    def encrypter(self) -> Certificate | None:
        """
        Whom a request is encrypted to: the newest RA that can decrypt, else the CA that issues.
        """
        ras = [
            one
            for one in self.ras
            if _is_rsa(one) and (one.key_usage is None or KeyUsage.KEY_ENCIPHERMENT in one.key_usage)
        ]
        if ras:
            return max(ras, key=lambda one: one.not_before)
        issuing = self._issuing
        return issuing if issuing is not None and _is_rsa(issuing) else None

    @property
    def issuer(self) -> Certificate | None:
        """
        The CA that issues (for CertPoll): that of the RA, or the lowest.
        """
        encrypter = self.encrypter
        if encrypter is not None and encrypter in self.ras:
            return next((one for one in self.cas if issued(encrypter, one)), self._issuing)
        return self._issuing

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """
        The CAs (DER), which complete a chain.
        """
        return tuple(one.der for one in self.cas)

    @property
    def _issuing(self) -> Certificate | None:
        lowest = [
            one
            for one in self.cas
            if not any(other is not one and other.issuer.key == one.subject.key for other in self.cas)
        ]
        return max(lowest or self.cas, key=lambda one: one.not_before, default=None)

    def objection(self) -> str:
        """
        Why there is nobody whom a request could be encrypted to, and what to do.
        """
        came = "; ".join(
            f"{describe(one.der)} with the fingerprint {sha256(one.der).hexdigest()}"
            for one in self.strangers[:4]
        )
        wrong = (
            "the CA's key is not RSA and no RA certificate is believed" if self.cas else "no CA is believed"
        )
        if not came:
            return f"{wrong}: the server gives no other certificate"
        return (
            f"{wrong}: of what came, an RA that does not say so in its extended key usage must be named "
            f"in certificates or fingerprints ({came})"
        )


def sort_out(
    came: Iterable[bytes], believed: Sequence[bytes], now: datetime, legacy: frozenset[Legacy]
) -> Authorities:
    """
    Sort certificates by who vouches for them.

    Valid now, signed with no weaker digest than allowed, by a CA that may issue and stands below an anchor; a CA with
    name constraints or an unknown critical extension vouches for nobody. Revocation is *not* asked for.

    Args:
        came: from the server (DER); at most some dozens.
        believed: those that the configuration names (DER): CAs become anchors, others are RAs.
        now: aware.
        legacy: whether SHA-1 in signatures passes.

    Returns:
        Who is who; a certificate that cannot be read is nobody.

    """
    named = parsed(believed)
    pool = [one for one in parsed(dict.fromkeys(came)) if one not in named]
    valid = [one for one in (*named, *pool) if one.not_before <= now <= one.not_after]
    anchors = tuple(one for one in valid if one in named and one.is_ca)
    compat = frozenset({Leniency.SHA1_SIGNATURE}) if Legacy.SHA1 in legacy else frozenset()
    # How many CAs may still follow below each.
    below = {one: _path_length(one) for one in anchors}
    left = [one for one in valid if one not in below and one not in named]
    children: list[Certificate] = []
    for _ in range(_MAX_DEPTH):
        found = {}
        for one in left:
            above = [room for ca, room in below.items() if issued(one, ca, compat)]
            room = max(above, default=-1)
            if room < 0:
                continue
            if not one.is_ca:
                children.append(one)
                found[one] = -1
            elif room > 0 and one.name_constraints is None and not one.unhandled_critical:
                found[one] = min(room - 1, _path_length(one))
        if not found:
            break
        below |= {one: room for one, room in found.items() if one.is_ca}
        left = [one for one in left if one not in found]
    ras = [one for one in valid if one in named and not one.is_ca]
    ras += [
        one for one in children if one.extended_key_usage is not None and _RA_USAGES & one.extended_key_usage
    ]
    cas = tuple(below)
    known = {*cas, *ras}
    return Authorities(
        anchors=anchors,
        cas=cas,
        ras=tuple(ras),
        strangers=tuple(one for one in pool if one not in known),
    )


def issued(
    one: Certificate, ca: Certificate, compat: frozenset[Leniency] = frozenset({Leniency.SHA1_SIGNATURE})
) -> bool:
    """
    Whether a CA has signed a certificate; validity is not looked at.
    """
    return (
        one.issuer.key == ca.subject.key
        and (ca.key_usage is None or KeyUsage.KEY_CERT_SIGN in ca.key_usage)
        and verify(one.signed, ca.spki, compat=compat) is SignatureStatus.VALID
    )


def _path_length(ca: Certificate) -> int:
    limit = None if ca.basic_constraints is None else ca.basic_constraints.path_length
    return _MAX_DEPTH if limit is None else min(limit, _MAX_DEPTH)


def _is_rsa(one: Certificate) -> bool:
    return one.key.kind is KeyKind.RSA and one.key.strong
