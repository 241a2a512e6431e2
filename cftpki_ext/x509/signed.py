"""
Signed objects (certificate, CRL, OCSP response): their parts as received, and whether the signature holds.

Owns `Signed`, `verify` and the memory of what was verified.

More than 400 lines: the tables of algorithms stand beside what verifies by them.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.keys import RSA_BITS, Handle, KeyKind, PublicKey, load_key
from cftpki_ext.x509.oddity import Odd, refuse

# What the leniency RSA_1024 lets pass; below that a key is broken by anyone with a week of computing.
RSA_BITS_COMPAT = 1024

_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_VERIFIED_MAX = 8192
# A signed object has three parts, an OCSP response a fourth; what stands behind them is only named.
_PARTS = 8
# RSASSA-PSS has the longest parameters in use, some 70 octets; parsed identifiers are remembered.
_ALGORITHM_OCTETS = 256


class SignatureStatus(enum.Enum):
    """
    Whether a signature proves anything. Only `VALID` does.
    """

    VALID = "valid"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    WEAK = "weak"


class KeyStrength(enum.Enum):
    """
    Whether a key may be relied upon at all.
    """

    GOOD = "good"
    WEAK = "weak"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class AlgorithmIdentifier:
    """
    An algorithm and its parameters as received (`None` where absent).
    """

    oid: str
    parameters: bytes | None


@dataclass(frozen=True, slots=True)
class Hashed:
    """
    A signed slice that is not at hand: its digest, by the hash of the signature's own algorithm, and its length.
    """

    digest: bytes
    size: int

    def __len__(self) -> int:
        """
        In octets.
        """
        return self.size


@dataclass(frozen=True, slots=True)
class Signed:
    """
    A signed object: SHA-256 of all of it, the signed slice as received, the algorithm, the signature.

    The slice is a view: a list of many megabytes is not copied. Of one that is not in memory there is its digest.
    """

    digest: bytes
    tbs: memoryview | Hashed
    algorithm: AlgorithmIdentifier
    signature: bytes


_Hash = Callable[[], hashes.HashAlgorithm]

_RSA_HASHES: dict[str, _Hash] = {
    "1.2.840.113549.1.1.4": hashes.MD5,
    "1.2.840.113549.1.1.5": hashes.SHA1,
    "1.2.840.113549.1.1.11": hashes.SHA256,
    "1.2.840.113549.1.1.12": hashes.SHA384,
    "1.2.840.113549.1.1.13": hashes.SHA512,
    # NIST's registry of algorithms; with SHA-3 (RFC 9688).
    "2.16.840.1.101.3.4.3.13": hashes.SHA3_224,
    "2.16.840.1.101.3.4.3.14": hashes.SHA3_256,
    "2.16.840.1.101.3.4.3.15": hashes.SHA3_384,
    "2.16.840.1.101.3.4.3.16": hashes.SHA3_512,
}
_ECDSA_HASHES: dict[str, _Hash] = {
    "1.2.840.10045.4.1": hashes.SHA1,
    "1.2.840.10045.4.3.2": hashes.SHA256,
    "1.2.840.10045.4.3.3": hashes.SHA384,
    "1.2.840.10045.4.3.4": hashes.SHA512,
    "2.16.840.1.101.3.4.3.9": hashes.SHA3_224,
    "2.16.840.1.101.3.4.3.10": hashes.SHA3_256,
    "2.16.840.1.101.3.4.3.11": hashes.SHA3_384,
    "2.16.840.1.101.3.4.3.12": hashes.SHA3_512,
}
_EDWARDS = {"1.3.101.112": KeyKind.ED25519, "1.3.101.113": KeyKind.ED448}
_PLAIN_HASHES: dict[str, _Hash] = {
    "1.3.14.3.2.26": hashes.SHA1,
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
    "2.16.840.1.101.3.4.2.8": hashes.SHA3_256,
    "2.16.840.1.101.3.4.2.9": hashes.SHA3_384,
    "2.16.840.1.101.3.4.2.10": hashes.SHA3_512,
}
_NULL = b"\x05\x00"


@dataclass(frozen=True, slots=True)
class _Scheme:
    """
    How an algorithm identifier is verified: key kinds, digest name, and the check itself.
    """

    kinds: tuple[KeyKind, ...]
    digest: str
    check: Callable[[Handle, bytes, memoryview | Hashed], None]
    make: _Hash | None = None


def algorithm(data: bytes, element: Element) -> AlgorithmIdentifier:
    """
    Read an AlgorithmIdentifier (RFC 5280 4.1.1.2).

    Args:
        data: the buffer.
        element: the SEQUENCE.

    Returns:
        The identifier with its parameters as received.

    Raises:
        DerError: it is none.

    """
    if element.end - element.start > _ALGORITHM_OCTETS:
        msg = f"algorithm identifier has more than {_ALGORITHM_OCTETS} octets"
        raise DerError(msg, "RFC 5280 4.1.1.2")
    return _identifier(data[element.start : element.end])


@functools.lru_cache(maxsize=256)
def _identifier(encoded: bytes) -> AlgorithmIdentifier:
    """
    An AlgorithmIdentifier from its whole bytes; a dozen different ones are in use anywhere.
    """
    parts = der.children(encoded, der.whole(encoded))
    if not 1 <= len(parts) <= 2:
        msg = "algorithm identifier is not an object identifier with parameters"
        raise DerError(msg, "RFC 5280 4.1.1.2")
    parameters = der.encoded(encoded, parts[1]) if len(parts) == 2 else None
    return AlgorithmIdentifier(der.oid(encoded, parts[0]), parameters)


def split(
    data: bytes, *, odd: Odd = refuse, known: tuple[bytes, bytes] | None = None
) -> tuple[Signed, Element, tuple[Element, ...]]:
    """
    Take a signed object apart: SEQUENCE { signed part, algorithm, BIT STRING, rest }.

    The signature is not verified, and an algorithm inside the signed part is the caller's to compare.

    Args:
        data: the whole object as received.
        odd: is told of octets behind it.
        known: SHA-256 of the object and the digest of its signed part, where not all of its octets are at hand.

    Returns:
        The parts, the element of the signed SEQUENCE, and what follows the signature (an OCSP response's
        certificates; the caller refuses it elsewhere).

    Raises:
        DerError: another structure, or (by default) trailing bytes.

    """
    parts = der.children(data, der.whole(data, odd=odd), most=_PARTS)
    if len(parts) < 3:
        msg = "signed object has fewer than three parts"
        raise DerError(msg, "RFC 5280 4.1.1")
    body = der.expect(parts[0], der.SEQUENCE, "signed part")
    signature, unused = der.bit_string(data, der.expect(parts[2], der.BIT_STRING, "signature"))
    if unused:
        msg = "signature is not whole octets"
        raise DerError(msg, "RFC 5280 4.1.1.3")
    signed = Signed(
        digest=hashlib.sha256(data).digest() if known is None else known[0],
        tbs=memoryview(data)[body.start : body.end]
        if known is None
        else Hashed(known[1], body.end - body.start),
        algorithm=algorithm(data, parts[1]),
        signature=signature,
    )
    return signed, body, tuple(parts[3:])


def _rsa(make: _Hash) -> _Scheme:
    hash_algorithm = make()
    check = _rsa_check(padding.PKCS1v15(), hash_algorithm)
    return _Scheme((KeyKind.RSA,), hash_algorithm.name, check, make)


def _rsa_check(
    scheme: padding.PKCS1v15 | padding.PSS, hash_algorithm: hashes.HashAlgorithm
) -> Callable[[Handle, bytes, memoryview | Hashed], None]:
    def check(key: Handle, signature: bytes, data: memoryview | Hashed) -> None:
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidSignature
        if isinstance(data, Hashed):
            key.verify(signature, data.digest, scheme, Prehashed(hash_algorithm))
        else:
            key.verify(signature, data, scheme, hash_algorithm)  # type: ignore[arg-type]  # it takes any buffer

    return check


def _ecdsa(make: _Hash) -> _Scheme:
    hash_algorithm = make()
    scheme = ec.ECDSA(hash_algorithm)
    hashed = ec.ECDSA(Prehashed(hash_algorithm))

    def check(key: Handle, signature: bytes, data: memoryview | Hashed) -> None:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        if isinstance(data, Hashed):
            key.verify(signature, data.digest, hashed)
        else:
            key.verify(signature, data, scheme)

    return _Scheme((KeyKind.EC,), hash_algorithm.name, check, make)


def _edwards(kind: KeyKind) -> _Scheme:
    def check(key: Handle, signature: bytes, data: memoryview | Hashed) -> None:
        if isinstance(data, Hashed) or not isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            raise InvalidSignature
        key.verify(signature, data)

    return _Scheme((kind,), kind.value, check)


def _plain_hash(data: bytes, element: Element) -> tuple[str, _Hash | None]:
    """
    The digest of PSS parameters (RFC 4055 3.1); its own parameters may be NULL or absent.
    """
    found = algorithm(data, element)
    if found.parameters not in (None, _NULL):
        msg = "digest of PSS parameters has parameters"
        raise DerError(msg, "RFC 4055 3.1")
    return found.oid, _PLAIN_HASHES.get(found.oid)


def _pss_bond(parameters: bytes) -> tuple[str, int] | None:
    """
    Digest and salt length of RSASSA-PSS parameters (RFC 4055 3.1): one digest for both uses, trailer 1.

    Absent fields mean SHA-1 and 20 octets. `None` where they ask for anything else.
    """
    name = mask = "1.3.14.3.2.26"
    salt = 20
    for field in der.children(parameters, der.whole(parameters)):
        inner = der.children(parameters, field)
        if len(inner) != 1:
            return None
        if field.tag == 0xA0:
            name, _ = _plain_hash(parameters, inner[0])
        elif field.tag == 0xA1:
            mgf = algorithm(parameters, inner[0])
            if mgf.oid != _MGF1 or mgf.parameters is None:
                return None
            mask, _ = _plain_hash(mgf.parameters, der.whole(mgf.parameters))
        elif field.tag == 0xA2:
            salt = der.integer(parameters, der.expect(inner[0], der.INTEGER, "salt length"))
        elif field.tag != 0xA3 or der.integer(parameters, inner[0]) != 1:
            return None
    return (name, salt) if mask == name and name in _PLAIN_HASHES and 0 <= salt <= 512 else None


def _pss(parameters: bytes | None) -> _Scheme | None:
    """
    RSASSA-PSS by its parameters.
    """
    bond = None if parameters is None else _pss_bond(parameters)
    if bond is None:
        return None
    make = _PLAIN_HASHES[bond[0]]
    hash_algorithm = make()
    check = _rsa_check(padding.PSS(padding.MGF1(hash_algorithm), bond[1]), hash_algorithm)
    return _Scheme((KeyKind.RSA, KeyKind.RSA_PSS), hash_algorithm.name, check, make)


def _within_bond(key: PublicKey, identifier: AlgorithmIdentifier) -> bool:
    """
    Whether a signature keeps to what an RSASSA-PSS key may be used with: its digest, and no shorter salt (RFC 4055 3.3).
    """
    if key.bond is None:
        return True
    try:
        allowed = _pss_bond(key.bond)
        used = None if identifier.parameters is None else _pss_bond(identifier.parameters)
    except DerError:
        return False
    return allowed is not None and used is not None and used[0] == allowed[0] and used[1] >= allowed[1]


def _says_nothing_more(parameters: bytes | None) -> bool:
    """
    Whether the parameters beside an ECDSA signature's name are absent, NULL or an object identifier.
    """
    return parameters is None or parameters == _NULL or parameters[0] == der.OBJECT_IDENTIFIER


@functools.lru_cache(maxsize=256)
def _scheme(identifier: AlgorithmIdentifier) -> _Scheme | None:
    """
    How to verify an algorithm; `None` where it is unknown or its parameters are not those of its standard.
    """
    oid, parameters = identifier.oid, identifier.parameters
    if oid in _RSA_HASHES:
        # RFC 4055 5: NULL is written, absent must be accepted as well.
        return _rsa(_RSA_HASHES[oid]) if parameters in (None, _NULL) else None
    if oid in _ECDSA_HASHES:
        # RFC 5758 3.2: absent. NULL (JDK 11), or the name of a curve, changes nothing: curve and key are the signer's.
        return _ecdsa(_ECDSA_HASHES[oid]) if _says_nothing_more(parameters) else None
    if oid in _EDWARDS:
        return _edwards(_EDWARDS[oid]) if parameters is None else None
    if oid == _PSS:
        try:
            return _pss(parameters)
        except DerError:
            return None
    return None


def hash_of(identifier: AlgorithmIdentifier) -> hashes.Hash | None:
    """
    What the signed part is hashed with (`Hashed`); `None` for an algorithm that is unknown, or takes the whole message.
    """
    scheme = _scheme(identifier)
    return None if scheme is None or scheme.make is None else hashes.Hash(scheme.make())


# What is met and not supported, so that people are told its name.
_NAMES = {
    "1.2.840.113549.1.1.2": "MD2 with RSA",
    "1.2.840.113549.1.1.4": "MD5 with RSA",
    "1.2.840.113549.1.1.5": "SHA-1 with RSA",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.113549.1.1.11": "SHA-256 with RSA",
    "1.2.840.113549.1.1.12": "SHA-384 with RSA",
    "1.2.840.113549.1.1.13": "SHA-512 with RSA",
    "1.2.840.10045.4.1": "ECDSA with SHA-1",
    "1.2.840.10045.4.3.1": "ECDSA with SHA-224",
    "1.2.840.10045.4.3.2": "ECDSA with SHA-256",
    "1.2.840.10045.4.3.3": "ECDSA with SHA-384",
    "1.2.840.10045.4.3.4": "ECDSA with SHA-512",
    "1.2.840.10040.4.3": "DSA with SHA-1",
    "2.16.840.1.101.3.4.3.2": "DSA with SHA-256",
    "1.2.840.113549.1.1.14": "SHA-224 with RSA",
    "1.2.643.2.2.3": "GOST R 34.10-2001",
    "1.2.156.10197.1.501": "SM2 with SM3",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}


def signature_name(identifier: AlgorithmIdentifier) -> str:
    """
    A signature algorithm for a person: its name where it has one here, and always its identifier.
    """
    oid = identifier.oid
    return f"{_NAMES[oid]} ({oid})" if oid in _NAMES else oid


class _Verified:
    """
    The bounded memory of valid signatures: (digest of the whole object, digest of the whole key).

    First in, first out: a hostile flood costs others their speed for a while and nothing else. Only single
    dictionary operations, each of them atomic, touch it.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._seen: dict[bytes, None] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._seen

    def add(self, key: bytes) -> None:
        """
        Remember one valid signature, forgetting the oldest where there are too many.
        """
        self._seen[key] = None
        while len(self._seen) > self._entries:
            try:
                self._seen.pop(next(iter(self._seen)), None)
            except (
                RuntimeError,
                StopIteration,
            ):  # another thread changed it meanwhile: its turn to shrink it
                return

    def clear(self) -> None:
        """
        Forget everything.
        """
        self._seen.clear()


