"""
What ACME signs, checked by `cryptography` alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cftpki_connectors.acme.jose import (
    base64url,
    bind_account,
    decode_secret,
    digest,
    key_authorization,
    load_signing_key,
    sign_request,
    signing_key,
)
from cftpki_ext.core.errors import InputError
from tests.support import pki

URL = "https://ca.example/new-order"


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def fixed(number: int, size: int) -> str:
    return base64url(number.to_bytes(size, "big"))


@pytest.mark.parametrize(
    ("curve", "size", "digest_of", "name"),
    [
        (ec.SECP256R1(), 32, hashes.SHA256(), "ES256"),
        (ec.SECP384R1(), 48, hashes.SHA384(), "ES384"),
    ],
)
def test_request_of_an_ec_key_verifies_and_holds_what_rfc_8555_asks(curve, size, digest_of, name):
    private = ec.generate_private_key(curve)
    signed = sign_request(signing_key(private), url=URL, nonce="abc", payload=b'{"a":1}')
    numbers = private.public_key().public_numbers()
    header = json.loads(decoded(signed["protected"]))
    crv = {32: "P-256", 48: "P-384"}[size]
    jwk = {"kty": "EC", "crv": crv, "x": fixed(numbers.x, size), "y": fixed(numbers.y, size)}
    assert {"alg": name, "nonce": "abc", "url": URL, "jwk": jwk} == header
    assert {"protected", "payload", "signature"} == signed.keys()
    raw = decoded(signed["signature"])
    assert 2 * size == len(raw)
    der = encode_dss_signature(int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big"))
    private.public_key().verify(
        der, f"{signed['protected']}.{signed['payload']}".encode(), ec.ECDSA(digest_of)
    )


def test_request_of_an_rsa_key_verifies():
    private = pki.key("rsa", 5)
    signed = sign_request(signing_key(private), url=URL, nonce="abc", payload=b"")
    assert "" == signed["payload"]
    data = f"{signed['protected']}.".encode()
    private.public_key().verify(decoded(signed["signature"]), data, padding.PKCS1v15(), hashes.SHA256())


def test_request_of_a_known_account_names_it_and_not_the_key():
    signed = sign_request(
        signing_key(pki.key("ec", 5)), url=URL, nonce="n", payload=b"", kid="https://ca.example/1"
    )
    assert {"alg", "nonce", "url", "kid"} == json.loads(decoded(signed["protected"])).keys()


def test_inner_request_of_a_key_change_has_no_nonce():
    signed = sign_request(signing_key(pki.key("ec", 5)), url=URL, nonce=None, payload=b"{}")
    assert {"alg", "url", "jwk"} == json.loads(decoded(signed["protected"])).keys()


def test_binding_is_the_mac_of_the_public_key():
    key, secret = signing_key(pki.key("ec", 5)), b"s" * 32
    bound = bind_account(key, url=URL, kid="kid-1", secret=secret)
    assert {"alg": "HS256", "kid": "kid-1", "url": URL} == json.loads(decoded(bound["protected"]))
    assert key.jwk == json.loads(decoded(bound["payload"]))
    data = f"{bound['protected']}.{bound['payload']}".encode()
    assert hmac.digest(secret, data, "sha256") == decoded(bound["signature"])


def test_key_authorization_is_token_and_thumbprint_of_rfc_7638():
    key = signing_key(pki.key("ec", 5))
    canonical = json.dumps(key.jwk, sort_keys=True, separators=(",", ":")).encode()
    expected = f"token.{base64url(hashlib.sha256(canonical).digest())}"
    assert expected == key_authorization("token", key)
    assert hashlib.sha256(expected.encode()).digest() == digest(expected)


def test_key_survives_its_file_and_is_never_shown():
    key = signing_key(pki.key("ec", 5))
    assert key.thumbprint == load_signing_key(key.pem()).thumbprint
    assert load_pem_private_key(key.pem(), None).private_numbers() == key.private.private_numbers()
    assert "private" not in repr(key)


@pytest.mark.parametrize("pem", [b"", b"nothing", pki.key_pem(pki.key("ed25519", 1))])
def test_key_file_that_holds_no_usable_key_is_refused(pem):
    with pytest.raises(InputError):
        load_signing_key(pem)


def test_key_of_a_curve_without_jose_name_is_refused():
    with pytest.raises(InputError):
        signing_key(ec.generate_private_key(ec.BrainpoolP256R1()))


SECRET = bytes(range(200, 232))


@pytest.mark.parametrize(
    "text",
    [
        base64url(SECRET),
        base64url(SECRET) + "\n",
        base64.urlsafe_b64encode(SECRET).decode(),
    ],
)
def test_secret_in_base64url_is_decoded_with_and_without_padding(text):
    assert SECRET == decode_secret(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET.hex(), "hexadecimal"),
        (SECRET.hex().upper(), "hexadecimal"),
        (base64.b64encode(b"\xff" * 32).decode(), "'+' or '/'"),
        ("not a secret", "not base64url"),
        ("A" * 41, "missing or too many"),
        ("A" * 10, "at least 16"),
        ("", "not base64url"),
    ],
)
def test_secret_in_another_encoding_is_refused_and_never_shown(text, expected):
    with pytest.raises(InputError, match=expected.replace("+", r"\+")) as raised:
        decode_secret(text)
    assert not text or text not in str(raised.value)
