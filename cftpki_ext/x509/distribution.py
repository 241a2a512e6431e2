"""
Where CRLs are and what they are about (RFC 5280 4.2.1.13), shared by certificates and CRLs (5.2.5).

Owns `DistributionPoint`. Imports der, fields, general_name and name only.
"""

from __future__ import annotations

from dataclasses import dataclass

from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.fields import in_order, only
from cftpki_ext.x509.general_name import GeneralName, general_names
from cftpki_ext.x509.name import Name
from cftpki_ext.x509.reasons import REASON_FLAGS


@dataclass(frozen=True, slots=True)
class DistributionPoint:
    """
    RFC 5280 4.2.1.13, and the name and scope of an issuing distribution point (5.2.5).

    `relative_name` is the content of the RelativeDistinguishedName; `reasons` is `None` where all are meant.
    """

    full_names: tuple[GeneralName, ...] = ()
    relative_name: bytes | None = None
    reasons: frozenset[str] | None = None
    crl_issuers: tuple[Name, ...] = ()


def reason_flags(data: bytes, element: Element) -> frozenset[str]:
    """
    Read ReasonFlags (RFC 5280 4.2.1.13); bit 0 and unknown bits are left out.

    Raises:
        DerError: not a named bit list.

    """
    bits = der.named_bits(data, element)
    return frozenset(REASON_FLAGS[bit] for bit in bits if 1 <= bit < len(REASON_FLAGS))


def distribution_point_name(data: bytes, element: Element) -> tuple[tuple[GeneralName, ...], bytes | None]:
    """
    Read a DistributionPointName: a choice of full names and of a name relative to the issuer.

    Args:
        data: the buffer.
        element: the field that holds the choice, tag [0] of a distribution point.

    Returns:
        The full names, and the content of the relative name.

    Raises:
        DerError: not exactly one of the two.

    """
    choice = der.children(data, element)
    if len(choice) != 1:
        msg = "distribution point name is not one choice"
        raise DerError(msg, "RFC 5280 4.2.1.13")
    (element,) = choice
    if element.tag == 0xA0:
        return general_names(data, element), None
    if element.tag == 0xA1:
        relative = der.content(data, element)
        if not relative:
            msg = "relative name of a distribution point is empty"
            raise DerError(msg, "RFC 5280 4.2.1.13")
        return (), relative
    msg = f"tag {element.tag:#04x} is no distribution point name"
    raise DerError(msg, "RFC 5280 4.2.1.13")


def distribution_points(value: bytes) -> tuple[DistributionPoint, ...]:
    """
    Parse cRLDistributionPoints or freshestCRL (RFC 5280 4.2.1.13, 4.2.1.15).

    Raises:
        DerError: malformed or empty, a point with reasons alone, or a CRL issuer that is no directory name.

    """
    rule = "RFC 5280 4.2.1.13"
    points = []
    for part in only(value, der.SEQUENCE, "distribution points", rule):
        inner = der.children(value, der.expect(part, der.SEQUENCE, "distribution point"))
        fields = in_order(inner, (0xA0, 0x81, 0xA2), "distribution point", rule)
        full: tuple[GeneralName, ...] = ()
        relative = None
        if 0xA0 in fields:
            full, relative = distribution_point_name(value, fields[0xA0])
        issuers = general_names(value, fields[0xA2]) if 0xA2 in fields else ()
        names = tuple(n.value for n in issuers if isinstance(n.value, Name))
        if len(names) != len(issuers) or (not names and 0xA0 not in fields):
            msg = "distribution point has neither a name nor a CRL issuer that is a directory name"
            raise DerError(msg, rule)
        reasons = reason_flags(value, fields[0x81]) if 0x81 in fields else None
        points.append(DistributionPoint(full, relative, reasons, names))
    if not points:
        msg = "distribution points are empty"
        raise DerError(msg, rule)
    return tuple(points)
