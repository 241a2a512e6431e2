"""
The extensions of RFC 5280 4.2 (and RFC 6960, 7633) as values, parsed strictly.

Owns the content of each extension but the locations of CRLs (`distribution`); what an extension means for a path or
for revocation is decided elsewhere. What `odd` is told of leaves one meaning and is refused by default.

More than 400 lines: one function for each extension, in the order of RFC 5280 4.2.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

from cftpki_ext.core.values import dataclass
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.fields import in_order, only
from cftpki_ext.x509.general_name import GeneralName, general_name, general_names, usable_uri
from cftpki_ext.x509.oddity import Odd, refuse

SUBJECT_KEY_ID = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
SUBJECT_ALT_NAME = "2.5.29.17"
BASIC_CONSTRAINTS = "2.5.29.19"
NAME_CONSTRAINTS = "2.5.29.30"
DISTRIBUTION_POINTS = "2.5.29.31"
CERTIFICATE_POLICIES = "2.5.29.32"
ANY_POLICY = "2.5.29.32.0"
POLICY_MAPPINGS = "2.5.29.33"
AUTHORITY_KEY_ID = "2.5.29.35"
POLICY_CONSTRAINTS = "2.5.29.36"
EXTENDED_KEY_USAGE = "2.5.29.37"
FRESHEST_CRL = "2.5.29.46"
INHIBIT_ANY_POLICY = "2.5.29.54"
NO_REV_AVAIL = "2.5.29.56"
AUTHORITY_INFORMATION = "1.3.6.1.5.5.7.1.1"
TLS_FEATURE = "1.3.6.1.5.5.7.1.24"
OCSP_NOCHECK = "1.3.6.1.5.5.7.48.1.5"

ANY_EKU = "2.5.29.37.0"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"

_ACCESS_OCSP = "1.3.6.1.5.5.7.48.1"
_ACCESS_CA_ISSUERS = "1.3.6.1.5.5.7.48.2"


@dataclass(frozen=True, slots=True)
class Extension:
    """
    One extension as received; `value` is the content of its OCTET STRING.
    """

    oid: str
    critical: bool
    value: bytes


class KeyUsage(enum.StrEnum):
    """
    The bits of RFC 5280 4.2.1.3, in their order.
    """

    DIGITAL_SIGNATURE = "digitalSignature"
    CONTENT_COMMITMENT = "contentCommitment"
    KEY_ENCIPHERMENT = "keyEncipherment"
    DATA_ENCIPHERMENT = "dataEncipherment"
    KEY_AGREEMENT = "keyAgreement"
    KEY_CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"
    ENCIPHER_ONLY = "encipherOnly"
    DECIPHER_ONLY = "decipherOnly"


_KEY_USAGES = tuple(KeyUsage)


@dataclass(frozen=True, slots=True)
class BasicConstraints:
    """
    RFC 5280 4.2.1.9.
    """

    ca: bool
    path_length: int | None


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """
    RFC 5280 4.2.1.10: the bases of the subtrees (minimum is 0 and maximum absent, or it is malformed).
    """

    permitted: tuple[GeneralName, ...]
    excluded: tuple[GeneralName, ...]


@dataclass(frozen=True, slots=True)
class PolicyConstraints:
    """
    RFC 5280 4.2.1.11.
    """

    require_explicit_policy: int | None
    inhibit_policy_mapping: int | None


def basic_constraints(value: bytes, *, odd: Odd = refuse) -> BasicConstraints:
    """
    Parse basicConstraints (RFC 5280 4.2.1.9).

    Args:
        value: the extension's value.
        odd: is told of `cA FALSE` written out (DER leaves defaults out), and of a path length without CA.

    Raises:
        DerError: malformed, a negative path length, octets behind the constraints of a CA.

    """
    rule = "RFC 5280 4.2.1.9"
    parts = only(value, der.SEQUENCE, "basic constraints", rule, odd=odd)
    fields = in_order(parts, (der.BOOLEAN, der.INTEGER), "basic constraints", rule)
    ca = False
    if der.BOOLEAN in fields:
        ca = der.boolean(value, fields[der.BOOLEAN], odd=odd)
        if not ca:
            odd("basic constraints write out a default value", rule)
    if ca:
        der.whole(value)
    path_length = der.integer(value, fields[der.INTEGER]) if der.INTEGER in fields else None
    if path_length is not None and (path_length < 0 or not ca):
        msg = f"path length constraint {path_length} with cA {ca}"
        if ca:
            raise DerError(msg, rule)
        odd(msg, rule)
        path_length = None
    return BasicConstraints(ca, path_length)


def key_usage(value: bytes, *, odd: Odd = refuse, minimal: bool = True) -> frozenset[KeyUsage]:
    """
    Parse keyUsage (RFC 5280 4.2.1.3).

    Args:
        value: the extension's value.
        odd: is told of trailing zero bits, unused bits that are set, octets behind it, and bits without meaning.
        minimal: whether trailing zero bits, which DER forbids, are odd at all.

    Returns:
        The usages.

    Raises:
        DerError: malformed, or no bit set that has a meaning.

    """
    rule = "RFC 5280 4.2.1.3"

    def told(detail: str, _rule: str) -> None:
        if minimal:
            odd(f"key usage: {detail}", rule)

    try:
        bits = der.named_bits(value, der.whole(value, der.BIT_STRING, odd=odd), odd=told)
    except DerError as error:
        if error.rule == rule:
            raise
        msg = f"key usage: {error.detail}"
        raise DerError(msg, rule) from error
    known = frozenset(_KEY_USAGES[bit] for bit in bits if bit < len(_KEY_USAGES))
    msg = "key usage sets no bit, or one without meaning"
    if not known:
        raise DerError(msg, rule)
    if len(known) < len(bits):
        odd(msg, rule)
    return known


def extended_key_usage(value: bytes, *, odd: Odd = refuse) -> frozenset[str]:
    """
    Parse extKeyUsage (RFC 5280 4.2.1.12): one or more identifiers.

    Args:
        value: the extension's value.
        odd: is told of octets behind them.

    Raises:
        DerError: malformed or empty.

    """
    rule = "RFC 5280 4.2.1.12"
    parts = only(value, der.SEQUENCE, "extended key usage", rule, odd=odd)
    usages = frozenset(der.oid(value, part) for part in parts)
    if not usages:
        msg = "extended key usage is empty"
        raise DerError(msg, rule)
    return usages


def subject_alt_name(value: bytes, *, odd: Odd = refuse) -> tuple[GeneralName, ...]:
    """
    Parse subjectAltName (RFC 5280 4.2.1.6).

    Args:
        value: the extension's value.
        odd: see `general_names`.

    Raises:
        DerError: no list of names, or (by default) empty.

    """
    return general_names(value, der.whole(value, odd=odd), odd=odd)


def _mask_is_contiguous(mask: bytes) -> bool:
    inverted = int.from_bytes(mask, "big") ^ ((1 << 8 * len(mask)) - 1)
    return inverted & (inverted + 1) == 0


_DNS_BASE = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")


def _check_base(base: GeneralName, *, leading_dot: bool) -> None:
    """
    Refuse a constraint whose meaning two readers could see differently.
    """
    value = base.value
    sound = True
    if base.kind == "ip" and isinstance(value, bytes):
        half = len(value) // 2
        sound = _mask_is_contiguous(value[half:])
    elif base.kind == "dns" and isinstance(value, str):
        host = value.removeprefix(".") if leading_dot else value
        sound = not value or _DNS_BASE.fullmatch(host) is not None
    elif base.kind == "email" and isinstance(value, str):
        local, at, host = value.rpartition("@")
        domain = host if at else host.removeprefix(".")
        sound = _DNS_BASE.fullmatch(domain) is not None and (not at or ("@" not in local and local != ""))
    elif base.kind == "uri" and isinstance(value, str):
        sound = _DNS_BASE.fullmatch(value.removeprefix(".")) is not None
    if not sound:
        shown = value.hex() if isinstance(value, bytes) else repr(value)
        msg = f"name constraint {base.kind} {shown} is not of the form that its type has"
        raise DerError(msg, "RFC 5280 4.2.1.10")


def name_constraints(value: bytes, *, leading_dot: bool = False) -> NameConstraints:
    """
    Parse nameConstraints (RFC 5280 4.2.1.10).

    Args:
        value: the extension's value.
        leading_dot: whether a DNS name may begin with a dot, as old CAs write it for "subdomains only".

    Returns:
        The constraints.

    Raises:
        DerError: malformed, empty, a minimum other than 0 or a maximum, or a base that is none of its type
            (a DNS name with a wildcard or leading dot, a mask with holes).

    """
    rule = "RFC 5280 4.2.1.10"
    parts = only(value, der.SEQUENCE, "name constraints", rule)
    fields = in_order(parts, (0xA0, 0xA1), "name constraints", rule)
    if not fields:
        msg = "name constraints are empty"
        raise DerError(msg, rule)
    trees: dict[int, tuple[GeneralName, ...]] = {}
    for tag, field in fields.items():
        bases = []
        for subtree in der.children(value, field):
            inner = der.children(value, der.expect(subtree, der.SEQUENCE, "subtree"))
            if len(inner) != 1:
                msg = "subtree of a name constraint has a minimum or maximum, or no base"
                raise DerError(msg, rule)
            base = general_name(value, inner[0], constraint=True)
            _check_base(base, leading_dot=leading_dot)
            bases.append(base)
        if not bases:
            msg = "list of subtrees is empty"
            raise DerError(msg, rule)
        trees[tag] = tuple(bases)
    return NameConstraints(trees.get(0xA0, ()), trees.get(0xA1, ()))


def certificate_policies(value: bytes, *, odd: Odd = refuse) -> tuple[str, ...]:
    """
    Parse certificatePolicies (RFC 5280 4.2.1.4): the identifiers. Qualifiers are for display, not decision.

    Args:
        value: the extension's value.
        odd: is told of an empty list, of empty qualifiers, and of a policy that is there twice.

    Returns:
        The policies, each once.

    Raises:
        DerError: malformed.

    """
    rule = "RFC 5280 4.2.1.4"
    found = []
    for part in only(value, der.SEQUENCE, "certificate policies", rule, odd=odd):
        inner = der.children(value, der.expect(part, der.SEQUENCE, "policy information"))
        if not 1 <= len(inner) <= 2:
            msg = "policy information is not a policy with qualifiers"
            raise DerError(msg, rule)
        found.append(der.oid(value, inner[0]))
        if len(inner) == 2 and not der.children(
            value, der.expect(inner[1], der.SEQUENCE, "policy qualifiers")
        ):
            odd("policy qualifiers are empty", rule)
    policies = tuple(dict.fromkeys(found))
    if not found or len(policies) != len(found):
        odd("certificate policies are empty or name a policy twice", rule)
    return policies


def policy_mappings(value: bytes) -> tuple[tuple[str, str], ...]:
    """
    Parse policyMappings (RFC 5280 4.2.1.5): pairs of issuer's and subject's policy.

    Raises:
        DerError: malformed or empty. A mapping of anyPolicy is a fault of the path, not of the form.

    """
    rule = "RFC 5280 4.2.1.5"
    found = []
    for part in only(value, der.SEQUENCE, "policy mappings", rule):
        inner = der.children(value, der.expect(part, der.SEQUENCE, "policy mapping"))
        if len(inner) != 2:
            msg = "policy mapping is not a pair"
            raise DerError(msg, rule)
        found.append((der.oid(value, inner[0]), der.oid(value, inner[1])))
    if not found:
        msg = "policy mappings are empty"
        raise DerError(msg, rule)
    return tuple(found)


def _skip_certs(value: bytes, element: Element, rule: str) -> int:
    number = der.integer(value, element)
    if number < 0:
        msg = f"number of certificates to skip is {number}"
        raise DerError(msg, rule)
    return number


def policy_constraints(value: bytes, *, odd: Odd = refuse) -> PolicyConstraints:
    """
    Parse policyConstraints (RFC 5280 4.2.1.11).

    Args:
        value: the extension's value.
        odd: is told where there are none.

    Raises:
        DerError: malformed.

    """
    rule = "RFC 5280 4.2.1.11"
    parts = only(value, der.SEQUENCE, "policy constraints", rule)
    fields = in_order(parts, (0x80, 0x81), "policy constraints", rule)
    if not fields:
        odd("policy constraints are empty", rule)
    explicit = _skip_certs(value, fields[0x80], rule) if 0x80 in fields else None
    mapping = _skip_certs(value, fields[0x81], rule) if 0x81 in fields else None
    return PolicyConstraints(explicit, mapping)


def inhibit_any_policy(value: bytes) -> int:
    """
    Parse inhibitAnyPolicy (RFC 5280 4.2.1.14).

    Raises:
        DerError: not a number of certificates.

    """
    return _skip_certs(value, der.whole(value, der.INTEGER), "RFC 5280 4.2.1.14")


def authority_key_id(value: bytes, *, odd: Odd = refuse) -> bytes | None:
    """
    Parse authorityKeyIdentifier (RFC 5280 4.2.1.1): the key identifier; issuer and serial only for form.

    Args:
        value: the extension's value.
        odd: is told where only one of issuer and serial is there, or they cannot be read.

    Raises:
        DerError: malformed.

    """
    rule = "RFC 5280 4.2.1.1"
    parts = only(value, der.SEQUENCE, "authority key identifier", rule, odd=odd)
    fields = in_order(parts, (0x80, 0xA1, 0x82), "authority key identifier", rule)
    if (0xA1 in fields) != (0x82 in fields):
        odd("authority key identifier has only one of issuer and serial number", rule)
    try:
        if 0xA1 in fields:
            general_names(value, fields[0xA1], odd=odd)
        if 0x82 in fields:
            der.integer(value, fields[0x82])
    except DerError as error:
        odd(error.detail, error.rule)
    return der.content(value, fields[0x80]) if 0x80 in fields else None


def subject_key_id(value: bytes, *, odd: Odd = refuse) -> bytes:
    """
    Parse subjectKeyIdentifier (RFC 5280 4.2.1.2).

    Args:
        value: the extension's value.
        odd: is told of octets behind it.

    Raises:
        DerError: not an OCTET STRING.

    """
    return der.content(value, der.whole(value, der.OCTET_STRING, odd=odd))


def authority_information(value: bytes, *, odd: Odd = refuse) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Parse authorityInfoAccess (RFC 5280 4.2.2.1).

    Args:
        value: the extension's value.
        odd: is told of an empty list, and of a location that cannot be read, which then is none.

    Returns:
        The OCSP locations and the locations of issuers' certificates, URIs only, in order.

    Raises:
        DerError: no list.

    """
    rule = "RFC 5280 4.2.2.1"
    found: dict[str, list[str]] = {_ACCESS_OCSP: [], _ACCESS_CA_ISSUERS: []}
    parts = only(value, der.SEQUENCE, "authority information access", rule, odd=odd)
    for part in parts:
        try:
            method, name = _access(value, part, odd, rule)
        except DerError as error:
            odd(error.detail, error.rule)
            continue
        location = usable_uri(name)
        if location is not None and method in found:
            found[method].append(location)
    if not parts:
        odd("authority information access is empty", rule)
    return tuple(found[_ACCESS_OCSP]), tuple(found[_ACCESS_CA_ISSUERS])


