"""
Deciding again: the same question and statements, offline, at the original time; and what came out otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cftpki_ext.core.settings import Limits
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.evidence.record import Record

# How a warning begins says what it warns of; what follows is told to a person and may be put better by a later
# version. Records of before this one was released number the certificates as "hop 0", "hop 1".
_CERTIFICATE = r"(?:the partner's certificate|(?:hop|depth) (?P<depth>\d+))"
_WARNINGS = (
    ("sources disagree", re.compile(rf"sources disagree about {_CERTIFICATE}")),
    ("another path was taken", re.compile(r"another path was taken: ")),
    ("accepted by policy", re.compile(_CERTIFICATE)),
    ("accepted by an exception", re.compile(r"accepted by the exception of policy ")),
    ("audit, would have been refused", re.compile(r"audit: would have been refused (?P<alert>\d+)")),
)


# What no configuration may exceed (`config.models.LIMIT_RANGES`), of the limits that bound time and memory.
MOST: Mapping[str, int] = MappingProxyType(
    {
        "chain_bytes": 128 * 1024,
        "chain_certificates": 64,
        "certificate_bytes": 128 * 1024,
        "path_certificates": 64,
        "path_candidates": 4096,
        "path_signatures": 4096,
        "work": 10_000_000,
        "urls_per_certificate": 32,
        "ocsp_bytes": 1 << 20,
        "crl_bytes": 1 << 30,
        "rest_bytes": 16 << 20,
        "directory_bytes": 16 << 20,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """
    One thing that came out otherwise: what was recorded, and what is decided now.
    """

    what: str
    recorded: str
    now: str


def decide_again(record: Record) -> Verdict:
    """
    Decide a stored question anew from its stored statements, at its own time. Nothing is fetched.

    Args:
        record: the stored decision.

    Returns:
        The verdict, with the recorded id.

    """
    question = replace(record.question, limits=_bounded(record.question.limits))
    return conclude(examine(question), record.statements, verdict_id=record.verdict.id)


def _bounded(limits: Limits) -> Limits:
    """
    Recorded limits, none above what a configuration may say: a record may be somebody else's, and this takes its time.

    Work that was not counted then (0) is counted now, with the largest bound.
    """
    bounds = {name: min(getattr(limits, name), most) for name, most in MOST.items()}
    return replace(limits, **bounds | {"work": bounds["work"] or MOST["work"]})


def differences(recorded: Verdict, now: Verdict) -> tuple[Difference, ...]:
    """
    What two verdicts on one chain disagree about; empty when they agree in every decision.

    Wording is not compared: a warning agrees with one of the same kind about the same certificate.

    Args:
        recorded: the earlier verdict.
        now: the later one.

    Returns:
        One row for each of status, reason, alert, path, warnings, what the directory says, and the status of each
        certificate that differs.

    """
    pairs = [
        ("status", recorded.status.value, now.status.value),
        ("reason", _text(recorded.reason), _text(now.reason)),
        ("alert", str(recorded.alert), str(now.alert)),
        ("path", _path(recorded), _path(now)),
    ]
    if tuple(map(_warned, recorded.warnings)) != tuple(map(_warned, now.warnings)):
        pairs.append(("warnings", "; ".join(recorded.warnings) or "-", "; ".join(now.warnings) or "-"))
    if recorded.evidence.directory is not None or now.evidence.directory is not None:
        pairs.append(("directory", _known(recorded), _known(now)))
    then = {finding.depth: finding.status.value for finding in recorded.evidence.findings}
    today = {finding.depth: finding.status.value for finding in now.evidence.findings}
    pairs += [
        (f"depth {depth}", then.get(depth, "-"), today.get(depth, "-"))
        for depth in sorted(then.keys() | today.keys())
    ]
    return tuple(Difference(what=what, recorded=a, now=b) for what, a, b in pairs if a != b)


def _warned(warning: str) -> tuple[str, int]:
    """
    What a warning warns of: its kind with the depth or alert that it names, or its text where no kind is known.
    """
    for kind, pattern in _WARNINGS:
        match = pattern.match(warning)
        if match is not None:
            return kind, next((int(number) for number in match.groups() if number is not None), 0)
    return warning, 0


def _known(verdict: Verdict) -> str:
    finding = verdict.evidence.directory
    return "-" if finding is None else (finding.cause or finding.status).value


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _path(verdict: Verdict) -> str:
    return " < ".join(entry.fingerprint[:16] for entry in verdict.evidence.path) or "-"
