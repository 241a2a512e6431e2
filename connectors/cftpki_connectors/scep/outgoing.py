"""
What goes out for an order: who signs it, and what is in the envelope.

Owns the choice among the identity's keys, the one in force and the enroller's own.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from cftpki_connectors.ca.certificates import spki_of
from cftpki_connectors.scep import writing
from cftpki_connectors.scep.credentials import envelope_key
from cftpki_connectors.scep.plan import Plan
from cftpki_connectors.scep.state import Attempt
from cftpki_connectors.scep.vocabulary import MessageType
from cftpki_connectors.scep.writing import Signer
from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.enroller_port import Order
from cftpki_ext.identity.store.private_keys import public_bytes
from cftpki_ext.x509.certificate import Certificate


def signer_for(order: Order, plan: Plan, attempt: Attempt, *, folder: Path, now: datetime) -> Signer:
    """
    Who signs, and to whom the answer is encrypted: the certificate in force, or one of our own making. Blocking.

    Args:
        order: with its key, and perhaps a certificate in force.
        plan: what is asked.
        attempt: how far the order is: a certificate that we made for it is used again.
        folder: the enroller's state, for a key of its own.
        now: aware.

    Returns:
        Certificate and RSA key.

    Raises:
        InputError: no key can be used, or the order's request is no PKCS#10.

    """
    current = order.current
    if plan.operation is MessageType.RENEWAL_REQ and current is not None:
        if not isinstance(current.key, rsa.RSAPrivateKey):  # the plan has seen to that
            msg = "the key of the certificate in force is not RSA"
            raise InputError(msg)
        return Signer(certificate=current.chain[0], key=current.key)
    key = order.key
    if not isinstance(key, rsa.RSAPrivateKey):
        key = envelope_key(folder)
    if attempt.operation is MessageType.PKCS_REQ and spki_of(attempt.signer) == public_bytes(key):
        return Signer(certificate=attempt.signer, key=key)
    names = order.names
    name = names.common_name or next(iter((*names.dns, *map(str, names.addresses))), order.identity)
    return Signer(certificate=writing.self_signed(order.csr, name, key, now), key=key)


def content_of(order: Order, plan: Plan, challenge: str | None, *, issuer: Certificate) -> bytes:
    """
    What is told to the server: the request, with the password where the plan says so, or which one is asked about.

    Args:
        order: with its request.
        plan: what is asked.
        challenge: the password, if there is one.
        issuer: the CA, for a CertPoll.

    Returns:
        DER.

    Raises:
        InputError: the order's request is no PKCS#10.

    """
    if plan.operation is MessageType.CERT_POLL:
        return writing.issuer_and_subject(issuer.subject.der, writing.subject_of(order.csr))
    if plan.challenge and challenge is not None:
        return writing.with_challenge(order.csr, order.key, challenge)
    return order.csr
