"""
Which verdicts an auditor asks for: by rule, policy, reason, warning, exception, and by partner in any spelling.

Pure. What a partner is called elsewhere (openssl, Windows, a ticket) is held against the certificate itself, as the lists
of a rule are (`decision.partner_lists`), never against how we print it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha1, sha256
from ipaddress import ip_address

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.settings import Partners
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.decision.partner_lists import check_san, denied
from cftpki_ext.evidence.listing import Row
from cftpki_ext.x509.certificate import Certificate, parse_certificate
from cftpki_ext.x509.dn_text import names_of

# Partners whose certificates are kept as they were read: those of a large company.
_CERTIFICATES = 4096
# How openssl and Windows introduce what they print.
_INTRODUCED = re.compile(
    r"(?:(?:sha-?(?:1|256))?\s*(?:fingerprint|thumbprint)|sha-?(?:1|256)|serial(?:\s?number)?)\s*[=:]\s*",
    re.IGNORECASE,
)
_SAN = re.compile(
    r"(dns(?: name)?|email|rfc822 name|uri|url|ip(?: address)?)\s*[:=]\s*(\S.*)", re.IGNORECASE | re.DOTALL
)
_SAN_KINDS = {"dns": "dns", "email": "email", "rfc822": "email", "uri": "uri", "url": "uri", "ip": "ip"}
_HEX = re.compile(r"(?:0x)?([0-9a-f]+)", re.IGNORECASE)
_SHA256_DIGITS, _SHA1_DIGITS = 64, 40
# Beyond the 20 octets of RFC 5280 4.1.2.2 a number is no serial of anybody's, and costs time to read.
_SERIAL_DIGITS = 80

ReadCertificate = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerTerm:
    """
    What a text may mean. Any of it will do; `part` is what names and addresses are searched for where it means nothing else.

    `lists` are compared as a rule's are; `serials` are numbers, as the text may be decimal or hexadecimal.
    """

    lists: tuple[Partners, ...] = ()
    serials: frozenset[int] = frozenset()
    sha1: str | None = None
    address: str | None = None
    part: str | None = None

    @property
    def of_certificate(self) -> bool:
        """
        Whether the certificate has to be looked at.
        """
        return bool(self.lists or self.sha1)


def partner_term(text: str) -> PartnerTerm:
    """
    Read what somebody calls a partner.

    Args:
        text: a distinguished name (RFC 4514, openssl's `/C=FR/O=…`, Windows'), a SHA-256 or SHA-1 fingerprint or a public
            key's SHA-256 (with colons, blanks or neither), a serial number (hexadecimal or decimal), an alternative name
            (`dns:`, `DNS:`, `IP Address:`, or bare), the partner's address, or a part of any of these.

    Returns:
        What it may mean.

    Raises:
        InputError: it is empty.

    """
    given = text.strip()
    if not given:
        msg = "a partner without a name: write a subject, fingerprint, serial number, alternative name or address"
        raise InputError(msg)
    if any(name.rdns for name in names_of(given)):
        return PartnerTerm(lists=(Partners(subjects=(given,)),))
    if (named := _SAN.fullmatch(given)) is not None and (san := _san(named)) is not None:
        return PartnerTerm(lists=(Partners(sans=(san,)),))
    try:
        address = str(ip_address(given))
    except ValueError:
        pass
    else:
        return PartnerTerm(lists=(Partners(sans=(f"ip:{address}",)),), address=address)
    introduced = _INTRODUCED.match(given)
    bare = given if introduced is None else given[introduced.end() :]
    # openssl has short numbers in both forms: 4660 (0x1234).
    found = _HEX.fullmatch(re.sub(r"\(0x[0-9a-fA-F]+\)$|[:\s]", "", bare))
    if found is None:
        return PartnerTerm(lists=_bare_names(given), part=given.lower())
    digits = found[1].lower()
    if len(digits) == _SHA256_DIGITS:
        return PartnerTerm(lists=(Partners(fingerprints=(digits,)), Partners(spki_pins=(digits,))))
    spelled = digits == given.lower()  # as we print it, so that a part of it may be meant
    return PartnerTerm(
        serials=_numbers(digits),
        sha1=digits if len(digits) == _SHA1_DIGITS else None,
        part=digits if spelled else None,
    )


def _san(named: re.Match[str]) -> str | None:
    """
    An alternative name as the lists have it; `None` where what follows is no such name.
    """
    san = f"{_SAN_KINDS[named[1].lower().split()[0]]}:{named[2].strip()}"
    try:
        check_san(san)
    except InputError:
        return None
    return san


def _bare_names(text: str) -> tuple[Partners, ...]:
    """
    The alternative names that a text without a kind may be.
    """
    kind = "email" if "@" in text else "uri" if "://" in text else "dns" if "." in text else None
    if kind is None or not text.isprintable() or " " in text:
        return ()
    return (Partners(sans=(f"{kind}:{text}",)),)


def _numbers(digits: str) -> frozenset[int]:
    if len(digits) > _SERIAL_DIGITS:
        return frozenset()
    return frozenset({int(digits, 16), *((int(digits),) if digits.isdecimal() else ())})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    Which verdicts are wanted: all conditions together, of each with several values any. None is all.

    `reasons` are of refusals, also of those that a policy only audited, and causes that a row of the policy was applied to.
    """

    refused: bool = False
    warned: bool = False
    exception: bool = False
    rules: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    partners: tuple[PartnerTerm, ...] = ()


