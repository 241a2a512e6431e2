"""
One candidate path, judged: RFC 5280 6.1.2 to 6.1.5. All faults are found, not only the first.

Owns the order of the checks and the naming of depth and rule.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cftpki_ext.core.verdict import Fault, Reason
from cftpki_ext.core.vocabulary import Leniency
from cftpki_ext.core.work import JUDGEMENT, Work
from cftpki_ext.path.names import NameState
from cftpki_ext.path.policies import PolicyState
from cftpki_ext.path.request import PathRequest, PathResult, Purpose
from cftpki_ext.path.usage import extended_key_usage_violation, key_usage_violation
from cftpki_ext.x509.certificate import Certificate
from cftpki_ext.x509.extensions import KeyUsage
from cftpki_ext.x509.signed import KeyStrength, SignatureStatus, has_weak_digest, key_strength, signature_name

StatusOf = Callable[[Certificate, Certificate], SignatureStatus]


class _Judgement:
    """
    The faults found so far, and whether what the path says may still be believed.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.trusted = True

    def fault(
        self, reason: Reason, depth: int | None, rule: str, detail: str, *, breaks_trust: bool = False
    ) -> None:
        """
        Add one; `breaks_trust` where it means that the issuer did not really say this, or may not say it.
        """
        self.faults.append(Fault(reason=reason, depth=depth, rule=rule, detail=detail))
        if breaks_trust:
            self.trusted = False


def validate(
    path: tuple[Certificate, ...], request: PathRequest, status_of: StatusOf, work: Work
) -> PathResult:
    """
    Judge one path.

    By default an anchor counts with all that its certificate says: its dates, key, basic constraints, path
    length, key usage, extended key usage and name constraints bind (RFC 5937); its own signature and its
    policies do not. Revocation is not looked at. Where a signature is wrong, everything below is a stranger's word:
    its names and policies are not compared.

    Args:
        path: leaf first, anchor last; a leaf that is itself the anchor is a path of one.
        request: the inputs.
        status_of: says whether the first certificate's signature is the second one's.
        work: where operations are counted.

    Returns:
        The result, with every fault.

    Raises:
        WorkExceededError: the question costs too much.

    """
    judgement = _Judgement()
    last = len(path) - 1
    work.spend(JUDGEMENT * len(path), "judging a path")
    now = request.now.replace(microsecond=0)  # certificates have whole seconds, and the last one still counts
    for depth in range(last, -1, -1):
        _alone(judgement, path[depth], depth, now, request)
    if not last:
        return _pinned(judgement, path[0], request, work)
    anchor = path[last]
    names = NameState(work)
    policies = PolicyState(last, request.inputs, work)
    signed = True
    _anchor(judgement, anchor, last, request)
    if anchor.name_constraints is not None:
        names.add(anchor.name_constraints)
    room = last
    if anchor.basic_constraints is not None and anchor.basic_constraints.path_length is not None:
        room = min(room, anchor.basic_constraints.path_length)
    explicit_failed = False
    for depth in range(last - 1, -1, -1):
        certificate, issuer = path[depth], path[depth + 1]
        final = depth == 0
        signed &= _issued(judgement, certificate, issuer, depth, request=request, status_of=status_of)
        if signed:
            for detail in names.violations(certificate, final=final):
                judgement.fault(Reason.NAME_CONSTRAINTS, depth, "RFC 5280 6.1.3 (b)(c)", detail)
            if not policies.process(certificate, final=final) and not explicit_failed:
                explicit_failed = True
                detail = "an explicit policy is required and none is left"
                judgement.fault(Reason.CERTIFICATE_POLICY, depth, "RFC 5280 6.1.3 (f)", detail)
        if final:
            break
        if signed:
            if not policies.prepare(certificate):
                detail = "a policy is mapped from or to anyPolicy"
                judgement.fault(Reason.CERTIFICATE_POLICY, depth, "RFC 5280 6.1.4 (a)", detail)
            if certificate.name_constraints is not None:
                names.add(certificate.name_constraints)
        _authority(judgement, certificate, depth, request)
        if not certificate.self_issued:
            if room <= 0:
                detail = "more CAs follow than a path length constraint above allows"
                judgement.fault(Reason.PATH_LENGTH, depth, "RFC 5280 6.1.4 (l)", detail, breaks_trust=True)
            room = max(room - 1, 0)
        constraints = certificate.basic_constraints
        if constraints is not None and constraints.path_length is not None:
            room = min(room, constraints.path_length)
    satisfied, valid = policies.wrap_up(path[0])
    if signed and not satisfied and not explicit_failed:
        detail = "an explicit policy is required and none of the acceptable ones holds for the whole path"
        judgement.fault(Reason.CERTIFICATE_POLICY, 0, "RFC 5280 6.1.5 (g)", detail)
    _leaf(judgement, path[0], request)
    return _result(judgement, path, valid)


