"""
Revocation speaks of certificates, compromise of keys: which path is in force after what was heard.

Owns which reasons say something against a key, and the choice of another path. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import BAD_NEWS, CertificateFinding, CertificateStatus
from cftpki_ext.core.vocabulary import Rules
from cftpki_ext.decision.examination import Examination
from cftpki_ext.x509.reasons import CERTIFICATE_HOLD

# RFC 5280 5.3.1. Whatever is not among them is a compromise, or may be one: no reason given, one that is undefined.
NOTHING_AGAINST_THE_KEY = frozenset(
    {"affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn", CERTIFICATE_HOLD}
)
# A chain has few cross-certificates; each other path costs a search, and questions.
_OTHER_PATHS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadKey:
    """
    A key of a CA on the path (`depth`) that was compromised, by the certificate that says so.
    """

    depth: int
    finding: CertificateFinding


def kills_the_key(finding: CertificateFinding) -> bool:
    """
    Whether a certificate was revoked for a compromise of its key, or for no reason that is told.

    A hold says nothing against the key, whoever else says what else.
    """
    if finding.status is not CertificateStatus.REVOKED:
        return False
    reasons = {
        _spelling(source.revocation_reason)
        for source in finding.sources
        if source.status is CertificateStatus.REVOKED
    }
    return not reasons or not reasons <= _NOTHING


def _spelling(reason: str | None) -> str:
    return "".join(c for c in reason or "" if c.isalnum()).lower()


_NOTHING = frozenset(_spelling(reason) for reason in NOTHING_AGAINST_THE_KEY)


def dead_keys(examination: Examination, statements: Sequence[Statement]) -> tuple[DeadKey, ...]:
    """
    The keys of the path that another certificate's revocation has killed.
    """
    found: list[DeadKey] = []
    for number in examination.same_key:
        finding = examination.finding(number, statements)
        if kills_the_key(finding):
            spki = examination.pair(number)[0].spki
            depth = next(d for d, c in enumerate(examination.path) if d > 0 and c.spki == spki)
            found.append(DeadKey(depth=depth, finding=finding))
    return tuple(found)


def other_path(examination: Examination, statements: Sequence[Statement]) -> Examination | None:
    """
    Another path, where a CA of this one is revoked.

    By default the first path is the only one. A revoked CA certificate is left out; where the revocation is a
    compromise, every certificate with its key is.

    Args:
        examination: of the path so far.
        statements: everything heard.

    Returns:
        The examination of another valid path; `None` where no CA is revoked, or no path is left.

    """
    if examination.question.rules < Rules.ALL_HEARD or not examination.may_fetch or examination.faults:
        return None
    given_up, dead = set(examination.given_up), set(examination.dead_keys)
    for number in examination.to_judge:
        certificate, _ = examination.pair(number)
        if number == 0:
            continue
        finding = examination.finding(number, statements)
        if finding.status in BAD_NEWS:
            given_up.add(certificate.der)
            if kills_the_key(finding):
                dead.add(certificate.spki)
    dead.update(examination.path[one.depth].spki for one in dead_keys(examination, statements))
    if given_up == examination.given_up and dead == examination.dead_keys:
        return None
    return examination.instead(given_up=frozenset(given_up), dead_keys=frozenset(dead))


def paths_tried(examination: Examination, statements: Sequence[Statement]) -> tuple[Examination, ...]:
    """
    The paths that are tried in turn, the last of which is in force.
    """
    tried = [examination]
    while len(tried) <= _OTHER_PATHS:
        other = other_path(tried[-1], statements)
        if other is None:
            break
        tried.append(other)
    return tuple(tried)
