"""
Private-key operations for CryptData: signatures that TLS asks for, and nothing else.

Owns which inputs are signed, which is judged before any key is asked (`check`). There is no decryption and no
operation on free bytes: what is signed with scheme 0 must look like a TLS hash (RFC 2246 4.7, RFC 8017 9.2), so that
the host's access is no oracle for other uses of the key.
"""

from __future__ import annotations

from types import MappingProxyType

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed

from cftpki_ext.core.errors import InputError
from cftpki_ext.identity import PrivateKey

PublicKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

PKCS1_AS_GIVEN = 0
# MD5 (16) and SHA-1 (20) side by side: what TLS 1.0 and 1.1 sign with RSA.
_MD5_SHA1_BYTES = 36

# DER of DigestInfo up to the digest (RFC 8017 9.2 note 1), with the digest's length.
_DIGEST_INFO = (
    (bytes.fromhex("3021300906052b0e03021a05000414"), 20),  # SHA-1
    (bytes.fromhex("302d300d06096086480165030402040500041c"), 28),  # SHA-224
    (bytes.fromhex("3031300d060960864801650304020105000420"), 32),  # SHA-256
    (bytes.fromhex("3041300d060960864801650304020205000430"), 48),  # SHA-384
    (bytes.fromhex("3051300d060960864801650304020305000440"), 64),  # SHA-512
)

# SignatureScheme of RFC 8446 4.2.3.
_RSA_PKCS1 = MappingProxyType({0x0401: hashes.SHA256(), 0x0501: hashes.SHA384(), 0x0601: hashes.SHA512()})
_RSA_PSS = MappingProxyType({0x0804: hashes.SHA256(), 0x0805: hashes.SHA384(), 0x0806: hashes.SHA512()})
# In TLS 1.2 the hash does not fix the curve (RFC 5246 7.4.1.4.1), so any of our curves signs any of these.
_ECDSA = MappingProxyType({0x0403: hashes.SHA256(), 0x0503: hashes.SHA384(), 0x0603: hashes.SHA512()})
_ED25519 = 0x0807
_ED448 = 0x0808


def public_key(spki: bytes) -> PublicKey:
    """
    The public key of a certificate of ours.

    Args:
        spki: its SubjectPublicKeyInfo (DER).

    Raises:
        InputError: a key that TLS cannot use.

    """
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as exc:
        msg = "the certificate's key cannot be read"
        raise InputError(msg) from exc
    if not isinstance(key, RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey):
        msg = "the certificate's key is of a kind that TLS cannot use"
        raise InputError(msg)
    return key


def check(public: PublicKey, scheme: int, data: bytes) -> None:
    """
    Judge what is to be signed, by the public key alone.

    Args:
        public: of the identity's key.
        scheme: see `sign`.
        data: see `sign`.

    Raises:
        InputError: a scheme that does not fit the key or is not known, or data that is no such hash.

    """
    if isinstance(public, RSAPublicKey):
        if scheme == PKCS1_AS_GIVEN:
            _check_given(data)
            return
        if (digest := _RSA_PKCS1.get(scheme) or _RSA_PSS.get(scheme)) is not None:
            _check_digest(data, digest)
            if scheme in _RSA_PSS:
                _check_room(public.key_size, digest)
            return
    elif isinstance(public, ec.EllipticCurvePublicKey):
        if (digest := _ECDSA.get(scheme)) is not None:
            _check_digest(data, digest)
            return
    elif (isinstance(public, Ed25519PublicKey) and scheme == _ED25519) or (
        isinstance(public, Ed448PublicKey) and scheme == _ED448
    ):
        return
    msg = f"signature scheme 0x{scheme:04x} does not fit the identity's key"
    raise InputError(msg)


def sign(key: PrivateKey, scheme: int, data: bytes) -> bytes:
    """
    Sign one TLS hash (or, for EdDSA, one message).

    What the hash is of is *not* known here: the host made it.

    Args:
        key: the identity's private key.
        scheme: 0 for the PKCS#1 v1.5 private-key operation on `data` as given, else a TLS SignatureScheme.
        data: for scheme 0 either 36 bytes (MD5 and SHA-1) or a DigestInfo of SHA-1 or SHA-2; for the other
            schemes the digest, for EdDSA the message.

    Returns:
        The signature as it goes into the handshake message (ECDSA: DER).

    Raises:
        InputError: see `check`.

    """
    check(key.public_key(), scheme, data)
    if isinstance(key, RSAPrivateKey):
        if scheme == PKCS1_AS_GIVEN:
            return key.sign(data, padding.PKCS1v15(), NoDigestInfo())
        if (digest := _RSA_PSS.get(scheme)) is not None:
            pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
            return key.sign(data, pss, Prehashed(digest))
        return key.sign(data, padding.PKCS1v15(), Prehashed(_RSA_PKCS1[scheme]))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(Prehashed(_ECDSA[scheme])))
    return key.sign(data)


def export_pkcs8(key: PrivateKey) -> bytes:
    """
    The key as unencrypted PKCS#8 DER, for an identity whose configuration hands it over.

    Returns:
        A secret: it goes to the host and nowhere else.

    """
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _check_given(data: bytes) -> None:
    if len(data) == _MD5_SHA1_BYTES:
        return
    for prefix, size in _DIGEST_INFO:
        if data.startswith(prefix) and len(data) == len(prefix) + size:
            return
    msg = f"{len(data)} bytes that are neither MD5 and SHA-1 nor a DigestInfo are not signed"
    raise InputError(msg)


def _check_digest(data: bytes, digest: hashes.HashAlgorithm) -> None:
    if len(data) != digest.digest_size:
        msg = f"{len(data)} bytes where a {digest.name} digest of {digest.digest_size} is needed"
        raise InputError(msg)


def _check_room(bits: int, digest: hashes.HashAlgorithm) -> None:
    """
    EMSA-PSS with a salt as long as the digest needs 2 octets more than both (RFC 8017 9.1.1, step 3).
    """
    if (bits - 1 + 7) // 8 < 2 * digest.digest_size + 2:
        msg = f"an RSA key of {bits} bits is too short for PSS with {digest.name}"
        raise InputError(msg)