_verified = _Verified(_VERIFIED_MAX)


def has_weak_digest(identifier: AlgorithmIdentifier, compat: frozenset[Leniency] = frozenset()) -> bool:
    """
    Whether an algorithm signs an MD5 or SHA-1 digest that `compat` does not let pass.

    Args:
        identifier: the signature algorithm.
        compat: `SHA1_SIGNATURE` is honoured; MD5 never passes.

    Returns:
        True where the digest is weak; False for unknown algorithms.

    """
    scheme = _scheme(identifier)
    if scheme is None:
        return False
    return scheme.digest == "md5" or (scheme.digest == "sha1" and Leniency.SHA1_SIGNATURE not in compat)


def key_strength(key: PublicKey, compat: frozenset[Leniency] = frozenset()) -> KeyStrength:
    """
    Whether a key may be relied upon: RSA of 2048 bits or more, the NIST, brainpool and Edwards curves.

    Args:
        key: the key.
        compat: `RSA_1024` lets RSA from 1024 bits on pass.

    Returns:
        The strength.

    """
    if key.strong:
        return KeyStrength.GOOD
    if key.handle is None:
        return KeyStrength.UNSUPPORTED
    if RSA_BITS_COMPAT <= key.bits < RSA_BITS and Leniency.RSA_1024 in compat:
        return KeyStrength.GOOD
    return KeyStrength.WEAK


