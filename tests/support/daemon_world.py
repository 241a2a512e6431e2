"""
A daemon on a real unix socket, with a checker that says what the test wants.
"""

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cftpki_ext.core.verdict import Evidence, Reason, Status, Verdict
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.evidence.in_thread import InThread
from cftpki_ext.evidence.writer import EvidenceWriter
from cftpki_ext.identity.serving.files import FileIdentities
from cftpki_ext.identity.serving.local import LocalKeys
from cftpki_ext.protocol.codec import Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.service.audit import LogAudit
from cftpki_ext.service.daemon import Daemon
from cftpki_ext.service.judging.here import Here
from cftpki_ext.service.shared import Service
from tests.support import pki
from tests.support.evidence_store import MemoryEvidence
from tests.support.logs import CapturedLog
from tests.support.wire_client import WireClient

ROOT = pki.make_root("CN=Partners Root,O=Example")
OTHER_ROOT = pki.make_root("Other Root")
ISSUING = pki.issue(ROOT, "Issuing", ca=True)
MFT = pki.issue(ISSUING, "mft", kind="rsa")
CHAIN = encode_chain([b"leaf", b"ca"])
ANSWER_S = 5
REPOSITORY = Path(__file__).resolve().parents[2]


class SystemClock:
    def now(self):
        return datetime.now(UTC)

    def monotonic(self):
        return time.monotonic()


class Checker:
    """Accepts, unless the leaf's bytes ask for something else."""

    def __init__(self):
        self.questions = []
        self.release = asyncio.Event()
        self.entered = asyncio.Event()

    async def check_with_statements(self, question, handed_in=()):
        return self.judge(question, await self.arrive(question, handed_in)), tuple(handed_in)

    async def arrive(self, question, handed_in):
        self.questions.append((question, tuple(handed_in)))
        leaf = question.chain[0] if question.chain else b""
        if leaf == b"raise":
            msg = "the checker fell over"
            raise RuntimeError(msg)
        if leaf == b"wait":
            self.entered.set()
            await self.release.wait()
        return leaf

    def judge(self, question, leaf):
        if not leaf:
            return conclude(examine(question), (), verdict_id="0" * 32)
        reason = {b"revoked": Reason.REVOKED, b"expired": Reason.EXPIRED}.get(leaf)
        return Verdict(
            id=hashlib.md5(leaf, usedforsecurity=False).hexdigest(),
            status=Status.REFUSED if reason else Status.ACCEPTED,
            reason=reason,
            alert={Reason.REVOKED: 44, Reason.EXPIRED: 45}.get(reason, 0),
            summary="as the test wants",
            evidence=Evidence(
                decided_at=question.at,
                rule=question.rule,
                trust=question.trust.name,
                policy=question.trust.policy.name,
                direction=question.direction,
            ),
        )


class World:
    """One running daemon and what a test may look at."""

    def __init__(self, settings, **options):
        self.logs = CapturedLog()
        logger = self.logs
        self.settings = settings
        self.evidence = MemoryEvidence()
        self.checker = Checker()
        self.keys = LocalKeys(settings.service.state)
        self.identities = FileIdentities(
            settings.identities, keys=self.keys, warning=logger.warning, info=logger.info
        )
        self.service = Service(
            settings=settings,
            checker=Here(self.checker),
            identities=self.identities,
            audit=LogAudit(logger),
            keeper=EvidenceWriter(
                InThread(self.evidence),
                settings=lambda: self.service.settings.evidence,
                log=logger,
                clock=SystemClock(),
            ),
            log=logger,
            clock=SystemClock(),
        )
        self.daemon = Daemon(self.service, environ=options.pop("environ", {}), **options)

    @property
    def path(self):
        return self.settings.service.socket

    def client(self):
        return WireClient(self.path)

    def events(self):
        return [call.kwargs["event"] for call in self.logs.calls]

    async def until(self, condition):
        async with asyncio.timeout(ANSWER_S):
            while not condition():  # noqa: ASYNC110 - counters and log lines have no event to wait for
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(settings, **options):
    world = World(settings, **options)
    task = asyncio.create_task(world.daemon.run(owns_process=False))
    ready = asyncio.create_task(world.daemon.ready.wait())
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        async with asyncio.timeout(30):
            if not task.done():
                yield world
    finally:
        world.checker.release.set()
        world.daemon.stop()
        await task
        world.keys.close()


def service_with(settings, **changes):
    return replace(settings, service=replace(settings.service, **changes))


def result(frame):
    return Result(frame.number(Tag.RESULT))
