"""
What ACME signs: requests (RFC 8555 6.2), account bindings (7.3.4), key changes (7.3.5), key authorizations (8.1).

Owns the headers; signatures and key formats are joserfc's. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import PrivateKey

# RFC 7518 3.2 asks for 32 bytes with HS256; some CAs give out 16, fewer would be a slip of the pen.
MIN_SECRET_BYTES = 16
_CURVES = {SECP256R1.name: "ES256", SECP384R1.name: "ES384", SECP521R1.name: "ES512"}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """
    A private key with its JOSE algorithm: an account's, or a certificate's that revokes itself.
    """

    algorithm: str
    private: PrivateKey = field(repr=False)
    key: ECKey | RSAKey = field(repr=False)

    @property
    def jwk(self) -> dict[str, object]:
        """
        The public key as JWK, with the required members only.
        """
        return dict(self.key.as_dict(private=False))

    @property
    def thumbprint(self) -> str:
        """
        RFC 7638, SHA-256, base64url.
        """
        return self.key.thumbprint()

    def pem(self) -> bytes:
        """
        The private key as PKCS#8, not encrypted.
        """
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_key(private: PrivateKey) -> SigningKey:
    """
    Make a signer of a key.

    Raises:
        InputError: JOSE has no algorithm for that curve.

    """
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if isinstance(private, RSAPrivateKey):
        return SigningKey("RS256", private, RSAKey.import_key(pem))
    algorithm = _CURVES.get(private.curve.name)
    if algorithm is None:
        msg = f"no JOSE algorithm for the curve {private.curve.name!r}"
        raise InputError(msg)
    return SigningKey(algorithm, private, ECKey.import_key(pem))


def load_signing_key(pem: bytes) -> SigningKey:
    """
    Read an account key that we have written.

    Raises:
        InputError: it is no such key.

    """
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        msg = "the account key cannot be read"
        raise InputError(msg) from error
    if not isinstance(private, EllipticCurvePrivateKey | RSAPrivateKey):
        msg = "the account key is neither EC nor RSA"
        raise InputError(msg)
    return signing_key(private)


def sign_request(
    key: SigningKey, *, url: str, nonce: str | None, payload: bytes, kid: str | None = None
) -> dict[str, object]:
    """
    One request as flattened JWS (RFC 8555 6.2).

    Args:
        key: signs.
        url: where the request goes.
        nonce: of the server; `None` only for the inner JWS of a key change.
        payload: JSON, or nothing for POST-as-GET.
        kid: the account's URL; without it the key itself goes along.

    Returns:
        `protected`, `payload`, `signature`.

    """
    header: dict[str, object] = {"alg": key.algorithm, "url": url}
    if nonce is not None:
        header["nonce"] = nonce
    header.update({"jwk": key.jwk} if kid is None else {"kid": kid})
    return _serialize(header, payload, key.key)


def bind_account(key: SigningKey, *, url: str, kid: str, secret: bytes) -> dict[str, object]:
    """
    The external account binding (RFC 8555 7.3.4): the CA's secret vouches for our public key.

    Args:
        key: the account's.
        url: of `newAccount`.
        kid: how the CA calls the secret.
        secret: decoded.

    Returns:
        A flattened JWS.

    """
    payload = json.dumps(key.jwk).encode()
    return _serialize({"alg": "HS256", "kid": kid, "url": url}, payload, OctKey.import_key(secret))


def key_authorization(token: str, key: SigningKey) -> str:
    """
    RFC 8555 8.1.
    """
    return f"{token}.{key.thumbprint}"


def digest(authorization: str) -> bytes:
    """
    SHA-256 of a key authorization, as dns-01 and tls-alpn-01 show it.
    """
    return hashlib.sha256(authorization.encode()).digest()


def base64url(data: bytes) -> str:
    """
    RFC 4648 5 without padding.
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_secret(text: str) -> bytes:
    """
    Decode the secret of an external account binding, and say what is wrong with other encodings.

    Args:
        text: as the CA gave it out; white space around it and padding at its end do no harm.

    Returns:
        The key of the MAC.

    Raises:
        InputError: it is not base64url, or too short. The message never holds the secret.

    """
    stripped = text.strip().rstrip("=")
    if re.fullmatch(r"[0-9a-f]{32,}|[0-9A-F]{32,}", stripped) and len(stripped) % 2 == 0:
        msg = "the secret is hexadecimal, base64url (RFC 4648 section 5) is needed"
        raise InputError(msg)
    if re.fullmatch(r"[A-Za-z0-9+/]+", stripped) and re.search(r"[+/]", stripped):
        msg = "the secret is base64 with '+' or '/', base64url with '-' and '_' is needed"
        raise InputError(msg)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", stripped):
        msg = "the secret is not base64url (RFC 4648 section 5)"
        raise InputError(msg)
    try:
        secret = base64.urlsafe_b64decode(stripped + "=" * (-len(stripped) % 4))
    except binascii.Error as error:
        msg = "the secret is not base64url: a character is missing or too many"
        raise InputError(msg) from error
    if len(secret) < MIN_SECRET_BYTES:
        msg = f"the secret has {len(secret)} bytes, at least {MIN_SECRET_BYTES} are needed"
        raise InputError(msg)
    return secret


def _serialize(
    header: Mapping[str, object], payload: bytes, key: ECKey | RSAKey | OctKey
) -> dict[str, object]:
    # `url` and `nonce` are ACME's own header fields, unknown to RFC 7515's registry.
    registry = JWSRegistry(algorithms=[str(header["alg"])], strict_check_header=False)
    return dict(jws.serialize_json({"protected": dict(header)}, payload, key, registry=registry))
