"""
What a CA says when it says no (RFC 7807, RFC 8555 6.7), as one bounded line and one fault.

Owns the mapping from problem types to `enroller_port.Fault`. The HTTP status decides only where there is no problem
document: CAs differ in statuses and agree in types. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from cftpki_connectors.ca.values import CaAnswer, CaError, printable, status_fault
from cftpki_ext.core.values import dataclass
from cftpki_ext.identity.enroller_port import Fault

PREFIX = "urn:ietf:params:acme:error:"
# Where a CA limits us and does not say until when.
RATE_LIMIT_PAUSE = timedelta(hours=1)
# Of the subproblems (one per name) so many are told.
_TOLD = 3
_DOCUMENTS = frozenset({"application/problem+json", "application/json"})

_FAULTS: Mapping[str, Fault] = {
    "badNonce": Fault.UNREACHABLE,
    "serverInternal": Fault.UNREACHABLE,
    "rateLimited": Fault.RATE_LIMITED,
    "accountDoesNotExist": Fault.MISCONFIGURED,
    "badPublicKey": Fault.MISCONFIGURED,
    "badSignatureAlgorithm": Fault.MISCONFIGURED,
    "externalAccountRequired": Fault.MISCONFIGURED,
    "invalidContact": Fault.MISCONFIGURED,
    "invalidProfile": Fault.MISCONFIGURED,
    "unauthorized": Fault.MISCONFIGURED,
    "unsupportedContact": Fault.MISCONFIGURED,
    "userActionRequired": Fault.MISCONFIGURED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    A problem document. `kind` is the ACME error type without its prefix, empty for any other.
    """

    kind: str
    detail: str
    instance: str | None = None

    def __str__(self) -> str:
        """
        One bounded line.
        """
        return printable(f"{self.kind}: {self.detail}" if self.kind else self.detail)


class ProblemError(CaError):
    """
    The CA answered with an error. `problem.kind` is what callers look at, `status` the HTTP status.
    """

    def __init__(self, fault: Fault, problem: Problem, *, status: int, retry_at: datetime | None) -> None:
        super().__init__(fault, str(problem), sent=True, retry_at=retry_at)
        self.problem = problem
        self.status = status


def parse_problem(value: object) -> Problem | None:
    """
    Read a problem document, or the `error` of a challenge or an order; `None` where it is none.
    """
    if not isinstance(value, Mapping):
        return None
    kind = value.get("type")
    if not isinstance(kind, str):
        return None
    details = [_text(value.get("detail")) or "no detail given"]
    subproblems = value.get("subproblems")
    if isinstance(subproblems, list):
        for sub in subproblems[:_TOLD]:
            if isinstance(sub, Mapping):
                identifier = sub.get("identifier")
                name = _text(identifier.get("value")) if isinstance(identifier, Mapping) else ""
                details.append(f"{name or 'one name'}: {_text(sub.get('detail')) or _text(sub.get('type'))}")
        if len(subproblems) > _TOLD:
            details.append(f"and {len(subproblems) - _TOLD} more")
    instance = value.get("instance")
    return Problem(
        kind=kind.removeprefix(PREFIX)[:64] if kind.startswith(PREFIX) else "",
        detail="; ".join(details),
        instance=printable(instance) if isinstance(instance, str) else None,
    )


def fault_of(kind: str) -> Fault:
    """
    What a problem type means for the next attempt: by default that this order is refused.
    """
    return _FAULTS.get(kind, Fault.REFUSED)


def problem_error(answer: CaAnswer, now: datetime) -> ProblemError:
    """
    The error in an answer whose status is none of success.

    Args:
        answer: of the CA, or of what stands before it.
        now: for `Retry-After`.

    Returns:
        The error, to be raised.

    """
    problem = None
    if answer.content_type in _DOCUMENTS or answer.body[:64].lstrip().startswith(b"{"):
        try:
            problem = parse_problem(json.loads(answer.body))
        except (ValueError, RecursionError):
            problem = None
    if problem is not None and problem.kind:
        fault, retry_at = fault_of(problem.kind), answer.retry_at(now)
        if fault is Fault.RATE_LIMITED:
            retry_at = retry_at or now + RATE_LIMIT_PAUSE
        elif fault is not Fault.UNREACHABLE:
            retry_at = None
    else:
        fault, retry_at = status_fault(answer, now)
        if fault is Fault.RATE_LIMITED:
            retry_at = retry_at or now + RATE_LIMIT_PAUSE
        said = str(problem) if problem is not None else _kind_of_body(answer)
        problem = Problem(kind="", detail=f"HTTP {answer.status}, {said}")
        if 300 <= answer.status < 400:
            fault = Fault.MISCONFIGURED
    if problem.kind == "userActionRequired" and problem.instance:
        detail = f"{problem.detail}; see {problem.instance}"
        problem = Problem(kind=problem.kind, detail=detail, instance=problem.instance)
    return ProblemError(fault, problem, status=answer.status, retry_at=retry_at)


def _kind_of_body(answer: CaAnswer) -> str:
    if answer.content_type in {"text/html", "application/xhtml+xml"}:
        return "an HTML page, perhaps of a proxy"
    return f"content type {printable(answer.content_type)!r}, no problem document"


def _text(value: object) -> str:
    return printable(value) if isinstance(value, str) else ""
