"""
Of which certificates and reasons a CRL speaks: RFC 5280 section 6.3.3 (b) and (d).

Owns the comparison of a CRL's issuing distribution point with all distribution points of a certificate. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from cftpki_ext.core.values import dataclass
from cftpki_ext.revocation.crl_parse import Contents, CrlView, IssuingDistributionPoint
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.distribution import DistributionPoint
from cftpki_ext.x509.general_name import GeneralName
from cftpki_ext.x509.name import Name, name_with
from cftpki_ext.x509.reasons import ALL_REASONS

NameKey = tuple[str, str | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """
    The reasons for which "not listed" means "not revoked"; none where the CRL is about other certificates.
    """

    reasons: frozenset[str]
    detail: str = ""


def may_speak(certificate: Certificate, view: CrlView) -> bool:
    """
    Whether this CRL's issuer has a say about the certificate: its own issuer, or a cRLIssuer that it names.

    Args:
        certificate: the certificate asked about.
        view: the CRL.

    Returns:
        `False` where nothing on the list concerns the certificate.

    """
    if view.issuer.key == certificate.issuer.key:
        return True
    if view.idp is None or not view.idp.indirect:
        return False
    return any(
        view.issuer.key == name.key for point in certificate.distribution_points for name in point.crl_issuers
    )


def coverage(certificate: Certificate, view: CrlView, *, locations: Collection[str]) -> Coverage:
    """
    For which reasons the CRL covers the certificate, over all of its distribution points.

    A CRL without issuing distribution point is of full scope. One with a name in it covers a certificate with
    distribution points only if it matches one of them, wherever it was got from. Only for a certificate that has
    none the configuration stands in: its locations are taken as the certificate's own (some CAs name the location
    in the CRL and not in the certificate). Not checked here: signature and time.

    Args:
        certificate: the certificate asked about.
        view: the CRL.
        locations: URLs which the administrator named as where this CRL is found.

    Returns:
        The reasons, and what did not fit where there are none.

    """
    idp = view.idp
    if idp is not None and (misfit := _wrong_contents(certificate, idp)):
        return Coverage(reasons=frozenset(), detail=misfit)
    reasons: frozenset[str] = frozenset()
    limited = ALL_REASONS if idp is None or idp.reasons is None else idp.reasons
    points = certificate.distribution_points
    for point in points:
        if _point_matches(certificate, point, view):
            reasons |= limited if point.reasons is None else limited & point.reasons
    if view.issuer.key == certificate.issuer.key and _implied_point_matches(certificate, view, locations):
        reasons |= limited  # RFC 5280 6.3.3, last paragraph: a point that is only the issuer's name
    if reasons:
        return Coverage(reasons=reasons & ALL_REASONS)
    shown = ", ".join(_shown(name) for name in idp.full_names) if idp is not None else ""
    if points:
        detail = f"the CRL of {view.issuer.text} for {shown or 'its scope'} matches no distribution point of the certificate"
    else:
        detail = (
            f"the CRL is only for the distribution point {shown or 'that it names'}, and the certificate names none;"
            " if its CA keeps all certificates on this list, name that URL under crl in the trust set"
        )
    return Coverage(reasons=frozenset(), detail=detail)


def _wrong_contents(certificate: Certificate, idp: IssuingDistributionPoint) -> str | None:
    basic = certificate.basic_constraints
    is_ca = basic is not None and basic.ca
    if idp.contents is Contents.USER and is_ca:
        return "the CRL contains only user certificates, and this is a CA's"
    if idp.contents is Contents.CA and not is_ca:
        return "the CRL contains only CA certificates, and this is a user's"
    if idp.contents is Contents.ATTRIBUTE:
        return "the CRL contains only attribute certificates"
    return None


def _point_matches(certificate: Certificate, point: DistributionPoint, view: CrlView) -> bool:
    """
    RFC 5280 6.3.3 (b)(1) and (b)(2)(i) for one distribution point.
    """
    idp = view.idp
    if point.crl_issuers:
        if idp is None or not idp.indirect or all(view.issuer.key != name.key for name in point.crl_issuers):
            return False
        bases: tuple[Name, ...] = point.crl_issuers
    elif view.issuer.key == certificate.issuer.key:
        bases = (certificate.issuer,)
    else:
        return False
    if idp is None or not idp.named:
        return True
    named = _names(point.full_names, point.relative_name, bases)
    if not named:  # the distributionPoint field is left out: its cRLIssuer stands for it
        named = {("directory", name.key) for name in point.crl_issuers}
    return not named.isdisjoint(_names(idp.full_names, idp.relative_name, (view.issuer,)))


def _implied_point_matches(certificate: Certificate, view: CrlView, locations: Collection[str]) -> bool:
    idp = view.idp
    if idp is None or not idp.named:
        return True
    named: set[NameKey] = {("directory", certificate.issuer.key)}
    if not certificate.distribution_points:
        named |= {("uri", _uri_key(url)) for url in locations}
    return not named.isdisjoint(_names(idp.full_names, idp.relative_name, (view.issuer,)))


def _names(full: tuple[GeneralName, ...], relative: bytes | None, bases: tuple[Name, ...]) -> set[NameKey]:
    names: set[NameKey] = set()
    for general in full:
        value = general.value
        if isinstance(value, Name):
            names.add(("directory", value.key))
        elif isinstance(value, str) and general.kind == "uri":
            names.add(("uri", _uri_key(value)))
        else:
            names.add((general.kind, value))
    if relative is not None:
        for base in bases:
            try:
                names.add(("directory", name_with(base, relative).key))
            except DerError:
                continue  # a relative name that is none matches nothing
    return names


def _uri_key(url: str) -> str:
    """
    A URI as compared by RFC 5280 7.4: scheme and host without case, the rest as it is.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"


def _shown(general: GeneralName) -> str:
    return general.value.text if isinstance(general.value, Name) else repr(general.value)
