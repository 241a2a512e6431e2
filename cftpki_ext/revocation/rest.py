"""
What a CA's own JSON lookup establishes about one certificate.

Owns the URL of the question and the reading of the answer by a `RestProfile`, with ready profiles for Vault (OpenBao)
and EJBCA. Such an answer is not signed: only the TLS connection that it came over proves who gave it, so that good
news out of a store proves nothing.

More than 400 lines: the URL and the answer of each profile stand beside each other.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.source_settings import RestAccess, RestAnswer, RestProfile
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Origin, Rules, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.freshness import staleness
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.reasons import CERTIFICATE_HOLD, REASON_CODES, REASONS, REMOVE_FROM_CRL

_FIELD = re.compile(
    r"\{(serial_hex|serial_upper|serial_colons|serial_hyphens|serial_decimal|issuer_dn|issuer_dn_forward)\}"
)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HOLD = CERTIFICATE_HOLD.lower()
_REASONS = frozenset(name.lower() for name in REASON_CODES)
# How APIs write that there is no reason, or no time.
_NO_REASON = frozenset(
    {"", "0", "-1", "-", "null", "none", "na", "n/a", "nil", "false", "never", "notrevoked"}
)
# Vault's and EJBCA's answers are two and one deep.
_DEPTH = 32
# RFC 6901 4: no leading zeros.
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
# A string that is never closed reaches to the end, so that each octet is looked at once whatever comes.
_STRINGS = re.compile(rb'"(?>(?:[^"\\]++|\\.)*)(?:"|\\?\Z)', re.DOTALL)
_ALIASES = {
    "e": "emailaddress",
    "email": "emailaddress",
    "1.2.840.113549.1.9.1": "emailaddress",
    "s": "st",
    "givenname": "gn",
    "dn": "dnqualifier",
    "t": "title",
    "surname": "serialnumber|sn",
    "sn": "serialnumber|sn",  # a serial number to EJBCA, a surname to RFC 4519
    "serialnumber": "serialnumber|sn",
    "organizationidentifier": "2.5.4.97",
}


# The names under which the configuration knows the profiles; OpenBao kept Vault's API.
PROFILES = ("vault", "openbao", "ejbca", "step-ca", "custom")


def vault_profile(
    address: str, mount: str, *, namespace: str | None = None, unsafe_plain_http: bool = False
) -> RestProfile:
    """
    `GET /v1/<mount>/cert/<serial>` of Vault and OpenBao: the certificate itself, and when it was revoked (0: not).

    No token is needed by default: Vault gives certificates of a mount to everyone who can reach it.

    Args:
        address: scheme and authority, e.g. `https://vault.corp.example:8200`.
        mount: where the PKI engine is mounted.
        namespace: of Vault Enterprise, HCP or OpenBao.
        unsafe_plain_http: believe an answer without TLS (a development server on loopback).

    Returns:
        The profile.

    """
    named = () if namespace is None else (("X-Vault-Namespace", namespace),)
    return RestProfile(
        name="vault",
        url=f"{address.rstrip('/')}/v1/{mount.strip('/')}/cert/{{serial_hyphens}}",
        access=RestAccess(token_header="X-Vault-Token", token_scheme="", headers=named),  # noqa: S106  # no secrets
        certificate="/data/certificate",
        revoked_at="/data/revocation_time",
        unsafe_plain_http=unsafe_plain_http,
    )


def ejbca_profile(address: str, *, unsafe_plain_http: bool = False) -> RestProfile:
    """
    `GET …/v1/certificate/<issuer DN>/<serial>/revocationstatus` of EJBCA.

    Args:
        address: scheme and authority.
        unsafe_plain_http: believe an answer without TLS.

    Returns:
        The profile.

    """
    path = "/ejbca/ejbca-rest-api/v1/certificate/{issuer_dn}/{serial_upper}/revocationstatus"
    return RestProfile(
        name="ejbca",
        url=address.rstrip("/") + path,
        serial="/serial_number",
        issuer="/issuer_dn",
        status="/revoked",
        good=("false",),
        revoked=("true",),
        revoked_at="/revocation_date",
        reason="/revocation_reason",
        unsafe_plain_http=unsafe_plain_http,
    )


def step_ca_profile(address: str) -> RestProfile:
    """
    `GET /1.0/crl` of step-ca: its signed CRL, which is judged as any CRL is, whoever handed it over.

    Args:
        address: scheme and authority.

    Returns:
        The profile.

    """
    return RestProfile(name="step-ca", url=f"{address.rstrip('/')}/1.0/crl", answer=RestAnswer.CRL)


def rest_url(profile: RestProfile, certificate: Certificate) -> str:
    """
    The address of the question about one certificate.

    Args:
        profile: its `url` is the template; names in braces that are not known stay as they are.
        certificate: the one to ask about.

    Returns:
        The URL.

    """
    digits = certificate.serial_hex
    pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
    values = {
        "serial_hex": digits,
        "serial_upper": digits.upper(),
        "serial_colons": ":".join(pairs),
        "serial_hyphens": "-".join(pairs),
        "serial_decimal": str(certificate.serial),
        "issuer_dn": _quoted(certificate.issuer.text),
        "issuer_dn_forward": _quoted(",".join(reversed(_relative_names(certificate.issuer.text)))),
    }
    return _FIELD.sub(lambda match: values[match[1]], profile.url)


def _quoted(text: str) -> str:
    """
    Percent-encode all but the unreserved characters (RFC 3986 2.3), so that a name stays one path segment.
    """
    return "".join(chr(octet) if octet in _UNRESERVED else f"%{octet:02X}" for octet in text.encode())


class _UnusableError(Exception):
    """
    Leaves the reading of an answer; `cause` and the message go into the finding.
    """

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: CertificateStatus
    revoked_at: datetime | None
    reason: str | None
    note: str = ""  # what of it could not be read


def judge_rest(context: RevocationContext, depth: int, statement: Statement) -> SourceFinding:
    """
    Judge one answer of a JSON lookup, or the failure to get one.

    It counts when it came over TLS (who may answer there is the connector's to check) from exactly the
    address that the profile makes of this certificate, names this certificate itself, and is young: it
    ages from when it was received, with the life of an OCSP answer without nextUpdate. Out of a cache it
    is not good enough; a known revocation of ours stays one. Never raises for what the bytes are.

    Args:
        context: the trusted path; its trust set holds the profile.
        depth: 0 = leaf; the certificate that was asked about.
        statement: of the kind REST.

    Returns:
        The finding. Times in it are those of the reception.

    """
    cause: Cause | None = None
    detail = ""
    answer = None
    try:
        answer = _read(context, depth, statement)
        if answer.status is CertificateStatus.GOOD:
            _young(context, statement)
        detail = answer.note
    except _UnusableError as exc:
        cause, detail, answer = exc.cause, str(exc), None
    return SourceFinding(
        kind=SourceKind.REST,
        origin=statement.origin,
        url=statement.url,
        status=answer.status if answer else CertificateStatus.UNDETERMINED,
        cause=cause,
        detail=detail,
        this_update=statement.received_at if answer else None,
        age_s=int((context.now - statement.received_at).total_seconds()) if answer else None,
        revoked_at=answer.revoked_at if answer else None,
        revocation_reason=answer.reason if answer else None,
        digest=digest_of(statement.raw) if statement.raw is not None else None,
        elapsed_ms=statement.elapsed_ms,
    )


def _young(context: RevocationContext, statement: Statement) -> None:
    if statement.origin in {Origin.CACHE, Origin.CLUSTER}:
        raise _UnusableError(
            Cause.STALE, "the answer is not signed, and counts only when it was just asked for"
        )
    stale = staleness(SourceKind.REST, statement.received_at, None, limits=context.limits, now=context.now)
    if stale is not None:
        raise _UnusableError(Cause.STALE, stale)


def _read(context: RevocationContext, depth: int, statement: Statement) -> _Answer:
    profile, certificate, raw = context.trust.rest, context.path[depth], statement.raw
    raw = None if raw is None else whole_of(raw)
    if raw is None:
        raise _UnusableError(statement.failure or Cause.MALFORMED, statement.detail)
    if statement.origin is Origin.KNOWN_REVOKED and (profile is None or profile.answer is RestAnswer.CRL):
        # It was believed when it came; that nothing is left to read it by takes nothing back.
        return _Answer(status=CertificateStatus.REVOKED, revoked_at=None, reason=None)
    if profile is None:
        raise _UnusableError(Cause.MALFORMED, "the trust set has no profile to read the answer by")
    wanted = rest_url(profile, certificate)
    # A known revocation was believed when it came: that the API has moved since takes nothing back.
    known = statement.origin is Origin.KNOWN_REVOKED
    if statement.url != wanted and not known:
        raise _UnusableError(Cause.WRONG_SCOPE, f"the answer is from {statement.url!r}, not {wanted!r}")
    if not wanted.lower().startswith("https://") and not profile.unsafe_plain_http and not known:
        raise _UnusableError(
            Cause.BAD_SIGNATURE, "the answer came without TLS, and nothing proves who gave it"
        )
    if len(raw) > context.limits.rest_bytes:
        detail = f"answer of {len(raw)} bytes is over the limit of {context.limits.rest_bytes}"
        raise _UnusableError(Cause.TOO_LARGE, detail)
    if _depth(raw) > _DEPTH:
        raise _UnusableError(Cause.MALFORMED, f"JSON nested more than {_DEPTH} deep")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise _UnusableError(Cause.MALFORMED, f"not JSON: {exc}") from exc
    _bind(profile, certificate, document)
    return _status(profile, document, context.rules)


def _depth(raw: bytes) -> int:
    """
    How deep brackets nest outside of strings, without building anything.
    """
    depth = deepest = 0
    for octet in _STRINGS.sub(b"", raw):
        if octet in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif octet in b"]}":
            depth -= 1
    return deepest


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a member is doubled"
        raise InputError(msg)
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is no JSON number"
    raise InputError(msg)


def _at(document: object, pointer: str | None) -> object:
    """
    The value under a JSON pointer (RFC 6901); `None` where it is absent.
    """
    if pointer is None:
        return None
    value = document
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and _INDEX.fullmatch(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _bind(profile: RestProfile, certificate: Certificate, document: object) -> None:
    """
    The answer must itself name the certificate that was asked about.
    """
    if profile.certificate is None and profile.serial is None:
        raise _UnusableError(
            Cause.WRONG_SCOPE, "the profile does not say how an answer names its certificate"
        )
    if profile.certificate is not None:
        sent = _at(document, profile.certificate)
        if not isinstance(sent, str) or _der(sent) != certificate.der:
            raise _UnusableError(
                Cause.WRONG_SCOPE, "the answer does not hold the certificate that was asked about"
            )
    if profile.serial is not None:
        digits = _at(document, profile.serial)
        text = re.sub(r"[:\-\s]", "", digits).lower().removeprefix("0x") if isinstance(digits, str) else ""
        if not text or text.lstrip("0") != certificate.serial_hex.lstrip("0"):
            detail = f"the answer is about serial {digits!r}, not {certificate.serial_hex}"
            raise _UnusableError(Cause.WRONG_SCOPE, detail[:200])
    if profile.issuer is not None:
        said = _at(document, profile.issuer)
        if not isinstance(said, str) or _same_name(said) != _same_name(certificate.issuer.text):
            detail = f"the answer is about issuer {said!r}, not {certificate.issuer.text!r}"
            raise _UnusableError(Cause.WRONG_SCOPE, detail[:300])


def _same_name(text: str) -> tuple[str, ...]:
    """
    What two spellings of one distinguished name have in common: its parts without order, case and spaces.

    The serial number and the address bind an answer already; this only has to tell one CA from another.
    """
    parts = []
    for part in _relative_names(text):
        kind, _, value = part.partition("=")
        kind = kind.strip().lower()
        value = re.sub(r"\\(.)", r"\1", value)
        parts.append(f"{_ALIASES.get(kind, kind)}={' '.join(value.casefold().split())}")
    return tuple(sorted(parts))


def _relative_names(text: str) -> list[str]:
    """
    The parts of a DN's text, split at commas that are not escaped (RFC 4514 2.1).
    """
    return re.findall(r"(?:[^,\\]|\\.)+", text, re.DOTALL)


def _der(text: str) -> bytes | None:
    """
    The one certificate in a PEM or base64 text.
    """
    block = _PEM.search(text)
    try:
        return base64.b64decode("".join((block[1] if block else text).split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _status(profile: RestProfile, document: object, rules: Rules) -> _Answer:
    """
    What the answer says. The status is decided before its details are read: none that cannot be read softens it.
    """
    moment = _at(document, profile.revoked_at)
    try:
        revoked_at, note = _time(moment), ""
    except _UnusableError as exc:
        if rules < Rules.ALL_HEARD:
            raise
        revoked_at, note = None, str(exc)
    given = _at(document, profile.reason)
    # JSON can spell halves of characters ("\\ud800"), which no record and no answer of ours can hold.
    reason = _whole(given[:64]) if isinstance(given, str) and given else None
    if reason is None and type(given) is int:
        reason = REASONS.get(given)
    if profile.status is not None:
        status = _word(profile, _at(document, profile.status))
        if status is CertificateStatus.GOOD and note:
            raise _UnusableError(Cause.MALFORMED, f"{note}, and the status is good")
        if status is CertificateStatus.GOOD and revoked_at is not None:
            status = CertificateStatus.REVOKED  # it contradicts itself, and the worse part counts
    elif revoked_at is not None or (note and str(moment).strip().lower() not in _NO_REASON):
        status = CertificateStatus.REVOKED
    elif profile.revoked_at is not None and type(moment) is int:  # 0, and no boolean
        status = CertificateStatus.GOOD
    else:
        raise _UnusableError(Cause.MALFORMED, "the answer does not say whether the certificate is revoked")
    if status is CertificateStatus.GOOD and rules >= Rules.ALL_HEARD:
        status = _beside_good(given, reason)
    if status is CertificateStatus.REVOKED and reason is not None and _spelling(reason) == _HOLD:
        status = CertificateStatus.ON_HOLD
    bad = status is not CertificateStatus.GOOD
    return _Answer(
        status=status,
        revoked_at=revoked_at if bad else None,
        reason=reason if bad else None,
        note=note if bad else "",
    )


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _word(profile: RestProfile, value: object) -> CertificateStatus:
    word = value if isinstance(value, str) else json.dumps(value)
    words = {
        **dict.fromkeys(profile.good, CertificateStatus.GOOD),
        **dict.fromkeys(profile.held, CertificateStatus.ON_HOLD),
        **dict.fromkeys(profile.revoked, CertificateStatus.REVOKED),
    }
    status = words.get(word)
    if status is None:
        raise _UnusableError(
            Cause.MALFORMED, f"status {word[:64]!r} has no meaning in profile {profile.name!r}"
        )
    return status


def _beside_good(given: object, reason: str | None) -> CertificateStatus:
    """
    What "good" is worth beside a reason: nothing, for then one of the two is wrong, and the worse part counts.

    A word that is no reason of RFC 5280 contradicts nothing: an API may explain its "good".
    """
    if reason is None or given == 0:
        return CertificateStatus.GOOD
    spelling = _spelling(reason)
    if spelling in _REASONS and spelling != REMOVE_FROM_CRL.lower():
        return CertificateStatus.REVOKED
    return CertificateStatus.GOOD


def _spelling(reason: str) -> str:
    return re.sub(r"\W|_", "", reason).lower()


def _time(value: object) -> datetime | None:
    """
    Unix seconds or RFC 3339 as a time; `None` for 0, nothing, and the empty text, list or object.
    """
    if value in (None, "", 0, [], {}):
        return None
    try:
        if isinstance(value, bool):
            msg = f"{value} is no time"
            raise InputError(msg)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, tz=UTC)
        parsed = datetime.fromisoformat(str(value))
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise _UnusableError(Cause.MALFORMED, f"revocation time {str(value)[:64]!r} cannot be read") from exc