def _result(judgement: _Judgement, path: tuple[Certificate, ...], valid: frozenset[str]) -> PathResult:
    faults = tuple(judgement.faults)
    return PathResult(
        path=path,
        faults=faults,
        trusted=judgement.trusted,
        valid_policies=frozenset() if faults else valid,
    )


def _pinned(judgement: _Judgement, leaf: Certificate, request: PathRequest, work: Work) -> PathResult:
    """
    A leaf that is itself the anchor: nobody issued it as far as we are concerned, but policies and use count.

    An anchor that signs CRLs needs no policy, because a path that ends in it asks for none either.
    """
    policies = PolicyState(1, request.inputs, work)
    held = policies.process(leaf, final=True)
    satisfied, valid = policies.wrap_up(leaf)
    if not (held and satisfied) and request.purpose is not Purpose.CRL_SIGNING:
        detail = "an explicit policy is required and the pinned certificate has no acceptable one"
        judgement.fault(Reason.CERTIFICATE_POLICY, 0, "RFC 5280 6.1.5 (g)", detail)
    _leaf(judgement, leaf, request)
    return _result(judgement, (leaf,), valid)


def _alone(
    judgement: _Judgement, certificate: Certificate, depth: int, now: datetime, request: PathRequest
) -> None:
    """
    What can be said of a certificate without its neighbours: dates, key, unknown critical extensions.
    """
    if now > certificate.not_after:
        detail = f"valid until {certificate.not_after.isoformat()}, it is {now.isoformat()}"
        judgement.fault(Reason.EXPIRED, depth, "RFC 5280 6.1.3 (a)(2)", detail)
    elif now < certificate.not_before:
        detail = f"valid from {certificate.not_before.isoformat()}, it is {now.isoformat()}"
        judgement.fault(Reason.NOT_YET_VALID, depth, "RFC 5280 6.1.3 (a)(2)", detail)
    if not certificate.key.strong:
        _weak_key(judgement, certificate, depth, request)
    if certificate.unhandled_critical:
        detail = f"critical extension {', '.join(certificate.unhandled_critical)} is not known"
        judgement.fault(Reason.UNSUPPORTED_CRITICAL_EXTENSION, depth, "RFC 5280 4.2", detail)


def _weak_key(judgement: _Judgement, certificate: Certificate, depth: int, request: PathRequest) -> None:
    """
    A key that may not be relied upon, unless a leniency lets it pass.
    """
    key = certificate.key
    strength = key_strength(key, request.compat)
    if strength is KeyStrength.WEAK:
        detail = f"{key.kind.value} key of {key.bits} bits"
        judgement.fault(Reason.WEAK_KEY, depth, "NIST SP 800-131A 3", detail, breaks_trust=depth > 0)
    elif strength is KeyStrength.UNSUPPORTED:
        detail = f"key algorithm {key.name or key.algorithm}, or its size, is not supported"
        judgement.fault(
            Reason.UNSUPPORTED_ALGORITHM, depth, "RFC 5280 4.1.2.7", detail, breaks_trust=depth > 0
        )


