"""
Revocations that a process beside the service learns of.
"""

import contextlib
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_cache.revocations import RevocationMemory
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.cache_key import certificate_key
from tests.support.pki import Revoked, make_crl


def remember(company, config, partner):
    """
    What another process does that learns of a revocation: it keeps the proof in the memory that the service shares.

    Args:
        company: issued the partner's certificate.
        config: of the service; its state is beside it.
        partner: its name.

    """
    now = datetime.now(UTC).replace(microsecond=0)
    issuing = company.issuing
    serial = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())[0].serial_number
    key = certificate_key(
        SourceKind.CRL,
        issuer_name=issuing.certificate.subject.public_bytes(),
        issuer_spki=issuing.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
        serial=serial,
        url="",
    )
    raw = make_crl(issuing, [Revoked(serial, at=now)], this_update=now)
    with contextlib.closing(RevocationMemory(config.with_suffix(".state"))) as memory:
        memory.remember(key, Statement(kind=SourceKind.CRL, origin=Origin.NETWORK, received_at=now, raw=raw))
