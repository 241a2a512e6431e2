"""
From bytes to a path: the first half of a decision (docs/adr/0003-decision-order.md).

Owns the caps on a chain, what is left out of it with a note, and the faults of a chain that has no path. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.core.work import Work, WorkExceededError
from cftpki_ext.decision.blocked import blocked_faults
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.question import Question, path_request
from cftpki_ext.path import find_path
from cftpki_ext.protocol.tls_vectors import decode_chain
from cftpki_ext.x509.certificate import (
    Certificate,
    MalformedCertificateError,
    keep_certificate,
    parse_certificate,
)


def examine(question: Question) -> Examination:
    """
    Read the chain and find its path.

    A leaf that cannot be read is refused. Other presented certificates that cannot be read are left out with
    a note; where the path ends for want of one of them, its own fault is reported and not "no path".

    Args:
        question: what is asked.

    Returns:
        The examination; never raises for what a certificate is.

    """
    limits, trust = question.limits, question.trust
    if question.fault is not None:
        return _refused(question, (question.fault,))
    if question.message is not None:
        try:
            chain = decode_chain(
                question.message, max_bytes=limits.chain_bytes, max_certificates=limits.chain_certificates
            )
        except InputError as exc:
            return _refused(question, (_undecodable(str(exc)),))
        return examine(replace(question, chain=chain, message=None))
    fault = _countable(question.chain, limits)
    if fault is not None:
        return _refused(question, (fault,))
    work = Work(limits.work)
    try:
        leaf = parse_certificate(question.chain[0], compat=trust.compat, form=trust.form, work=work)
    except MalformedCertificateError as exc:
        blocked = blocked_faults(question, (), unread=question.chain[0])
        return _refused(question, (replace(exc.fault, depth=0), *blocked))
    except WorkExceededError as exc:
        return _refused(question, (_too_complex(exc),))
    notes: list[str] = []
    broken: dict[int, MalformedCertificateError] = {}
    presented = [leaf]
    for position, der in enumerate(question.chain[1:], start=1):
        try:
            presented.append(parse_certificate(der, compat=trust.compat, form=trust.form, work=work))
        except WorkExceededError as exc:
            return _refused(question, (_too_complex(exc),))
        except MalformedCertificateError as exc:
            broken[position] = exc
            notes.append(printable(f"presented certificate {position} is left out: {exc}"))
    helping = _usable((*trust.intermediates, *question.untrusted), trust, "intermediate", notes)
    anchors = _usable(trust.anchors, trust, "anchor", notes)
    result = find_path(path_request(question, tuple(presented), anchors, helping, work))
    faults = result.faults
    if not result.trusted:
        wanted = (result.path or (leaf,))[-1].issuer.der
        missing = tuple(
            replace(exc.fault, depth=position)
            for position, exc in broken.items()
            if wanted in question.chain[position]
        )
        if missing and faults[0].reason is not Reason.TOO_COMPLEX:
            notes += (printable(f"no path without it: {fault.detail}") for fault in faults)
            faults = missing
        elif not faults:
            faults = (_no_path("no path to an anchor was found"),)
    # Before anybody is asked about it. Of a chain without a path, whatever came with it may be what is meant.
    faults += blocked_faults(question, result.path if result.trusted else tuple(presented))
    notes += _oddities(result.path or (leaf,))
    if question.path_only:
        notes.append("revocation was left out on request")
    return Examination(
        question=question,
        path=result.path,
        presented=tuple(presented),
        pool=(*presented[1:], *helping),
        trusted=result.trusted,
        faults=faults,
        notes=tuple(notes),
        anchors=anchors,
        work=work,
    )


def _countable(chain: tuple[bytes, ...], limits: Limits) -> Fault | None:
    """
    Whether there is a chain at all, and one within the caps.
    """
    if not chain:
        return Fault(
            reason=Reason.NO_CERTIFICATE,
            depth=None,
            rule="RFC 5246 7.4.6",
            detail="the peer sent no certificate",
        )
    detail = ""
    if len(chain) > limits.chain_certificates:
        detail = f"{len(chain)} certificates are over the limit of {limits.chain_certificates}"
    elif sum(map(len, chain)) > limits.chain_bytes:
        detail = f"chain of {sum(map(len, chain))} bytes is over the limit of {limits.chain_bytes}"
    elif max(map(len, chain)) > limits.certificate_bytes:
        detail = (
            f"certificate of {max(map(len, chain))} bytes is over the limit of {limits.certificate_bytes}"
        )
    return Fault(reason=Reason.UNDECODABLE, depth=None, rule="limits", detail=detail) if detail else None


def _refused(question: Question, faults: tuple[Fault, ...]) -> Examination:
    return Examination(
        question=question, path=(), presented=(), pool=(), trusted=False, faults=faults, notes=()
    )


def _undecodable(detail: str) -> Fault:
    return Fault(reason=Reason.UNDECODABLE, depth=None, rule="RFC 5246 7.4.2", detail=detail)


def _too_complex(exceeded: WorkExceededError) -> Fault:
    detail = f"the chain was not judged: {exceeded}"
    return Fault(reason=Reason.TOO_COMPLEX, depth=None, rule="limits.work", detail=detail)


def _no_path(detail: str) -> Fault:
    return Fault(reason=Reason.NO_PATH, depth=None, rule="RFC 5280 6.1", detail=detail)


def _oddities(path: Sequence[Certificate]) -> list[str]:
    """
    What departs from the letter in the certificates of a path, and was read all the same.
    """
    return [
        printable(f"{'the partner' if not depth else f'depth {depth}'}: {oddity}")
        for depth, certificate in enumerate(path)
        for oddity in certificate.oddities
    ]


def _usable(ders: Sequence[bytes], trust: TrustSet, what: str, notes: list[str]) -> tuple[Certificate, ...]:
    """
    Those that can be read; the others are noted, and the path must do without them. They are the operator's: kept.
    """
    form = trust.form.of_anchors if what == "anchor" else trust.form
    found: list[Certificate] = []
    for index, der in enumerate(ders):
        try:
            found.append(parse_certificate(der, compat=trust.compat, form=form))
            keep_certificate(found[-1])
        except InputError as exc:
            notes.append(printable(f"{what} {index} is left out: {exc}"))
    return tuple(found)
