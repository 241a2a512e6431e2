"""
What all connections share: settings, checker, identities, audit trail, counters.

Owns the service's own state, and the change to a new configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Tally
from cftpki_ext.evidence.writer import EvidenceWriter
from cftpki_ext.identity import IdentityProvider
from cftpki_ext.ports.clock import Clock
from cftpki_ext.service.audit import AuditSink
from cftpki_ext.service.judging.remote import Judged
from cftpki_ext.service.known_checks import KnownChecks
from cftpki_ext.service.monitoring.exceptions import exceptions_of
from cftpki_ext.service.monitoring.measures import Measures
from cftpki_ext.service.monitoring.reloads import Reloads
from cftpki_ext.service.monitoring.sources import SourceStates
from cftpki_ext.service.trail import Trail
from cftpki_ext.support.version import version

# A login and a probe of the slowest token that serves handshakes at all; systemd waits for 90 s.
WARM_S = 15.0


class Checker(Protocol):
    """
    Judges chains (`cftpki_ext.service.judging.remote.Judges`, or `Here`).
    """

    async def judge(
        self, question: Question, handed_in: Sequence[Statement] = (), *, asked: Asked | None = None
    ) -> Judged:
        """
        Judge one chain, and give the statements that the verdict rests on.
        """

    def recorded(self, judged: Judged, question: Question, *, kept: bool) -> None:
        """
        What became of the record of a verdict.
        """

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration.
        """

    def status(self) -> Mapping[str, object]:
        """
        What waits, for STATUS.
        """


