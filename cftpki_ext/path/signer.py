"""
The path of a certificate that signed a CRL.

Owns what is asked of such a path.
"""

from __future__ import annotations

from datetime import datetime

from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.path.build import find_path
from cftpki_ext.path.request import PathRequest, Purpose
from cftpki_ext.x509.certificate import Certificate


def crl_signer_path(
    signer: Certificate,
    *,
    anchor: Certificate,
    pool: tuple[Certificate, ...],
    at: datetime,
    trust: TrustSet,
    limits: Limits,
) -> tuple[Certificate, ...] | None:
    """
    A path for a certificate that signed a CRL, valid at a time, to one anchor and no other.

    The trust set's policies say under which ones partners' certificates must be issued; who may sign a CRL is
    said by its issuer (RFC 5280 6.3.3 (f) names the anchor and no policy), so they are not asked for here. Whether
    the signer is revoked is *not* checked.

    Args:
        signer: whose key the CRL is signed with.
        anchor: of the path of the certificate that is judged.
        pool: CA certificates that may help.
        at: the time.
        trust: for its leniencies.
        limits: bounds of the search.

    Returns:
        The signer first, the anchor last; `None` where there is no valid path.

    """
    result = find_path(
        PathRequest(
            chain=(signer,),
            anchors=(anchor,),
            intermediates=pool,
            now=at,
            purpose=Purpose.CRL_SIGNING,
            compat=trust.compat,
            limits=limits,
        )
    )
    return result.path if result.trusted and not result.faults else None
