"""
What is decided about a partner's chain, and why.

Owns the reasons, their rank, and the verdict with its evidence. A verdict is a value; nothing here raises.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.forms import with_hop, with_name
from cftpki_ext.core.policy import Action
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class Status(enum.StrEnum):
    """
    The answer to "may this partner in?". There is no third value: anything undecided refuses.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"


class Reason(enum.StrEnum):
    """
    Why a chain is refused: one member per rule family, in the terms of RFC 5280.

    `cftpki_ext.core.alerts` maps each to the TLS alert; `RANK` below decides between several.
    """

    REVOKED = "revoked"
    ON_HOLD = "on_hold"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    NO_PATH = "no_path"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    NAME_CHAINING = "name_chaining"
    BASIC_CONSTRAINTS = "basic_constraints"
    PATH_LENGTH = "path_length"
    NAME_CONSTRAINTS = "name_constraints"
    CERTIFICATE_POLICY = "certificate_policy"
    KEY_USAGE = "key_usage"
    EXTENDED_KEY_USAGE = "extended_key_usage"
    UNSUPPORTED_ALGORITHM = "unsupported_algorithm"
    UNSUPPORTED_CRITICAL_EXTENSION = "unsupported_critical_extension"
    WEAK_KEY = "weak_key"
    WEAK_DIGEST = "weak_digest"
    STATUS_NOT_ESTABLISHED = "status_not_established"
    NOT_ALLOWED = "not_allowed"
    BLOCKED = "blocked"
    UNDECODABLE = "undecodable"
    TOO_COMPLEX = "too_complex"
    NO_CERTIFICATE = "no_certificate"
    NO_RULE = "no_rule"
    INTERNAL_ERROR = "internal_error"


