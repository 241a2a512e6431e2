"""
The child process that judges client certificates of the console, by the engine that judges partners.

It may ask the network, as the trust set allows, and keeps nothing: cache and memory of the service are not written.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cftpki_cache.memory import MemoryStore
from cftpki_cache.revocations import RevocationReader
from cftpki_ext.bootstrap.checker import SystemClock, kinds_of, make_sources
from cftpki_ext.bootstrap.configured import configured
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.errors import CftPkiError, InputError
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.question import Question
from cftpki_ext.processes.child import Attended, Handler
from cftpki_ext.processes.confine import MIB, Bounds, SystemCalls
from cftpki_ext.processes.frames import Message
from cftpki_ext.processes.worker import Role
from cftpki_ext.stores import open_blocks, revocation_reader

# One is judged while others wait; the budget of a handshake, and some time to begin.
ROLE = Role(
    name="console-judge",
    factory=f"{__name__}:make",
    bounds=Bounds(memory_bytes=2048 * MIB, descriptors=256, file_bytes=0, calls=SystemCalls.ANY),
    queue=16,
)
JUDGE_S = 20.0


def make(setup: Message) -> Handler | Attended:
    """
    Prepare to judge.

    Args:
        setup: `config`, the configuration file, and `trust`, the trust set.

    Returns:
        The handler: a chain as parts in; `accepted`, `subject` and `words` out.

    """
    config, name = Path(setup.value["config"]), str(setup.value["trust"])

    def judge(message: Message) -> Message:
        try:
            return Message(asyncio.run(_judged(config, name, message.parts)))
        except (CftPkiError, OSError) as error:
            return Message({"accepted": False, "subject": "", "words": f"it cannot be judged: {error}"})

    return judge


async def _judged(config: Path, name: str, chain: tuple[bytes, ...]) -> dict[str, Any]:
    settings = configured(config).settings
    if settings is None:
        msg = "the configuration has faults (cftpki config check)"
        raise InputError(msg)
    trust = settings.trusts.get(name)
    if trust is None:
        msg = f"there is no trust set {name!r} any more"
        raise InputError(msg)
    question = Question(
        chain=chain,
        direction=Direction.SERVER,
        trust=trust,
        limits=settings.limits,
        at=datetime.now(UTC),
        rule=None,
        blocks=open_blocks(settings.service).document(),
    )
    reader = revocation_reader(settings.service)
    checker = Checker(
        sources=make_sources(kinds_of((trust,))),
        store=MemoryStore(),
        clock=SystemClock(),
        proofs=None if reader is None else _Known(reader),
    )
    async with contextlib.aclosing(checker):
        verdict, _ = await checker.check_with_statements(question, remember=False)
    path = verdict.evidence.path
    # A policy that only audits lets everybody in: nobody is let in here whom it would refuse.
    accepted = verdict.accepted and not verdict.evidence.faults
    return {
        "accepted": accepted,
        "subject": path[0].subject if path else "",
        "words": "" if accepted else verdict.summary,
    }


class _Known:
    """
    The service's memory of revocations, of which this process only reads.
    """

    def __init__(self, reader: RevocationReader) -> None:
        self._reader = reader

    def recall(self, certificate: str) -> tuple[Statement, ...]:
        """
        See `ProofReader`.
        """
        return self._reader.recall(certificate)

    def holds(self, certificate: str, digest: str) -> bool:
        """
        See `ProofReader`.
        """
        return self._reader.holds(certificate, digest)

    def state(self) -> int:
        """
        See `ProofReader`.
        """
        return self._reader.state()

    def latest(self) -> datetime | None:
        """
        See `ProofReader`.
        """
        return self._reader.latest()

    def remember(self, certificate: str, statement: Statement) -> None:
        """
        Nothing: whoever keeps evidence remembers.
        """

    def close(self) -> None:
        """
        See `ProofReader`.
        """
        self._reader.close()
