"""
What a certification request asks for, byte for byte, and how a renewal may be asked for.

Pure. Owns the comparison that RFC 7030 4.2.2 demands of a re-enrolment, and the plan that follows from it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from cftpki_connectors.ca.identity_files import client_fault
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Order
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate, MalformedCertificateError, parse_certificate

_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_SUBJECT_ALT_NAME = "2.5.29.17"
_ATTRIBUTES = 0xA0


class Operation(enum.StrEnum):
    """
    The two ways to ask for a certificate (RFC 7030 4.2).
    """

    ENROLL = "simpleenroll"
    REENROLL = "simplereenroll"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """
    The parts of a PKCS#10 request (RFC 2986) as they are encoded; `extensions` are those of extensionRequest.
    """

    subject: bytes
    spki: bytes
    extensions: Mapping[str, bytes]
    attributes: frozenset[str]

    @property
    def subject_alt_name(self) -> bytes | None:
        """
        The extension's value, `None` where there is none.
        """
        return self.extensions.get(_SUBJECT_ALT_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How to ask, and why not otherwise: `reasons` is empty where a re-enrolment is possible or none is due.
    """

    operation: Operation
    reasons: tuple[str, ...] = ()


def parse_request(csr: bytes) -> Requested:
    """
    Read a request without encoding anything anew. Its signature is not checked.

    Args:
        csr: DER.

    Returns:
        Its parts.

    Raises:
        InputError: not a PKCS#10 request.

    """
    try:
        info = der.expect(der.children(csr, der.whole(csr))[0], der.SEQUENCE, "CertificationRequestInfo")
        fields = der.children(csr, info)
        subject, spki = (der.encoded(csr, fields[index]) for index in (1, 2))
        extensions: dict[str, bytes] = {}
        attributes = set()
        for attribute in (
            der.children(csr, fields[3]) if len(fields) > 3 and fields[3].tag == _ATTRIBUTES else ()
        ):
            kind, values = der.children(csr, attribute)
            attributes.add(der.oid(csr, kind))
            if der.oid(csr, kind) == _EXTENSION_REQUEST:
                extensions |= _extensions(csr, der.children(csr, values)[0])
    except (der.DerError, IndexError, ValueError) as error:
        msg = f"the order's request is no PKCS#10: {error}"
        raise InputError(msg) from error
    return Requested(
        subject=subject,
        spki=spki,
        extensions=MappingProxyType(extensions),
        attributes=frozenset(attributes),
    )


def _extensions(data: bytes, listed: der.Element) -> dict[str, bytes]:
    found = {}
    for extension in der.children(data, listed):
        parts = der.children(data, extension)
        found[der.oid(data, parts[0])] = der.content(data, parts[-1])
    return found


def plan(order: Order, *, reenroll: bool, now: datetime) -> Plan:
    """
    Decide between enrolment and re-enrolment.

    A re-enrolment is authenticated by TLS with the certificate that is renewed, and the request's subject and
    subjectAltName must be those of that certificate, byte for byte (RFC 7030 4.2.2). Whether the server will
    take it is not known before it is asked.

    Args:
        order: with or without a certificate in use.
        reenroll: whether the operator allows it.
        now: aware.

    Returns:
        The operation, and what speaks against a re-enrolment although there is a certificate in use.

    Raises:
        InputError: the order's request is no PKCS#10.

    """
    if order.current is None:
        return Plan(operation=Operation.ENROLL)
    reasons = []
    if not reenroll:
        reasons.append("the configuration says `reenroll = false`")
    if order.revoked:
        reasons.append("the certificate in use is revoked")
    try:
        current = parse_certificate(order.current.chain[0])
    except (MalformedCertificateError, IndexError):
        reasons.append("the certificate in use cannot be read")
    else:
        reasons += _obstacles(current, parse_request(order.csr), now)
    if reasons:
        return Plan(operation=Operation.ENROLL, reasons=tuple(reasons))
    return Plan(operation=Operation.REENROLL)


def _obstacles(current: Certificate, requested: Requested, now: datetime) -> list[str]:
    found = []
    if not current.not_before <= now <= current.not_after:
        found.append(f"the certificate in use is valid only until {current.not_after:%Y-%m-%d %H:%M} UTC")
    lacks = client_fault(current)
    if lacks is not None:
        found.append(f"the certificate in use {lacks}")
    if current.subject.der != requested.subject:
        found.append("the subject asked for is not, byte for byte, that of the certificate in use")
    held = current.extensions.get(_SUBJECT_ALT_NAME)
    if (None if held is None else held.value) != requested.subject_alt_name:
        found.append("the subjectAltName asked for is not, byte for byte, that of the certificate in use")
    return found


def outlook(leaf: bytes, *, reenroll: bool, others: bool) -> str:
    """
    How a certificate just issued can be renewed, so that nobody is surprised when it is due.

    Args:
        leaf: DER.
        reenroll: whether the operator allows re-enrolment.
        others: whether a password or an identity of the connector's own is configured.

    Returns:
        One clause for the operator.

    """
    fault: str | None = "is not to be used for it (`reenroll = false`)"
    if reenroll:
        try:
            fault = client_fault(parse_certificate(leaf))
        except MalformedCertificateError:
            fault = "cannot be read"
    if fault is None:
        return "renewal: simplereenroll, authenticated by this certificate"
    if others:
        return f"renewal: simpleenroll with the configured credentials, since this certificate {fault}"
    return (
        f"renewal: impossible as things are, since this certificate {fault} and no other credentials are "
        "configured; set username and password_file, or identity_chain_file and identity_key_file"
    )
