"""CryptData's private-key operations: every scheme verified with the public key, every other input refused."""

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cftpki_ext.core.errors import InputError
from cftpki_ext.identity.serving.keys import PKCS1_AS_GIVEN, check, export_pkcs8, public_key, sign
from tests.support import pki

RSA = pki.key("rsa")
MESSAGE = b"what the handshake says"
PREFIX = {
    "sha1": "3021300906052b0e03021a05000414",
    "sha224": "302d300d06096086480165030402040500041c",
    "sha256": "3031300d060960864801650304020105000420",
    "sha384": "3041300d060960864801650304020205000430",
    "sha512": "3051300d060960864801650304020305000440",
}
HASH = {
    "sha1": hashes.SHA1(),  # noqa: S303 - TLS 1.0 to 1.2 sign it
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def raw_rsa(signature):
    numbers = RSA.public_key().public_numbers()
    return pow(int.from_bytes(signature, "big"), numbers.e, numbers.n).to_bytes(256, "big")


def test_sign_as_given_md5_and_sha1_is_padded_and_nothing_else():
    given = hashlib.md5(MESSAGE).digest() + hashlib.sha1(MESSAGE).digest()  # noqa: S324 - what TLS 1.0 signs
    assert b"\0\1" + b"\xff" * 217 + b"\0" + given == raw_rsa(sign(RSA, PKCS1_AS_GIVEN, given))


@pytest.mark.parametrize("name", PREFIX)
def test_sign_as_given_digest_info_verifies_as_signature_of_that_digest(name):
    given = bytes.fromhex(PREFIX[name]) + hashlib.new(name, MESSAGE).digest()
    RSA.public_key().verify(sign(RSA, PKCS1_AS_GIVEN, given), MESSAGE, padding.PKCS1v15(), HASH[name])


SHA256_INFO = bytes.fromhex(PREFIX["sha256"]) + bytes(32)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"x" * 35,
        b"x" * 37,
        bytes(32),
        bytes(256),
        SHA256_INFO[:-1],
        SHA256_INFO + b"\0",
        bytes.fromhex(PREFIX["sha1"]) + bytes(32),
        b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10" + bytes(16),  # MD5 alone
        b"\x30\x2f\x30\x0b" + SHA256_INFO[4:15] + SHA256_INFO[17:],  # without the NULL
    ],
)
def test_sign_as_given_anything_else_is_refused(given):
    with pytest.raises(InputError, match="neither MD5 and SHA-1 nor a DigestInfo"):
        sign(RSA, PKCS1_AS_GIVEN, given)


@pytest.mark.parametrize(("scheme", "name"), [(0x0401, "sha256"), (0x0501, "sha384"), (0x0601, "sha512")])
def test_sign_rsa_pkcs1_verifies(scheme, name):
    digest = hashlib.new(name, MESSAGE).digest()
    RSA.public_key().verify(sign(RSA, scheme, digest), MESSAGE, padding.PKCS1v15(), HASH[name])


@pytest.mark.parametrize(("scheme", "name"), [(0x0804, "sha256"), (0x0805, "sha384"), (0x0806, "sha512")])
def test_sign_rsa_pss_verifies_with_salt_as_long_as_the_digest(scheme, name):
    digest = hashlib.new(name, MESSAGE).digest()
    pss = padding.PSS(mgf=padding.MGF1(HASH[name]), salt_length=len(digest))
    RSA.public_key().verify(sign(RSA, scheme, digest), MESSAGE, pss, HASH[name])


@pytest.mark.parametrize("kind", ["ec", "p384", "p521"])
@pytest.mark.parametrize(("scheme", "name"), [(0x0403, "sha256"), (0x0503, "sha384"), (0x0603, "sha512")])
def test_sign_ecdsa_verifies(kind, scheme, name):
    key = pki.key(kind)
    digest = hashlib.new(name, MESSAGE).digest()
    key.public_key().verify(sign(key, scheme, digest), digest, ec.ECDSA(Prehashed(HASH[name])))


@pytest.mark.parametrize(("kind", "scheme"), [("ed25519", 0x0807), ("ed448", 0x0808)])
def test_sign_eddsa_verifies_over_the_message(kind, scheme):
    key = pki.key(kind)
    signature = sign(key, scheme, MESSAGE)
    key.public_key().verify(signature, MESSAGE)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, MESSAGE + b".")


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("rsa", 0x0403),
        ("rsa", 0x0807),
        ("rsa", 0x0201),
        ("rsa", 0xFFFF),
        ("ec", 0x0401),
        ("ec", PKCS1_AS_GIVEN),
        ("ed25519", 0x0808),
        ("ed448", 0x0807),
        ("ed25519", PKCS1_AS_GIVEN),
    ],
)
def test_sign_scheme_of_another_key_is_refused(kind, scheme):
    with pytest.raises(InputError, match=f"0x{scheme:04x} does not fit"):
        sign(pki.key(kind), scheme, bytes(32))


@pytest.mark.parametrize(("kind", "scheme"), [("rsa", 0x0401), ("rsa", 0x0805), ("ec", 0x0403)])
@pytest.mark.parametrize("size", [0, 31, 33, 2048])
def test_sign_digest_of_wrong_length_is_refused(kind, scheme, size):
    with pytest.raises(InputError, match=f"{size} bytes where a sha"):
        sign(pki.key(kind), scheme, bytes(size))


@pytest.mark.parametrize(("bits", "scheme", "size"), [(1024, 0x0806, 64), (512, 0x0804, 32)])
def test_check_pss_without_room_in_the_key_is_refused(bits, scheme, size):
    public = rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
    with pytest.raises(InputError, match=f"an RSA key of {bits} bits is too short for PSS with sha"):
        check(public, scheme, bytes(size))


@pytest.mark.parametrize(("bits", "scheme", "size"), [(1024, 0x0805, 48), (1040, 0x0806, 64)])
def test_check_pss_that_just_fits_is_taken(bits, scheme, size):
    check(rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key(), scheme, bytes(size))


def test_public_key_that_is_none_is_refused():
    with pytest.raises(InputError, match="the certificate's key cannot be read"):
        public_key(b"\x30\x00")


def test_export_pkcs8_is_the_same_key():
    loaded = serialization.load_der_private_key(export_pkcs8(RSA), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    assert RSA.private_numbers() == loaded.private_numbers()
