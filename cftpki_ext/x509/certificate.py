"""
Certificates: parsed whole, once, from the bytes as received.

Owns `Certificate`, and what is odd and yet clear in one. Every value used for a decision is sliced from what was
received. Where the letter counts, `cryptography` reads the same bytes as a second strict parser.

More than 400 lines: the fields of RFC 5280 4.1 in their order, with what each may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.core.vocabulary import Form, Leniency
from cftpki_ext.core.work import Work
from cftpki_ext.x509 import der
from cftpki_ext.x509 import extensions as ext
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.distribution import DistributionPoint
from cftpki_ext.x509.extensions import (
    BasicConstraints,
    Extension,
    KeyUsage,
    NameConstraints,
    PolicyConstraints,
)
from cftpki_ext.x509.fields import in_order
from cftpki_ext.x509.general_name import GeneralName
from cftpki_ext.x509.keys import PublicKey, load_key
from cftpki_ext.x509.measure import operations
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.oddity import Odd, Oddities, Oddity, refuse
from cftpki_ext.x509.signed import AlgorithmIdentifier, Signed, algorithm, split
from cftpki_ext.x509.views import views

# The largest certificate that is looked at; real ones have one to four KiB. The same bound as
# `Limits.certificate_bytes`, held here too because not every caller has limits.
CERTIFICATE_BYTES = 32 * 1024

_SERIAL_OCTETS = 20
# Longer ones were issued; beyond this they are no number that anybody counts with.
_LONG_SERIAL_OCTETS = 64
_ECDSA_OIDS = "1.2.840.10045.4."

# RFC 5280 says of these "MUST mark as non-critical"; a critical one is a sign of a broken or hostile issuer.
_NEVER_CRITICAL = (ext.AUTHORITY_KEY_ID, ext.SUBJECT_KEY_ID, ext.AUTHORITY_INFORMATION, ext.FRESHEST_CRL)


class MalformedCertificateError(InputError):
    """
    The bytes are no certificate that RFC 5280 allows. `fault` says which rule, with no `depth`.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.detail} ({fault.rule})")
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Certificate:
    """
    A certificate. Equal to another only when all bytes are: a name, serial or signature identifies nothing.

    Optional views are `None` (or empty) where the extension is absent. `policies` is `None` where absent. `oddities`
    are where it departs from the letter; there are none where the letter counts.
    """

    der: bytes
    digest: bytes
    signed: Signed
    version: int
    serial: int
    serial_hex: str
    issuer: Name
    subject: Name
    not_before: datetime
    not_after: datetime
    spki: bytes
    key: PublicKey
    key_bits: bytes
    extensions: Mapping[str, Extension]
    self_issued: bool
    basic_constraints: BasicConstraints | None = None
    key_usage: frozenset[KeyUsage] | None = None
    extended_key_usage: frozenset[str] | None = None
    subject_alt_names: tuple[GeneralName, ...] = ()
    name_constraints: NameConstraints | None = None
    policies: tuple[str, ...] | None = None
    policy_mappings: tuple[tuple[str, str], ...] = ()
    policy_constraints: PolicyConstraints | None = None
    inhibit_any_policy: int | None = None
    authority_key_id: bytes | None = None
    subject_key_id: bytes | None = None
    distribution_points: tuple[DistributionPoint, ...] = ()
    freshest_crl: tuple[DistributionPoint, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    ca_issuer_urls: tuple[str, ...] = ()
    tls_features: frozenset[int] = frozenset()
    ocsp_nocheck: bool = False
    unhandled_critical: tuple[str, ...] = ()
    oddities: tuple[Oddity, ...] = ()
    work: int = 0  # what reading it costs, in operations
    reading: tuple[frozenset[Leniency], Form] = (frozenset(), Form.COMMON)  # how it was read

    def __eq__(self, other: object) -> bool:
        """
        Whether all bytes are the same.
        """
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        """
        By the bytes.
        """
        return hash(self.der)

    def __repr__(self) -> str:
        """
        Subject, serial and fingerprint: enough to tell which one it is.
        """
        return f"<Certificate {self.subject.text!r} serial {self.serial_hex} sha256 {self.digest.hex()[:16]}>"

    @property
    def is_ca(self) -> bool:
        """
        Whether basic constraints say that the subject is a CA.
        """
        return self.basic_constraints is not None and self.basic_constraints.ca

    @property
    def no_rev_avail(self) -> bool:
        """
        Whether its CA says that it publishes no status of it (RFC 9608 2).

        Only for a certificate that is no CA's and names no place where a status is: otherwise it contradicts itself,
        and the place counts.
        """
        return (
            ext.NO_REV_AVAIL in self.extensions
            and not self.is_ca
            and not (self.distribution_points or self.freshest_crl or self.ocsp_urls)
        )

    @property
    def label(self) -> str:
        """
        What to call it: its subject, else its first alternative name, else its fingerprint.
        """
        if self.subject.rdns:
            return self.subject.text
        for name in self.subject_alt_names:
            if isinstance(name.value, str) and name.value:
                return f"{name.kind}:{name.value}"
            if isinstance(name.value, Name):
                return f"directory:{name.value.text}"
        return f"sha256:{self.fingerprint}"

    @property
    def fingerprint(self) -> str:
        """
        SHA-256 of the DER, lower-case hex.
        """
        return self.digest.hex()


def _refused(detail: str, rule: str, reason: Reason = Reason.MALFORMED) -> MalformedCertificateError:
    return MalformedCertificateError(Fault(reason=reason, depth=None, rule=rule, detail=detail))


def parse_certificate(
    encoded: bytes,
    *,
    compat: frozenset[Leniency] = frozenset(),
    form: Form = Form.COMMON,
    work: Work | None = None,
) -> Certificate:
    """
    Parse a certificate (RFC 5280 4.1) and everything in it that a decision may use.

    What leaves two meanings, or weakens the signature, a constraint or the CA bit, is refused: other than minimal
    DER, trailing bytes, an inner algorithm unlike the outer one, an extension twice, impossible times, an empty issuer,
    a constraint of a CA that cannot be read. What leaves one meaning, or decides nothing, is read and noted in
    `oddities`, and refused where the letter counts. Not checked here: signature, validity at some time, strength of
    keys, what the certificate may be used for. What `keep_certificate` was told is not read again.

    Args:
        encoded: DER, at most 32 KiB.
        compat: the leniencies of the trust set; those for serial numbers and for the form of
            key usage and name constraints are honoured here.
        form: whether the letter counts.
        work: where the operations are counted; the same whether or not it is kept. By default nowhere.

    Returns:
        The certificate.

    Raises:
        MalformedCertificateError: it is none, with the rule that it breaks.
        WorkExceededError: reading it costs more than is left.

    """
    if len(encoded) > CERTIFICATE_BYTES:
        msg = f"certificate has {len(encoded)} octets, at most {CERTIFICATE_BYTES} are read"
        raise _refused(msg, "limits.certificate_bytes")
    encoded = bytes(encoded)
    known = _kept.get((encoded, (compat, form)))
    cost = (
        known.work
        if known is not None
        else operations(encoded, _MOST if work is None else work.left) + _FIXED
    )
    if work is not None:
        work.spend(cost, "reading certificates")
    return known or _parse(encoded, compat, form, cost)


# What any certificate costs beside its elements: the key, the hash, the second parser.
_FIXED = 100
# Counting comes to an end by the size of a certificate.
_MOST = CERTIFICATE_BYTES * 4
# Certificates of the configuration, and of partners that were found trusted: some thousand.
_KEPT_OCTETS = 32 * 1024 * 1024
# What a read certificate takes beside its bytes (measured): the values of its fields, and a multiple of its size.
_KEPT_FIXED = 4 * 1024
_KEPT_TIMES = 5

_kept: Memo[tuple[bytes, tuple[frozenset[Leniency], Form]], Certificate] = Memo(_KEPT_OCTETS)


def keep_certificate(certificate: Certificate) -> None:
    """
    Keep a certificate, so that it is not read again in the same way: the administrator's, or one of a trusted path.

    Args:
        certificate: as read.

    """
    cost = len(certificate.der) * _KEPT_TIMES + _KEPT_FIXED
    _kept.keep((certificate.der, certificate.reading), certificate, cost)


def _parse(encoded: bytes, compat: frozenset[Leniency], form: Form, work: int) -> Certificate:
    notes = Oddities()
    common = form is Form.COMMON
    try:
        certificate = _read(encoded, compat, notes if common else refuse)
    except DerError as error:
        contradicts = isinstance(error, _ContradictionError)
        reason = Reason.BASIC_CONSTRAINTS if contradicts else Reason.MALFORMED
        raise _refused(error.detail, error.rule, reason) from error
    # The second parser warns instead of reading serials that are not positive, which only `compat` lets through.
    if not common and certificate.serial > 0:
        try:
            load_der_x509_certificate(encoded)
        except (ValueError, InvalidVersion) as error:
            msg = "a second strict parser does not read it as a certificate"
            raise _refused(msg, "RFC 5280 4.1") from error
    return replace(certificate, oddities=tuple(notes), work=work, reading=(compat, form))


def clear_parsed() -> None:
    """
    Forget every parsed certificate and identifier (benchmarks and tests start cold with it).
    """
    _kept.clear()
    der.dotted.cache_clear()


def _serial(encoded: bytes, element: Element, compat: frozenset[Leniency], odd: Odd) -> int:
    """
    The serial number (RFC 5280 4.1.2.2): positive, at most 20 octets.
    """
    rule = "RFC 5280 4.1.2.2"
    octets = element.end - element.content
    if octets > _LONG_SERIAL_OCTETS:
        msg = f"serial number has {octets} octets, at most {_LONG_SERIAL_OCTETS} are read"
        raise DerError(msg, rule)
    serial = der.integer(encoded, der.expect(element, der.INTEGER, "serial number"))
    if serial < 0 and Leniency.NEGATIVE_SERIAL not in compat:
        odd("serial number is negative", rule)
    if serial == 0 and Leniency.ZERO_SERIAL not in compat:
        odd("serial number is zero", rule)
    if octets > _SERIAL_OCTETS and Leniency.LONG_SERIAL not in compat:
        odd(f"serial number has {octets} octets, at most {_SERIAL_OCTETS} are allowed", rule)
    return serial


def _serial_hex(serial: int) -> str:
    """
    Lower-case hex of even length; a negative one has a leading minus.
    """
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + ("0" if len(digits) % 2 else "") + digits


def _version(encoded: bytes, fields: list[Element], odd: Odd) -> int:
    """
    Take the explicit version off the fields: 3, or 1 where it is absent (DER writes no default).

    Version 2 has nothing but unique identifiers, which RFC 5280 4.1.2.8 forbids; there is none above 3.
    """
    rule = "RFC 5280 4.1.2.1"
    if not fields or fields[0].tag != 0xA0:
        return 1
    inner = der.children(encoded, fields.pop(0))
    if len(inner) != 1:
        msg = "version is not one integer"
        raise DerError(msg, rule)
    version = der.integer(encoded, der.expect(inner[0], der.INTEGER, "version")) + 1
    if version != 3:
        msg = f"version {version} where only 3 may be written"
        if version < 1:
            raise DerError(msg, rule)
        odd(msg, rule)
    return version


def _inner_algorithm(encoded: bytes, element: Element, outer: AlgorithmIdentifier, odd: Odd) -> None:
    """
    Refuse an inner algorithm identifier that is not the outer one (RFC 5280 4.1.1.2).
    """
    inner = algorithm(encoded, element)
    if inner != outer:
        msg = f"algorithm {inner.oid} inside, {outer.oid} outside, or other parameters"
        raise DerError(msg, "RFC 5280 4.1.1.2")
    if outer.oid.startswith(_ECDSA_OIDS) and outer.parameters is not None:
        odd("ECDSA signature algorithm has parameters", "RFC 5758 3.2")


def _read(encoded: bytes, compat: frozenset[Leniency], odd: Odd) -> Certificate:
    """
    Slice the certificate and refuse what the profile forbids.
    """
    signed, body, rest = split(encoded)
    if rest:
        msg = "certificate has more than three parts"
        raise DerError(msg, "RFC 5280 4.1.1")
    fields = der.children(encoded, body)
    version = _version(encoded, fields, odd)
    if len(fields) < 6:
        msg = "signed part has fewer than six fields"
        raise DerError(msg, "RFC 5280 4.1.2")
    serial = _serial(encoded, fields[0], compat, odd)
    _inner_algorithm(encoded, fields[1], signed.algorithm, odd)
    issuer = parse_name(der.encoded(encoded, fields[2]), odd=odd)
    if not issuer.rdns:
        msg = "issuer is empty"
        raise DerError(msg, "RFC 5280 4.1.2.4")
    times = der.children(encoded, der.expect(fields[3], der.SEQUENCE, "validity"))
    if len(times) != 2:
        msg = "validity is not a pair of times"
        raise DerError(msg, "RFC 5280 4.1.2.5")
    not_before, not_after = (der.time(encoded, time, odd=odd) for time in times)
    if not_after < not_before:
        msg = f"valid from {not_before.isoformat()} but only until {not_after.isoformat()}"
        raise DerError(msg, "RFC 5280 4.1.2.5")
    subject = parse_name(der.encoded(encoded, fields[4]), odd=odd)
    spki = der.encoded(encoded, fields[5])
    key = load_key(spki)
    extensions = _extensions(encoded, fields[6:], version, odd)
    certificate = Certificate(
        der=encoded,
        digest=signed.digest,
        signed=signed,
        version=version,
        serial=serial,
        serial_hex=_serial_hex(serial),
        issuer=issuer,
        subject=subject,
        not_before=not_before,
        not_after=not_after,
        spki=spki,
        key=key,
        key_bits=key.bit_string,
        extensions=extensions,
        self_issued=issuer.key == subject.key,
        **views(extensions, compat, odd),  # type: ignore[arg-type]  # one keyword per field, typed by its parser
    )
    _consistent(certificate, odd)
    return certificate


def _extensions(encoded: bytes, rest: list[Element], version: int, odd: Odd) -> Mapping[str, Extension]:
    """
    The optional fields behind the key: unique identifiers (versions 2 and 3) and extensions (version 3).
    """
    fields = in_order(rest, (0x81, 0x82, 0xA3), "signed part", "RFC 5280 4.1.2")
    if fields and (version == 1 or (version == 2 and 0xA3 in fields)):
        msg = f"version {version} has fields of a later one"
        raise DerError(msg, "RFC 5280 4.1.2.1")
    for tag in (0x81, 0x82):
        if tag in fields:
            der.bit_string(encoded, fields[tag])
    if 0xA3 not in fields:
        return MappingProxyType({})
    inner = der.children(encoded, fields[0xA3])
    if len(inner) != 1:
        msg = "extensions are not one list"
        raise DerError(msg, "RFC 5280 4.1.2.9")
    found = ext.parse_extensions(encoded, inner[0], odd=odd)
    for oid in _NEVER_CRITICAL:
        if oid in found and found[oid].critical:
            msg = f"extension {oid} is critical"
            raise DerError(msg, "RFC 5280 4.2")
    return MappingProxyType(dict(found))


class _ContradictionError(DerError):
    """
    Key usage and basic constraints contradict each other.
    """


def _consistent(certificate: Certificate, odd: Odd) -> None:
    """
    Tell of extensions that contradict each other or the subject.

    Nothing follows from them: who may issue is asked of both basic constraints and key usage (RFC 5280 6.1.4), and
    constraints bind only what is below a CA.
    """
    constraints = certificate.basic_constraints
    usage = certificate.key_usage
    rule = "RFC 5280 4.2.1.9"
    contradiction = None
    if usage is not None and KeyUsage.KEY_CERT_SIGN in usage and not certificate.is_ca:
        contradiction = "key usage has keyCertSign, but basic constraints do not say CA"
    elif (
        constraints is not None
        and constraints.path_length is not None
        and usage is not None
        and KeyUsage.KEY_CERT_SIGN not in usage
    ):
        contradiction = "path length constraint, but key usage has no keyCertSign"
    if contradiction is not None:
        try:
            odd(contradiction, rule)
        except DerError as error:
            raise _ContradictionError(contradiction, rule) from error
    if ext.NAME_CONSTRAINTS in certificate.extensions and not certificate.is_ca:
        odd("name constraints, but basic constraints do not say CA", "RFC 5280 4.2.1.10")
    if not certificate.subject.rdns:
        if certificate.is_ca:
            msg = "subject of a CA is empty"
            raise DerError(msg, "RFC 5280 4.1.2.6")
        names = certificate.extensions.get(ext.SUBJECT_ALT_NAME)
        if names is None or not names.critical:
            odd("subject is empty without a critical subject alternative name", "RFC 5280 4.1.2.6")
