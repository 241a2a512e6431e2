"""
Who signed a CRL, and whether that signer may: RFC 5280 section 6.3.3 (f) and (g).

Owns the search for the signer among the path and the pool. Its own revocation is asked by `crl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.vocabulary import Form, Leniency
from cftpki_ext.revocation.context import RevocationContext
from cftpki_ext.revocation.crl_parse import CrlView
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import KeyUsage
from cftpki_ext.x509.name import Name
from cftpki_ext.x509.signed import SignatureStatus, verify

# Certificates of one name that are tried as signer: a CA has two or three keys, and each try hashes the whole list.
_CANDIDATES = 16
# The same for lists of megabytes.
_CANDIDATES_OF_LARGE = 4
_LARGE_OCTETS = 1024 * 1024
# What bad news may be signed with besides: nobody gains by forging it, and it was signed when that was thought enough.
_HEARD_ANYWAY = frozenset({Leniency.SHA1_SIGNATURE, Leniency.RSA_1024})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """
    The certificate whose key signed the CRL, with its path to the anchor (the signer first).

    `weak` tells why nothing good follows from its signature: a weak digest or key, another key identifier, a signer that
    has expired since, or a CA that its own key usage does not allow to sign CRLs. Bad news is heard from it.
    """

    certificate: Certificate
    path: tuple[Certificate, ...]
    weak: str = ""


def find_signer(context: RevocationContext, depth: int, view: CrlView, *, valid_at: datetime) -> Signer | str:
    """
    The signer of a CRL that is heard, or why there is none.

    Args:
        context: path, pool and trust set.
        depth: the certificate asked about.
        view: the CRL.
        valid_at: when the path of a signer outside the judged path must be valid.

    Returns:
        The signer (`Signer.weak` where only bad news is heard from it), or a clause for a person.

    """
    entitled = _entitled(context, depth, view, valid_at=valid_at)
    if isinstance(entitled, Signer) or context.trust.form is Form.FIRST:
        return entitled
    said_at = min(valid_at, view.this_update)
    heard = _entitled(context, depth, view, valid_at=said_at, bad_news=True)
    return replace(heard, weak=entitled) if isinstance(heard, Signer) else entitled


def _entitled(
    context: RevocationContext, depth: int, view: CrlView, *, valid_at: datetime, bad_news: bool = False
) -> Signer | str:
    """
    The entitled signer of a CRL, or why there is none.

    By default the certificate's issuer is tried first. Any other certificate with the name of the CRL's issuer must
    be allowed to sign CRLs in so many words, have a valid path to the same anchor and, where it bears the name of
    the certificate's own issuer, be vouched for by the same CA as that one: a CA is its name and its key. Not
    checked here: whether the signer is itself revoked.

    Args:
        context: path, pool and trust set.
        depth: the certificate asked about.
        view: the CRL.
        valid_at: when the path of a signer outside the judged path must be valid.
        bad_news: key identifiers say whom to try first and exclude nobody (a CA may compute them in several ways,
            RFC 7093), the issuing CA's own key counts whatever its key usage is, and a digest or key that is too weak
            for good news is strong enough.

    Returns:
        The signer, or a clause for a person.

    """
    issuer = context.path[depth + 1]
    compat = context.trust.compat | (_HEARD_ANYWAY if bad_news else frozenset())
    refusal = f"no certificate of {view.issuer.text} is at hand that could have signed the CRL"
    tried = 0
    candidates = _candidates(context, depth, view.issuer)
    for candidate in sorted(candidates, key=partial(_other_key_id, view)) if bad_news else candidates:
        if not bad_news and view.authority_key_id is not None and _other_key_id(view, candidate):
            refusal = f"the CRL is by the key {view.authority_key_id.hex()}, not by that of {candidate.subject.text}"
            continue
        tried += 1
        if tried > (_CANDIDATES if len(view.signed.tbs) < _LARGE_OCTETS else _CANDIDATES_OF_LARGE):
            return "too many certificates could have signed the CRL"
        status = verify(view.signed, candidate.key, compat=compat)
        if status is not SignatureStatus.VALID:
            refusal = _BAD[status]
            continue
        own = bad_news and candidate.spki == issuer.spki
        if not own and not _may_sign_crls(candidate, issuer):
            refusal = f"key usage of {candidate.subject.text} does not allow it to sign CRLs (cRLSign)"
            continue
        path = _path_of(context, depth, candidate, valid_at)
        if path is None:
            refusal = f"the CRL's signer {candidate.subject.text} has no valid path to the same anchor"
            continue
        if view.issuer.key == issuer.subject.key and not _same_authority(
            path, context.path[depth + 1 :], view.issuer
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


def _other_key_id(view: CrlView, candidate: Certificate) -> bool:
    """
    Whether the key identifiers of list and candidate are there and differ.
    """
    wanted, own = view.authority_key_id, candidate.subject_key_id
    return wanted is not None and own is not None and wanted != own


def _candidates(context: RevocationContext, depth: int, name: Name) -> Iterator[Certificate]:
    seen: set[bytes] = set()
    for certificate in (*context.path[depth + 1 :], *context.path[:depth], *context.pool):
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
    context: RevocationContext, depth: int, candidate: Certificate, valid_at: datetime
) -> tuple[Certificate, ...] | None:
    above = context.path[depth + 1 :]
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
