"""
One CRL as a value: RFC 5280 section 5, strictly read from the bytes as received.

Owns the parse of everything but the entries (see crl_entries) and the bounded memory of parsed lists. May import
x509 and crl_entries.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cftpki_ext.core.errors import InputError
from cftpki_ext.revocation.crl_entries import Entries
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.distribution import (
    DistributionPoint,
    distribution_point_name,
    distribution_points,
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
from cftpki_ext.x509.name import Name, parse_name
from cftpki_ext.x509.signed import Signed, split

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
# Parsed lists that are kept, by octets and by count: a list of a million entries (49 MB) with its signed part and
# native form, or a few hundred of the usual size.
_KEPT_OCTETS = 128 * 1024 * 1024
_KEPT_LISTS = 256

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
    serial that *is* listed is revoked all the same. `base_number` is set exactly for a delta CRL.
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
    delta_urls: tuple[str, ...]  # where freshestCRL (RFC 5280 5.2.6) says that the delta is
    entries: Entries
    raw_digest: str  # SHA-256 of the bytes as received (PEM or DER), hex


class _Kept:
    """
    The bounded memory of parsed lists, keyed by all of their bytes; the oldest go first.

    Only single dictionary operations, each of them atomic, touch it, so that threads may share it.
    """

    def __init__(self) -> None:
        self._views: dict[bytes, CrlView] = {}

    def get(self, raw: bytes) -> CrlView | None:
        """
        The view of exactly these bytes.
        """
        return self._views.get(raw)

    def add(self, raw: bytes, view: CrlView) -> None:
        """
        Keep one more, and forget the oldest where there are too many.
        """
        self._views[raw] = view
        oldest_first = list(self._views)
        octets = sum(map(len, oldest_first))
        surplus = len(oldest_first) - _KEPT_LISTS
        for index, old in enumerate(oldest_first):
            if octets <= _KEPT_OCTETS and index >= surplus:
                return
            self._views.pop(old, None)
            octets -= len(old)

    def clear(self) -> None:
        """
        Forget everything.
        """
        self._views.clear()


_kept = _Kept()


def clear_kept() -> None:
    """
    Forget every parsed CRL (benchmarks and tests start cold with it).
    """
    _kept.clear()


def read_crl(raw: bytes) -> CrlView:
    """
    Read one CRL, DER or PEM.

    By default a list without cRLNumber is read (RFC 5280 asks issuers for one, and the algorithm for none; it is
    then no base for a delta). The signature is not verified and the entries are not looked at. The caller has
    bounded the size.

    Args:
        raw: the bytes as received.

    Returns:
        The view; the same one for the same bytes while it is kept.

    Raises:
        MalformedCrlError: they are no CRL.

    """
    view = _kept.get(raw)
    if view is None:
        try:
            view = _parse(raw)
        except DerError as error:
            msg = f"no CRL: {error.detail} ({error.rule})"
            raise MalformedCrlError(msg) from error
        _kept.add(raw, view)
    return view


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
    signed, body, rest = split(data)
    if rest:
        msg = "bytes behind the signature"
        raise DerError(msg, "RFC 5280 5.1.1")
    parts = der.children(data, body)
    position = 0

    def take(*tags: int) -> Element | None:
        nonlocal position
        if position < len(parts) and parts[position].tag in tags:
            position += 1
            return parts[position - 1]
        return None

    version = take(der.INTEGER)
    if version is not None and der.integer(data, version) != 1:
        msg = "version is not v2"
        raise DerError(msg, "RFC 5280 5.1.2.1")
    inner, issuer = take(der.SEQUENCE), take(der.SEQUENCE)
    this_update = take(der.UTC_TIME, der.GENERALIZED_TIME)
    next_update = take(der.UTC_TIME, der.GENERALIZED_TIME)
    listed = take(der.SEQUENCE)
    explicit = take(0xA0)
    if inner is None or issuer is None or this_update is None or position != len(parts):
        msg = "the list's fields are not those of a CRL"
        raise DerError(msg, "RFC 5280 5.1.2")
    if not data.startswith(der.encoded(data, inner), body.end):
        msg = "signature algorithm inside differs from that outside"
        raise DerError(msg, "RFC 5280 5.1.2.2")
    name = parse_name(der.encoded(data, issuer))
    if not name.rdns:
        msg = "issuer is empty"
        raise DerError(msg, "RFC 5280 5.1.2.3")
    begins = der.time(data, this_update)
    ends = None if next_update is None else der.time(data, next_update)
    if ends is not None and ends < begins:
        msg = "nextUpdate is before thisUpdate"
        raise DerError(msg, "RFC 5280 5.1.2.5")
    extensions = _extensions(data, explicit, version)
    idp = extensions.get(ISSUING_DISTRIBUTION_POINT)
    point = None if idp is None else _issuing_distribution_point(idp.value)
    number = _number(extensions.get(CRL_NUMBER), "cRLNumber")
    base = _number(extensions.get(DELTA_INDICATOR), "BaseCRLNumber")
    if base is not None and (number is None or number <= base):
        msg = f"delta CRL on base {base} has the cRLNumber {number}"
        raise DerError(msg, "RFC 5280 5.2.4")
    unknown = sorted(e.oid for e in extensions.values() if e.critical and e.oid not in _UNDERSTOOD)
    key_id = extensions.get(AUTHORITY_KEY_ID)
    freshest = extensions.get(FRESHEST_CRL)
    return CrlView(
        signed=signed,
        issuer=name,
        this_update=begins,
        next_update=ends,
        number=number,
        base_number=base,
        idp=point,
        idp_der=None if idp is None else idp.value,
        authority_key_id=None if key_id is None else authority_key_id(key_id.value),
        unusable=f"unknown critical extension {', '.join(unknown)} (RFC 5280 5.2)" if unknown else None,
        delta_urls=() if freshest is None else _uris(distribution_points(freshest.value)),
        entries=Entries(
            data,
            listed.content if listed else 0,
            listed.end if listed else 0,
            issuer=name,
            indirect=point is not None and point.indirect,
        ),
        raw_digest=signed.digest.hex() if data is raw else hashlib.sha256(raw).hexdigest(),
    )


def _extensions(data: bytes, explicit: Element | None, version: Element | None) -> Mapping[str, Extension]:
    if explicit is None:
        return {}
    if version is None:
        msg = "a v1 CRL has extensions"
        raise DerError(msg, "RFC 5280 5.1.2.1")
    inner = der.children(data, explicit)
    if len(inner) != 1:
        msg = "extensions are not one list"
        raise DerError(msg, "RFC 5280 5.1.2.7")
    return parse_extensions(data, inner[0])


def _uris(points: Sequence[DistributionPoint]) -> tuple[str, ...]:
    """
    The URLs among the full names of distribution points, none twice.
    """
    names = (name for point in points for name in point.full_names)
    return tuple(dict.fromkeys(n.value for n in names if n.kind == "uri" and isinstance(n.value, str)))


def _number(extension: Extension | None, what: str) -> int | None:
    if extension is None:
        return None
    element = der.whole(extension.value, der.INTEGER)
    number = der.integer(extension.value, element)
    if number < 0 or element.end - element.content > _NUMBER_OCTETS:
        msg = f"{what} is negative or longer than {_NUMBER_OCTETS} octets"
        raise DerError(msg, "RFC 5280 5.2.3")
    return number


def _issuing_distribution_point(value: bytes) -> IssuingDistributionPoint:
    rule = "RFC 5280 5.2.5"
    fields = in_order(
        der.children(value, der.whole(value)),
        (0xA0, 0x81, 0x82, 0x83, 0x84, 0x85),
        "issuing distribution point",
        rule,
    )
    if not fields:
        msg = "issuing distribution point is empty"
        raise DerError(msg, rule)
    full: tuple[GeneralName, ...] = ()
    relative = None
    if 0xA0 in fields:
        full, relative = distribution_point_name(value, fields[0xA0])
    for tag in (0x81, 0x82, 0x84, 0x85):
        if tag in fields and not der.boolean(value, fields[tag]):
            msg = "issuing distribution point writes out a default value"
            raise DerError(msg, rule)
    contents = [kind for tag, kind in _CONTENTS.items() if tag in fields]
    if len(contents) > 1:
        msg = "issuing distribution point is limited to several kinds of certificates"
        raise DerError(msg, rule)
    return IssuingDistributionPoint(
        full_names=full,
        relative_name=relative,
        contents=contents[0] if contents else Contents.ANY,
        reasons=reason_flags(value, fields[0x83]) if 0x83 in fields else None,
        indirect=0x84 in fields,
    )


_CONTENTS = {0x81: Contents.USER, 0x82: Contents.CA, 0x85: Contents.ATTRIBUTE}
