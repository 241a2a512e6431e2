"""
What the doctor found: values, their order, and the exit status. No I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import field
from types import MappingProxyType

from cftpki_ext.core.values import dataclass

Fact = str | int | bool | None


class Level(enum.IntEnum):
    """
    How bad it is: `FAIL` refuses partners or keeps the service down, `WARN` soon will or costs time.
    """

    OK = 0
    NOTE = 1
    WARN = 2
    FAIL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that was looked at.

    `about` is a section of the configuration, `check` what was looked at there, `action` what to do (empty where
    nothing is), `facts` what was measured, by names that stay.
    """

    level: Level
    about: str
    check: str
    detail: str
    action: str = ""
    facts: Mapping[str, Fact] = field(default_factory=lambda: MappingProxyType({}))


def exit_status(findings: Iterable[Finding]) -> int:
    """
    0 where nothing would refuse partners, else 1.
    """
    return int(any(finding.level is Level.FAIL for finding in findings))
