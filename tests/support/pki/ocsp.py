"""
OCSP responses with any field bent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes

from cftpki_ext.x509 import der
from tests.support.pki.certificates import NOW, Entity, sign
from tests.support.pki.parts import (
    NULL,
    extension,
    generalized_time,
    integer,
    name_der,
    oid,
    public_key_bits,
    signature_algorithm,
    tagged_extensions,
)

# -- OCSP ----------------------------------------------------------------------------------------------------

_HASH_OIDS = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_OCSP_BASIC = "1.3.6.1.5.5.7.48.1.1"
_OCSP_NONCE = "1.3.6.1.5.5.7.48.1.2"


@dataclass(frozen=True)
class Single:
    """
    One SingleResponse. What is `None` is computed from the certificate and its issuer.

    `status` is `good`, `revoked` or `unknown`. `next_update` `None` leaves it out. `algorithm_parameters` are
    those of the CertID's hash (`b""` leaves them out).
    """

    issuer: Entity
    certificate: Entity
    status: str = "good"
    this_update: datetime = NOW - timedelta(hours=1)
    next_update: datetime | None = NOW + timedelta(hours=23)
    revoked_at: datetime = NOW - timedelta(hours=2)
    reason: int | None = None
    hash_name: str = "sha1"
    hash_oid: str | None = None
    algorithm_parameters: bytes = NULL
    name_hash: bytes | None = None
    key_hash: bytes | None = None
    serial: int | None = None
    extensions: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """
        The DER of the SingleResponse.
        """

        def digest(data: bytes) -> bytes:
            return hashlib.new(self.hash_name, data).digest()

        name_hash = self.name_hash if self.name_hash is not None else digest(name_der(self.issuer.name))
        key_hash = self.key_hash if self.key_hash is not None else digest(public_key_bits(self.issuer))
        serial = self.serial if self.serial is not None else self.certificate.serial
        algorithm = oid(self.hash_oid or _HASH_OIDS[self.hash_name])
        cert_id = der.encode(
            der.SEQUENCE,
            der.encode(der.SEQUENCE, algorithm, self.algorithm_parameters),
            der.encode(der.OCTET_STRING, name_hash),
            der.encode(der.OCTET_STRING, key_hash),
            integer(serial),
        )
        if self.status == "revoked":
            why = b""
            if self.reason is not None:
                why = der.encode(0xA0, der.encode(der.ENUMERATED, bytes((self.reason,))))
            status = der.encode(0xA1, generalized_time(self.revoked_at), why)
        else:
            status = der.encode(0x80 if self.status == "good" else 0x82)
        until = der.encode(0xA0, generalized_time(self.next_update)) if self.next_update else b""
        return der.encode(
            der.SEQUENCE,
            cert_id,
            status,
            generalized_time(self.this_update),
            until,
            tagged_extensions(0xA1, self.extensions),
        )


def make_ocsp_response(
    issuer: Entity,
    certificate: Entity,
    status: str = "good",
    *,
    signer: Entity | None = None,
    signing_key: Any = None,
    digest: str = "sha256",
    certificates: Sequence[bytes] | None = None,
    by_key: bool = False,
    responder_id: bytes | None = None,
    produced_at: datetime = NOW - timedelta(hours=1),
    singles: Sequence[Single] | None = None,
    nonce: bytes | None = None,
    extensions: Sequence[bytes] = (),
    version: int | None = None,
    response_status: int = 0,
    response_type: str = _OCSP_BASIC,
    outer_algorithm: bytes | None = None,
    **single: Any,
) -> bytes:
    """
    An OCSP response, DER, built octet by octet so that any field may be wrong.

    By default it is signed by the CA itself, says `status` about `certificate`, was made an hour before `NOW`
    and is good for a day. With `signer` (a delegate) the delegate's certificate is enclosed.

    Args:
        issuer: the CA of `certificate`, for the CertID.
        certificate: what is asked about.
        status: `good`, `revoked` or `unknown`.
        signer: who signs, and whose name or key is the responder ID.
        signing_key: another key than the signer's.
        digest: of the signature.
        certificates: DER certificates to enclose; default the delegate's, or none.
        by_key: name the responder by key hash.
        responder_id: the DER of the whole ResponderID choice, tag included.
        produced_at: producedAt.
        singles: all single responses, instead of the one that the other arguments describe.
        nonce: the nonce's octets.
        extensions: further response extensions, from `extension`.
        version: write out this version number (0 is v1, and DER leaves it out).
        response_status: the outer status; when it is not 0 there is no body.
        response_type: the identifier of the body's type.
        outer_algorithm: another AlgorithmIdentifier than the one used, DER.
        **single: fields of `Single`.

    Returns:
        The DER.

    """
    outer = der.encode(der.ENUMERATED, bytes((response_status,)))
    if response_status != 0:
        return der.encode(der.SEQUENCE, outer)
    by = signer or issuer
    private = signing_key or by.key
    if responder_id is None:
        if by_key:
            key_hash = hashlib.sha1(public_key_bits(by)).digest()  # noqa: S324  # RFC 6960 4.2.1 fixes SHA-1
            responder_id = der.encode(0xA2, der.encode(der.OCTET_STRING, key_hash))
        else:
            responder_id = der.encode(0xA1, name_der(by.name))
    if singles is None:
        singles = [Single(issuer, certificate, status, **single)]
    items = list(extensions)
    if nonce is not None:
        items.append(extension(_OCSP_NONCE, der.encode(der.OCTET_STRING, nonce)))
    data = der.encode(
        der.SEQUENCE,
        der.encode(0xA0, integer(version)) if version is not None else b"",
        responder_id,
        generalized_time(produced_at),
        der.encode(der.SEQUENCE, *(s.encode() for s in singles)),
        tagged_extensions(0xA1, items),
    )
    hash_algorithm = {
        "md5": hashes.MD5,
        "sha1": hashes.SHA1,
        "sha256": hashes.SHA256,
        "sha384": hashes.SHA384,
        "sha512": hashes.SHA512,
    }[digest]()  # the weak ones are here to be refused
    if certificates is None:
        certificates = [signer.der] if signer is not None else []
    basic = der.encode(
        der.SEQUENCE,
        data,
        outer_algorithm or signature_algorithm(private, digest),
        der.encode(der.BIT_STRING, b"\0", sign(private, data, hash_algorithm)),
        der.encode(0xA0, der.encode(der.SEQUENCE, *certificates)) if certificates else b"",
    )
    body = der.encode(der.SEQUENCE, oid(response_type), der.encode(der.OCTET_STRING, basic))
    return der.encode(der.SEQUENCE, outer, der.encode(0xA0, body))
