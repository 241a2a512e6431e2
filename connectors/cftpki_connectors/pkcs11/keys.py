"""
Keys on tokens behind the key types of `cryptography`, so that nobody else knows where a key lives.

They sign and cannot be exported. Blocking: callers run them where they may wait.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NoReturn, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asym_utils
from pkcs11 import MGF, Mechanism

from cftpki_connectors.pkcs11.module import Handle
from cftpki_ext.core.errors import InputError, KeyUnavailableError
from cftpki_ext.core.pkcs11_uri import TokenKey

_PSS = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}
# DigestInfo up to the digest (RFC 8017 9.2 note 1), for what `cryptography` would wrap itself.
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
# `padding` is also the name that the key classes give an argument.
_Pss = padding.PSS
_pkcs1 = padding.PKCS1v15
Buffer = bytes | bytearray | memoryview


def _nothing_leaves(place: TokenKey) -> NoReturn:
    msg = f"{place}: the key stays on its token"
    raise KeyUnavailableError(msg)


class _OnToken:
    """
    What every key on a token has in common: it cannot be got out, and copying it copies nothing.
    """

    _handle: Handle

    def private_numbers(self) -> NoReturn:
        """
        Never.
        """
        _nothing_leaves(self._handle.place)

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        """
        Never.
        """
        _nothing_leaves(self._handle.place)

    def __copy__(self) -> Self:
        """
        The key itself: there is one on the token.
        """
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        """
        The key itself: there is one on the token.
        """
        return self


class TokenRsaKey(_OnToken, rsa.RSAPrivateKey):
    """
    An RSA key on a token. Signs PKCS#1 v1.5 and PSS; never decrypts and is never exported.
    """

    def __init__(self, handle: Handle, public: rsa.RSAPublicKey) -> None:
        self._handle = handle
        self._public = public

    @property
    def key_size(self) -> int:
        """
        Bits of the modulus.
        """
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        """
        The public key, from the certificate.
        """
        return self._public

    def sign(
        self,
        data: Buffer,
        padding: padding.AsymmetricPadding,
        algorithm: asym_utils.Prehashed | asym_utils.NoDigestInfo | hashes.HashAlgorithm,
    ) -> bytes:
        """
        Sign as `cryptography` does; see `RSAPrivateKey.sign`.
        """
        if isinstance(algorithm, asym_utils.NoDigestInfo):
            return self._handle.sign(bytes(data), Mechanism.RSA_PKCS)
        digest, name = _digest(bytes(data), algorithm)
        if isinstance(padding, _Pss):
            mechanism, mgf = _PSS[name]
            return self._handle.sign(digest, Mechanism.RSA_PKCS_PSS, (mechanism, mgf, len(digest)))
        return self._handle.sign(_DIGEST_INFO[name] + digest, Mechanism.RSA_PKCS)

    def decrypt(self, ciphertext: Buffer, padding: padding.AsymmetricPadding) -> bytes:
        """
        Never.
        """
        _nothing_leaves(self._handle.place)


class TokenEcKey(_OnToken, ec.EllipticCurvePrivateKey):
    """
    An EC key on a token. Signs ECDSA; is never exported.
    """

    def __init__(self, handle: Handle, public: ec.EllipticCurvePublicKey) -> None:
        self._handle = handle
        self._public = public

    @property
    def curve(self) -> ec.EllipticCurve:
        """
        The curve.
        """
        return self._public.curve

    @property
    def key_size(self) -> int:
        """
        Bits of the curve.
        """
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """
        The public key, from the certificate.
        """
        return self._public

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """
        Sign as `cryptography` does; see `EllipticCurvePrivateKey.sign`.
        """
        digest, _ = _digest(bytes(data), signature_algorithm.algorithm)
        raw = self._handle.sign(digest, Mechanism.ECDSA)
        half = len(raw) // 2
        return asym_utils.encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """
        Never.
        """
        _nothing_leaves(self._handle.place)


def open_key(
    place: TokenKey,
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    pin: Callable[[], bytes | None],
) -> TokenRsaKey | TokenEcKey:
    """
    A key on a token, proved to be the one of a certificate. Blocking.

    Args:
        place: where it is.
        public: the certificate's public key.
        pin: gives the PIN each time that a login is needed; `None` for tokens without.

    Returns:
        The key. It outlives the loss of its token: the next signature opens the token again.

    Raises:
        KeyUnavailableError: module, token or key are not there, the PIN is refused, or the key on the token is
            another one.

    """
    handle = Handle(place, pin)
    probe = sha256(b"cftpki: is this the certificate's key?").digest()
    prehashed = asym_utils.Prehashed(hashes.SHA256())
    try:
        if isinstance(public, rsa.RSAPublicKey):
            key = TokenRsaKey(handle, public)
            public.verify(key.sign(probe, _pkcs1(), prehashed), probe, _pkcs1(), prehashed)
            return key
        ec_key = TokenEcKey(handle, public)
        public.verify(ec_key.sign(probe, ec.ECDSA(prehashed)), probe, ec.ECDSA(prehashed))
    except KeyUnavailableError:
        raise
    except Exception as exc:  # the vendor's library behind it raises whatever it likes
        msg = f"{place}: it does not sign for the certificate's key ({type(exc).__name__})"
        raise KeyUnavailableError(msg) from exc
    return ec_key


def _digest(data: bytes, algorithm: asym_utils.Prehashed | hashes.HashAlgorithm) -> tuple[bytes, str]:
    """
    The digest that is signed, and its name.
    """
    if isinstance(algorithm, asym_utils.Prehashed):
        name, digest = algorithm._algorithm.name, data  # noqa: SLF001 (the class has no accessor)
    else:
        name = algorithm.name
        context = hashes.Hash(algorithm)
        context.update(data)
        digest = context.finalize()
    if name not in _DIGEST_INFO:
        msg = f"digest {name} is not signed by a token key"
        raise InputError(msg)
    return digest, name
