"""
The envelope in an answer: decrypted with the key of who asked (RFC 5652 6).

Pure; bounded by the message that it comes in.
"""

from __future__ import annotations

from typing import Any

from asn1crypto import cms  # type: ignore[import-untyped]  # it has no stubs
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from cftpki_connectors.scep.reading import HASHES, AlgorithmError, MessageError, named_by
from cftpki_connectors.scep.vocabulary import Legacy
from cftpki_connectors.scep.writing import Signer
from cftpki_ext.x509 import der
from cftpki_ext.x509.certificate import Certificate, parse_certificate

_ENVELOPED_DATA = "1.2.840.113549.1.7.3"
_RSA_PKCS1 = "1.2.840.113549.1.1.1"
_RSA_OAEP = "1.2.840.113549.1.1.7"
_TRIPLE_DES = "1.2.840.113549.3.7"
_AES_CBC = {"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
_OTHER_CIPHERS = {
    "1.3.14.3.2.7": 'DES (step-ca: set "encryptionAlgorithmIdentifier" to 2)',
    "1.2.840.113549.3.2": "RC2",
    "2.16.840.1.101.3.4.1.6": 'AES-GCM (step-ca: set "encryptionAlgorithmIdentifier" to 2)',
    "2.16.840.1.101.3.4.1.46": 'AES-GCM (step-ca: set "encryptionAlgorithmIdentifier" to 2)',
}


def opened(data: bytes, recipient: Signer, legacy: frozenset[Legacy]) -> bytes:
    """
    Decrypt what is for us (RFC 5652 6): RSA with PKCS#1 v1.5 or OAEP, AES in CBC.

    Only for messages whose signature holds: what a decryption says of others could be asked again and again.

    Args:
        data: a ContentInfo, DER or BER.
        recipient: who we are.
        legacy: older algorithms that are allowed.

    Returns:
        The content.

    Raises:
        MessageError: no envelope, not for us, or damaged.
        AlgorithmError: a cipher that is not allowed.

    """
    try:
        cipher, parameters, encrypted, transport, wrapped = _envelope(
            data, parse_certificate(recipient.certificate)
        )
    except (MessageError, AlgorithmError):
        raise
    except Exception as error:  # as in read_signed
        msg = "the answer holds no CMS EnvelopedData that can be read"
        raise MessageError(msg) from error
    size = 24 if cipher == _TRIPLE_DES else _AES_CBC.get(cipher, 0)
    if cipher == _TRIPLE_DES and Legacy.TRIPLE_DES not in legacy:
        msg = 'the answer is encrypted with 3DES, which is taken only with legacy = ["3des"]'
        raise AlgorithmError(msg)
    if not size:
        msg = f"the answer is encrypted with {_OTHER_CIPHERS.get(cipher, f'the cipher {cipher}')}, which is not taken"
        raise AlgorithmError(msg)
    try:
        key = recipient.key.decrypt(wrapped, transport)
        if len(key) != size:
            msg = "the content key has another length than its cipher"
            raise ValueError(msg)  # noqa: TRY301  # as with a key that is wrong in another way
        iv = der.content(parameters, der.whole(parameters, der.OCTET_STRING))
        block = TripleDES(key) if cipher == _TRIPLE_DES else algorithms.AES(key)
        decryptor = Cipher(block, modes.CBC(iv)).decryptor()
        padded = decryptor.update(encrypted) + decryptor.finalize()
        unpadder = PKCS7(block.block_size).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except (ValueError, der.DerError) as error:
        msg = "the answer cannot be decrypted with the key of the request"
        raise MessageError(msg) from error


def _envelope(data: bytes, ours: Certificate) -> tuple[str, bytes, bytes, padding.AsymmetricPadding, bytes]:
    information = cms.ContentInfo.load(data, strict=True)
    if information["content_type"].dotted != _ENVELOPED_DATA:
        msg = "the answer is not encrypted"
        raise MessageError(msg)
    body = information["content"]
    transported = [one.chosen for one in body["recipient_infos"] if one.name == "ktri"]
    # With a single recipient it does not matter what the server calls us.
    fitting = [one for one in transported if named_by(one["rid"])(ours)] or transported[:2]
    if len(fitting) != 1:
        msg = "the answer is encrypted for somebody else"
        raise MessageError(msg)
    (recipient,) = fitting
    content = body["encrypted_content_info"]
    algorithm = content["content_encryption_algorithm"]
    encrypted = content["encrypted_content"].native
    if not isinstance(encrypted, bytes):
        msg = "the answer's envelope is empty"
        raise MessageError(msg)
    return (
        algorithm["algorithm"].dotted,
        algorithm["parameters"].dump(),
        encrypted,
        _transport(recipient["key_encryption_algorithm"]),
        recipient["encrypted_key"].native,
    )


def _transport(algorithm: Any) -> padding.AsymmetricPadding:
    name = algorithm["algorithm"].dotted
    if name == _RSA_PKCS1:
        return padding.PKCS1v15()
    if name == _RSA_OAEP:
        parameters = algorithm["parameters"]
        digest = HASHES[parameters["hash_algorithm"]["algorithm"].dotted]
        mask = parameters["mask_gen_algorithm"]["parameters"]["algorithm"].dotted
        return padding.OAEP(padding.MGF1(HASHES[mask]()), digest(), None)
    msg = f"the answer's content key is encrypted with {name}, which is not taken"
    raise AlgorithmError(msg)
