"""
The one-time tokens of step-ca, and the keys that sign them.

Owns JWT claims, headers and the decryption of a provisioner's key. Takes bytes and the time; reads no file and no
network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.registry import HeaderParameter

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import PrivateKey

# What `step` gives its own tokens.
TOKEN_LIFETIME_S = 300
# `step` writes 600 000 (formerly 100 000). Ten times that takes seconds; more is an attack, not a key.
MAX_PBKDF2_ROUNDS = 10_000_000
# A private RSA-4096 key as JWK, encrypted, with room to spare.
MAX_KEY_BYTES = 64 * 1024
RENEWAL_ISSUER = "step-ca-client/1.0"

_EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_KEY_WRAPPING = frozenset({"PBES2-HS256+A128KW", "PBES2-HS384+A192KW", "PBES2-HS512+A256KW"})
_ENCRYPTION = frozenset({"A128GCM", "A192GCM", "A256GCM", "A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """
    Whoever signs tokens: the key, what the header says about it, and the name of the provisioner.

    `fragment` follows the audience: it selects a provisioner that is not found by its key.
    """

    key: PrivateKey
    issuer: str
    header: Mapping[str, Any]
    fragment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """
    One token, good for one request. `id` is its `jti`: it is no secret, and the CA's log has it.
    """

    id: str
    text: str = field(repr=False)


class _KeyRegistry(jwe.JWERegistry):
    """
    JWE as `step` makes it: password-based only, with more PBKDF2 rounds than the library allows by itself.
    """

    def check_header(self, header: dict[str, Any], check_more: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the library's signature
        """
        Refuse everything but PBES2 with a bounded number of rounds (RFC 7518 4.8).
        """
        rounds, salt = header.get("p2c"), header.get("p2s")
        if header.get("alg") not in _KEY_WRAPPING or header.get("enc") not in _ENCRYPTION:
            msg = "is not encrypted with a password by PBES2"
            raise KeyUnavailableError(msg)
        # `True` is an int to Python.
        if type(rounds) is not int or not 1 <= rounds <= MAX_PBKDF2_ROUNDS or not isinstance(salt, str):
            msg = f"asks for {str(rounds)[:20]} rounds of PBKDF2, {MAX_PBKDF2_ROUNDS} are allowed"
            raise KeyUnavailableError(msg)
        if header.keys() & {"crit", "zip"}:
            msg = "has header fields that are not understood"
            raise KeyUnavailableError(msg)


def load_key(data: bytes, password: bytes | None) -> PrivateKey:
    """
    A signing key from PEM, a private JWK, or a JWK encrypted by `step` (compact or JSON).

    With an encrypted JWK this takes a second of CPU. Whether a provisioner has this key is *not* checked.

    Args:
        data: at most `MAX_KEY_BYTES`.
        password: without its line end; `None` where there is none.

    Raises:
        KeyUnavailableError: no key of these forms, wrong password, or a kind of key that cannot sign tokens.

    """
    if len(data) > MAX_KEY_BYTES:
        msg = f"is larger than {MAX_KEY_BYTES} bytes"
        raise KeyUnavailableError(msg)
    text = data.strip()
    if b"-----BEGIN" in text:
        return _usable(_load_pem(text, password))
    if text.startswith(b"{"):
        fields = _json(text)
        if "ciphertext" not in fields:
            return _from_jwk(fields)
        parts = (fields.get(name) for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag"))
        text = ".".join(str(part) for part in parts).encode("utf-8", "replace")
    return _from_jwk(_decrypted(text, password))


def thumbprint(key: PrivateKey) -> str:
    """
    RFC 7638, which is what `step` calls a provisioner's key by.
    """
    return str(_jose_key(key).thumbprint())


def jwk_thumbprint(fields: Mapping[str, object]) -> str | None:
    """
    RFC 7638 of a public JWK as a CA lists it; `None` for a kind of key that we cannot have.
    """
    material = cast("Any", dict(fields))
    try:
        if fields.get("kty") == "EC":
            return str(ECKey.import_key(material).thumbprint())
        if fields.get("kty") == "RSA":
            return str(RSAKey.import_key(material).thumbprint())
    except (JoseError, ValueError, KeyError, TypeError):
        return None
    return None


def jwk_signer(key: PrivateKey, *, provisioner: str, kid: str) -> Signer:
    """
    Tokens of a JWK provisioner, which the CA finds by name and key id.
    """
    return Signer(key=key, issuer=provisioner, header={"kid": kid, "typ": "JWT"})


def x5c_signer(key: PrivateKey, *, chain: Collection[bytes], provisioner: str) -> Signer:
    """
    Tokens of an X5C provisioner: a chain (DER, leaf first) says who signs.
    """
    header = {"x5c": [base64.b64encode(der).decode() for der in chain], "typ": "JWT"}
    return Signer(key=key, issuer=provisioner, header=header, fragment=f"#x5c/{provisioner}")


def renewal_signer(key: PrivateKey, *, chain: Collection[bytes]) -> Signer:
    """
    Tokens that show the certificate to be renewed, signed by its own key.
    """
    header = {"x5cInsecure": [base64.b64encode(der).decode() for der in chain], "typ": "JWT"}
    return Signer(key=key, issuer=RENEWAL_ISSUER, header=header)


def make_token(
    signer: Signer,
    *,
    audience: str,
    subject: str,
    now: datetime,
    names: Collection[str] = (),
    csr: bytes | None = None,
    root: bytes | None = None,
) -> Token:
    """
    A token for one request.

    Args:
        signer: whose.
        audience: the URL of the request as the CA knows itself.
        subject: the name, or for a revocation the serial number (decimal).
        now: our time; the CA allows a minute of difference.
        names: all names of the certificate.
        csr: the request (DER) that this token is bound to.
        root: the CA's root (DER).

    Returns:
        The token, with an id that was never used before.

    """
    issued, identifier = int(now.timestamp()), secrets.token_hex(32)
    claims: dict[str, object] = {
        "iss": signer.issuer,
        "sub": subject,
        "aud": audience + signer.fragment,
        "iat": issued,
        "nbf": issued,
        "exp": issued + TOKEN_LIFETIME_S,
        "jti": identifier,
    }
    if names:
        claims["sans"] = list(names)
    if root is not None:
        claims["sha"] = hashlib.sha256(root).hexdigest()
    if csr is not None:
        digest = base64.urlsafe_b64encode(hashlib.sha256(csr).digest()).rstrip(b"=")
        claims["cnf"] = {"x5rt#S256": digest.decode()}
    algorithm = _algorithm(signer.key)
    registry = jws.JWSRegistry(
        header_registry={"x5cInsecure": HeaderParameter("certificates to be renewed", "list[str]")},
        algorithms=[algorithm],
    )
    text = jws.serialize_compact(
        {"alg": algorithm, **signer.header}, json.dumps(claims), _jose_key(signer.key), registry=registry
    )
    return Token(id=identifier, text=text)


def _load_pem(text: bytes, password: bytes | None) -> object:
    try:
        return load_pem_private_key(text, password)
    except TypeError as error:
        if password is not None:  # not encrypted after all: the password is for something else
            return _load_pem(text, None)
        msg = "is encrypted, and there is no password_file"
        raise KeyUnavailableError(msg) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        msg = "is no private key in PEM, or the password is wrong"
        raise KeyUnavailableError(msg) from error


def _decrypted(text: bytes, password: bytes | None) -> Mapping[str, Any]:
    if text.count(b".") != 4:
        msg = "is neither PEM nor a JWK"
        raise KeyUnavailableError(msg)
    if not password:
        msg = "is encrypted, and there is no password_file, or an empty one"
        raise KeyUnavailableError(msg)
    registry = _KeyRegistry(algorithms=_KEY_WRAPPING | _ENCRYPTION)
    try:
        # Not `import_key`, which warns of passwords that are short for a key.
        plain = jwe.decrypt_compact(text, OctKey(password, password), registry=registry).plaintext
    except KeyUnavailableError:
        raise
    except Exception as error:
        # The library lets its own and cryptography's errors through, for a wrong password `InvalidUnwrap`.
        msg = "cannot be decrypted: the password is wrong, or the key is damaged"
        raise KeyUnavailableError(msg) from error
    return _json(plain or b"")


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = "is no JSON"
        raise KeyUnavailableError(msg) from error
    if not isinstance(fields, dict):
        msg = "is no JSON object"
        raise KeyUnavailableError(msg)
    return fields


def _from_jwk(fields: Mapping[str, Any]) -> PrivateKey:
    try:
        if fields.get("kty") == "EC":
            return _usable(ECKey.import_key(cast("Any", dict(fields))).private_key)
        if fields.get("kty") == "RSA":
            return _usable(RSAKey.import_key(cast("Any", dict(fields))).private_key)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        msg = "is no usable JWK"
        raise KeyUnavailableError(msg) from error
    return _usable(None)


def _usable(key: object) -> PrivateKey:
    if isinstance(key, RSAPrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _EC_ALGORITHMS
    ):
        return key
    msg = "is no private key of kind EC (P-256, P-384, P-521) or RSA"
    raise KeyUnavailableError(msg)


def _algorithm(key: PrivateKey) -> str:
    return "RS256" if isinstance(key, RSAPrivateKey) else _EC_ALGORITHMS[key.curve.name]


def _jose_key(key: PrivateKey) -> ECKey | RSAKey:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return RSAKey.import_key(pem) if isinstance(key, RSAPrivateKey) else ECKey.import_key(pem)
