"""
Candidate paths from a leaf to an anchor, and the choice between them.

Owns the search: bounded, without loops, anchors first, by name and key identifiers. Imports the rest of this
package, x509 and verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from cftpki_ext.core.escape import printable
from cftpki_ext.core.verdict import RANK, Fault, Reason
from cftpki_ext.path.request import PathRequest, PathResult
from cftpki_ext.path.validate import validate
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.signed import SignatureStatus, verify

# Steps of the search for each signature that the limits allow: a step without a new signature costs about a
# microsecond, and a mesh of cross-certificates can have far more simple paths than certificates.
_STEPS_PER_SIGNATURE = 16

_RANKS = {reason: index for index, reason in enumerate(RANK)}


class _OutOfBudget(Exception):  # noqa: N818  # a signal within this module, never an error to a caller
    """
    The search came to one of its bounds.
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

    def __init__(self, request: PathRequest) -> None:
        self._request = request
        anchors = {c.der: c for c in request.anchors}
        self._anchors = tuple(anchors.values())
        pool = {c.der: c for c in (*request.chain[1:], *request.intermediates) if c.der not in anchors}
        self._pool = tuple(pool.values())
        self._statuses: dict[tuple[bytes, bytes], SignatureStatus] = {}
        self._signatures = request.limits.path_signatures
        self._steps = request.limits.path_signatures * _STEPS_PER_SIGNATURE
        self.missing: Certificate = request.chain[0]
        self._deepest = 0

    def status(self, certificate: Certificate, issuer: Certificate) -> SignatureStatus:
        """
        Whether the certificate's signature is the issuer's; each pair is verified once.
        """
        pair = (certificate.digest, issuer.digest)
        known = self._statuses.get(pair)
        if known is None:
            self._signatures -= 1
            if self._signatures < 0:
                raise _OutOfBudget
            known = verify(certificate.signed, issuer.spki, compat=self._request.compat)
            self._statuses[pair] = known
        return known

    def _issuers(self, certificate: Certificate) -> list[tuple[int, bool, Certificate]]:
        """
        Those who may have issued a certificate, likeliest first: (key identifier distance, not anchor, who).
        """
        name = certificate.issuer.key
        found = [(_key_id_distance(certificate, c), False, c) for c in self._anchors if c.subject.key == name]
        found += [(_key_id_distance(certificate, c), True, c) for c in self._pool if c.subject.key == name]
        if len(found) > 1:
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
        if len(head) > self._deepest:
            self._deepest = len(head)
            self.missing = last
        if len(head) >= self._request.limits.chain_certificates:
            return
        for distance, between, issuer in self._issuers(last):
            self._steps -= 1
            if self._steps < 0:
                raise _OutOfBudget
            # The same name with the same key again leads nowhere that was not reachable before (RFC 4158 5.2).
            if any(c.spki == issuer.spki and c.subject.key == issuer.subject.key for c in head):
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

    __slots__ = ("begin", "end", "result")

    def __init__(self, result: PathResult) -> None:
        self.result = result
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
        limits.chain_certificates,
        limits.path_candidates,
        limits.path_signatures,
    )


# Partners of the same hour. A stranger's chain takes a place too, of at most limits.chain_bytes: 64 MB in all.
@lru_cache(maxsize=1024)
def _kept(_what: tuple[object, ...]) -> list[_Kept]:
    """
    The place where the path of a question is remembered: empty or one entry.
    """
    return []


def clear_paths() -> None:
    """
    Forget every path.
    """
    _kept.cache_clear()


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
            reason=Reason.NO_CERTIFICATE, hop=None, rule="RFC 5280 6.1", detail="no certificate was presented"
        )
        return PathResult(path=(), faults=(fault,), trusted=False)
    leaf = request.chain[0]
    kept = _kept(_what_decides(request))
    if kept and kept[0].begin <= request.now <= kept[0].end:
        return kept[0].result
    search = _Search(request)
    if any(leaf.der == anchor.der for anchor in request.anchors):
        return validate((leaf,), request, search.status)
    best: PathResult | None = None
    exhausted = False
    try:
        for wrong_signatures in (False, True):
            for count, path in enumerate(search.paths((leaf,), wrong_signatures=wrong_signatures), start=1):
                result = validate(path, request, search.status)
                if not result.faults:
                    if count == 1:
                        kept[:] = [_Kept(result)]
                    return result
                if best is None or _merit(result) < _merit(best):
                    best = result
                if count >= request.limits.path_candidates:
                    exhausted = True
                    break
            if best is not None:
                break
    except _OutOfBudget:
        exhausted = True
    if best is not None:
        return best
    return _no_path(request, search.missing, exhausted=exhausted)


def _no_path(request: PathRequest, missing: Certificate, *, exhausted: bool) -> PathResult:
    """
    The result where no anchor was reached.
    """
    if exhausted:
        rule = "limits.path_signatures"
        detail = f"no path to an anchor within {request.limits.path_signatures} signatures"
    else:
        rule = "RFC 5280 6.1"
        detail = (
            f"issuer {missing.issuer.text!r} of {missing.subject.text!r} is not among "
            f"{len(request.anchors)} anchors and {len(request.chain) - 1 + len(request.intermediates)} others"
        )
        if missing.self_issued:
            detail = f"self-issued certificate {missing.subject.text!r} is not an anchor"
    fault = Fault(reason=Reason.NO_PATH, hop=None, rule=rule, detail=printable(detail))
    return PathResult(path=(), faults=(fault,), trusted=False)
