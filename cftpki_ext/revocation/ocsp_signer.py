"""
Who may sign an OCSP answer about a certificate (RFC 6960 4.2.2.2), and whether the one who did may.

Owns the search for the signer. Never asks OCSP about an OCSP signer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha1

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Form, Leniency
from cftpki_ext.core.work import Work, WorkExceededError
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl import judge_crls
from cftpki_ext.revocation.ocsp_response import BasicResponse
from cftpki_ext.x509 import extensions as ext
from cftpki_ext.x509.certificate import Certificate, keep_certificate, parse_certificate
from cftpki_ext.x509.extensions import OCSP_SIGNING, KeyUsage
from cftpki_ext.x509.signed import SignatureStatus, verify

# Critical extensions of a delegate whose meaning is honoured here or cannot matter to signing answers.
_UNDERSTOOD = frozenset(
    {
        ext.KEY_USAGE,
        ext.EXTENDED_KEY_USAGE,
        ext.BASIC_CONSTRAINTS,
        ext.SUBJECT_ALT_NAME,
        ext.CERTIFICATE_POLICIES,
        ext.DISTRIBUTION_POINTS,
        ext.OCSP_NOCHECK,
    }
)
_SIGNING = frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.CONTENT_COMMITMENT})
# One certificate signed the answer; a few may share its name. Each costs two signature checks.
_CANDIDATES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """
    The outcome of the search: who signed, or why nobody entitled did (`problem`).

    `unproven` is set where the signer is entitled by everything but its own revocation status, which could
    not be established: good news needs better, bad news does not. `notes` are for the evidence.
    """

    certificate: Certificate | None = None
    problem: str = ""
    unproven: str = ""
    notes: tuple[str, ...] = ()


# What bad news may be signed with besides: nobody gains by forging it, and it was signed when that was thought enough.
_HEARD_ANYWAY = frozenset({Leniency.SHA1_SIGNATURE, Leniency.RSA_1024})


def find_signer(
    context: RevocationContext,
    depth: int,
    basic: BasicResponse,
    *,
    valid_at: datetime,
    crls: Sequence[Statement],
    bad_news: bool = False,
) -> Signer:
    """
    Find the entitled signer of an answer about `context.path[depth]`.

    Entitled are: the CA that issued the certificate (its name and its key), a certificate of
    `trust.ocsp_signers` (byte for byte), and a delegate that this CA key itself has issued for OCSP signing.
    Certificates of the judged path never sign, save the issuing CA. A delegate without id-pkix-ocsp-nocheck
    must be shown good by a CRL among `crls`. Bad news is heard whatever ResponderID it has, whatever form the
    delegate's certificate, and with a digest or key that is too weak for good news (MD5 is none): the key decides.

    Args:
        context: the path, the trust set.
        depth: the certificate that the answer is about.
        basic: the answer.
        valid_at: when the signer's certificate must be valid.
        crls: CRL statements at hand.
        bad_news: whether the answer says "revoked" or "on hold".

    Returns:
        The signer, or the most telling problem.

    """
    compat, form = context.trust.compat, context.trust.form
    named = _find_named(context, depth, basic, valid_at=valid_at, crls=crls, compat=compat, form=form)
    if named.certificate is not None or not bad_news or form is Form.FIRST:
        return named
    anyhow = _find_named(
        context,
        depth,
        replace(basic, responder_name=None, responder_key_hash=None),
        valid_at=valid_at,
        crls=crls,
        compat=compat | _HEARD_ANYWAY,
        form=Form.COMMON,
    )
    if anyhow.certificate is None:
        return named
    return replace(anyhow, notes=(*anyhow.notes, f"heard although {named.problem}"))


def _find_named(
    context: RevocationContext,
    depth: int,
    basic: BasicResponse,
    *,
    valid_at: datetime,
    crls: Sequence[Statement],
    compat: frozenset[Leniency],
    form: Form,
) -> Signer:
    """
    The entitled signer among those whom the ResponderID names; among all where it names nobody.

    Args:
        context: the path, the trust set.
        depth: the certificate that the answer is about.
        basic: the answer.
        valid_at: when the signer's certificate must be valid.
        crls: CRL statements at hand.
        compat: the leniencies for signatures and certificates.
        form: how delegates are read.

    Returns:
        The signer, or the most telling problem.

    """
    issuer = context.path[depth + 1]
    problem = "no certificate of the responder is at hand"
    if _is_named(basic, issuer):
        status = verify(basic.signed, issuer.key, compat=compat)
        if status is SignatureStatus.VALID:
            return Signer(certificate=issuer)
        problem = f"signature by the CA itself is {status.value}"
    for candidate in _configured(context.trust.ocsp_signers, compat, form):
        if _is_named(basic, candidate):
            found = _out_of_time(candidate, valid_at) or _signature(basic, candidate, compat)
            if not found:
                return Signer(certificate=candidate)
            problem = f"configured responder {candidate.subject.text!r}: {found}"
    path = {certificate.der for certificate in context.path}
    tried = 0
    work = Work(context.limits.work)
    for der in basic.certificates:
        if der == issuer.der or der in context.trust.ocsp_signers:
            continue
        try:
            candidate = parse_certificate(der, compat=compat, form=form, work=work)
        except (InputError, WorkExceededError) as exc:
            problem = f"a certificate in the answer cannot be used: {exc}"
            continue
        if not _is_named(basic, candidate):
            continue
        tried += 1
        if tried > _CANDIDATES:
            return Signer(
                problem=f"more than {_CANDIDATES} certificates in the answer have the responder's name"
            )
        if der in path:
            problem = f"{candidate.subject.text!r} belongs to the chain that is judged"
            continue
        found = _delegation(candidate, issuer, valid_at, compat) or _signature(basic, candidate, compat)
        if found:
            problem = f"delegate {candidate.subject.text!r}: {found}"
            continue
        keep_certificate(candidate)
        signer = _established(context, depth, candidate, crls)
        return replace(signer, notes=tuple(f"delegate's certificate: {o}" for o in candidate.oddities))
    return Signer(problem=problem)


def _is_named(basic: BasicResponse, candidate: Certificate) -> bool:
    """
    Whether the ResponderID speaks of this certificate, by name or by the SHA-1 of its key, or cannot be read.
    """
    if basic.responder_name is not None:
        return basic.responder_name.key == candidate.subject.key
    if basic.responder_key_hash is not None:
        return basic.responder_key_hash == key_hash(candidate)
    return True


def key_hash(certificate: Certificate) -> bytes:
    """
    The KeyHash of a ResponderID (RFC 6960 4.2.1): SHA-1 of the key's bits. An identifier, no protection.
    """
    return sha1(certificate.key_bits, usedforsecurity=False).digest()


def _configured(ders: Sequence[bytes], compat: frozenset[Leniency], form: Form) -> Iterator[Certificate]:
    for der in ders:
        try:
            candidate = parse_certificate(der, compat=compat, form=form)
            keep_certificate(candidate)
            yield candidate
        except InputError:
            continue  # the configuration's check names it; here it merely entitles nobody


def _out_of_time(candidate: Certificate, valid_at: datetime) -> str:
    if candidate.not_before <= valid_at <= candidate.not_after:
        return ""
    span = f"{candidate.not_before.isoformat()} to {candidate.not_after.isoformat()}"
    return f"valid from {span}, not at {valid_at.isoformat()}"


def _signature(basic: BasicResponse, candidate: Certificate, compat: frozenset[Leniency]) -> str:
    status = verify(basic.signed, candidate.key, compat=compat)
    return "" if status is SignatureStatus.VALID else f"signature is {status.value}"


def _delegation(
    candidate: Certificate, issuer: Certificate, valid_at: datetime, compat: frozenset[Leniency]
) -> str:
    """
    Why the CA has not entitled this certificate to sign answers (RFC 6960 4.2.2.2), or "".
    """
    if candidate.issuer.key != issuer.subject.key:
        return f"issued by {candidate.issuer.text!r} and not directly by {issuer.subject.text!r}"
    status = verify(candidate.signed, issuer.key, compat=compat)
    if status is not SignatureStatus.VALID:
        return f"its signature by the CA's key is {status.value}"
    if OCSP_SIGNING not in (candidate.extended_key_usage or ()):
        return "no extended key usage OCSPSigning"
    # RFC 5280 4.2.1.12: consistent with OCSPSigning is either.
    if candidate.key_usage is not None and _SIGNING.isdisjoint(candidate.key_usage):
        return "key usage without digitalSignature"
    unknown = [e.oid for e in candidate.extensions.values() if e.critical and e.oid not in _UNDERSTOOD]
    if unknown:
        return f"critical extension {unknown[0]} is not understood"
    return _out_of_time(candidate, valid_at)


def _established(
    context: RevocationContext, depth: int, delegate: Certificate, crls: Sequence[Statement]
) -> Signer:
    """
    Whether the delegate itself is revoked: nocheck, or a CRL of its issuer (RFC 6960 4.2.2.2.1).
    """
    if delegate.ocsp_nocheck:
        return Signer(certificate=delegate)
    status = CertificateStatus.UNDETERMINED
    if crls:
        own = replace(context, path=(delegate, *context.path[depth + 1 :]))
        status = judge_crls(own, 0, [replace(crl, depth=None) for crl in crls]).status
    if status is CertificateStatus.GOOD:
        return Signer(certificate=delegate)
    name = delegate.subject.text
    if status is CertificateStatus.UNDETERMINED:
        return Signer(
            certificate=delegate,
            unproven=f"delegate {name!r} has no nocheck extension, and no CRL at hand says that it is good",
        )
    return Signer(problem=f"delegate {name!r} is itself {status.value} by CRL")
