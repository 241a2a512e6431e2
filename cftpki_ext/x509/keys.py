"""
Public keys: read once, of known kind and strength.

Owns `PublicKey`. The arithmetic is `cryptography`'s.
"""

from __future__ import annotations

import enum
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError

_RSA = "1.2.840.113549.1.1.1"
_RSA_PSS = "1.2.840.113549.1.1.10"
_EC = "1.2.840.10045.2.1"
_ED25519 = "1.3.101.112"
_ED448 = "1.3.101.113"

_CURVES = (
    ec.SECP256R1,
    ec.SECP384R1,
    ec.SECP521R1,
    ec.BrainpoolP256R1,  # RFC 5639
    ec.BrainpoolP384R1,
    ec.BrainpoolP512R1,
)
_NIST = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# RFC 8017 sets no bound; a verification with 16384 bits takes milliseconds, with more it is a way to stall us.
_RSA_MAX_BITS = 16384
# A verification costs as many squarings as the exponent has bits. 65537 is what everybody uses; OpenSSL itself takes no
# longer ones than this with moduli above 3072 bits, and NIST SP 800-56B none above 256 bits.
_RSA_MAX_EXPONENT_BITS = 64
# The SubjectPublicKeyInfo of a key with 16384 bits has some 2100 octets.
_SPKI_OCTETS = 4 * 1024
# NIST SP 800-131A 3: 112 bits of security.
RSA_BITS = 2048

Handle = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class KeyKind(enum.StrEnum):
    """
    What the key can do. `UNSUPPORTED` keys verify nothing.
    """

    RSA = "RSA"
    RSA_PSS = "RSA-PSS"
    EC = "EC"
    ED25519 = "Ed25519"
    ED448 = "Ed448"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """
    A subject public key. `bits` is the modulus or field size (0 where unsupported), `handle` verifies.

    `digest` is the SHA-256 of the whole SubjectPublicKeyInfo, `bit_string` the content of its BIT STRING.
    `strong` says that it may be relied upon without any leniency. `name` is for people. `bond` are the parameters of an
    RSASSA-PSS key as received (RFC 4055 3.3): it may be used with these alone.
    """

    kind: KeyKind
    algorithm: str
    bits: int
    digest: bytes
    bit_string: bytes
    handle: Handle | None
    strong: bool = False
    name: str = ""
    bond: bytes | None = None

    @property
    def work(self) -> int:
        """
        What a verification costs, in operations (microseconds): by kind and size, measured with OpenSSL 3.
        """
        if self.kind in (KeyKind.RSA, KeyKind.RSA_PSS) and isinstance(self.handle, rsa.RSAPublicKey):
            squarings = max(self.handle.public_numbers().e.bit_length(), 17) / 17
            return 10 + int(5 * squarings * (self.bits / 1024) ** 2)
        if isinstance(self.handle, ec.EllipticCurvePublicKey):
            return _WORK.get(self.bits, _SLOW_CURVE) if isinstance(self.handle.curve, _NIST) else _SLOW_CURVE
        return _WORK.get(self.algorithm, _SLOW_CURVE)


# Curves with a constant-time implementation of their own, and all others.
_WORK: dict[int | str, int] = {256: 100, 384: 700, 521: 700, _ED25519: 130, _ED448: 300}
_SLOW_CURVE = 1500

_KINDS = {
    _RSA: KeyKind.RSA,
    _RSA_PSS: KeyKind.RSA_PSS,
    _EC: KeyKind.EC,
    _ED25519: KeyKind.ED25519,
    _ED448: KeyKind.ED448,
}


# What is met and not supported, so that people are told its name.
_NAMES = {
    "1.2.840.10040.4.1": "DSA",
    "1.2.840.10046.2.1": "X9.42 Diffie-Hellman",
    "1.2.840.113549.1.3.1": "PKCS #3 Diffie-Hellman",
    "1.3.101.110": "X25519",
    "1.3.101.111": "X448",
    "1.2.643.2.2.19": "GOST R 34.10-2001",
    "1.2.643.7.1.1.1.1": "GOST R 34.10-2012 (256 bits)",
    "1.2.643.7.1.1.1.2": "GOST R 34.10-2012 (512 bits)",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
    "1.2.840.10045.3.1.1": "P-192",
    "1.3.132.0.33": "P-224",
    "1.3.132.0.10": "secp256k1",
    "1.2.156.10197.1.301": "SM2",
    "1.3.36.3.3.2.8.1.1.1": "brainpoolP160r1",
    "1.3.36.3.3.2.8.1.1.3": "brainpoolP192r1",
    "1.3.36.3.3.2.8.1.1.5": "brainpoolP224r1",
    "1.3.36.3.3.2.8.1.1.9": "brainpoolP320r1",
}


