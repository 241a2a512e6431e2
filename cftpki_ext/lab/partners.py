"""
Who lives in the lab: the partners, each with the one thing that is wrong with it.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from cftpki_ext.core.values import dataclass

TLS_BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
# Long enough for a lab that is left running, short enough that nobody mistakes it for a real PKI.
_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """
    One partner; times are from the making of the lab.
    """

    name: str
    starts: timedelta = timedelta(hours=-1)
    ends: timedelta = _YEAR
    usages: tuple[ObjectIdentifier, ...] = TLS_BOTH
    stranger: bool = False  # signed by a CA that nobody trusts
    revoked: bool = False


PARTNERS: tuple[Partner, ...] = (
    Partner(name="good"),
    Partner(name="revoked", revoked=True),
    Partner(name="expired", starts=-_YEAR, ends=timedelta(days=-1)),
    Partner(name="not-yet-valid", starts=5 * _YEAR, ends=6 * _YEAR),
    Partner(name="unknown-ca", stranger=True),
    # An extended key usage that names neither end of a TLS session.
    Partner(name="no-eku", usages=(ExtendedKeyUsageOID.CODE_SIGNING,)),
)
