"""
Candidate paths from a leaf to an anchor, and the choice between them.

Owns the search: bounded, without loops, anchors first, by name and key identifiers.
"""

from __future__ import annotations

from collections.abc import Iterator

from cftpki_ext.core.escape import printable
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.verdict import RANK, Fault, Reason
from cftpki_ext.core.work import Work, WorkExceededError
from cftpki_ext.path.request import PathRequest, PathResult
from cftpki_ext.path.validate import validate
from cftpki_ext.x509.certificate import Certificate, keep_certificate
from cftpki_ext.x509.signed import SignatureStatus, remember_valid, verify

# Steps of the search for each signature that the limits allow: a step without a new signature costs about a
# microsecond, and a mesh of cross-certificates can have far more simple paths than certificates.
_STEPS_PER_SIGNATURE = 16

_RANKS = {reason: index for index, reason in enumerate(RANK)}


class _OutOfBudget(Exception):  # noqa: N818  # a signal within this module, never an error to a caller
    """
    The search came to the bound `limits.path_signatures`.
    """


def _key_id_distance(certificate: Certificate, issuer: Certificate) -> int:
    """
    0 where the key identifiers say that this is the issuer's key, 2 where they contradict it, else 1.
    """
    wanted, own = certificate.authority_key_id, issuer.subject_key_id
    if wanted is None or own is None:
        return 1
    return 0 if wanted == own else 2


class _Search:
    """
    One search. Bounds count what was looked at, not what it cost, so that no memory changes the result.
    """

    def __init__(self, request: PathRequest, work: Work) -> None:
        self._request = request
        self._work = work
        anchors = {c.der: c for c in request.anchors}
        pool = {c.der: c for c in (*request.chain[1:], *request.intermediates) if c.der not in anchors}
        # By subject: (whether it is between leaf and anchor, who), anchors first.
        self._named: dict[str, list[tuple[bool, Certificate]]] = {}
        for between, certificates in ((False, anchors), (True, pool)):
            for certificate in certificates.values():
                self._named.setdefault(certificate.subject.key, []).append((between, certificate))
        self._leading = self._names_that_lead_to_an_anchor()
        self._statuses: dict[tuple[bytes, bytes], SignatureStatus] = {}
        self._signatures = request.limits.path_signatures
        self._steps = request.limits.path_signatures * _STEPS_PER_SIGNATURE

    def _names_that_lead_to_an_anchor(self) -> set[str]:
        """
        The subjects from which an anchor can be reached by names alone; all others are dead ends.
        """
        below: dict[str, list[str]] = {}
        leading = set()
        for subject, certificates in self._named.items():
            for between, certificate in certificates:
                if between:
                    below.setdefault(certificate.issuer.key, []).append(subject)
                else:
                    leading.add(subject)
        pending = list(leading)
        while pending:
            for subject in below.get(pending.pop(), ()):
                if subject not in leading:
                    leading.add(subject)
                    pending.append(subject)
        return leading

    def missing(self) -> Certificate:
        """
        The certificate above the leaf whose issuer is not there.
        """
        last = self._request.chain[0]
        seen = {last.subject.key}
        while last.issuer.key in self._named and last.issuer.key not in seen:
            last = self._named[last.issuer.key][0][1]
            seen.add(last.subject.key)
        return last

    def status(self, certificate: Certificate, issuer: Certificate) -> SignatureStatus:
        """
        Whether the certificate's signature is the issuer's; each pair is verified once.
        """
        pair = (certificate.digest, issuer.digest)
        known = self._statuses.get(pair)
        if known is None:
            self._signatures -= 1
            if self._signatures < 0:
                msg = f"more than {self._request.limits.path_signatures} signatures"
                raise _OutOfBudget(msg)
            self._work.spend(issuer.key.work, "verifying signatures")
            known = verify(certificate.signed, issuer.key, compat=self._request.compat, remember=False)
            self._statuses[pair] = known
        return known

    def _issuers(self, certificate: Certificate) -> list[tuple[int, bool, Certificate]]:
        """
        Those who may have issued a certificate, likeliest first: (key identifier distance, not anchor, who).
        """
        found = [
            (_key_id_distance(certificate, issuer), between, issuer)
            for between, issuer in self._named.get(certificate.issuer.key, ())
        ]
        if len(found) > 1:
            self._work.spend(len(found), _AT)
            found.sort(key=lambda entry: entry[:2])
        return found

    def paths(
        self, head: tuple[Certificate, ...], *, wrong_signatures: bool
    ) -> Iterator[tuple[Certificate, ...]]:
        """
        The complete paths that begin with `head`.

        Args:
            head: leaf first.
            wrong_signatures: also through signatures that are wrong, where no key identifier contradicts; to
                name the fault where there is no better path.

        Yields:
            Paths, leaf first, anchor last.

        """
        last = head[-1]
        if last.issuer.key not in self._leading:
            return
        if len(head) >= self._request.limits.path_certificates:
            return
        for distance, between, issuer in self._issuers(last):
            self._steps -= 1
            if self._steps < 0:
                msg = f"more than {self._request.limits.path_signatures * _STEPS_PER_SIGNATURE} steps"
                raise _OutOfBudget(msg)
            self._work.spend(1, _AT)
            # The same name with the same key again leads nowhere that was not reachable before (RFC 4158 5.2).
            if any(c.key.digest == issuer.key.digest and c.subject.key == issuer.subject.key for c in head):
                continue
            if self.status(last, issuer) is SignatureStatus.INVALID and not (
                wrong_signatures and distance < 2
            ):
                continue
            if between:
                yield from self.paths((*head, issuer), wrong_signatures=wrong_signatures)
            else:
                yield (*head, issuer)