def algorithm_name(oid: str, parameters: str | None = None) -> str:
    """
    An algorithm or a curve for a person: its name where it has one here, and always its identifier.

    Args:
        oid: of the algorithm.
        parameters: of the curve, where the algorithm has one.

    Returns:
        For instance "EC on secp256k1 (1.3.132.0.10)".

    """
    if parameters is not None:
        return f"EC on {algorithm_name(parameters)}"
    return f"{_NAMES[oid]} ({oid})" if oid in _NAMES else oid


def load_key(spki: bytes) -> PublicKey:
    """
    Read a SubjectPublicKeyInfo (RFC 5280 4.1.2.7).

    By default RSA, RSA-PSS, ECDSA on P-256, P-384, P-521 and brainpool (RFC 5639: 256, 384, 512), Ed25519 and Ed448 are supported; any other
    algorithm or curve, RSA above 16384 bits and RSA exponents above 64 bits are `UNSUPPORTED`, which is not an error here. Strength is reported, not judged.

    Args:
        spki: the DER.

    Returns:
        The key.

    Raises:
        DerError: not a SubjectPublicKeyInfo, or not a key of the algorithm that it names.

    """
    rule = "RFC 5280 4.1.2.7"
    parts = der.children(spki, der.whole(spki))
    if len(parts) != 2:
        msg = "subject public key info is not a pair of algorithm and key"
        raise DerError(msg, rule)
    algorithm = der.children(spki, der.expect(parts[0], der.SEQUENCE, "key algorithm"))
    if not 1 <= len(algorithm) <= 2:
        msg = "key algorithm is not an identifier with parameters"
        raise DerError(msg, rule)
    oid = der.oid(spki, algorithm[0])
    bit_string, unused = der.bit_string(spki, der.expect(parts[1], der.BIT_STRING, "subject public key"))
    if unused:
        msg = "subject public key is not whole octets"
        raise DerError(msg, rule)
    digest = hashlib.sha256(spki).digest()
    curve = None
    if oid == _EC and len(algorithm) == 2 and algorithm[1].tag == der.OBJECT_IDENTIFIER:
        curve = der.oid(spki, algorithm[1])
    name = algorithm_name(oid, curve)
    unsupported = PublicKey(KeyKind.UNSUPPORTED, oid, 0, digest, bit_string, None, name=name)
    kind = _KINDS.get(oid)
    if kind is None or len(spki) > _SPKI_OCTETS:
        return unsupported
    if kind is KeyKind.EC and (len(algorithm) != 2 or algorithm[1].tag != der.OBJECT_IDENTIFIER):
        return unsupported  # RFC 5480 2.1.1: only named curves
    bond = None
    plain = spki
    if kind is KeyKind.RSA_PSS and len(algorithm) != 1:
        bond = der.encoded(spki, algorithm[1])  # kept, and held against each signature
        plain = der.encode(
            der.SEQUENCE,
            der.encode(der.SEQUENCE, der.encoded(spki, algorithm[0])),
            der.encoded(spki, parts[1]),
        )
    try:
        handle = load_der_public_key(plain)
    except UnsupportedAlgorithm:
        return unsupported
    except ValueError as error:
        msg = f"subject public key is not a valid {kind.value} key"
        raise DerError(msg, rule) from error
    if isinstance(handle, rsa.RSAPublicKey):
        numbers = handle.public_numbers()
        if handle.key_size > _RSA_MAX_BITS or numbers.e.bit_length() > _RSA_MAX_EXPONENT_BITS:
            return unsupported
        # The product of two odd primes is odd: anybody can factor an even modulus.
        if numbers.n % 2 == 0:
            msg = "modulus of an RSA key is even"
            raise DerError(msg, rule)
        strong = handle.key_size >= RSA_BITS
        return PublicKey(kind, oid, handle.key_size, digest, bit_string, handle, strong, name, bond)
    if isinstance(handle, ec.EllipticCurvePublicKey):
        if not isinstance(handle.curve, _CURVES):
            return unsupported
        return PublicKey(kind, oid, handle.curve.key_size, digest, bit_string, handle, strong=True)
    if isinstance(handle, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        bits = 256 if kind is KeyKind.ED25519 else 456
        return PublicKey(kind, oid, bits, digest, bit_string, handle, strong=True)
    return unsupported
