"""
Tokens and provisioners' keys, read back with nothing but `cryptography`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.stepca.tokens import (
    MAX_KEY_BYTES,
    Token,
    jwk_signer,
    jwk_thumbprint,
    load_key,
    make_token,
    renewal_signer,
    thumbprint,
    x5c_signer,
)
from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.identity.enroller_port import PrivateKey
from tests.support import pki
from tests.support.ca_servers import PASSWORD, encrypted, jwk

NOW = datetime(2026, 6, 1, 12, 0, 0, 900_000, tzinfo=UTC)
KEY = pki.key("ec", 910)
SEALED = encrypted(json.dumps(jwk(KEY, private=True)).encode(), PASSWORD, rounds=1000)
SIGNER = jwk_signer(KEY, provisioner="mft", kid="k")
ABOUT = {"audience": "https://ca.example/1.0/sign", "subject": "a.example", "now": NOW}

# `step crypto jwk create --kty EC --crv P-256` (0.21) wrote these, with the password "correct horse".
STEP_PRIVATE = """{
  "protected": "eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJjdHkiOiJqd2sranNvbiIsImVuYyI6IkEyNTZHQ00iLCJwMmMiOjEwMDAwMCwicDJzIjoiaGFlblpkX2p2NkQ5TUlNSkd0cjlmQSJ9",
  "encrypted_key": "CAZkG4rFjWR8JQQvuxwv6HHqzaEqfOHpfymMVEjfnLaK5fh2H_PoFg",
  "iv": "WoBCLzGAl8paDfTY",
  "ciphertext": "rc3nls9Zlv5SJj7P16hgOvNJlZD_Oy1UQAcEfR8Awk477Gi_vVUsO79iC0HwgA1WiSPNO4d1b48J62j-RtZD1HO1EORXj1lqy2NK7JHFPasRUnQ1qpOdyr8bvEcUWVrCGNHp8h89kt-fM8eVak2lg9MPr0dPgm6KeKX8pMZxa_sL3XtrjpXVTYIXrLmqVYAn9YrQq2xR0DGRZKy8w4tzqEi2cCRm3LCMHwYv1JEZ1L7h3zzO2ZVO_6ABxHPDTij7Jb2myT1WI39rirmY9Mx69-xORZa2e-10t3ihRfvWPoeXdWRaHz_bXb7GyWYCfOe3nwFhjgsQYczHUmPdNqs",
  "tag": "O8axc976x6eMWpR_48VA_g"
}"""
STEP_PUBLIC = {
    "use": "sig",
    "kty": "EC",
    "kid": "xSscyolQVYqMRNhkBcFOinyw0HCFhp-TW_yBJhH3ozo",
    "crv": "P-256",
    "alg": "ES256",
    "x": "UEk4BTm8u9m3ONSqIsAEJVNUTNKQD6dP3wzSvJ_EpaQ",
    "y": "WRepkqU5-fXpKyU8pKiTSXlneuyx2EPyskOeaP67lRE",
}


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def opened(token: Token, key: PrivateKey) -> tuple[dict[str, object], dict[str, object]]:
    """
    Header and claims of a token whose signature holds.
    """
    header, claims, signature = token.text.split(".")
    signed, proof = f"{header}.{claims}".encode(), raw(signature)
    fields = json.loads(raw(header))
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[fields["alg"][2:]]
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        half = len(proof) // 2
        pair = (int.from_bytes(proof[:half], "big"), int.from_bytes(proof[half:], "big"))
        public.verify(encode_dss_signature(*pair), signed, ec.ECDSA(digest))
    else:
        public.verify(proof, signed, padding.PKCS1v15(), digest)
    return fields, json.loads(raw(claims))


def test_token_has_the_claims_that_step_ca_reads() -> None:
    token = make_token(SIGNER, **ABOUT, names=("a.example", "10.1.2.3"), csr=b"csr", root=b"root")
    header, claims = opened(token, KEY)
    assert {"alg": "ES256", "kid": "k", "typ": "JWT"} == header
    issued = int(NOW.timestamp())
    assert {
        "iss": "mft",
        "sub": "a.example",
        "aud": "https://ca.example/1.0/sign",
        "iat": issued,
        "nbf": issued,
        "exp": issued + 300,
        "jti": token.id,
        "sans": ["a.example", "10.1.2.3"],
        "sha": hashlib.sha256(b"root").hexdigest(),
        "cnf": {"x5rt#S256": base64.urlsafe_b64encode(hashlib.sha256(b"csr").digest()).decode().rstrip("=")},
    } == claims
    assert 64 == len(token.id)


def test_token_leaves_out_what_is_not_known() -> None:
    claims = opened(make_token(SIGNER, **ABOUT), KEY)[1]
    assert {"iss", "sub", "aud", "iat", "nbf", "exp", "jti"} == claims.keys()


def test_token_is_never_the_same_twice() -> None:
    assert 50 == len({make_token(SIGNER, **ABOUT).id for _ in range(50)})


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("ec", "ES256"), ("ec384", "ES384"), ("ec521", "ES512"), ("rsa", "RS256")]
)
def test_token_is_signed_as_the_key_wants(kind: str, algorithm: str) -> None:
    curves = {"ec384": ec.SECP384R1(), "ec521": ec.SECP521R1()}
    key = ec.generate_private_key(curves[kind]) if kind in curves else pki.key(kind, 911)
    token = make_token(jwk_signer(key, provisioner="p", kid="k"), **ABOUT)
    assert algorithm == opened(token, key)[0]["alg"]


def test_token_of_a_chain_names_its_provisioner_in_the_audience() -> None:
    chain = [b"leaf" * 400, b"intermediate" * 100]
    token = make_token(x5c_signer(KEY, chain=chain, provisioner="machines"), **ABOUT)
    header, claims = opened(token, KEY)
    assert [base64.b64encode(der).decode() for der in chain] == header["x5c"]
    assert "https://ca.example/1.0/sign#x5c/machines" == claims["aud"]
    assert "machines" == claims["iss"]


def test_token_of_a_renewal_shows_the_certificate() -> None:
    header, claims = opened(make_token(renewal_signer(KEY, chain=[b"leaf"]), **ABOUT), KEY)
    assert ["bGVhZg=="] == header["x5cInsecure"]
    assert "step-ca-client/1.0" == claims["iss"]


def test_key_that_step_wrote_is_read() -> None:
    key = load_key(STEP_PRIVATE.encode(), b"correct horse")
    assert STEP_PUBLIC["kid"] == thumbprint(key)
    assert STEP_PUBLIC["kid"] == jwk_thumbprint(STEP_PUBLIC)


def test_key_with_six_hundred_thousand_rounds_is_read() -> None:
    sealed = encrypted(json.dumps(jwk(KEY, private=True)).encode(), PASSWORD)
    assert jwk(KEY)["kid"] == thumbprint(load_key(sealed.encode(), PASSWORD.encode()))


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_key_in_pem_is_read_with_and_without_password(kind: str) -> None:
    key = pki.key(kind, 912)
    expected = key.private_numbers()
    for data, password in (
        (pki.key_pem(key), None),
        (pki.key_pem(key), b"for something else"),
        (pki.key_pem(key, b"pw"), b"pw"),
    ):
        assert expected == load_key(data, password).private_numbers()


@pytest.mark.parametrize(
    ("data", "password", "told"),
    [
        (SEALED.encode(), b"guess", "the password is wrong"),
        (SEALED.encode(), b"", "there is no password_file, or an empty one"),
        (SEALED.encode(), None, "there is no password_file"),
        (SEALED.encode()[:-6] + b"AAAAAA", PASSWORD.encode(), "the password is wrong, or the key is damaged"),
        (STEP_PRIVATE.encode(), None, "there is no password_file"),
        (pki.key_pem(KEY, b"pw"), b"guess", "no private key in PEM, or the password is wrong"),
        (pki.key_pem(KEY, b"pw"), None, "there is no password_file"),
        (pki.make_root("x").pem, None, "no private key in PEM"),
        (pki.key_pem(pki.key("ed25519", 1)), None, "no private key of kind"),
        (b"", None, "neither PEM nor a JWK"),
        (b"{", None, "no JSON"),
        (b"{}", None, "no private key of kind"),
        (json.dumps(jwk(KEY)).encode(), None, "no private key of kind"),
        (json.dumps(jwk(KEY, private=True) | {"x": "AA"}).encode(), None, "no usable JWK"),
        (json.dumps(jwk(KEY, private=True) | {"d": 7}).encode(), None, "no usable JWK"),
        (b"x" * (MAX_KEY_BYTES + 1), None, "larger than"),
        (encrypted(b"[]", PASSWORD, rounds=1000).encode(), PASSWORD.encode(), "no JSON object"),
        (encrypted(b"\xff", PASSWORD, rounds=1000).encode(), PASSWORD.encode(), "no JSON"),
        (encrypted(b"{}", PASSWORD, rounds=10_000_001).encode(), PASSWORD.encode(), "rounds of PBKDF2"),
        (encrypted(b"{}", PASSWORD, rounds=0).encode(), PASSWORD.encode(), "rounds of PBKDF2"),
        (encrypted(b"{}", PASSWORD, rounds=1000, p2c="9").encode(), PASSWORD.encode(), "rounds of PBKDF2"),
        (encrypted(b"{}", PASSWORD, rounds=1000, p2c=True).encode(), PASSWORD.encode(), "rounds of PBKDF2"),
        (encrypted(b"{}", PASSWORD, rounds=1000, alg="dir").encode(), PASSWORD.encode(), "by PBES2"),
        (
            encrypted(b"{}", PASSWORD, rounds=1000, enc="none").encode(),
            PASSWORD.encode(),
            "cannot be decrypted",
        ),
        (encrypted(b"{}", PASSWORD, rounds=1000, zip="DEF").encode(), PASSWORD.encode(), "not understood"),
    ],
)
def test_key_that_cannot_be_used_is_told_why(data: bytes, password: bytes | None, told: str) -> None:
    with pytest.raises(KeyUnavailableError) as caught:
        load_key(data, password)
    assert told in str(caught.value)
    assert PASSWORD not in str(caught.value)


@given(data=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_key_from_any_bytes_is_refused_or_read(data: bytes) -> None:
    with pytest.raises(KeyUnavailableError):
        load_key(data, b"pw")


@given(position=st.integers(0, len(SEALED) - 1), byte=st.sampled_from("AZaz09-_.={"), cut=st.integers(0, 3))
def test_sealed_key_with_a_change_is_refused_or_the_same(position: int, byte: str, cut: int) -> None:
    changed = SEALED[:position] + byte + SEALED[position + 1 : len(SEALED) - cut]
    try:
        key = load_key(changed.encode(), PASSWORD.encode())
    except KeyUnavailableError:
        return
    assert jwk(KEY)["kid"] == thumbprint(key)


@pytest.mark.parametrize(
    "fields",
    [{}, {"kty": "OKP"}, {"kty": "EC"}, {"kty": "EC", "crv": "P-256", "x": 1, "y": []}, {"kty": "RSA"}],
)
def test_listed_key_of_another_kind_has_no_thumbprint(fields: dict[str, object]) -> None:
    assert jwk_thumbprint(fields) is None