def _anchor(judgement: _Judgement, anchor: Certificate, depth: int, request: PathRequest) -> None:
    """
    Whether the anchor may issue: a version 1 root may, another one must say that it is a CA.
    """
    if anchor.version == 3 and not anchor.is_ca:
        detail = f"anchor {anchor.subject.text!r} is no CA by its basic constraints"
        judgement.fault(Reason.BASIC_CONSTRAINTS, depth, "RFC 5280 4.2.1.9", detail, breaks_trust=True)
    if anchor.key_usage is not None and KeyUsage.KEY_CERT_SIGN not in anchor.key_usage:
        detail = "key usage of the anchor has no keyCertSign"
        judgement.fault(Reason.KEY_USAGE, depth, "RFC 5280 4.2.1.3", detail, breaks_trust=True)
    _extended(judgement, anchor, depth, request)


def _issued(
    judgement: _Judgement,
    certificate: Certificate,
    issuer: Certificate,
    depth: int,
    *,
    request: PathRequest,
    status_of: StatusOf,
) -> bool:
    """
    RFC 5280 6.1.3 (a)(1) and (a)(4): signature and name; whether both are right.
    """
    named = certificate.issuer.key == issuer.subject.key
    if not named:
        detail = f"issuer is {certificate.issuer.text!r}, the next subject {issuer.subject.text!r}"
        judgement.fault(Reason.NAME_CHAINING, depth, "RFC 5280 6.1.3 (a)(4)", detail, breaks_trust=True)
    status = status_of(certificate, issuer)
    if status is SignatureStatus.VALID:
        return named
    rule = "RFC 5280 6.1.3 (a)(1)"
    algorithm = certificate.signed.algorithm
    judgement.trusted = False
    if has_weak_digest(algorithm, request.compat):
        detail = f"signature algorithm {signature_name(algorithm)} uses MD5 or SHA-1"
        judgement.fault(Reason.WEAK_DIGEST, depth, rule, detail)
    elif status is SignatureStatus.UNSUPPORTED:
        detail = f"signature algorithm {signature_name(algorithm)} with this key is not supported"
        judgement.fault(Reason.UNSUPPORTED_ALGORITHM, depth, rule, detail)
    elif status is SignatureStatus.INVALID:
        detail = f"signature is not that of the key of {issuer.subject.text!r}"
        judgement.fault(Reason.BAD_SIGNATURE, depth, rule, detail)
    # What is left is a weak key of the issuer, which is a fault of the issuer's own certificate.
    return False


def _authority(judgement: _Judgement, certificate: Certificate, depth: int, request: PathRequest) -> None:
    """
    RFC 5280 6.1.4 (k), (n) and extended key usage: whether an intermediate may issue.
    """
    if not certificate.is_ca:
        detail = f"{certificate.subject.text!r} issued, but is no CA by its basic constraints"
        judgement.fault(Reason.BASIC_CONSTRAINTS, depth, "RFC 5280 6.1.4 (k)", detail, breaks_trust=True)
    if certificate.key_usage is None:
        if Leniency.CA_WITHOUT_KEY_USAGE not in request.compat:
            detail = "CA certificate has no key usage"
            judgement.fault(Reason.KEY_USAGE, depth, "RFC 5280 4.2.1.3", detail, breaks_trust=True)
    elif KeyUsage.KEY_CERT_SIGN not in certificate.key_usage:
        detail = "key usage of a CA has no keyCertSign"
        judgement.fault(Reason.KEY_USAGE, depth, "RFC 5280 6.1.4 (n)", detail, breaks_trust=True)
    _extended(judgement, certificate, depth, request)


def _extended(judgement: _Judgement, certificate: Certificate, depth: int, request: PathRequest) -> None:
    detail = extended_key_usage_violation(certificate, request.purpose)
    if detail is not None:
        judgement.fault(Reason.EXTENDED_KEY_USAGE, depth, "RFC 5280 4.2.1.12", detail)


def _leaf(judgement: _Judgement, leaf: Certificate, request: PathRequest) -> None:
    """
    Whether the leaf may be used for the purpose.
    """
    detail = key_usage_violation(leaf, request.purpose)
    if detail is not None:
        judgement.fault(Reason.KEY_USAGE, 0, "RFC 5280 4.2.1.3", detail)
    _extended(judgement, leaf, 0, request)
