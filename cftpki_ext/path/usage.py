"""
What a certificate may be used for: key usage and extended key usage by purpose (RFC 5280 4.2.1.3, 4.2.1.12).

Owns the table of purposes.
"""

from __future__ import annotations

from cftpki_ext.path.request import Purpose
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import ANY_EKU, CLIENT_AUTH, SERVER_AUTH, KeyUsage

# The key usage bits of which the leaf needs one (RFC 5280 4.2.1.12), where it has the extension.
_BITS: dict[Purpose, frozenset[KeyUsage]] = {
    Purpose.TLS_CLIENT: frozenset((KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT)),
    Purpose.TLS_SERVER: frozenset(
        (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT, KeyUsage.KEY_AGREEMENT)
    ),
    Purpose.CRL_SIGNING: frozenset((KeyUsage.CRL_SIGN,)),
}

_EXTENDED: dict[Purpose, str] = {Purpose.TLS_CLIENT: CLIENT_AUTH, Purpose.TLS_SERVER: SERVER_AUTH}


def key_usage_violation(leaf: Certificate, purpose: Purpose) -> str | None:
    """
    Whether the leaf's key usage forbids the purpose.

    By default a certificate without the extension may be used for anything.

    Args:
        leaf: the certificate.
        purpose: what it is to be used for.

    Returns:
        The clause that says what is missing, or `None`.

    """
    wanted = _BITS.get(purpose)
    if wanted is None or leaf.key_usage is None or wanted & leaf.key_usage:
        return None
    return f"key usage is {', '.join(sorted(leaf.key_usage))}; {purpose.value} needs {' or '.join(sorted(wanted))}"


def extended_key_usage_violation(certificate: Certificate, purpose: Purpose) -> str | None:
    """
    Whether a certificate's extended key usage forbids the purpose: the leaf's own, or that of a CA above it.

    By default a certificate without the extension may be used for anything, and anyExtendedKeyUsage allows
    everything. A CA with the extension restricts what is below it.

    Args:
        certificate: leaf or CA.
        purpose: what the leaf is to be used for.

    Returns:
        The clause that says what is missing, or `None`.

    """
    wanted = _EXTENDED.get(purpose)
    usages = certificate.extended_key_usage
    if wanted is None or usages is None or wanted in usages or ANY_EKU in usages:
        return None
    return f"extended key usage is {', '.join(sorted(usages))}; {purpose.value} needs {wanted}"
