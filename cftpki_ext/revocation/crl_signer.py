"""
Who signed a CRL, and whether that signer may: RFC 5280 section 6.3.3 (f) and (g).

Owns the search for the signer among the path and the pool. Its own revocation is asked by `crl`. May import x509,
context and crl_parse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl_parse import CrlView
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import KeyUsage
from cftpki_ext.x509.name import Name
from cftpki_ext.x509.signed import SignatureStatus, verify

# Certificates of one name that are tried as signer: a CA has two or three keys, and each try costs a signature.
_CANDIDATES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """
    The certificate whose key signed the CRL, with its path to the anchor (the signer first).
    """

    certificate: Certificate
    path: tuple[Certificate, ...]


def find_signer(context: RevocationContext, hop: int, view: CrlView, *, valid_at: datetime) -> Signer | str:
    """
    The entitled signer of a CRL, or why there is none.

    By default the certificate's issuer is tried first. Any other certificate with the name of the CRL's issuer must
    be allowed to sign CRLs in so many words, have a valid path to the same anchor and, where it bears the name of
    the certificate's own issuer, be vouched for by the same CA as that one: a CA is its name and its key. Not
    checked here: whether the signer is itself revoked.

    Args:
        context: path, pool and trust set.
        hop: the certificate asked about.
        view: the CRL.
        valid_at: when the path of a signer outside the judged path must be valid.

    Returns:
        The signer, or a clause for a person.

    """
    issuer = context.path[hop + 1]
    refusal = f"no certificate of {view.issuer.text} is at hand that could have signed the CRL"
    tried = 0
    for candidate in _candidates(context, hop, view.issuer):
        if (
            view.authority_key_id is not None
            and candidate.subject_key_id is not None
            and view.authority_key_id != candidate.subject_key_id
        ):
            refusal = f"the CRL is by the key {view.authority_key_id.hex()}, not by that of {candidate.subject.text}"
            continue
        tried += 1
        if tried > _CANDIDATES:
            return "too many certificates could have signed the CRL"
        status = verify(view.signed, candidate.spki, compat=context.trust.compat)
        if status is not SignatureStatus.VALID:
            refusal = _BAD[status]
            continue
        if not _may_sign_crls(candidate, issuer):
            refusal = f"key usage of {candidate.subject.text} does not allow it to sign CRLs (cRLSign)"
            continue
        path = _path_of(context, hop, candidate, valid_at)
        if path is None:
            refusal = f"the CRL's signer {candidate.subject.text} has no valid path to the same anchor"
            continue
        if view.issuer.key == issuer.subject.key and not _same_authority(
            path, context.path[hop + 1 :], view.issuer
        ):
            refusal = f"the CRL's signer has the name of {issuer.subject.text}, but another CA vouches for it"
            continue
        return Signer(certificate=candidate, path=path)
    return refusal


_BAD = {
    SignatureStatus.INVALID: "the CRL's signature is wrong",
    SignatureStatus.UNSUPPORTED: "the CRL's signature algorithm is not supported",
    SignatureStatus.WEAK: "the CRL is signed with a weak digest or key",
}


def _candidates(context: RevocationContext, hop: int, name: Name) -> Iterator[Certificate]:
    seen: set[bytes] = set()
    for certificate in (*context.path[hop + 1 :], *context.path[:hop], *context.pool):
        if certificate.subject.key == name.key and certificate.digest not in seen:
            seen.add(certificate.digest)
            yield certificate


def _may_sign_crls(candidate: Certificate, issuer: Certificate) -> bool:
    usage = candidate.key_usage
    if usage is not None:
        return KeyUsage.CRL_SIGN in usage
    if candidate == issuer:
        return True
    basic = candidate.basic_constraints
    return basic is not None and basic.ca


def _path_of(
    context: RevocationContext, hop: int, candidate: Certificate, valid_at: datetime
) -> tuple[Certificate, ...] | None:
    above = context.path[hop + 1 :]
    if candidate in above:
        return above[above.index(candidate) :]
    return context.issuer_path(candidate, valid_at)


def _same_authority(path: tuple[Certificate, ...], above: tuple[Certificate, ...], name: Name) -> bool:
    """
    Whether the first CA of another name is the same, name and key, in both paths (self-issued rollovers are passed).
    """
    ours = next(((c.subject.key, c.spki) for c in path if c.subject.key != name.key), None)
    theirs = next(((c.subject.key, c.spki) for c in above if c.subject.key != name.key), None)
    return ours == theirs
