"""
Algorithms beside the usual ones: brainpool, RSASSA-PSS keys with parameters, SHA-3; what is not supported has a name.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cftpki_ext.x509 import der
from cftpki_ext.x509.keys import KeyKind, load_key
from cftpki_ext.x509.signed import AlgorithmIdentifier, SignatureStatus, Signed, signature_name, verify
from tests.support.pki import integer, key, oid

DATA = b"signed"
SHA256, SHA384 = "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2"
SHA3 = "2.16.840.1.101.3.4.2.8"
MAKERS = {SHA256: hashes.SHA256, SHA384: hashes.SHA384, SHA3: hashes.SHA3_256}


def spki(private) -> bytes:
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(dotted: str, signature: bytes, parameters: bytes | None = None) -> Signed:
    algorithm = AlgorithmIdentifier(dotted, parameters)
    return Signed(hashes_of(dotted, signature, parameters), DATA, algorithm, signature)


def hashes_of(*parts: object) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(repr(parts).encode())
    return digest.finalize()


@pytest.mark.parametrize("curve", [ec.BrainpoolP256R1, ec.BrainpoolP384R1, ec.BrainpoolP512R1])
def test_brainpool_key_verifies(curve):
    private = ec.generate_private_key(curve())
    found = load_key(spki(private))
    assert (KeyKind.EC, True) == (found.kind, found.strong)
    signature = private.sign(DATA, ec.ECDSA(hashes.SHA384()))
    assert SignatureStatus.VALID is verify(signed("1.2.840.10045.4.3.3", signature), found)
    assert SignatureStatus.INVALID is verify(signed("1.2.840.10045.4.3.2", signature), found)


@pytest.mark.parametrize(
    ("dotted", "digest"),
    [
        ("2.16.840.1.101.3.4.3.10", hashes.SHA3_256),
        ("2.16.840.1.101.3.4.3.11", hashes.SHA3_384),
        ("2.16.840.1.101.3.4.3.12", hashes.SHA3_512),
    ],
)
def test_ecdsa_with_sha3_verifies(dotted, digest):
    private = key("ec", 501)
    signature = private.sign(DATA, ec.ECDSA(digest()))
    assert SignatureStatus.VALID is verify(signed(dotted, signature), spki(private))
    assert SignatureStatus.INVALID is verify(signed("1.2.840.10045.4.3.2", signature), spki(private))


def test_rsa_with_sha3_verifies():
    private = key("rsa", 502)
    signature = private.sign(DATA, padding.PKCS1v15(), hashes.SHA3_256())
    assert SignatureStatus.VALID is verify(signed("2.16.840.1.101.3.4.3.14", signature), spki(private))
    assert SignatureStatus.INVALID is verify(signed("2.16.840.1.101.3.4.3.16", signature), spki(private))


def pss_parameters(digest: str, salt: int) -> bytes:
    hashed = der.encode(der.SEQUENCE, oid(digest), b"\x05\x00")
    return der.encode(
        der.SEQUENCE,
        der.encode(0xA0, hashed),
        der.encode(0xA1, der.encode(der.SEQUENCE, oid("1.2.840.113549.1.1.8"), hashed)),
        der.encode(0xA2, integer(salt)),
    )


def pss_key(parameters: bytes) -> bytes:
    parts = der.children(spki(key("rsa", 502)), der.whole(spki(key("rsa", 502))))
    bits = der.encoded(spki(key("rsa", 502)), parts[1])
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, oid("1.2.840.113549.1.1.10"), parameters), bits)


@pytest.mark.parametrize(
    ("bond", "used", "status"),
    [
        ((SHA256, 32), (SHA256, 32), SignatureStatus.VALID),
        ((SHA256, 20), (SHA256, 32), SignatureStatus.VALID),
        ((SHA256, 32), (SHA256, 20), SignatureStatus.UNSUPPORTED),
        ((SHA384, 32), (SHA256, 32), SignatureStatus.UNSUPPORTED),
        ((SHA3, 32), (SHA3, 32), SignatureStatus.VALID),
    ],
)
def test_pss_key_is_held_to_its_parameters(bond, used, status):
    digest, salt = used
    made = MAKERS[digest]()
    signature = key("rsa", 502).sign(DATA, padding.PSS(padding.MGF1(made), salt), made)
    found = load_key(pss_key(pss_parameters(*bond)))
    assert KeyKind.RSA_PSS is found.kind
    assert status is verify(
        signed("1.2.840.113549.1.1.10", signature, pss_parameters(*used)), found, remember=False
    )


def test_pss_key_takes_no_other_padding():
    signature = key("rsa", 502).sign(DATA, padding.PKCS1v15(), hashes.SHA256())
    found = load_key(pss_key(pss_parameters(SHA256, 32)))
    assert SignatureStatus.INVALID is verify(signed("1.2.840.113549.1.1.11", signature, b"\x05\x00"), found)


@pytest.mark.parametrize(
    ("private", "name"),
    [
        (key("dsa", 503), "DSA (1.2.840.10040.4.1)"),
        (key("secp256k1", 503), "EC on secp256k1 (1.3.132.0.10)"),
        (key("p224", 503), "EC on P-224 (1.3.132.0.33)"),
    ],
)
def test_key_that_is_not_supported_has_a_name(private, name):
    found = load_key(spki(private))
    assert (KeyKind.UNSUPPORTED, name) == (found.kind, found.name)


def test_signature_that_is_not_supported_has_a_name():
    assert "SM2 with SM3 (1.2.156.10197.1.501)" == signature_name(
        AlgorithmIdentifier("1.2.156.10197.1.501", None)
    )
    assert "1.2.3" == signature_name(AlgorithmIdentifier("1.2.3", None))