class Chooser:
    """
    Says of each row whether it is wanted. Reads a partner's certificate once.

    Args:
        choice: what is wanted.
        certificate: gives the DER of a SHA-256 (hex), or `None` where it is gone.

    """

    def __init__(self, choice: Choice, certificate: ReadCertificate) -> None:
        self._choice = choice
        self._certificate = lru_cache(maxsize=_CERTIFICATES)(lambda digest: _read(certificate, digest))
        self._named = lru_cache(maxsize=_CERTIFICATES)(self._is_named)

    def wants(self, row: Row) -> bool:
        """
        Whether a verdict is among those that are asked for.
        """
        choice = self._choice
        return (
            (not choice.refused or row.refused or row.would_refuse is not None)
            and (not choice.warned or row.warned)
            and (not choice.exception or row.by_exception)
            and (not choice.rules or row.rule in choice.rules)
            and (not choice.policies or row.policy in choice.policies)
            and (not choice.reasons or any(one in choice.reasons for one in reasons_of(row)))
            and (not choice.partners or any(self._fits(term, row) for term in choice.partners))
        )

    def _fits(self, term: PartnerTerm, row: Row) -> bool:
        if term.address is not None and _address(row.remote) == term.address:
            return True
        if term.serials and row.serial is not None and _serial(row.serial) in term.serials:
            return True
        if term.part is not None and any(
            term.part in place.lower()
            for place in (row.partner, row.serial or "", row.fingerprint or "", row.remote)
        ):
            return True
        return term.of_certificate and row.fingerprint is not None and self._named(term, row.fingerprint)

    def _is_named(self, term: PartnerTerm, fingerprint: str) -> bool:
        certificate = self._certificate(fingerprint)
        if certificate is None:
            # Its octets are gone; its digest is in the record.
            return any(fingerprint in partners.fingerprints for partners in term.lists)
        if term.sha1 is not None and sha1(certificate.der, usedforsecurity=False).hexdigest() == term.sha1:
            return True
        return any(denied(partners, certificate) is None for partners in term.lists)


def reasons_of(row: Row) -> Iterable[str]:
    """
    Why a verdict is not a plain acceptance: reasons, and causes of the policy's rows.
    """
    yield from filter(None, (row.reason, row.would_refuse))
    yield from (one.partition(" ")[0] for one in row.policy_rows)


def _read(certificate: ReadCertificate, digest: str) -> Certificate | None:
    der = certificate(digest)
    if der is None or sha256(der).hexdigest() != digest:
        return None
    try:
        return parse_certificate(der, compat=frozenset(Leniency))
    except InputError:
        return None


@lru_cache(maxsize=_CERTIFICATES)
def _address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _serial(text: str) -> int | None:
    try:
        return int(text.replace(":", ""), 16) if len(text) <= _SERIAL_DIGITS else None
    except ValueError:
        return None
