"""
Where the status of each certificate of a path may be asked, and in which order.

Owns the list of locations; fetches nothing and judges no host (the connectors hold the configured hosts and
addresses).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.policy import Depth
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import CertificateFinding, CertificateStatus
from cftpki_ext.core.vocabulary import Form, SourceKind
from cftpki_ext.revocation.crl_parse import read_crl
from cftpki_ext.revocation.rest import rest_url
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.distribution import locations

_SCHEMES = ("http://", "https://")
_DIRECTORY_SCHEMES = ("ldap://", "ldaps://")


def depths_to_judge(path: tuple[Certificate, ...], trust: TrustSet) -> tuple[int, ...]:
    """
    The depths that need a status: every certificate below the anchor, or the leaf alone where policy says so.

    Args:
        path: leaf first, the anchor last.
        trust: its policy's depth decides. By default the whole chain.

    Returns:
        Depths, 0 = leaf; none for an anchor that stands alone.

    """
    depths = tuple(range(len(path) - 1))
    return depths[:1] if trust.policy.depth is Depth.LEAF else depths


def plan_lookups(path: tuple[Certificate, ...], trust: TrustSet, limits: Limits) -> tuple[Lookup, ...]:
    """
    The locations to ask, certificate by certificate, in the order of `trust.sources`, then of `trust.cross_check`.

    The trust set's own locations come first and are all asked, its CRL files (by their paths) before
    URLs. A CA's API that answers with a CRL has a CRL's lookup in the place of `rest`. Of those that a certificate names, at most `limits.urls_per_certificate` are, shared fairly
    between the kinds. A location that can never be asked (neither http nor https, nor LDAP where the trust set permits
    it) is only listed where a certificate names no other of that kind: the connector then refuses it by name, which
    tells more than "no source".

    Args:
        path: a trusted path, leaf first, the anchor last.
        trust: its sources and its own locations.
        limits: the cap.

    Returns:
        Lookups, none twice.

    """
    lookups: list[Lookup] = []
    kinds = tuple(dict.fromkeys((*trust.sources, *trust.cross_check)))
    for depth in depths_to_judge(path, trust):
        if path[depth].no_rev_avail and trust.form is not Form.FIRST:
            continue  # RFC 9608 4: there is no status to be asked for
        own = {
            SourceKind.OCSP: trust.ocsp_urls,
            SourceKind.CRL: (*map(str, trust.crl_files), *trust.crl_urls),
            SourceKind.REST: _api(trust, path[depth]),
        }
        named = _share(
            {kind: _named(path[depth], kind, trust) for kind in kinds}, limits.urls_per_certificate
        )
        for kind in kinds:
            urls = dict.fromkeys((*own[kind], *named[kind]))
            asked = SourceKind.CRL if kind is SourceKind.REST and trust.api_crls else kind
            lookups += (Lookup(depth=depth, kind=asked, url=url) for url in urls)
    return tuple(dict.fromkeys(lookups))


def _api(trust: TrustSet, certificate: Certificate) -> tuple[str, ...]:
    """
    Where the CA's own API is asked about a certificate.
    """
    if trust.rest is None:
        return ()
    return trust.api_crls or (rest_url(trust.rest, certificate),)


def plan_deltas(
    certificate: Certificate,
    finding: CertificateFinding,
    statements: Sequence[Statement],
    trust: TrustSet,
    limits: Limits,
) -> tuple[Lookup, ...]:
    """
    Where the delta CRLs are that belong to the lists heard about one certificate (RFC 5280 4.2.1.15 and 5.2.6).

    By default they are to be heard before the silence of a complete list counts; the one who asks decides what
    to do where they cannot be got. Nothing where the trust set leaves deltas out, where no complete list was
    authentic, and where another source has established "good" already. Only authentic lists are believed.

    Args:
        certificate: that the lists are about.
        finding: the certificate as judged by `statements`.
        statements: everything that was heard.
        trust: its `deltas`.
        limits: at most `urls_per_certificate` are given.

    Returns:
        Lookups, those that the certificate names first.

    """
    authentic = {s.digest for s in finding.sources if s.kind is SourceKind.CRL and s.responder is not None}
    good = {s.kind for s in finding.sources if s.status is CertificateStatus.GOOD}
    if not trust.deltas or not authentic or (good and SourceKind.CRL not in good):
        return ()
    urls: list[str] = []
    for statement in statements:
        if statement.kind is not SourceKind.CRL or statement.raw is None:
            continue
        if statement.depth not in {None, finding.depth} or len(statement.raw) > limits.crl_bytes:
            continue
        try:
            view = read_crl(statement.raw)
        except InputError:
            continue
        if view.raw_digest in authentic and view.base_number is None:
            urls += (*locations(certificate.freshest_crl), *view.delta_urls)
    usable = (url for url in dict.fromkeys(urls) if _can_be_asked(url, SourceKind.CRL, trust))
    return tuple(
        Lookup(depth=finding.depth, kind=SourceKind.CRL, url=url)
        for _, url in zip(range(limits.urls_per_certificate), usable, strict=False)
    )


def _can_be_asked(url: str, kind: SourceKind, trust: TrustSet) -> bool:
    directory = trust.ldap is not None and kind is SourceKind.CRL
    return url.lower().startswith((*_SCHEMES, *_DIRECTORY_SCHEMES) if directory else _SCHEMES)


def _named(certificate: Certificate, kind: SourceKind, trust: TrustSet) -> tuple[str, ...]:
    """
    The locations of one kind that the certificate itself names, usable schemes only if there is any.
    """
    urls: Iterable[str] = ()
    if kind is SourceKind.OCSP:
        urls = certificate.ocsp_urls
    elif kind is SourceKind.CRL:
        # Complete lists before the deltas that build on them (RFC 5280 4.2.1.15).
        urls = locations((*certificate.distribution_points, *certificate.freshest_crl))
    found = tuple(dict.fromkeys(urls))
    usable = tuple(url for url in found if _can_be_asked(url, kind, trust))
    return usable or found


def _share(named: dict[SourceKind, tuple[str, ...]], cap: int) -> dict[SourceKind, list[str]]:
    """
    Take from each kind in turn until the cap is reached, so that many of one kind leave room for the other.
    """
    taken: dict[SourceKind, list[str]] = {kind: [] for kind in named}
    rounds = max((len(urls) for urls in named.values()), default=0)
    for index in range(rounds):
        for kind, urls in named.items():
            if index < len(urls) and sum(map(len, taken.values())) < cap:
                taken[kind].append(urls[index])
    return taken