class Board(Protocol):
    """
    What hosts answer by themselves (`cftpki_ext.service.board.driver.VerdictBoard`).
    """

    @property
    def format(self) -> int:
        """
        The format of the board that hosts can have now; 0: none.
        """

    def hand_out(self) -> int | None:
        """
        A descriptor of the board in force, the caller's to close; `None`: there is none any more.
        """

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration: from now on, nothing of the old one is answered.
        """

    def status(self) -> dict[str, Any]:
        """
        For STATUS.
        """

    async def begin(self) -> None:
        """
        Begin: the service's socket is ours.
        """

    async def aclose(self) -> None:
        """
        End as the service does: known partners go on until their entries end.
        """


class Service:
    """
    What all conversations share: settings, checker, identities, audit trail, counters. For one event loop.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        checker: Checker,
        identities: IdentityProvider,
        audit: AuditSink,
        keeper: EvidenceWriter,
        log: Log,
        clock: Clock,
        certificates: Callable[[], Mapping[str, object]] = dict,
        renewals: Callable[[], str | None] = lambda: None,
        processes: Callable[[], Sequence[Mapping[str, object]]] = tuple,
        refresh: Callable[[], Mapping[str, object]] = dict,
        blocks: Callable[[], Mapping[str, object]] = dict,
        notify: Callable[[], Mapping[str, object]] = dict,
        sources: SourceStates | None = None,
        cluster: Callable[[], Mapping[str, object] | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.checker = checker
        self.identities = identities
        self.audit = audit
        self.keeper = keeper
        self.log = log
        self.clock = clock
        self.requests: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.verdicts = Tally()
        self.measures = Measures()
        self.reloads = Reloads()
        self.trail = Trail(audit, clock)
        self.sessions = 0
        self.board: Board | None = None
        # Who goes by the configuration besides; each is told once those before it have taken another one over.
        self.followers: tuple[Callable[[Settings], None], ...] = ()
        self.known_checks = KnownChecks()
        self._certificates = certificates
        self._renewals = renewals
        self._processes = processes
        self._refresh = refresh
        self._blocks = blocks
        self._notify = notify
        self._cluster = cluster
        self._sources = SourceStates(log, clock, settings) if sources is None else sources
        self._started = clock.monotonic()
        # Of what runs, whatever is installed over it meanwhile.
        self._version = version()

    def status(self) -> dict[str, object]:
        """
        The service's own state, for STATUS.

        Returns:
            Plain data: version, seconds since start, open sessions, counters, names of what is configured.

        """
        judging = dict(self.checker.status())
        return {
            "version": self._version,
            "pid": os.getpid(),
            "uptime_s": int(self.clock.monotonic() - self._started),
            "sessions": self.sessions,
            "max_sessions": self.settings.service.max_sessions,
            "requests": dict(self.requests),
            "results": dict(self.results),
            "verdicts": self.verdicts.counts(),
            "evidence": self.keeper.status(),
            "rules": [rule.name for rule in self.settings.rules],
            "trusts": sorted(self.settings.trusts),
            "identities": sorted(self.settings.identities),
            "key_uses": self.trail.key_uses(),
            # Our child processes: each with its restarts, its queue, its memory, and what it cannot do.
            "processes": list(self._processes()),
            # Of each identity's signer: whether it can sign now, how many calls wait, what went wrong last.
            "signers": dict(self.identities.status()),
            # Where the answers were that checks looked for: in memory, on the disk, at another node, at their locations.
            "answers": judging.pop("answers", {}),
            "judging": judging,
            # Whose evidence is renewed ahead: what is next, what cannot be renewed, and which partners end soon.
            "refresh": dict(self._refresh()),
            # Partners that operators have shut out, and why that cannot be known.
            "blocks": dict(self._blocks()),
            # What hosts answer by themselves: entries, octets, who has it, what they told and what was lost.
            "board": self.board.status() if self.board is not None else None,
            # Of each identity: how it stands, until when it can live without a CA, and what troubles it.
            "certificates": dict(self._certificates()),
            # Why nobody renews them now; they are begun again by themselves.
            "renewals": {"running": self._renewals() is None, "fault": self._renewals()},
            # Of each location that was asked: whether it answers, since when, when it does so again, and why not.
            "sources": self._sources.status(),
            # Whom the configuration lets in for a while, and until when.
            "exceptions": exceptions_of(self.settings, self.clock.now()),
            # By rule, outcome, reason and tier; and how long it took.
            "measures": self.measures.status(),
            # Whether the configuration in force is the file as it is: a reload that failed changed nothing.
            "reloads": self.reloads.status(),
            # Of each receiver of notices: what it was told, and why it does not take the next.
            "notify": dict(self._notify()),
            # The server that nodes share: whether it answers, who is there, how far this node is behind; none, where there is no cluster.
            "cluster": self._cluster(),
        }

    async def warm(self) -> None:
        """
        Load every identity before the first handshake needs it; the provider logs those that cannot be used.

        Each by itself: a token that does not answer keeps nobody else waiting, and the service only `WARM_S`.
        """
        warming = [asyncio.create_task(self._warm(name)) for name in self.settings.identities]
        if warming:
            _, late = await asyncio.wait(warming, timeout=WARM_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*warming, return_exceptions=True)

    async def _warm(self, name: str) -> None:
        with contextlib.suppress(KeyUnavailableError):
            await self.identities.current(name)

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration: rules, trust sets, policies, limits and identities from the next call on.

        A session keeps the rule that it was matched by; the trust set of that rule is looked up anew.

        Args:
            settings: checked.

        Raises:
            Exception: whatever a part of the service could not do with it; all of it goes on with the old one.

        """
        old, board = self.settings, self.board
        parts: tuple[Callable[[Settings], None], ...] = (
            self.checker.replace_settings,
            lambda one: self.identities.replace(one.identities),
            self._sources.replace_settings,
            *(() if board is None else (board.replace_settings,)),
            *self.followers,
        )
        told = 0
        try:
            for told, part in enumerate(parts, 1):  # noqa: B007 - how many were told is asked below
                part(settings)
        except Exception:
            for part in reversed(parts[:told]):
                with contextlib.suppress(Exception):
                    part(old)
            raise
        self.settings = settings
