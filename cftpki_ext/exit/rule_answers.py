"""
What a rule answers whoever comes: the phases of its sessions, and its CA list. So hosts may know it ahead. Pure.
"""

from __future__ import annotations

from cftpki_ext.core.settings import Rule, ServiceSettings, TrustSet
from cftpki_ext.core.vocabulary import Phase
from cftpki_ext.protocol.tls_vectors import encode_ca_list
from cftpki_ext.x509.certificate import parse_certificate


def phases_of(service: ServiceSettings, rule: Rule) -> frozenset[Phase]:
    """
    The phases of a rule's sessions that are answered.
    """
    phases = service.phases - rule.not_handled
    return phases if rule.identity is not None else phases - {Phase.GET_CERTIFICATE, Phase.CRYPT_DATA}


def mask_of(phases: frozenset[Phase]) -> int:
    """
    Phases as the wire has them: bit N set for phase N.
    """
    return sum(1 << phase.value for phase in phases)


def without_check(rule: Rule) -> str:
    """
    Why a handshake that nobody checked is refused, under a rule that requires it.
    """
    return (
        f"rule {rule.name!r} requires CheckCertificate (require_check), and there was none: "
        "a resumed session of TLS, or a partner who was not asked for a certificate"
    )


def ca_list_of(trust: TrustSet) -> bytes:
    """
    The list of a trust set's anchors, as GetCAList gives it: without duplicates, in the order of the configuration.

    Raises:
        InputError: an anchor cannot be read.

    """
    names = (
        parse_certificate(der, compat=trust.compat, form=trust.form.of_anchors).subject.der
        for der in trust.anchors
    )
    return encode_ca_list(tuple(dict.fromkeys(names)))
