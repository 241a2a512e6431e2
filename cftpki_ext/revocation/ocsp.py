"""
What one OCSP statement establishes about one certificate (RFC 6960, RFC 5019, RFC 9654).

Owns the order of the checks: size, parse, response status, identity, signer, then what is said, nonce and time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.octets import whole_of
from cftpki_ext.core.settings import NonceMode
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateStatus, SourceFinding
from cftpki_ext.core.vocabulary import Form, Origin, Rules, SourceKind
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.freshness import staleness
from cftpki_ext.revocation.ocsp_request import build_request
from cftpki_ext.revocation.ocsp_response import (
    ARCHIVE_CUTOFF,
    CRL_REASON,
    CRL_REFERENCES,
    EXTENDED_REVOKE,
    INVALIDITY_DATE,
    NONCE,
    BasicResponse,
    CertId,
    SingleResponse,
    parse_ocsp,
)
from cftpki_ext.revocation.ocsp_signer import Signer, find_signer
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import Extension

__all__ = ["NON_ISSUED", "build_request", "judge_ocsp"]

# How a finding names the "revoked" of a certificate that its CA never issued (RFC 6960 2.2): certificateHold
# since 1970. It stands until newer evidence knows the certificate.
NON_ISSUED = "nonIssued"
_NON_ISSUED_SINCE = datetime(1970, 1, 1, tzinfo=UTC)

_ERRORS: Mapping[str, Cause] = {
    "malformedRequest": Cause.RESPONDER_ERROR,
    "internalError": Cause.RESPONDER_ERROR,
    "sigRequired": Cause.RESPONDER_ERROR,
    "tryLater": Cause.TRY_LATER,
    "unauthorized": Cause.UNAUTHORIZED,
}
# Hashes that may identify an issuer. SHA-1 is among them: it tells apart and protects nothing here.
_HASHES: Mapping[str, str] = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.8": "sha3_256",
    "2.16.840.1.101.3.4.2.9": "sha3_384",
    "2.16.840.1.101.3.4.2.10": "sha3_512",
}
_RESPONSE_EXTENSIONS = frozenset({NONCE, EXTENDED_REVOKE})
_SINGLE_EXTENSIONS = frozenset({ARCHIVE_CUTOFF, CRL_REFERENCES, CRL_REASON, INVALIDITY_DATE})
# CRLReason removeFromCRL (8): what is told of a hold that was lifted.
_REMOVED = b"\x0a\x01\x08"
_STORED = (Origin.CACHE, Origin.KNOWN_REVOKED)
_BAD = (CertificateStatus.REVOKED, CertificateStatus.ON_HOLD)


@dataclass(frozen=True, slots=True)
class _Said:
    """
    What one single response comes to: a status, or a cause with its detail.
    """

    single: SingleResponse
    status: CertificateStatus
    cause: Cause | None = None
    detail: str = ""
    reason: str | None = None


def judge_ocsp(
    context: RevocationContext, depth: int, statement: Statement, *, crls: Sequence[Statement] = ()
) -> SourceFinding:
    """
    Judge one OCSP answer, or the failure to get one.

    Good news counts only when everything fits: identity, signer, the signer's own status, nonce, time, no
    critical extension that is not understood. Authentic bad news counts without nonce and freshness; it is a
    signed fact that age does not undo, and a "hold" is weighed against newer evidence by `judge_certificate`. Where
    an answer speaks of the certificate twice, the worse one counts. Never raises for what the bytes are.

    The nonce (RFC 9654) is compared where both question and answer have one. A statement from a store was
    compared when it came, and its nonce may be gone since; with `NonceMode.REQUIRE` it must at least carry
    one, and any other must carry ours.

    Args:
        context: the trusted path and the time of the decision.
        depth: 0 = leaf; the certificate that was asked about.
        statement: of the kind OCSP.
        crls: CRL statements at hand, for a delegate without nocheck.

    Returns:
        The finding. `responder` is set exactly when the signature is the one of an entitled signer.

    """
    certificate, issuer = context.path[depth], context.path[depth + 1]
    if statement.raw is None:
        return _nothing(statement, statement.failure or Cause.MALFORMED, statement.detail)
    if len(statement.raw) > context.limits.ocsp_bytes:
        detail = f"answer of {len(statement.raw)} bytes is over the limit of {context.limits.ocsp_bytes}"
        return _nothing(statement, Cause.TOO_LARGE, detail)
    try:
        response = parse_ocsp(whole_of(statement.raw))
    except InputError as exc:
        digest = digest_of(statement.raw)
        unreadable = Cause.MALFORMED if context.trust.form is Form.FIRST else Cause.UNREADABLE
        return _nothing(statement, unreadable, str(exc), digest=digest)
    digest, basic = response.digest.hex(), response.basic
    if basic is None:
        detail = (
            f"responder answered {response.status}, which is not signed and says nothing of the certificate"
        )
        return _nothing(statement, _ERRORS[response.status], detail, digest=digest)
    if context.trust.form is Form.FIRST and (first := _first_note(basic)):
        return _nothing(statement, Cause.MALFORMED, f"not an OCSP response: {first}", digest=digest)
    singles = _about(context, basic, certificate, issuer)
    if not singles:
        detail = _mismatch(basic.singles[0].cert_id, certificate, issuer, len(basic.singles))
        return _nothing(statement, Cause.WRONG_SCOPE, detail, digest=digest)
    said = max((_weigh(context, certificate, basic, single) for single in singles), key=_severity)
    bad_news = said.status in _BAD
    signer = _signer(context, depth, basic, statement, crls=crls, bad_news=bad_news)
    cause, detail, status = said.cause, said.detail, said.status
    if signer.certificate is None:
        status, cause, detail = CertificateStatus.UNDETERMINED, Cause.BAD_SIGNATURE, signer.problem
        if doubts := (*basic.notes.doubts, *said.single.notes.doubts):
            cause, detail = Cause.MALFORMED, doubts[0]
    elif not bad_news:
        unproven = signer.unproven or _wrong_nonce(context.trust.nonce, statement, basic)
        if unproven:
            status, cause, detail = CertificateStatus.UNDETERMINED, Cause.BAD_SIGNATURE, unproven
    single = said.single
    authentic = signer.certificate is not None
    return SourceFinding(
        kind=SourceKind.OCSP,
        origin=statement.origin,
        url=statement.url,
        status=status,
        cause=cause,
        detail=detail,
        this_update=single.this_update,
        next_update=single.next_update,
        age_s=None if single.this_update is None else int((context.now - single.this_update).total_seconds()),
        produced_at=basic.produced_at,
        responder=signer.certificate.subject.text if signer.certificate is not None else None,
        revoked_at=single.revoked_at if authentic else None,
        revocation_reason=said.reason if authentic else None,
        digest=digest,
        elapsed_ms=statement.elapsed_ms,
        notes=tuple(dict.fromkeys((*basic.notes.all, *single.notes.all, *signer.notes))),
    )


def _signer(
    context: RevocationContext,
    depth: int,
    basic: BasicResponse,
    statement: Statement,
    *,
    crls: Sequence[Statement],
    bad_news: bool,
) -> Signer:
    """
    Who signed, as of when that counts: for bad news, when it was said.
    """
    valid_at = context.now
    # A revocation that was judged when it came stays proven when its signer's certificate has run out since.
    stored = bad_news and statement.origin in _STORED
    if stored:
        valid_at = min(valid_at, statement.received_at)
    if bad_news and context.trust.form is not Form.FIRST and basic.produced_at is not None:
        valid_at = min(valid_at, basic.produced_at)
    return find_signer(
        context, depth, basic, valid_at=valid_at, crls=() if stored else crls, bad_news=bad_news
    )


def _first_note(basic: BasicResponse) -> str | None:
    """
    What the letter has against any part of a response.
    """
    notes = (basic.notes, *(single.notes for single in basic.singles))
    return next((note for part in notes for note in part.all), None)


def _nothing(statement: Statement, cause: Cause, detail: str, *, digest: str | None = None) -> SourceFinding:
    return SourceFinding(
        kind=SourceKind.OCSP,
        origin=statement.origin,
        url=statement.url,
        status=CertificateStatus.UNDETERMINED,
        cause=cause,
        detail=detail,
        digest=digest,
        elapsed_ms=statement.elapsed_ms,
    )


def _cert_id(certificate: Certificate, issuer: Certificate, hash_oid: str) -> CertId | None:
    """
    The CertID that speaks of a certificate (RFC 6960 4.1.1), or `None` for a hash that is not in use.
    """
    name = _HASHES.get(hash_oid)
    if name is None:
        return None
    return CertId(
        hash_oid,
        hashlib.new(name, certificate.issuer.der, usedforsecurity=False).digest(),
        hashlib.new(name, issuer.key_bits, usedforsecurity=False).digest(),
        certificate.serial,
    )


def _about(
    context: RevocationContext, basic: BasicResponse, certificate: Certificate, issuer: Certificate
) -> list[SingleResponse]:
    """
    The single responses about a certificate.

    Bad news needs the key of the issuer and the serial alone: a CA may have written its own name in two ways.
    """
    found = []
    for single in basic.singles:
        wanted = _cert_id(certificate, issuer, single.cert_id.hash_oid)
        if single.cert_id == wanted:
            found.append(single)
        elif (
            wanted is not None
            and single.status == "revoked"
            and context.trust.form is not Form.FIRST
            and single.cert_id.issuer_key_hash == wanted.issuer_key_hash
            and single.cert_id.serial == wanted.serial
        ):
            note = "issuerNameHash is that of another name of the issuer's key"
            found.append(replace(single, notes=replace(single.notes, doubts=(*single.notes.doubts, note))))
    return found


def _mismatch(found: CertId, certificate: Certificate, issuer: Certificate, count: int) -> str:
    """
    Which part of the first CertID differs, for a person.
    """
    wanted = _cert_id(certificate, issuer, found.hash_oid)
    if count > 1:
        return f"none of {count} single responses is about serial {certificate.serial_hex}"
    if wanted is None:
        return f"CertID hash {found.hash_oid} is not in use"
    if found.serial != wanted.serial:
        return f"answer is about serial {found.serial:x}, not {certificate.serial_hex}"
    if found.issuer_name_hash != wanted.issuer_name_hash:
        return "answer is about an issuer of another name"
    return "answer is about an issuer with another key"


def _weigh(
    context: RevocationContext, certificate: Certificate, basic: BasicResponse, single: SingleResponse
) -> _Said:
    """
    What a single response says, were its signer entitled.
    """
    if single.status == "revoked":
        if single.reason != "certificateHold":
            return _Said(single, CertificateStatus.REVOKED, reason=single.reason)
        if single.revoked_at == _NON_ISSUED_SINCE:
            return _Said(single, CertificateStatus.REVOKED, reason=NON_ISSUED)
        return _Said(single, CertificateStatus.ON_HOLD, reason=single.reason)
    unknown = _unknown_critical(basic.extensions, _RESPONSE_EXTENSIONS) or _unknown_critical(
        single.extensions, _SINGLE_EXTENSIONS
    )
    if unknown:
        return _undetermined(single, Cause.MALFORMED, f"critical extension {unknown} is not understood")
    this_update, produced_at = single.this_update, basic.produced_at
    form = context.trust.form
    doubt = basic.notes.against_good(form) or single.notes.against_good(form)
    skew = context.limits.clock_skew
    if this_update is not None and produced_at is not None and this_update - produced_at > skew:
        doubt = f"thisUpdate {this_update.isoformat()} is after producedAt {produced_at.isoformat()}"
    elif this_update is not None and single.next_update is not None and single.next_update < this_update:
        doubt = f"nextUpdate {single.next_update.isoformat()} is before thisUpdate {this_update.isoformat()}"
    elif single.status == "unknown":
        return _undetermined(single, Cause.UNKNOWN, "responder does not know the certificate")
    reason = single.extensions.get(CRL_REASON)
    if context.rules >= Rules.ALL_HEARD and reason is not None and reason.value != _REMOVED:
        return _undetermined(
            single, Cause.MALFORMED, "the status is good, and a reason of a revocation stands beside it"
        )
    if doubt or this_update is None or produced_at is None:
        return _undetermined(single, Cause.MALFORMED, doubt)
    stale = staleness(
        SourceKind.OCSP, this_update, single.next_update, limits=context.limits, now=context.now
    )
    if stale is None and produced_at - context.now > skew:
        stale = f"producedAt {produced_at.isoformat()} is after {context.now.isoformat()}"
    if stale is not None:
        return _undetermined(single, Cause.STALE, stale)
    expired = certificate.not_after < context.now
    if expired and (single.archive_cutoff is None or single.archive_cutoff > certificate.not_after):
        # RFC 6960 4.4.4: without a cutoff that reaches back, a responder may have forgotten expired certificates.
        detail = f"the certificate expired {certificate.not_after.isoformat()} and no archive cutoff reaches back to it"
        return _undetermined(single, Cause.WRONG_SCOPE, detail)
    return _Said(single, CertificateStatus.GOOD)


def _undetermined(single: SingleResponse, cause: Cause, detail: str) -> _Said:
    return _Said(single, CertificateStatus.UNDETERMINED, cause, detail)


def _severity(said: _Said) -> tuple[int, bool]:
    """
    The worst last; among revocations one that cannot be lifted.
    """
    order = (
        CertificateStatus.GOOD,
        CertificateStatus.UNDETERMINED,
        CertificateStatus.ON_HOLD,
        CertificateStatus.REVOKED,
    )
    return order.index(said.status), said.reason != NON_ISSUED


def _unknown_critical(extensions: Mapping[str, Extension], understood: frozenset[str]) -> str | None:
    return next((oid for oid, e in extensions.items() if e.critical and oid not in understood), None)


def _wrong_nonce(mode: NonceMode, statement: Statement, basic: BasicResponse) -> str:
    """
    Why the answer is none to our question, or "" (RFC 9654 2.1).
    """
    if mode is NonceMode.OFF:
        return ""
    if statement.nonce is not None and basic.nonce is not None and statement.nonce != basic.nonce:
        return "nonce of the answer is not the one that was sent"
    if mode is NonceMode.REQUIRE:
        if basic.nonce is None:
            return "answer has no nonce, and one is required"
        if statement.nonce is None and statement.origin not in _STORED:
            return "answer was not asked for with a nonce of ours, and one is required"
    return ""
