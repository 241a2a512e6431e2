"""
What proves a revocation for good: which statements, of which certificate, and how a record of evidence names them.

Pure. The checker keeps by it, the ledger's index is made by it, and what a lost memory is restored with is judged by
it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.proven import Proven
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import BAD_NEWS, CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.other_paths import paths_tried
from cftpki_ext.revocation.cache_key import certificate_key
from cftpki_ext.revocation.ocsp import NON_ISSUED

__all__ = ["BAD_NEWS", "Proof", "proof_key", "proofs_in", "proves", "strongest_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """
    A statement that alone proves a certificate revoked or on hold.
    """

    proven: Proven
    statement: Statement


def proof_key(examination: Examination, depth: int) -> str:
    """
    The name under which proofs of revocation are kept: issuer's name and key, and serial.
    """
    certificate, issuer = examination.pair(depth)
    return certificate_key(
        SourceKind.CRL,
        issuer_name=issuer.subject.der,
        issuer_spki=issuer.spki,
        serial=certificate.serial,
        url="",
    )


def proves(examination: Examination, depth: int, statement: Statement, *, final: bool = False) -> bool:
    """
    Whether one statement alone proves a certificate revoked or on hold; `final` asks for what no newer one can lift.
    """
    alone = examination.finding(depth, (statement,))
    if not final:
        return alone.status in BAD_NEWS
    reasons = {source.revocation_reason for source in alone.sources}
    return alone.status is CertificateStatus.REVOKED and NON_ISSUED not in reasons


def proofs_in(examination: Examination, statements: Sequence[Statement]) -> tuple[Proof, ...]:
    """
    Every statement that alone proves a certificate revoked or on hold, judged here and now.

    Args:
        examination: of the question: the first path.
        statements: everything that was heard.

    Returns:
        The proofs, certificate by certificate, on each path that was tried.

    """
    found: dict[int, list[Proof]] = {}
    for tried in paths_tried(examination, statements):
        for number in (*tried.to_judge, *tried.same_key):
            if number not in found and tried.finding(number, statements).status in BAD_NEWS:
                found[number] = _proofs_of(tried, number, statements)
    return tuple(proof for proofs in found.values() for proof in proofs)


def _proofs_of(examination: Examination, number: int, statements: Sequence[Statement]) -> list[Proof]:
    found: list[Proof] = []
    for statement in examination.about(number, statements):
        if statement.raw is None or not proves(examination, number, statement):
            continue
        proven = Proven(
            certificate=proof_key(examination, number),
            digest=digest_of(statement.raw),
            final=proves(examination, number, statement, final=True),
            ends=examination.pair(number)[0].not_after,
        )
        found.append(Proof(proven=proven, statement=statement))
    return found


def strongest_of(proofs: Iterable[Proof]) -> tuple[Proven, ...]:
    """
    One proof of each certificate: a final one, the one that is kept already, the newest.
    """
    best: dict[str, Proof] = {}
    for proof in proofs:
        before = best.get(proof.proven.certificate)
        if before is None or _strength(proof) > _strength(before):
            best[proof.proven.certificate] = proof
    return tuple(proof.proven for proof in best.values())


def _strength(proof: Proof) -> tuple[bool, bool, datetime]:
    final, statement = proof.proven.final, proof.statement
    return final, final and statement.origin is Origin.KNOWN_REVOKED, statement.received_at
