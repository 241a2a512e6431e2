"""
CMP messages as servers write them, and as no server does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cftpki_connectors.cmp import writing
from cftpki_connectors.cmp.protection import Mac, Secret, Signer
from cftpki_ext.identity.enroller_port import Held
from cftpki_ext.x509 import der
from tests.support import pki

SENDER = pki.name("CMP Root").public_bytes()
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def fields(**changes: object) -> writing.Fields:
    """
    A header's.
    """
    values: dict[str, object] = {
        "sender": SENDER,
        "recipient": writing.NO_NAME,
        "time": AT,
        "algorithm": writing.attribute("1.2.840.10045.4.3.2", None),
        "key_id": None,
        "transaction": b"t" * 16,
        "nonce": b"n" * 16,
        "answered": b"r" * 16,
    }
    return writing.Fields(**(values | changes))  # type: ignore[arg-type]  # as the table says


def made(kind: int, body: bytes, *, extra: Sequence[bytes] = (), **changes: object) -> bytes:
    """
    A message whose protection is none.
    """
    return writing.message(
        writing.header(fields(**changes)), writing.tagged(kind, body), b"protection", extra
    )


def protected(kind: int, body: bytes, means: Secret | Signer, **changes: object) -> bytes:
    """
    A message that somebody answers for.
    """
    algorithm = means.begin()
    head = writing.header(fields(**({"algorithm": algorithm, "sender": means.sender} | changes)))
    part = writing.tagged(kind, body)
    return writing.message(head, part, means.protect(algorithm, writing.sequence(head, part)), means.chain)


def signing(entity: pki.Entity, *above: pki.Entity) -> Signer:
    """
    What a server signs with.
    """
    held = Held(chain=(entity.der, *(one.der for one in above)), key=entity.key)
    return Signer(held=held, sender=entity.certificate.subject.public_bytes(), key_id=None, chain=held.chain)


def shared(secret: bytes, mac: Mac = Mac.PBM) -> Secret:
    """
    What a server protects with that shares a secret with us.
    """
    return Secret(secret=secret, key_id=b"mft01", mac=mac, sender=SENDER)


def status(number: int, *, texts: Sequence[str] = (), failures: Sequence[int] = ()) -> bytes:
    """
    PKIStatusInfo.
    """
    parts = [writing.integer(number)]
    if texts:
        parts.append(der.encode(der.SEQUENCE, *(der.encode(der.UTF8_STRING, one.encode()) for one in texts)))
    if failures:
        octets = bytearray(max(failures) // 8 + 1)
        for bit in failures:
            octets[bit // 8] |= 0x80 >> bit % 8
        unused = 7 - max(failures) % 8
        parts.append(der.encode(der.BIT_STRING, bytes([unused]), bytes(octets)))
    return der.encode(der.SEQUENCE, *parts)


def cert_reply(
    *,
    certificate: bytes | None = None,
    encrypted: bytes | None = None,
    number: int = 0,
    outcome: bytes | None = None,
    authorities: Sequence[bytes] = (),
) -> bytes:
    """
    CertRepMessage with one response.
    """
    parts = [writing.integer(number), status(0) if outcome is None else outcome]
    if certificate is not None:
        parts.append(der.encode(der.SEQUENCE, writing.tagged(0, certificate)))
    if encrypted is not None:
        parts.append(der.encode(der.SEQUENCE, writing.tagged(1, encrypted)))
    above = [writing.tagged(1, der.encode(der.SEQUENCE, *authorities))] if authorities else []
    return der.encode(der.SEQUENCE, *above, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *parts)))


def error(said: bytes) -> bytes:
    """
    ErrorMsgContent.
    """
    return der.encode(der.SEQUENCE, said)


def poll_reply(number: int, after_s: int, reason: str = "") -> bytes:
    """
    PollRepContent.
    """
    texts = der.encode(der.SEQUENCE, der.encode(der.UTF8_STRING, reason.encode())) if reason else b""
    return writing.sequence(writing.sequence(writing.integer(number), writing.integer(after_s), texts))


def revocation_reply(*statuses: bytes) -> bytes:
    """
    RevRepContent.
    """
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *statuses))


def general_reply(*infos: bytes) -> bytes:
    """
    GenRepContent.
    """
    return der.encode(der.SEQUENCE, *infos)


def root_update(new: bytes, *, new_with_old: bytes | None = None) -> bytes:
    """
    RootCaKeyUpdateContent.
    """
    return der.encode(der.SEQUENCE, new, b"" if new_with_old is None else writing.tagged(0, new_with_old))
