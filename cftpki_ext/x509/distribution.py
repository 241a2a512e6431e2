"""
Where CRLs are and what they are about (RFC 5280 4.2.1.13), shared by certificates and CRLs (5.2.5).

Owns `DistributionPoint`.
"""

from __future__ import annotations

from collections.abc import Iterable

from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.fields import in_order, only
from cftpki_ext.x509.general_name import GeneralName, general_names, usable_uri
from cftpki_ext.x509.name import Name
from cftpki_ext.x509.oddity import Odd, refuse
from cftpki_ext.x509.reasons import REASON_FLAGS


@dataclass(frozen=True, slots=True)
class DistributionPoint:
    """
    RFC 5280 4.2.1.13, and the name and scope of an issuing distribution point (5.2.5).

    `relative_name` is the content of the RelativeDistinguishedName; `reasons` is `None` where all are meant. One
    without any name stands for a point that could not be read: no list that is bound to a point matches it.
    """

    full_names: tuple[GeneralName, ...] = ()
    relative_name: bytes | None = None
    reasons: frozenset[str] | None = None
    crl_issuers: tuple[Name, ...] = ()


def reason_flags(data: bytes, element: Element, *, odd: Odd = refuse) -> frozenset[str]:
    """
    Read ReasonFlags (RFC 5280 4.2.1.13); bit 0 and unknown bits are left out.

    Args:
        data: the buffer.
        element: the BIT STRING, implicitly tagged.
        odd: is told of trailing zero bits.

    Raises:
        DerError: not a named bit list.

    """
    bits = der.named_bits(data, element, odd=odd)
    return frozenset(REASON_FLAGS[bit] for bit in bits if 1 <= bit < len(REASON_FLAGS))


def distribution_point_name(
    data: bytes, element: Element, *, odd: Odd = refuse
) -> tuple[tuple[GeneralName, ...], bytes | None]:
    """
    Read a DistributionPointName: a choice of full names and of a name relative to the issuer.

    Args:
        data: the buffer.
        element: the field that holds the choice, tag [0] of a distribution point.
        odd: see `general_names`.

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
        return general_names(data, element, odd=odd), None
    if element.tag == 0xA1:
        relative = der.content(data, element)
        if not relative:
            msg = "relative name of a distribution point is empty"
            raise DerError(msg, "RFC 5280 4.2.1.13")
        return (), relative
    msg = f"tag {element.tag:#04x} is no distribution point name"
    raise DerError(msg, "RFC 5280 4.2.1.13")


def distribution_points(value: bytes, *, odd: Odd = refuse) -> tuple[DistributionPoint, ...]:
    """
    Parse cRLDistributionPoints or freshestCRL (RFC 5280 4.2.1.13, 4.2.1.15).

    Args:
        value: the extension's value.
        odd: is told of an empty list, of a point that cannot be read (which then has no name, and no reason where
            those are what cannot be read), and of a CRL issuer that is no directory name.

    Returns:
        The points; at least one.

    Raises:
        DerError: no list.

    """
    rule = "RFC 5280 4.2.1.13"
    points = []
    for part in only(value, der.SEQUENCE, "distribution points", rule, odd=odd):
        try:
            points.append(_point(value, part, odd, rule))
        except DerError as error:
            odd(error.detail, error.rule)
            points.append(DistributionPoint(reasons=frozenset()))
    if not points:
        odd("distribution points are empty", rule)
        points.append(DistributionPoint())
    return tuple(points)


def _point(value: bytes, part: Element, odd: Odd, rule: str) -> DistributionPoint:
    inner = der.children(value, der.expect(part, der.SEQUENCE, "distribution point"))
    fields = in_order(inner, (0xA0, 0x81, 0xA2), "distribution point", rule)
    full: tuple[GeneralName, ...] = ()
    relative = None
    if 0xA0 in fields:
        full, relative = distribution_point_name(value, fields[0xA0], odd=odd)
    issuers = general_names(value, fields[0xA2], odd=odd) if 0xA2 in fields else ()
    names = tuple(n.value for n in issuers if isinstance(n.value, Name))
    reasons = reason_flags(value, fields[0x81], odd=odd) if 0x81 in fields else None
    if len(names) != len(issuers) or (not names and 0xA0 not in fields):
        odd("distribution point has neither a name nor a CRL issuer that is a directory name", rule)
    if not names and 0xA2 in fields:
        # Another one than the certificate's issuer keeps this list, and nobody knows who: its silence says nothing.
        reasons = frozenset()
    return DistributionPoint(full, relative, reasons, names)


def locations(points: Iterable[DistributionPoint]) -> tuple[str, ...]:
    """
    The URIs among the full names of distribution points, none twice.

    Args:
        points: of a certificate or a CRL.

    Returns:
        As they can be asked.

    """
    found = (usable_uri(name) for point in points for name in point.full_names)
    return tuple(dict.fromkeys(uri for uri in found if uri is not None))