def _access(value: bytes, part: Element, odd: Odd, rule: str) -> tuple[str, GeneralName]:
    inner = der.children(value, der.expect(part, der.SEQUENCE, "access description"))
    if len(inner) != 2:
        msg = "access description is not a pair"
        raise DerError(msg, rule)
    return der.oid(value, inner[0]), general_name(value, inner[1], odd=odd)


def tls_features(value: bytes, *, odd: Odd = refuse) -> frozenset[int]:
    """
    Parse the TLS feature extension (RFC 7633 4): the numbers; 5 is "must staple".

    Args:
        value: the extension's value.
        odd: is told of octets behind them.

    Raises:
        DerError: malformed.

    """
    return frozenset(
        der.integer(value, der.expect(part, der.INTEGER, "TLS feature"))
        for part in only(value, der.SEQUENCE, "TLS features", "RFC 7633 4", odd=odd)
    )


def ocsp_nocheck(value: bytes, *, odd: Odd = refuse) -> bool:
    """
    Parse id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1): its content is NULL, and says nothing that its being there does not.

    Args:
        value: the extension's value.
        odd: is told of anything else.

    Returns:
        `True`.

    """
    if value != b"\x05\x00":
        odd("OCSP nocheck is not NULL", "RFC 6960 4.2.2.2.1")
    return True


