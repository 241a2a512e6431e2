"""
What a server wants to see in a request: csrattrs (RFC 7030 4.5.2, RFC 8951 section 3.4, RFC 9908).

Pure. Our request is made before the CA is asked, so that this is advice to the operator: what the request lacks is
told, never added.
"""

from __future__ import annotations

from cftpki_connectors.ca.certs_only import MalformedBodyError
from cftpki_connectors.est.request import Requested
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der

# More than anybody asks for; the note for the operator stays readable.
MAX_ITEMS = 100
# What OpenSSL verifies with; a number of a million digits would be one for a message, too.
MAX_RSA_BITS = 16384

_CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105  # an object identifier
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_EXTENSION_TEMPLATE = "1.2.840.113549.1.9.16.2.62"
_REQUEST_TEMPLATE = "1.2.840.113549.1.9.16.2.61"
_RSA = "1.2.840.113549.1.1.1"
_EC = "1.2.840.10045.2.1"
_SUBJECT_PUBLIC_KEY_INFO = 0xA0
_ATTRIBUTES = 0xA1

_NAMES = {
    "1.2.840.10045.3.1.7": "P-256",
    "1.3.132.0.34": "P-384",
    "1.3.132.0.35": "P-521",
    "2.5.29.14": "subjectKeyIdentifier",
    "2.5.29.15": "keyUsage",
    "2.5.29.17": "subjectAltName",
    "2.5.29.19": "basicConstraints",
    "2.5.29.32": "certificatePolicies",
    "2.5.29.37": "extendedKeyUsage",
}
_CURVES = frozenset({"1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CsrAttributes:
    """
    What of csrattrs can be compared with a request.

    `algorithm` is the wanted key's (RSA or ECDSA), `curve` and `rsa_bits` how it is to be; `extensions` the
    extensions that the request is to have; `channel_binding` says that challengePassword is to link the
    request to the TLS session (RFC 7030 3.5).
    """

    listed: tuple[str, ...] = ()
    algorithm: str | None = None
    curve: str | None = None
    rsa_bits: int | None = None
    extensions: tuple[str, ...] = ()
    channel_binding: bool = False


def parse_csr_attributes(data: bytes) -> CsrAttributes:
    """
    Read a CsrAttrs value: `SEQUENCE OF AttrOrOID`.

    Identifiers that mean nothing to us are only listed.

    Args:
        data: DER, at most what `_encoding.decode` lets through.

    Returns:
        The attributes.

    Raises:
        MalformedBodyError: another structure, or more than `MAX_ITEMS`.

    """
    try:
        reader = _Reader(data)
        for item in _few(der.children(data, der.whole(data))):
            reader.item(item)
    except (der.DerError, InputError, IndexError, ValueError, RecursionError) as error:
        msg = f"csrattrs cannot be read: {error}"
        raise MalformedBodyError(msg) from error
    return reader.asked()


def _few(items: list[der.Element]) -> list[der.Element]:
    if len(items) > MAX_ITEMS:
        msg = f"csrattrs lists {len(items)} items, {MAX_ITEMS} are read"
        raise MalformedBodyError(msg)
    return items


class _Reader:
    """
    Collects attributes while it walks over the items.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._listed: list[str] = []
        self._extensions: list[str] = []
        self._algorithm: str | None = None
        self._curve: str | None = None
        self._rsa_bits: int | None = None

    def asked(self) -> CsrAttributes:
        return CsrAttributes(
            listed=tuple(dict.fromkeys(self._listed)),
            algorithm=self._algorithm,
            curve=self._curve,
            rsa_bits=self._rsa_bits,
            extensions=tuple(dict.fromkeys(self._extensions)),
            channel_binding=_CHALLENGE_PASSWORD in self._listed,
        )

    def item(self, item: der.Element) -> None:
        """
        An OID alone, or an attribute: a type and a set of values.
        """
        if item.tag == der.OBJECT_IDENTIFIER:
            name = der.oid(self._data, item)
            self._listed.append(name)
            if name in _CURVES:
                self._algorithm, self._curve = _EC, name
            elif name in {_RSA, _EC}:
                self._algorithm = name
            return
        kind, values = der.children(self._data, der.expect(item, der.SEQUENCE, "AttrOrOID"))
        name = der.oid(self._data, kind)
        self._listed.append(name)
        listed = der.expect(values, der.SET, "the values of an attribute")
        for value in _few(der.children(self._data, listed)):
            self._value(name, value)

    def _value(self, name: str, value: der.Element) -> None:
        if name in {_EXTENSION_REQUEST, _EXTENSION_TEMPLATE}:
            for extension in _few(der.children(self._data, value)):
                self._extensions.append(der.oid(self._data, der.children(self._data, extension)[0]))
        elif name == _EC and value.tag == der.OBJECT_IDENTIFIER:
            self._algorithm, self._curve = _EC, der.oid(self._data, value)
        elif name == _RSA:
            self._algorithm = _RSA
            if value.tag == der.INTEGER:
                self._size(der.integer(self._data, value))
        elif name == _REQUEST_TEMPLATE:
            self._template(value)

    def _template(self, value: der.Element) -> None:
        """
        CertificationRequestInfoTemplate (RFC 9908 3.4): key and attributes; the names are the operator's.
        """
        for part in der.children(self._data, value):
            if part.tag == _SUBJECT_PUBLIC_KEY_INFO:
                self._key(der.children(self._data, part))
            elif part.tag == _ATTRIBUTES:
                for attribute in _few(der.children(self._data, part)):
                    self.item(attribute)

    def _key(self, parts: list[der.Element]) -> None:
        algorithm = der.children(self._data, parts[0])
        self._algorithm = der.oid(self._data, algorithm[0])
        if self._algorithm == _EC and len(algorithm) > 1:
            self._curve = der.oid(self._data, algorithm[1])
        if self._algorithm == _RSA and len(parts) > 1:
            # A placeholder: only the size of its modulus counts.
            bits, _ = der.bit_string(self._data, parts[1])
            modulus = der.children(bits, der.whole(bits))[0]
            self._size(der.integer(bits, modulus).bit_length())

    def _size(self, bits: int) -> None:
        if bits > MAX_RSA_BITS:
            msg = f"an RSA key of more than {MAX_RSA_BITS} bits is asked for"
            raise MalformedBodyError(msg)
        self._rsa_bits = bits


def differences(asked: CsrAttributes, requested: Requested) -> tuple[str, ...]:
    """
    What the server asks for and the request does not have, one clause each.
    """
    found = []
    algorithm, curve, bits = _key_of(requested.spki)
    if asked.algorithm in {_RSA, _EC} and asked.algorithm != algorithm:
        wanted = "RSA" if asked.algorithm == _RSA else f"ECDSA {_name(asked.curve)}".rstrip()
        found.append(f"the CA asks for a key of {wanted} (csrattrs): set `key` of the identity")
    elif asked.curve is not None and algorithm == _EC and curve != asked.curve:
        found.append(f"the CA asks for a key on the curve {_name(asked.curve)} (csrattrs)")
    elif asked.rsa_bits is not None and bits is not None and bits < asked.rsa_bits:
        found.append(f"the CA asks for an RSA key of {asked.rsa_bits} bits (csrattrs)")
    lacking = [_name(one) for one in asked.extensions if one not in requested.extensions]
    if lacking:
        found.append(f"the CA asks for extensions that the request lacks (csrattrs): {', '.join(lacking)}")
    return tuple(found)


def _key_of(spki: bytes) -> tuple[str | None, str | None, int | None]:
    """
    Algorithm, curve and RSA size of a public key.
    """
    try:
        info, key = der.children(spki, der.whole(spki))
        algorithm = der.children(spki, info)
        name = der.oid(spki, algorithm[0])
        if name == _EC:
            return name, der.oid(spki, algorithm[1]), None
        bits, _ = der.bit_string(spki, key)
        modulus = der.children(bits, der.whole(bits))[0]
        return name, None, der.integer(bits, modulus).bit_length()
    except (der.DerError, IndexError, ValueError):
        return None, None, None


def _name(oid: str | None) -> str:
    return "" if oid is None else _NAMES.get(oid, oid)