class _Kept:
    """
    A valid path that was the first candidate, and as long as all its certificates are in date.

    Within that time the same question finds the same candidate first and nothing about it changes, so that
    the answer is the same whether it is remembered or found anew. Later candidates are not kept: another
    one before them may come into force.
    """

    __slots__ = ("begin", "end", "result", "work")

    def __init__(self, result: PathResult, work: int) -> None:
        self.result = result
        self.work = work
        self.begin = max(certificate.not_before for certificate in result.path)
        self.end = min(certificate.not_after for certificate in result.path)


def _what_decides(request: PathRequest) -> tuple[object, ...]:
    """
    Everything in a request that a path depends on, but the time. Certificates compare by all their bytes.
    """
    limits = request.limits
    return (
        request.chain,
        request.anchors,
        request.intermediates,
        request.purpose,
        request.inputs,
        request.compat,
        limits.path_certificates,
        limits.path_candidates,
        limits.path_signatures,
    )


# Partners of the same hour, some thousand; a chain of theirs takes a few KiB, its certificates what they take when read.
_KEPT_OCTETS = 32 * 1024 * 1024
_KEPT_TIMES = 6
_KEPT_FIXED = 4 * 1024

_kept: Memo[tuple[object, ...], _Kept] = Memo(_KEPT_OCTETS)
_AT = "looking for a path"


def clear_paths() -> None:
    """
    Forget every path.
    """
    _kept.clear()


def _keep(result: PathResult) -> None:
    """
    Keep the certificates and signatures of a trusted path: the partner will come again.
    """
    for certificate, issuer in zip(result.path, result.path[1:], strict=False):
        keep_certificate(certificate)
        remember_valid(certificate.signed, issuer.key)


def _merit(result: PathResult) -> tuple[bool, int, int]:
    """
    The lower, the better does this candidate explain the refusal: believable first, then by rank of its faults.
    """
    return not result.trusted, min(_RANKS[f.reason] for f in result.faults), len(result.faults)


