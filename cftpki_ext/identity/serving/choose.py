"""
Whether a chain of ours leads to a CA that a server accepts (RFC 5246 7.4.4). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.der import DerError
from cftpki_ext.x509.name import parse_name


def leads_to(chain: Sequence[Certificate], ca_names: Sequence[bytes]) -> bool:
    """
    Whether some certificate of the chain was issued by one of the named CAs.

    Names are compared as RFC 5280 7.1 does (case and inner spaces of printable strings do not count). Only
    names are looked at: signatures are the server's business.

    Args:
        chain: our chain, leaf first.
        ca_names: DER names from the CA list; an empty list means that any CA will do. One that cannot be
            parsed matches nothing.

    Returns:
        Whether the chain may be sent.

    """
    if not ca_names:
        return True
    raw = set(ca_names)
    if any(certificate.issuer.der in raw for certificate in chain):
        return True
    keys = set()
    for der in raw:
        try:
            keys.add(parse_name(der).key)
        except DerError:
            continue
    return any(certificate.issuer.key in keys for certificate in chain)
