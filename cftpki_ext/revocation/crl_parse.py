"""
One CRL as a value: RFC 5280 section 5, read from the bytes as received.

Owns the parse of everything but the entries (see crl_entries) and the bounded memory of parsed lists. The issuer, the
signature and where the entries are must be readable; whatever else is odd or cannot be read is noted.

More than 400 lines: the fields and extensions of RFC 5280 5.1 and 5.2 in their order.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import cast

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.values import dataclass
from cftpki_ext.revocation.crl_entries import Entries, ListedEntries
from cftpki_ext.revocation.crl_indexed import IndexedEntries
from cftpki_ext.revocation.form_notes import FormNotes, Taking
from cftpki_ext.revocation.list_index import DamagedIndexError, ListIndex
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.distribution import (
    distribution_point_name,
    distribution_points,
    locations,
    reason_flags,
)
from cftpki_ext.x509.extensions import (
    AUTHORITY_INFORMATION,
    AUTHORITY_KEY_ID,
    FRESHEST_CRL,
    Extension,
    authority_key_id,
    parse_extensions,
)
from cftpki_ext.x509.fields import in_order
from cftpki_ext.x509.general_name import GeneralName
from cftpki_ext.x509.loose_time import loose_time
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.oddity import Odd, ignore
from cftpki_ext.x509.signed import AlgorithmIdentifier, Signed, split

CRL_NUMBER = "2.5.29.20"
DELTA_INDICATOR = "2.5.29.27"
ISSUING_DISTRIBUTION_POINT = "2.5.29.28"
_ISSUER_ALT_NAME = "2.5.29.18"  # other names of the issuer: nothing is decided by them
_UNDERSTOOD = frozenset(
    {
        AUTHORITY_KEY_ID,
        AUTHORITY_INFORMATION,
        CRL_NUMBER,
        DELTA_INDICATOR,
        FRESHEST_CRL,
        ISSUING_DISTRIBUTION_POINT,
        _ISSUER_ALT_NAME,
    }
)
# A number as long as RFC 5280 5.2.3 asks to handle.
_NUMBER_OCTETS = 20
_ECDSA_OIDS = "1.2.840.10045.4."
# Parsed lists that are kept, by octets: a list of a million entries (49 MB) with its signed part and
# native form, or a few hundred of the usual size.
_KEPT_OCTETS = 128 * 1024 * 1024
# What a parsed list takes beside its bytes: its values, the answers that it gave, a few offsets.
_KEPT_FIXED = 64 * 1024
# The signed part has seven fields, and its extensions have some hundred octets; a list could bring megabytes.
_FIELDS = 16
_EXTENSIONS_OCTETS = 64 * 1024

_PEM_BEGIN = b"-----BEGIN X509 CRL-----"
_PEM_END = b"-----END X509 CRL-----"


class MalformedCrlError(InputError):
    """
    The bytes are no CRL of RFC 5280.
    """


class Contents(enum.Enum):
    """
    Which certificates a CRL is about (onlyContainsUserCerts, …CACerts, …AttributeCerts; at most one is set).
    """

    ANY = "any"
    USER = "user"
    CA = "ca"
    ATTRIBUTE = "attribute"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingDistributionPoint:
    """
    RFC 5280 5.2.5. `reasons` is `None` where all are meant.
    """

    full_names: tuple[GeneralName, ...]
    relative_name: bytes | None
    contents: Contents
    reasons: frozenset[str] | None
    indirect: bool

    @property
    def named(self) -> bool:
        """
        Whether the list is bound to a distribution point.
        """
        return bool(self.full_names) or self.relative_name is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrlView:
    """
    One CRL. Whether it is authentic, current and in scope is for others to say.

    `unusable` tells why "not listed" must not be concluded from it (RFC 5280 5.2: an unknown critical extension); a
    serial that *is* listed is revoked all the same. `base_number` is set exactly for a delta CRL, and negative where it
    cannot be read. `this_update` is the beginning of time where it cannot be read.
    """

    signed: Signed
    issuer: Name
    this_update: datetime
    next_update: datetime | None
    number: int | None
    base_number: int | None
    idp: IssuingDistributionPoint | None
    idp_der: bytes | None
    authority_key_id: bytes | None
    unusable: str | None
    notes: FormNotes
    delta_urls: tuple[str, ...]  # where freshestCRL (RFC 5280 5.2.6) says that the delta is
    entries: ListedEntries
    raw_digest: str  # SHA-256 of the bytes as received (PEM or DER), hex


_kept: Memo[bytes | str, CrlView] = Memo(_KEPT_OCTETS)


def clear_kept() -> None:
    """
    Forget every parsed CRL (benchmarks and tests start cold with it).
    """
    _kept.clear()


def read_crl(raw: bytes | LargeOctets) -> CrlView:
    """
    Read one CRL, DER or PEM.

    A list without cRLNumber is read (RFC 5280 asks issuers for one, and the algorithm for none; it is
    then no base for a delta). The signature is not verified and the entries are not looked at. The caller has
    bounded the size. Of a list that is read in parts, what its index says is taken; one without an index, or with one that is
    damaged, is read whole.

    Args:
        raw: the bytes as received.

    Returns:
        The view; the same one for the same bytes while it is kept.

    Raises:
        MalformedCrlError: they are no CRL.
        UnreadableOctetsError: they are not in memory, and cannot be read.

    """
    key = raw.digest if isinstance(raw, LargeOctets) else raw
    view = _kept.get(key)
    if view is None:
        try:
            view, octets = _view(raw)
        except DerError as error:
            msg = f"no CRL: {error.detail} ({error.rule})"
            raise MalformedCrlError(msg) from error
        _kept.keep(key, view, octets + _KEPT_FIXED)
    return view


def _view(raw: bytes | LargeOctets) -> tuple[CrlView, int]:
    """
    The view of a list, and what it takes in memory.
    """
    if isinstance(raw, bytes):
        return _parse(raw), len(raw)
    if raw.index is not None:
        try:
            index = ListIndex(raw.index, raw.digest)
        except DamagedIndexError:
            raw.index.damaged = True
        else:
            return _indexed(raw, index), index.octets
    return _parse(raw.whole()), len(raw)


def _indexed(raw: LargeOctets, index: ListIndex) -> CrlView:
    """
    The view of a list whose entries are in an index.
    """
    facts = index.facts
    data = cast("bytes", Surroundings(facts.head, facts.tail, facts.size))

    def entries(listed: Element | None, issuer: Name, indirect: bool) -> ListedEntries:  # noqa: FBT001  # a callback's
        def instead() -> ListedEntries:
            if raw.index is not None:
                raw.index.damaged = True
            return _entries_of(raw.whole(), listed, issuer, indirect)

        return IndexedEntries(index, issuer=issuer, instead=instead)

    digest = bytes.fromhex(raw.digest)
    return _read(data, known=(digest, facts.signed), digest=raw.digest, entries=entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """
    Where the parts of a list are: its signed part and, inside, its entries (`None`: it has no place for any).
    """

    body: Element
    entries: Element | None
    algorithm: AlgorithmIdentifier
    indirect: bool


def outline(data: bytes) -> Outline:
    """
    Find the parts of a list, of which nothing but what is beside its entries is read.

    Args:
        data: what can be indexed and sliced like the whole list.

    Returns:
        The places.

    Raises:
        MalformedCrlError: it is no CRL.

    """
    found: list[tuple[Element | None, bool]] = []

    def entries(listed: Element | None, issuer: Name, indirect: bool) -> ListedEntries:  # noqa: FBT001  # a callback's
        found.append((listed, indirect))
        return _entries_of(b"", None, issuer, indirect)

    try:
        view = _read(data, known=(b"", b""), digest="", entries=entries)
        _, body, _ = split(data, odd=ignore, known=(b"", b""))
    except DerError as error:
        msg = f"no CRL: {error.detail} ({error.rule})"
        raise MalformedCrlError(msg) from error
    listed, indirect = found[0]
    return Outline(body=body, entries=listed, algorithm=view.signed.algorithm, indirect=indirect)


class Surroundings:
    """
    A list of which only the beginning and the end are at hand: it can be indexed and sliced there.
    """

    __slots__ = ("_behind", "_head", "_size", "_tail")

    def __init__(self, head: bytes, tail: bytes, size: int) -> None:
        self._head = head
        self._tail = tail
        self._size = size
        self._behind = size - len(tail)

    def __len__(self) -> int:
        """
        Of the whole list.
        """
        return self._size

    def __getitem__(self, place: int | slice) -> int | bytes:
        """
        Octets, as of `bytes`.

        Raises:
            DerError: they are among the entries.

        """
        begin, end, _ = (slice(place, place + 1) if isinstance(place, int) else place).indices(self._size)
        if end <= len(self._head):
            return self._head[begin] if isinstance(place, int) else self._head[begin:end]
        if begin < self._behind:
            msg = "the entries of a list are not at hand"
            raise DerError(msg)
        moved = begin - self._behind
        return self._tail[moved] if isinstance(place, int) else self._tail[moved : end - self._behind]


def _from_pem(raw: bytes) -> bytes:
    text = raw.strip()
    if not text.startswith(_PEM_BEGIN) or not text.endswith(_PEM_END):
        msg = "PEM is not one block X509 CRL"
        raise DerError(msg, "RFC 7468")
    try:
        return base64.b64decode(b"".join(text[len(_PEM_BEGIN) : -len(_PEM_END)].split()), validate=True)
    except binascii.Error as error:
        msg = f"PEM: {error}"
        raise DerError(msg, "RFC 7468") from error


def _parse(raw: bytes) -> CrlView:
    data = _from_pem(raw) if raw.lstrip()[:5] == b"-----" else raw

    def entries(listed: Element | None, issuer: Name, indirect: bool) -> ListedEntries:  # noqa: FBT001  # a callback's
        return _entries_of(data, listed, issuer, indirect)

    return _read(data, known=None, digest=None if data is raw else digest_of(raw), entries=entries)


def _entries_of(data: bytes, listed: Element | None, issuer: Name, indirect: bool) -> Entries:  # noqa: FBT001
    begin, end = (listed.content, listed.end) if listed else (0, 0)
    return Entries(data, begin, end, issuer=issuer, indirect=indirect)


def _read(
    data: bytes,
    *,
    known: tuple[bytes, bytes] | None,
    digest: str | None,
    entries: Callable[[Element | None, Name, bool], ListedEntries],
) -> CrlView:
    """
    Everything but the entries.

    Args:
        data: the list, or what can be indexed and sliced like it.
        known: see `x509.signed.split`.
        digest: SHA-256 of what was received, where that is not `data`.
        entries: makes what finds entries: where they are, the list's issuer, whether the list is indirect.

    """
    taking = Taking()
    odd, doubt = taking.odd, taking.doubt
    signed, body, rest = split(data, odd=doubt, known=known)
    if rest:
        doubt("bytes behind the signature", "RFC 5280 5.1.1")
    fields = _fields(data, body, taking)
    inner = der.encoded(data, fields.algorithm)
    if data[body.end : body.end + len(inner)] != inner:
        doubt("signature algorithm inside differs from that outside", "RFC 5280 5.1.2.2")
    if signed.algorithm.oid.startswith(_ECDSA_OIDS) and signed.algorithm.parameters is not None:
        odd("ECDSA signature algorithm has parameters", "RFC 5758 3.2")
    name = parse_name(der.encoded(data, fields.issuer), odd=odd)
    if not name.rdns:
        msg = "issuer is empty"
        raise DerError(msg, "RFC 5280 5.1.2.3")
    begins = _time(data, fields.this_update, "thisUpdate", taking)
    ends = None if fields.next_update is None else _time(data, fields.next_update, "nextUpdate", taking)
    if ends is not None and begins is not None and ends < begins:
        doubt("nextUpdate is before thisUpdate", "RFC 5280 5.1.2.5")
    extensions = fields.extensions
    point = _issuing_distribution_point(extensions.get(ISSUING_DISTRIBUTION_POINT), taking)
    number = _number(extensions.get(CRL_NUMBER), "cRLNumber", doubt)
    base = None
    if DELTA_INDICATOR in extensions:
        base = _number(extensions[DELTA_INDICATOR], "BaseCRLNumber", doubt)
        if base is None or number is None or number <= base:
            doubt(f"delta CRL on base {base} has the cRLNumber {number}", "RFC 5280 5.2.4")
        base = -1 if base is None else base
    unknown = sorted(e.oid for e in extensions.values() if e.critical and e.oid not in _UNDERSTOOD)
    idp = extensions.get(ISSUING_DISTRIBUTION_POINT)
    return CrlView(
        signed=signed,
        issuer=name,
        this_update=begins or datetime.min.replace(tzinfo=UTC),
        next_update=ends,
        number=number,
        base_number=base,
        idp=point,
        idp_der=None if idp is None else idp.value,
        authority_key_id=_key_id(extensions.get(AUTHORITY_KEY_ID), odd),
        unusable=f"critical extension {unknown[0]} is not understood" if unknown else None,
        delta_urls=_deltas(extensions.get(FRESHEST_CRL), doubt),
        entries=entries(fields.entries, name, point is not None and point.indirect),
        raw_digest=signed.digest.hex() if digest is None else digest,
        notes=taking.notes(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """
    The parts of the signed list (RFC 5280 5.1.2).
    """

    algorithm: Element
    issuer: Element
    this_update: Element | None
    next_update: Element | None
    entries: Element | None
    extensions: Mapping[str, Extension]


def _fields(data: bytes, body: Element, taking: Taking) -> _Fields:
    parts = der.children(data, body, most=_FIELDS)
    position = 0

    def take(*tags: int) -> Element | None:
        nonlocal position
        if position < len(parts) and parts[position].tag in tags:
            position += 1
            return parts[position - 1]
        return None

    version = take(der.INTEGER)
    if version is not None:
        _version(data, version, taking)
    inner, issuer = take(der.SEQUENCE), take(der.SEQUENCE)
    this_update = take(der.UTC_TIME, der.GENERALIZED_TIME)
    next_update = take(der.UTC_TIME, der.GENERALIZED_TIME)
    listed = take(der.SEQUENCE)
    explicit = take(0xA0)
    if inner is None or issuer is None:
        msg = "the list's fields are not those of a CRL"
        raise DerError(msg, "RFC 5280 5.1.2")
    if position != len(parts):
        taking.doubt("the list's fields are not those of a CRL", "RFC 5280 5.1.2")
        # What lists certificates is the one SEQUENCE that is left, wherever it stands.
        left = [part for part in parts[position:] if part.tag == der.SEQUENCE]
        listed = listed or next(iter(left), None)
    if explicit is not None and version is None:
        taking.doubt("a v1 CRL has extensions", "RFC 5280 5.1.2.1")
    return _Fields(
        algorithm=inner,
        issuer=issuer,
        this_update=this_update,
        next_update=next_update,
        entries=listed,
        extensions={} if explicit is None else _extensions(data, explicit, taking),
    )


def _version(data: bytes, element: Element, taking: Taking) -> None:
    rule = "RFC 5280 5.1.2.1"
    try:
        number = der.integer(data, element)
    except DerError as error:
        taking.doubt(error.detail, error.rule)
        return
    if number == 0:
        taking.doubt("version 1 is written out", rule)
    elif number != 1:
        taking.doubt("version is not v2", rule)


def _time(data: bytes, element: Element | None, what: str, taking: Taking) -> datetime | None:
    if element is None:
        taking.doubt(f"{what} is not there", "RFC 5280 5.1.2")
        return None
    try:
        return loose_time(data, element, fraction=taking.odd, other=taking.doubt)
    except DerError as error:
        taking.doubt(f"{what}: {error.detail}", error.rule)
        return None


def _extensions(data: bytes, explicit: Element, taking: Taking) -> Mapping[str, Extension]:
    """
    The extensions; none where they cannot be read, and then nothing good follows from the list.
    """
    octets = explicit.end - explicit.start
    if octets > _EXTENSIONS_OCTETS:
        taking.doubt(
            f"extensions have {octets} octets, at most {_EXTENSIONS_OCTETS} are read", "RFC 5280 5.1.2.7"
        )
        return {}
    try:
        inner = der.children(data, explicit)
        if len(inner) != 1:
            taking.doubt("extensions are not one list", "RFC 5280 5.1.2.7")
        listed = inner[0] if inner else explicit
        return parse_extensions(data, listed, odd=taking.doubt, twice=taking.doubt)
    except DerError as error:
        taking.doubt(error.detail, error.rule)
        return {}


def _number(extension: Extension | None, what: str, doubt: Odd) -> int | None:
    if extension is None:
        return None
    try:
        element = der.whole(extension.value, der.INTEGER, odd=doubt)
        number = der.integer(extension.value, element)
    except DerError as error:
        doubt(f"{what}: {error.detail}", error.rule)
        return None
    if number < 0 or element.end - element.content > _NUMBER_OCTETS:
        doubt(f"{what} is negative or longer than {_NUMBER_OCTETS} octets", "RFC 5280 5.2.3")
    return number


def _key_id(extension: Extension | None, odd: Odd) -> bytes | None:
    """
    The authority key identifier, which says whom to try first and decides nothing.
    """
    try:
        return None if extension is None else authority_key_id(extension.value, odd=odd)
    except DerError as error:
        odd(error.detail, error.rule)
        return None


def _deltas(extension: Extension | None, doubt: Odd) -> tuple[str, ...]:
    try:
        return () if extension is None else locations(distribution_points(extension.value, odd=doubt))
    except DerError as error:
        doubt(error.detail, error.rule)
        return ()


def _issuing_distribution_point(
    extension: Extension | None, taking: Taking
) -> IssuingDistributionPoint | None:
    """
    The scope; `None` also where it cannot be read, and then nothing good follows from the list.
    """
    if extension is None:
        return None
    try:
        return _scope(extension.value, taking)
    except DerError as error:
        taking.doubt(f"issuing distribution point: {error.detail}", error.rule)
        return None


def _scope(value: bytes, taking: Taking) -> IssuingDistributionPoint:
    rule = "RFC 5280 5.2.5"
    doubt = taking.doubt
    fields = in_order(
        der.children(value, der.whole(value, odd=doubt)),
        (0xA0, 0x81, 0x82, 0x83, 0x84, 0x85),
        "issuing distribution point",
        rule,
    )
    if not fields:
        doubt("issuing distribution point is empty", rule)
    full: tuple[GeneralName, ...] = ()
    relative = None
    if 0xA0 in fields:
        # A name that cannot be read may be the one that the certificate names: then the list is of no use for good.
        full, relative = distribution_point_name(value, fields[0xA0], odd=doubt)
    said = set()
    for tag in (0x81, 0x82, 0x84, 0x85):
        if tag in fields:
            if der.boolean(value, fields[tag], odd=doubt):
                said.add(tag)
            else:
                doubt("issuing distribution point writes out a default value", rule)
    contents = [kind for tag, kind in _CONTENTS.items() if tag in said]
    if len(contents) > 1:
        doubt("issuing distribution point is limited to several kinds of certificates", rule)
    return IssuingDistributionPoint(
        full_names=full,
        relative_name=relative,
        contents=contents[0] if contents else Contents.ANY,
        reasons=reason_flags(value, fields[0x83], odd=doubt) if 0x83 in fields else None,
        indirect=0x84 in said,
    )


_CONTENTS = {0x81: Contents.USER, 0x82: Contents.CA, 0x85: Contents.ATTRIBUTE}