# First is strongest. Messages that could not be read come first, because nothing else is known of them. An
# untrusted path is reported as such (nothing said about its certificates is believed); on a trusted one,
# revocation comes before an operator's block, both before expiry, and expiry before the path's other faults
# (DESIGN.md section 6).
RANK: tuple[Reason, ...] = (
    Reason.INTERNAL_ERROR,
    Reason.NO_RULE,
    Reason.UNDECODABLE,
    Reason.NO_CERTIFICATE,
    Reason.TOO_COMPLEX,
    Reason.NO_PATH,
    Reason.REVOKED,
    Reason.ON_HOLD,
    Reason.BLOCKED,
    Reason.EXPIRED,
    Reason.NOT_YET_VALID,
    Reason.MALFORMED,
    Reason.BAD_SIGNATURE,
    Reason.NAME_CHAINING,
    Reason.BASIC_CONSTRAINTS,
    Reason.PATH_LENGTH,
    Reason.NAME_CONSTRAINTS,
    Reason.CERTIFICATE_POLICY,
    Reason.UNSUPPORTED_CRITICAL_EXTENSION,
    Reason.UNSUPPORTED_ALGORITHM,
    Reason.WEAK_KEY,
    Reason.WEAK_DIGEST,
    Reason.KEY_USAGE,
    Reason.EXTENDED_KEY_USAGE,
    Reason.NOT_ALLOWED,
    Reason.STATUS_NOT_ESTABLISHED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One broken rule: which certificate of the path (0 = leaf; `None` = the path as a whole) and which rule.

    JSON has the number under both names: `depth`, and `hop`, as 0.1.0 wrote it.
    """

    reason: Reason
    depth: int | None
    rule: str  # the clause, e.g. "RFC 5280 6.1.3 (a)(2)"
    detail: str  # both sides of the failed comparison, for a person

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        How pydantic is to read `hop`, as 0.1.0 stored it, and to write it.
        """
        return with_hop(source, handler, shown=True)

    @property
    def hop(self) -> int | None:
        """
        `depth` by the name that 0.1.0 gave it.
        """
        return self.depth


class CertificateStatus(enum.StrEnum):
    """
    What the sources together say of one certificate.
    """

    GOOD = "good"
    REVOKED = "revoked"
    ON_HOLD = "on_hold"
    UNDETERMINED = "undetermined"


# What refuses whatever the policy says.
BAD_NEWS = frozenset({CertificateStatus.REVOKED, CertificateStatus.ON_HOLD})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFinding:
    """
    What one statement established about one certificate, after all checks.

    `cause` is set exactly when `status` is `UNDETERMINED`. Times are those that the statement claims;
    `age_s` is measured from thisUpdate at the time of the decision.
    """

    kind: SourceKind
    origin: Origin
    url: str | None
    status: CertificateStatus
    cause: Cause | None = None
    detail: str = ""
    this_update: datetime | None = None
    next_update: datetime | None = None
    age_s: int | None = None
    produced_at: datetime | None = None  # of an OCSP answer
    responder: str | None = None
    revoked_at: datetime | None = None
    revocation_reason: str | None = None
    digest: str | None = None  # SHA-256 of the raw statement, hex
    elapsed_ms: int = 0
    notes: tuple[str, ...] = ()  # what was odd in its form and yet clear


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFinding:
    """
    The status of one certificate of the path (0 = leaf), with every source that was heard.

    JSON has the number under both names: `depth`, and `hop`, as 0.1.0 wrote it.
    """

    depth: int
    subject: str
    serial: str  # hex
    fingerprint: str  # SHA-256 of the DER, hex
    status: CertificateStatus
    cause: Cause | None = None
    detail: str = ""
    sources: tuple[SourceFinding, ...] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        How pydantic is to read `hop`, as 0.1.0 stored it, and to write it.
        """
        return with_hop(source, handler, shown=True)

    @property
    def hop(self) -> int:
        """
        `depth` by the name that 0.1.0 gave it.
        """
        return self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEntry:
    """
    One certificate of the judged path, for the evidence.
    """

    subject: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRow:
    """
    A row of the policy table that was applied to one certificate (`depth`), and what it did.

    `excepted` where the row refuses, and this partner's exception let it in all the same.
    """

    depth: int
    cause: Cause
    action: Action
    excepted: bool = False

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        How pydantic is to read `hop`, as 0.1.0 stored it, and to write it.
        """
        return with_hop(source, handler, shown=True)

    @property
    def hop(self) -> int:
        """
        `depth` by the name that 0.1.0 gave it.
        """
        return self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    Why a verdict is what it is. Enough for a person; the raw bytes are kept beside it by their digests.
    """

    decided_at: datetime
    rule: str | None
    trust: str | None
    policy: str
    direction: Direction
    path: tuple[PathEntry, ...] = ()
    faults: tuple[Fault, ...] = ()
    findings: tuple[CertificateFinding, ...] = ()
    notes: tuple[str, ...] = ()  # warnings, overrides, "revocation left out on request"
    rows: tuple[AppliedRow, ...] = ()
    # Certificates that were looked at beside the path: those of a path that was given up, and others of its keys.
    beside: tuple[CertificateFinding, ...] = ()
    # What the directory says of the partner, where the trust set has one: "good" where it is found and as it must be.
    directory: CertificateFinding | None = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        How pydantic is to store the findings as `hops`, as 0.1.0 did: scripts and earlier records can be read.
        """
        return with_name(source, handler, field="findings", stored="hops")

    @property
    def heard(self) -> tuple[CertificateFinding, ...]:
        """
        All that sources were heard for: the path, what was looked at beside it, and the directory.
        """
        return (*self.findings, *self.beside, *(() if self.directory is None else (self.directory,)))

    @property
    def hops(self) -> tuple[CertificateFinding, ...]:
        """
        `findings` by the name that 0.1.0 gave them, which JSON keeps.
        """
        return self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    The decision on one chain. `reason` is `None` exactly when the status is `ACCEPTED`.

    `alert` is the TLS alert that goes on the wire (0 when accepted). It is normally the one of `reason`;
    policy may send another documented code to tell a stranger less, and `reason` still names the truth.
    """

    id: str
    status: Status
    reason: Reason | None
    alert: int
    summary: str  # one line for log and operator
    evidence: Evidence
    warnings: tuple[str, ...] = field(default=())

    @property
    def accepted(self) -> bool:
        """
        Whether the partner may in.
        """
        return self.status is Status.ACCEPTED


def at_depth(depth: int, subject: str = "") -> str:
    """
    Which certificate of a path, for a person: the partner's own, or the depth that RFC 5280 tools count by.

    Args:
        depth: 0 = the partner's certificate, then upwards.
        subject: its name, where it adds something.

    Returns:
        For example "the partner's certificate CN=partner", or "depth 1: CN=CA".

    """
    if depth == 0:
        return f"the partner's certificate {subject}".rstrip()
    return f"depth {depth}: {subject}" if subject else f"depth {depth}"


def strongest(faults: Iterable[Fault]) -> Fault | None:
    """
    The fault that names the refusal: lowest rank first, then the one nearest to the leaf.

    Args:
        faults: any number of faults.

    Returns:
        The deciding fault, or `None` where there is none.

    """
    return min(faults, key=lambda f: (RANK.index(f.reason), -1 if f.depth is None else f.depth), default=None)


def deciding_source(verdict: Verdict) -> SourceFinding | None:
    """
    Whose word the verdict rests on: of the certificate that decided, or the leaf's where nothing bad was said.

    Args:
        verdict: any verdict.

    Returns:
        The source that established its status; `None` where revocation was not looked at, or no source
        established it.

    """
    worst = (
        CertificateStatus.REVOKED,
        CertificateStatus.ON_HOLD,
        CertificateStatus.UNDETERMINED,
        CertificateStatus.GOOD,
    )
    findings = sorted(
        verdict.evidence.findings, key=lambda finding: (worst.index(finding.status), finding.depth)
    )
    for finding in findings[:1]:
        for source in finding.sources:
            if source.status is finding.status:
                return source
    return None