def parse_extensions(
    data: bytes, parent: Element, *, odd: Odd = refuse, twice: Odd = refuse
) -> Mapping[str, Extension]:
    """
    Read an Extensions SEQUENCE (of a certificate, a CRL, a CRL entry or an OCSP response).

    Args:
        data: the buffer.
        parent: the SEQUENCE.
        odd: is told of an empty list, `critical FALSE` written out, and a criticality that is true only in BER.
        twice: is told of an extension that is there twice; the first one counts.

    Returns:
        The extensions by identifier, in their order.

    Raises:
        DerError: malformed.

    """
    rule = "RFC 5280 4.2"
    found: dict[str, Extension] = {}
    for part in der.children(data, der.expect(parent, der.SEQUENCE, "extensions")):
        inner = der.children(data, der.expect(part, der.SEQUENCE, "extension"))
        if len(inner) not in (2, 3):
            msg = "extension is not an identifier, a criticality and a value"
            raise DerError(msg, rule)
        oid = der.oid(data, inner[0])
        critical = False
        if len(inner) == 3:
            critical = der.boolean(data, der.expect(inner[1], der.BOOLEAN, "criticality"), odd=odd)
            if not critical:
                odd(f"extension {oid} writes out a default criticality", rule)
        value = der.content(data, der.expect(inner[-1], der.OCTET_STRING, f"value of extension {oid}"))
        if oid in found:
            twice(f"extension {oid} is there twice", rule)
            # Whichever counts, what is critical in one of them must be understood.
            value, critical = found[oid].value, critical or found[oid].critical
        found[oid] = Extension(oid, critical, value)
    if not found:
        odd("list of extensions is empty", rule)
    return found