def verify(
    signed: Signed,
    signer: PublicKey | bytes,
    *,
    compat: frozenset[Leniency] = frozenset(),
    remember: bool = True,
) -> SignatureStatus:
    """
    Verify a signature over the bytes as received.

    By default MD5 and SHA-1 digests and RSA keys below 2048 bits are `WEAK`, whether or not the signature
    would hold. Who signed is not looked at: name, key usage and validity are the caller's. A valid result that
    needs no leniency is remembered under the digests of the whole object and of the whole key (bounded).

    Args:
        signed: the object, from `split`.
        signer: the signer's key, or its SubjectPublicKeyInfo, DER.
        compat: `SHA1_SIGNATURE` and `RSA_1024` are honoured; MD5 never passes.
        remember: whether a valid result is remembered; not before a stranger is known to be none.

    Returns:
        The status; `VALID` only where the signature was checked and holds.

    """
    # A key that was read for a valid signature before need not be read again to know it.
    digest = hashlib.sha256(signer).digest() if isinstance(signer, bytes) else signer.digest
    if signed.digest + digest in _verified:
        return SignatureStatus.VALID
    try:
        key = load_key(signer) if isinstance(signer, bytes) else signer
    except DerError:
        return SignatureStatus.UNSUPPORTED
    scheme = _scheme(signed.algorithm)
    if scheme is None or key.handle is None:
        return SignatureStatus.UNSUPPORTED
    if has_weak_digest(signed.algorithm, compat) or key_strength(key, compat) is not KeyStrength.GOOD:
        return SignatureStatus.WEAK
    if key.kind not in scheme.kinds:
        return SignatureStatus.INVALID
    if not _within_bond(key, signed.algorithm):
        return SignatureStatus.UNSUPPORTED
    try:
        scheme.check(key.handle, signed.signature, signed.tbs)
    except (InvalidSignature, ValueError):
        return SignatureStatus.INVALID
    if remember:
        remember_valid(signed, key)
    return SignatureStatus.VALID


def remember_valid(signed: Signed, key: PublicKey) -> None:
    """
    Remember a signature that `verify` found valid, where that needed no leniency.

    Args:
        signed: the object.
        key: the signer's.

    """
    scheme = _scheme(signed.algorithm)
    if key.strong and scheme is not None and scheme.digest != "sha1":
        _verified.add(signed.digest + key.digest)


def clear_verified() -> None:
    """
    Forget every verified signature and read algorithm (benchmarks and tests start cold with it).
    """
    _verified.clear()
    _identifier.cache_clear()
    _scheme.cache_clear()
