"""
Private keys that never leave their token: PKCS #11 behind the key types of `cryptography`.

Owns sessions, login and reconnection. A key of this module signs like any other key of ours, so that nobody
else knows where it lives; it cannot be exported. Blocking: callers run it in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any, ClassVar, NoReturn, Self

import pkcs11
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asym_utils
from pkcs11 import MGF, Mechanism, ObjectClass
from pkcs11 import exceptions as errors

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
# A login with a wrong PIN counts towards the token's lock: it is never tried twice with the same one.
_WRONG_PIN = (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange, errors.PinLocked, errors.PinExpired)


class _Handle:
    """
    One key's session: opened when first needed, opened again once when the token was lost in between.

    One operation at a time: a PKCS #11 session belongs to one thread.
    """

    # The digest of the PIN that a token refused last: keys of one token share its counter of wrong ones.
    _refused: ClassVar[dict[tuple[object, ...], bytes]] = {}
    _login = threading.Lock()

    def __init__(self, place: TokenKey, pin: Callable[[], bytes | None]) -> None:
        self.place = place
        self._pin = pin
        self._lock = threading.Lock()
        self._session: Any = None
        self._key: Any = None

    def sign(self, data: bytes, mechanism: Mechanism, parameter: object = None) -> bytes:
        """
        Have the token sign; a lost session is opened anew once.
        """
        with self._lock:
            for attempt in (1, 2):
                try:
                    if self._key is None:
                        with self._login:
                            self._open(again=attempt > 1)
                    return bytes(self._key.sign(data, mechanism=mechanism, mechanism_param=parameter))
                except (errors.MechanismInvalid, errors.MechanismParamInvalid, errors.DataLenRange) as exc:
                    msg = f"{self.place}: the token does not sign so ({type(exc).__name__})"
                    raise InputError(msg) from exc
                except _WRONG_PIN as exc:
                    self._forget()
                    msg = f"{self.place}: the token refuses the PIN ({type(exc).__name__})"
                    raise KeyUnavailableError(msg) from exc
                except (errors.PKCS11Error, RuntimeError) as exc:
                    self._forget()
                    if attempt > 1:
                        msg = f"{self.place}: {type(exc).__name__}"
                        raise KeyUnavailableError(msg) from exc
        raise AssertionError

    def _open(self, *, again: bool) -> None:
        pin = self._pin()
        digest = sha256(pin or b"").digest()
        token_of = (self.place.module, self.place.token, self.place.serial)
        if digest == self._refused.get(token_of):
            msg = f"{self.place}: the token refused this PIN before; it is not tried again until it changes"
            raise KeyUnavailableError(msg)
        try:
            text = None if pin is None else pin.decode()
        except UnicodeDecodeError:
            msg = f"{self.place}: the PIN is not UTF-8"
            raise KeyUnavailableError(msg) from None  # the error would hold the PIN
        library = pkcs11.lib(str(self.place.module))
        if again:
            # A token that was taken out and put back is seen only by a module that starts anew.
            library.reinitialize()
        wanted: dict[str, Any] = {"token_label": self.place.token}
        if self.place.serial is not None:
            wanted["token_serial"] = self.place.serial.encode()
        token = library.get_token(**wanted)
        try:
            self._session = token.open(user_pin=text)
        except _WRONG_PIN:
            self._refused[token_of] = digest
            raise
        self._refused.pop(token_of, None)
        about: dict[str, Any] = {"object_class": ObjectClass.PRIVATE_KEY}
        if self.place.label is not None:
            about["label"] = self.place.label
        if self.place.id is not None:
            about["id"] = self.place.id
        self._key = self._session.get_key(**about)

    def _forget(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            try:
                session.close()
            except (errors.PKCS11Error, RuntimeError):
                return  # it is gone already: that is why it is forgotten


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

    _handle: _Handle

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

    def __init__(self, handle: _Handle, public: rsa.RSAPublicKey) -> None:
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

    def __init__(self, handle: _Handle, public: ec.EllipticCurvePublicKey) -> None:
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
    handle = _Handle(place, pin)
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