def find_path(request: PathRequest) -> PathResult:
    """
    Find a valid path from the leaf to an anchor (RFC 5280 6.1), or the best account of why there is none.

    By default paths go through certificates whose name is the issuer's and whose key verifies; alternatives
    are tried until one has no fault. Where none is valid, the candidate is reported that can be believed and
    whose strongest fault ranks first. A leaf that is byte for byte an anchor is its own path of one: the
    operator named exactly this certificate, and its dates, key and usages still count. Revocation and the
    peer's identity are not looked at.

    Args:
        request: leaf, pool, anchors, time, purpose and inputs.

    Returns:
        The path with all its faults; `path` is empty where none reaches an anchor.

    """
    if not request.chain:
        fault = Fault(
            reason=Reason.NO_CERTIFICATE,
            depth=None,
            rule="RFC 5280 6.1",
            detail="no certificate was presented",
        )
        return PathResult(path=(), faults=(fault,), trusted=False)
    work = Work(request.limits.work) if request.work is None else request.work
    spent = work.spent
    what = _what_decides(request)
    kept = _kept.get(what)
    try:
        if kept is not None and kept.begin <= request.now <= kept.end:
            work.spend(kept.work, _AT)
            return kept.result
        search = _Search(request, work)
        result, first = _best(request, search, work)
    except WorkExceededError as exceeded:
        return _too_complex(None, "limits.work", str(exceeded))
    if result.trusted:
        _keep(result)
    if first and result.valid:
        cost = sum(len(c.der) for c in request.chain) * _KEPT_TIMES + _KEPT_FIXED
        _kept.keep(what, _Kept(result, work.spent - spent), cost)
    return result


def _best(request: PathRequest, search: _Search, work: Work) -> tuple[PathResult, bool]:
    """
    The result, and whether it is the first candidate that was met.

    Raises:
        WorkExceededError: the question costs too much.

    """
    leaf = request.chain[0]
    if any(leaf.der == anchor.der for anchor in request.anchors):
        return validate((leaf,), request, search.status, work), False
    best: PathResult | None = None
    most = request.limits.path_candidates
    try:
        for count, path in enumerate(search.paths((leaf,), wrong_signatures=False), start=1):
            if count > most:
                return _too_complex(
                    best, "limits.path_candidates", f"more than {most} candidate paths"
                ), False
            result = validate(path, request, search.status, work)
            if not result.faults:
                return result, count == 1
            if best is None or _merit(result) < _merit(best):
                best = result
        if best is None:
            # Somewhere a signature is wrong: one candidate is enough to say where.
            path = next(search.paths((leaf,), wrong_signatures=True), ())
            best = (
                validate(path, request, search.status, work) if path else _no_path(request, search.missing())
            )
    except _OutOfBudget as bound:
        return _too_complex(best, "limits.path_signatures", str(bound)), False
    return best, False


def _too_complex(best: PathResult | None, rule: str, detail: str) -> PathResult:
    """
    The result where a bound ended the search: refused, whatever else was found, and nothing is believed.
    """
    fault = Fault(
        reason=Reason.TOO_COMPLEX, depth=None, rule=rule, detail=f"the chain was not judged: {detail}"
    )
    others = () if best is None else best.faults
    return PathResult(path=() if best is None else best.path, faults=(fault, *others), trusted=False)


def _no_path(request: PathRequest, missing: Certificate) -> PathResult:
    """
    The result where no anchor was reached.
    """
    detail = (
        f"issuer {missing.issuer.text!r} of {missing.subject.text!r} is not among "
        f"{len(request.anchors)} anchors and {len(request.chain) - 1 + len(request.intermediates)} others"
    )
    if missing.self_issued:
        detail = f"self-issued certificate {missing.subject.text!r} is not an anchor"
    fault = Fault(reason=Reason.NO_PATH, depth=None, rule="RFC 5280 6.1", detail=printable(detail))
    return PathResult(path=(), faults=(fault,), trusted=False)
