"""
Reading the chains that a CA gives, and choosing one of them (RFC 8555 7.4.2). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_connectors.ca.values import CaError
from cftpki_ext.identity.enroller_port import Fault

# Longer than any chain that a partner takes.
MAX_CERTIFICATES = 16

Chain = tuple[x509.Certificate, ...]


def parse_chain(pem: bytes) -> Chain:
    """
    Read a PEM chain.

    Raises:
        CaError: it holds no certificate, too many, or what is none.

    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion) as error:
        raise CaError(Fault.UNREACHABLE, "the CA's chain cannot be read", sent=True) from error
    if len(chain) > MAX_CERTIFICATES:
        raise CaError(Fault.UNREACHABLE, f"the CA's chain has {len(chain)} certificates", sent=True)
    return chain


def to_der(chain: Chain) -> tuple[bytes, ...]:
    """
    The chain as DER.
    """
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def preferred(chains: Sequence[Chain], *, root: x509.Certificate | None, issuer: str | None) -> int | None:
    """
    Which chain leads where it shall.

    Args:
        chains: the CA's own first, then its alternates.
        root: the last certificate is issued by this one (or is it).
        issuer: a common name in the issuer of the last certificate.

    Returns:
        An index; `None` where none does, or nothing is preferred.

    """
    for index, chain in enumerate(chains):
        top = chain[-1]
        if root is not None and (top == root or _issued_by(top, root)):
            return index
        if issuer is not None and issuer in _common_names(top.issuer):
            return index
    return None


def _issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _common_names(name: x509.Name) -> set[str]:
    return {str(one.value) for one in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
