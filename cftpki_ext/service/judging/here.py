"""
Judging in this process: for embedders and tests, which have no children.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked
from cftpki_ext.service.judging.remote import Judged


class _Checks(Protocol):
    async def check_with_statements(
        self, question: Question, handed_in: Sequence[Statement] = ()
    ) -> tuple[Verdict, tuple[Statement, ...]]: ...


class Here:
    """
    The service's `Checker` around one that judges in this process.
    """

    def __init__(self, checker: _Checks) -> None:
        self._checker = checker

    async def judge(
        self, question: Question, handed_in: Sequence[Statement] = (), *, asked: Asked | None = None
    ) -> Judged:
        """
        See `service.shared.Checker`.
        """
        del asked  # whoever keeps the record writes it
        verdict, statements = await self._checker.check_with_statements(question, handed_in)
        return Judged(verdict=verdict, statements=statements)

    def recorded(self, judged: Judged, question: Question, *, kept: bool) -> None:
        """
        See `service.shared.Checker`: nothing is given again.
        """
        del judged, question, kept

    def replace_settings(self, settings: Settings) -> None:
        """
        See `service.shared.Checker`: questions bring theirs.
        """
        del settings

    def status(self) -> Mapping[str, object]:
        """
        See `service.shared.Checker`.
        """
        return {}
