"""
The daemon through a real unix socket, with a checker that says what the test wants.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import asyncio
import hashlib
import json
import os
import resource
import signal
import socket
import stat
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest
import structlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.settings import Identity, Limits, Rule, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.verdict import Evidence, Reason, Status, Verdict
from cftpki_ext.core.vocabulary import Direction, Phase
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.evidence.writer import EvidenceWriter, InThread
from cftpki_ext.identity.serving.files import FileIdentities
from cftpki_ext.identity.serving.local import LocalKeys
from cftpki_ext.protocol.codec import HEADER, MAX_PAYLOAD, VERSION, Frame, Message, Result, Tag, encode
from cftpki_ext.protocol.tls_vectors import decode_ca_list, decode_chain, encode_ca_list, encode_chain
from cftpki_ext.service.audit import LogAudit
from cftpki_ext.service.daemon import Daemon
from cftpki_ext.service.judging.here import Here
from cftpki_ext.service.listener import ListenError, listen
from cftpki_ext.service.shared import Service
from cftpki_ext.service.systemd import ActivationError
from tests.support import pki
from tests.support.evidence_store import MemoryEvidence
from tests.support.wire_client import WireClient

ROOT = pki.make_root("CN=Partners Root,O=Example")
OTHER_ROOT = pki.make_root("Other Root")
ISSUING = pki.issue(ROOT, "Issuing", ca=True)
MFT = pki.issue(ISSUING, "mft", kind="rsa")
CHAIN = encode_chain([b"leaf", b"ca"])
ANSWER_S = 5
REPOSITORY = Path(__file__).resolve().parents[3]


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
        self.logs = structlog.testing.CapturingLogger()
        logger = structlog.wrap_logger(self.logs, processors=[])
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


@pytest.fixture
def settings(tmp_path):
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(MFT.pem + ISSUING.pem)
    key.write_bytes(MFT.key_pem)
    key.chmod(0o600)
    return Settings(
        service=ServiceSettings(socket=tmp_path / "s", state=tmp_path / "state"),
        trusts=MappingProxyType(
            {"partners": TrustSet(name="partners", anchors=(ROOT.der, OTHER_ROOT.der, ROOT.der))}
        ),
        identities=MappingProxyType({"mft": Identity(name="mft", chain_file=chain, key_file=key)}),
        rules=(
            Rule(name="in", direction=Direction.SERVER, trust="partners", identity="mft"),
            Rule(name="out", direction=Direction.CLIENT, trust="partners", identity="mft"),
        ),
    )


def service_with(settings, **changes):
    return replace(settings, service=replace(settings.service, **changes))


@pytest.fixture
async def world(settings):
    async with running(settings) as started:
        yield started


def result(frame):
    return Result(frame.number(Tag.RESULT))


# Whole sessions


async def test_server_session_from_start_task_to_end_task(world):
    async with world.client() as once:
        started = await once.ask(Message.START_TASK, HOST_TASK=1)
    task = started.number(Tag.TASK)
    async with world.client() as client:
        assert "in" == (await client.start(TASK=task)).text(Tag.RULE)
        certificate = await client.ask(Message.GET_CERTIFICATE)
        chain = decode_chain(certificate.raw(Tag.CHAIN), max_bytes=65536, max_certificates=10)
        assert (MFT.der, ISSUING.der) == chain
        names = decode_ca_list((await client.ask(Message.GET_CA_LIST)).raw(Tag.CA_LIST))
        assert (ROOT.name.public_bytes(), OTHER_ROOT.name.public_bytes()) == names
        digest = hashlib.sha256(b"params").digest()
        signed = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=digest)
        MFT.key.public_key().verify(
            signed.raw(Tag.CRYPT_OUTPUT), b"params", padding.PKCS1v15(), hashes.SHA256()
        )
        checked = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN, STAPLE=b"staple")
        assert Result.DONE is result(checked)
        area = (await client.ask(Message.HANDSHAKE_DONE, TLS_MIN=0x0303)).raw(Tag.GLOBAL_AREA)
        assert bytes.fromhex(checked.text(Tag.VERDICT_ID)) == area[8:24]
        session = client.session
    async with world.client() as once:
        assert Result.DONE is result(await once.ask(Message.END_SESSION, SESSION=session))
        assert Result.DONE is result(await once.ask(Message.END_TASK, TASK=task))
    question, handed_in = world.checker.questions[0]
    assert ((b"leaf", b"ca"), "in", Direction.SERVER) == (question.chain, question.rule, question.direction)
    assert [(b"staple", 0)] == [(statement.raw, statement.depth) for statement in handed_in]
    await world.until(lambda: world.service.sessions == 0)
    assert "session_lost" not in world.events()
    done, ended = (
        next(call.kwargs for call in world.logs.calls if call.kwargs["event"] == event)
        for event in ("handshake_done", "end_session")
    )
    assert done["session_ref"] == ended["session_ref"]
    assert not any(str(session) in repr(call) or f"{session:x}" in repr(call) for call in world.logs.calls)


@pytest.mark.parametrize(("leaf", "alert"), [(b"revoked", 44), (b"expired", 45)])
async def test_refused_partner_carries_alert_reason_id_and_ends_the_session(world, leaf, alert):
    async with world.client() as client:
        await client.start()
        refused = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([leaf]))
        assert (Result.REFUSED, alert, leaf.decode()) == (
            result(refused),
            refused.number(Tag.ALERT),
            refused.text(Tag.REASON),
        )
        assert "as the test wants" == refused.text(Tag.DETAIL)
        assert 32 == len(refused.text(Tag.VERDICT_ID))
        assert Result.FAILED is result(await client.ask(Message.HANDSHAKE_DONE))
        assert Result.DONE is result(await client.ask(Message.HANDSHAKE_ALERT, ALERT=alert, ALERT_SIDE=1))


@pytest.mark.parametrize(
    ("ca_list", "sent"),
    [
        (None, True),
        (encode_ca_list([]), True),
        (encode_ca_list([b"0\0"]), False),
        (encode_ca_list([pki.name("CN=partners  ROOT,O=example").public_bytes()]), True),
        (encode_ca_list([OTHER_ROOT.name.public_bytes()]), False),
    ],
)
async def test_client_mode_sends_a_chain_only_to_a_server_that_accepts_its_ca(world, ca_list, sent):
    async with world.client() as client:
        await client.start(MODE=2)
        fields = {} if ca_list is None else {"CA_LIST": ca_list}
        answer = await client.ask(Message.GET_CERTIFICATE, **fields)
        assert (Result.DONE, sent) == (result(answer), answer.raw(Tag.CHAIN) != b"\0\0\0")
        signed = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=bytes(32))
        assert (Result.DONE if sent else Result.FAILED) is result(signed)


async def test_client_mode_garbled_ca_list_fails(world):
    async with world.client() as client:
        await client.start(MODE=2)
        answer = await client.ask(Message.GET_CERTIFICATE, CA_LIST=b"\1\1\0")
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))


async def test_crypt_data_refuses_what_is_no_hash(world):
    async with world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0, CRYPT_INPUT=b"\0\2" + bytes(254))
        assert Result.FAILED is result(answer)
        assert "neither MD5 and SHA-1 nor a DigestInfo" in answer.text(Tag.DETAIL)


@pytest.mark.parametrize("allowed", [True, False])
async def test_crypt_data_hands_the_key_over_only_where_allowed(settings, allowed):
    identity = replace(settings.identities["mft"], hand_over_key=allowed)
    async with running(replace(settings, identities={"mft": identity})) as world, world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=bytes(32))
        assert allowed == (answer.raw(Tag.CRYPT_KEY) is not None)
        assert allowed != (answer.raw(Tag.CRYPT_OUTPUT) is not None)
        if allowed:
            key = serialization.load_der_private_key(answer.raw(Tag.CRYPT_KEY), None)
            assert MFT.key.private_numbers() == key.private_numbers()
        assert "PRIVATE" not in repr(world.logs.calls)


async def test_crypt_data_signs_with_the_generation_that_was_presented(world, settings):
    new = pki.issue(ISSUING, "mft", kind="rsa")
    async with world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        settings.identities["mft"].chain_file.write_bytes(new.pem)
        settings.identities["mft"].key_file.write_bytes(new.key_pem)
        assert 2 == (await world.identities.current("mft")).generation
        digest = hashlib.sha256(b"m").digest()
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=digest)
        MFT.key.public_key().verify(answer.raw(Tag.CRYPT_OUTPUT), b"m", padding.PKCS1v15(), hashes.SHA256())


async def test_identities_are_loaded_before_the_first_handshake(world):
    assert ["identity_loaded", "listening"] == world.events()


async def test_service_with_an_unusable_identity_starts_and_says_so(settings):
    settings.identities["mft"].key_file.write_bytes(b"broken")
    async with running(settings) as world, world.client() as client:
        assert ["identity_not_loaded", "listening"] == world.events()
        assert Result.DONE is result(await client.start())


async def test_get_certificate_with_unusable_key_fails_with_80_and_names_the_file_in_the_log_only(
    world, settings
):
    settings.identities["mft"].key_file.chmod(0o644)
    world.identities.replace({})
    world.identities.replace(settings.identities)
    async with world.client() as client:
        await client.start()
        answer = await client.ask(Message.GET_CERTIFICATE)
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
        assert "key.pem" not in answer.text(Tag.DETAIL)
        logged = next(call.kwargs for call in world.logs.calls if call.kwargs["event"] == "call_failed")
        assert logged["reference"] in answer.text(Tag.DETAIL)
        assert "key.pem has mode 0644" in logged["detail"]
        assert "traceback" not in logged


async def test_get_ca_list_of_more_names_than_it_can_hold_fails_and_says_why(settings):
    anchors = tuple(
        pki.make_root(f"CN=Root {n},O={'o' * 64},OU={'u' * 64}", private=pki.key()).der for n in range(450)
    )
    trusts = {"partners": TrustSet(name="partners", anchors=anchors)}
    async with running(replace(settings, trusts=trusts)) as world:
        async with world.client() as client:
            await client.start()
            assert Result.FAILED is result(await client.ask(Message.GET_CA_LIST))
        assert "does not fit a length of 2 bytes" in repr(world.logs.calls)
    trusts = {"partners": TrustSet(name="partners", anchors=anchors[:200])}
    async with running(replace(settings, trusts=trusts)) as world, world.client() as client:
        await client.start()
        assert 200 == len(decode_ca_list((await client.ask(Message.GET_CA_LIST)).raw(Tag.CA_LIST)))


async def test_start_task_returns_the_datafile_password(settings, tmp_path):
    secret = tmp_path / "password"
    secret.write_bytes(b"open sesame\n")
    async with (
        running(service_with(settings, datafile_password_file=secret)) as world,
        world.client() as client,
    ):
        assert b"open sesame" == (await client.ask(Message.START_TASK, HOST_TASK=1)).raw(Tag.PASSWORD)
        secret.write_bytes(b"x" * 129)
        assert Result.FAILED is result(await client.ask(Message.START_TASK, HOST_TASK=1))
        secret.unlink()
        assert Result.FAILED is result(await client.ask(Message.START_TASK, HOST_TASK=1))
        assert "sesame" not in repr(world.logs.calls)


async def test_rule_that_leaves_a_phase_to_the_host_is_honoured(settings):
    rules = (replace(settings.rules[0], not_handled=frozenset({Phase.CHECK_CERTIFICATE})),)
    async with running(replace(settings, rules=rules)) as world, world.client() as client:
        await client.start()
        assert Result.NOT_HANDLED is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert [] == world.checker.questions


async def test_session_number_of_another_connection_is_refused(world):
    async with world.client() as one, world.client() as two:
        await one.start()
        await two.start()
        assert one.session != two.session
        two.session = one.session
        assert Result.FAILED is result(await two.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert Result.DONE is result(await one.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_message_outside_sessions_leaves_the_connections_session_as_it_is(world):
    async with world.client() as client:
        await client.start()
        await client.ask(Message.START_TASK, HOST_TASK=1)
        await client.ask(Message.STATUS)
        assert Result.DONE is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert 1 == world.service.sessions


# Many, slow, and broken


async def test_two_hundred_sessions_at_once_get_each_their_own_answer(world):
    async def one(number):
        leaf = b"revoked" if number % 2 else b"good %d" % number
        async with world.client() as client:
            await client.start()
            answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([leaf]))
            expected = hashlib.md5(leaf, usedforsecurity=False).hexdigest()
            assert expected == answer.text(Tag.VERDICT_ID)
            return result(answer)

    results = await asyncio.gather(*(one(number) for number in range(200)))
    assert [Result.REFUSED if n % 2 else Result.DONE for n in range(200)] == results
    await world.until(lambda: world.service.sessions == 0)


async def test_slow_call_does_not_hold_up_another_session(world):
    async with world.client() as slow, world.client() as quick:
        await slow.start()
        await quick.start()
        waiting = asyncio.create_task(slow.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"wait"])))
        await world.checker.entered.wait()
        assert Result.DONE is result(await quick.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))
        assert not waiting.done()
        world.checker.release.set()
        assert Result.DONE is result(await waiting)


async def test_call_past_its_deadline_fails_with_80_and_never_accepts_later(settings):
    async with running(replace(settings, limits=Limits(budget_ms=1))) as world, world.client() as client:
        await client.start()
        answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"wait"]))
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
        world.checker.release.set()
        assert Result.FAILED is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_exception_in_the_checker_fails_with_80_and_a_reference_to_the_log(world):
    async with world.client() as client:
        await client.start()
        answer = await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"raise"]))
        assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
        assert "fell over" not in answer.text(Tag.DETAIL)
        logged = next(call.kwargs for call in world.logs.calls if call.kwargs["event"] == "call_failed")
        assert logged["reference"] in answer.text(Tag.DETAIL)
        assert "the checker fell over" in logged["traceback"]
        assert Result.FAILED is result(await client.ask(Message.HANDSHAKE_DONE))
    async with world.client() as client:
        await client.start()
        assert Result.DONE is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_audit_trail_that_cannot_write_accepts_nobody(world, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.service.audit, "verdict", full)
    async with world.client() as client:
        await client.start()
        assert Result.FAILED is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


async def test_lost_connection_frees_its_session(world):
    async with world.client() as client:
        await client.start()
        assert 1 == world.service.sessions
    await world.until(lambda: world.service.sessions == 0)
    assert "session_lost" in world.events()


async def test_max_sessions_more_is_a_clear_failure_and_room_comes_back(settings):
    async with running(service_with(settings, max_sessions=1)) as world:
        async with world.client() as one, world.client() as two:
            assert Result.DONE is result(await one.start())
            answer = await two.start()
            assert (Result.FAILED, 80) == (result(answer), answer.number(Tag.ALERT))
            assert "service.max_sessions" in answer.text(Tag.DETAIL)
        await world.until(lambda: world.service.sessions == 0)
        async with world.client() as three:
            assert Result.DONE is result(await three.start())


TASK_FRAME = encode(Frame(message=Message.END_TASK, response=False, sequence=3, fields={Tag.TASK: 1}))


@pytest.mark.parametrize(
    ("raw", "sequence", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 0, "does not start with b'CP'"),
        (bytes(64), 0, "does not start with"),
        (HEADER.pack(b"CP", VERSION, 99, 6, 0), 0, "unknown message 99"),
        (HEADER.pack(b"CP", VERSION, 1, 6, MAX_PAYLOAD + 1), 0, f"{MAX_PAYLOAD} allowed"),
        (HEADER.pack(b"CP", VERSION, 5, 6, 16 * 1024 * 1024), 0, f"{MAX_PAYLOAD} allowed"),
        (HEADER.pack(b"CP", 9, 1, 6, 0), 6, f"version 9, this side speaks version {VERSION}"),
        (HEADER.pack(b"CP", VERSION, 0x8A, 6, 0), 6, "END_TASK response where a request is expected"),
        (HEADER.pack(b"CP", VERSION, 10, 6, 3) + b"abc", 6, "ends inside a field's head"),
    ],
)
async def test_unreadable_frame_is_answered_once_and_the_connection_closed(world, raw, sequence, words):
    async with world.client() as client:
        await client.send(raw)
        answer = await client.receive()
        assert (Message.UNREADABLE, Result.FAILED, 80, sequence) == (
            answer.message,
            result(answer),
            answer.number(Tag.ALERT),
            answer.sequence,
        )
        assert words in answer.text(Tag.DETAIL)
        assert await client.closed()
    async with world.client() as client:
        assert Result.DONE is result(await client.ask(Message.STATUS))


async def test_frame_in_single_bytes_is_read(world):
    async with world.client() as client:
        for value in TASK_FRAME:
            await client.send(bytes([value]))
        assert Result.DONE is result(await client.receive())


async def test_two_frames_in_one_write_are_answered_in_order(world):
    async with world.client() as client:
        await client.send(TASK_FRAME + TASK_FRAME)
        assert [3, 3] == [(await client.receive()).sequence for _ in range(2)]


async def test_half_a_frame_is_given_up(settings):
    async with running(settings, frame_s=0.05) as world, world.client() as client:
        await client.send(TASK_FRAME[:-1])
        assert await client.closed()


async def test_idle_connection_is_closed_and_its_session_freed(settings):
    async with running(settings, idle_s=0.05) as world, world.client() as client:
        await client.start()
        assert await client.closed()
        await world.until(lambda: world.service.sessions == 0)


# Outside sessions


async def test_check_tells_the_whole_verdict(world):
    async with world.client() as client:
        good = await client.ask(Message.CHECK, MODE=1, CHAIN=CHAIN)
        assert (Result.DONE, "in", "strict") == (result(good), good.text(Tag.RULE), good.text(Tag.POLICY))
        assert "accepted" == json.loads(good.text(Tag.JSON))["status"]
        bad = await client.ask(Message.CHECK, MODE=2, CHAIN=encode_chain([b"revoked"]))
        assert (Result.REFUSED, 44, "out") == (result(bad), bad.number(Tag.ALERT), bad.text(Tag.RULE))
        assert "revoked" == json.loads(bad.text(Tag.JSON))["reason"]
        none = await client.ask(Message.CHECK, MODE=1, CHAIN=b"\0\0\0")
        assert (Result.REFUSED, 40) == (result(none), none.number(Tag.ALERT))
        cut = await client.ask(Message.CHECK, MODE=1, CHAIN=b"\0\0\1")
        assert (Result.REFUSED, 50) == (result(cut), cut.number(Tag.ALERT))


async def test_status_counts(world):
    async with world.client() as client:
        await client.start()
        status = json.loads((await client.ask(Message.STATUS)).text(Tag.JSON))
    assert (1, {"start_handshake": 1, "status": 1}, ["in", "out"]) == (
        status["sessions"],
        status["requests"],
        status["rules"],
    )


# Who may speak, and where


@pytest.mark.parametrize(
    ("uid", "allowed"), [(0, True), (os.geteuid(), True), (4242, True), (4243, False), (65534, False)]
)
async def test_peer_of_another_user_is_refused_unless_configured(settings, uid, allowed):
    async with running(service_with(settings, allow_users=(4242,)), peer_uid=lambda _: uid) as world:
        async with world.client() as client:
            if allowed:
                assert Result.DONE is result(await client.ask(Message.STATUS))
                return
            answer = await client.receive()
            assert (Message.UNREADABLE, Result.FAILED) == (answer.message, result(answer))
            assert f"user {uid} may not use this service" in answer.text(Tag.DETAIL)
            assert await client.closed()
        assert not world.service.requests


async def test_peer_uid_is_the_kernels(settings):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    script = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdout.buffer.write(s.recv(4096))\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        open_to_all = Path(directory)
        os.chmod(directory, 0o755)  # noqa: PTH101, S103 - another user must reach it
        async with running(service_with(settings, socket=open_to_all / "s")) as world:
            world.path.chmod(0o666)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, str(world.path), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert b"user 65534 may not use this service" in out


async def test_socket_is_for_owner_and_group_and_goes_away_at_the_end(settings):
    async with running(settings) as world:
        mode = world.path.lstat().st_mode
        assert (True, 0o660) == (stat.S_ISSOCK(mode), stat.S_IMODE(mode))
    assert not settings.service.socket.exists()


async def test_second_daemon_on_one_path_is_refused_and_the_first_goes_on(settings):
    async with running(settings) as world:
        with pytest.raises(ListenError, match="another cftpki service holds"):
            async with running(settings):
                pass
        async with world.client() as client:
            assert Result.DONE is result(await client.ask(Message.STATUS))


async def test_dead_socket_is_replaced(settings):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.service.socket))
    async with running(settings) as world, world.client() as client:
        assert Result.DONE is result(await client.ask(Message.STATUS))


def test_listen_living_socket_of_another_program_is_left_alone(settings):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(settings.service.socket))
        other.listen()
        with pytest.raises(ListenError, match="is served by another process"):
            listen(settings.service.socket)
    assert settings.service.socket.exists()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_listen_path_that_is_no_socket_is_left_alone(settings, make):
    make(settings.service.socket)
    with pytest.raises(ListenError, match="is not a socket and is left alone"):
        listen(settings.service.socket)
    assert settings.service.socket.exists()


def test_listen_without_directory_or_with_too_long_a_path_is_an_error(tmp_path):
    with pytest.raises(ListenError, match=r"directory .*none does not exist"):
        listen(tmp_path / "none" / "s")
    with pytest.raises(ListenError, match="longer than the 107 bytes"):
        listen(tmp_path / ("s" * 107))


def test_release_leaves_a_socket_that_is_not_ours(settings):
    path = settings.service.socket
    first = listen(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        first.release()
        assert path.exists()


# Stop and reload


async def test_stop_finishes_the_call_under_way_and_closes_idle_connections(settings):
    async with running(settings) as world, world.client() as busy, world.client() as idle:
        await busy.start()
        await idle.ask(Message.STATUS)
        waiting = asyncio.create_task(busy.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"wait"])))
        await world.checker.entered.wait()
        world.daemon.stop()
        assert await idle.closed()
        assert not waiting.done()
        world.checker.release.set()
        assert Result.DONE is result(await waiting)
        assert await busy.closed()


async def test_reload_takes_new_rules_and_keeps_the_old_on_a_fault(settings):
    answers = iter([replace(settings, rules=settings.rules[:1]), ConfigError(("line 3: nonsense",))])

    def reload():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with running(settings, reload=reload) as world:
        async with world.client() as client:
            assert Result.DONE is result(await client.start(MODE=2))
        await world.daemon.reload()
        async with world.client() as client:
            assert Result.REFUSED is result(await client.start(MODE=2))
        await world.daemon.reload()
        assert "reload_failed" in world.events()
        async with world.client() as client:
            assert Result.DONE is result(await client.start())


# systemd


async def test_readiness_and_stop_are_told_to_the_manager(settings, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(ANSWER_S)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        async with running(settings, environ=environ):
            assert b"READY=1\nSTATUS=answering" == manager.recv(200)
            assert b"WATCHDOG=1" == await asyncio.to_thread(manager.recv, 200)
        assert manager.recv(200).startswith(b"STOPPING=1")


async def test_manager_that_is_gone_does_not_matter(settings, tmp_path):
    environ = {"NOTIFY_SOCKET": str(tmp_path / "gone")}
    async with running(settings, environ=environ) as world, world.client() as client:
        assert Result.DONE is result(await client.ask(Message.STATUS))


@pytest.mark.parametrize("count", ["0", "2", "x"])
async def test_activation_with_other_than_one_socket_is_an_error(settings, count):
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    with pytest.raises(ActivationError, match=f"{count} sockets were handed over"):
        async with running(settings, environ=environ):
            pass


# A process of its own

PROGRAM = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from types import MappingProxyType
import os, socket
from cftpki_ext.core.settings import ServiceSettings, Settings, TrustSet, Rule
from cftpki_ext.core.vocabulary import Direction
from tests.real.service.test_daemon import World

if sys.argv[3] == "inherit":
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = "1"
settings = Settings(
    service=ServiceSettings(socket=Path(sys.argv[1])),
    trusts=MappingProxyType({"partners": TrustSet(name="partners", anchors=())}),
    rules=(Rule(name="in", direction=Direction.SERVER, trust="partners"),),
)

async def main():
    world = World(settings, environ=os.environ)
    running = asyncio.create_task(world.daemon.run())
    await world.daemon.ready.wait()
    print("ready", flush=True)
    await running
    print("stopped", flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def process(path, mode="bind", **options):
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(path),
        str(REPOSITORY),
        mode,
        stdout=asyncio.subprocess.PIPE,
        **options,
    )
    try:
        assert b"ready\n" == await started.stdout.readline()
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


@pytest.mark.real
async def test_process_killed_in_mid_session_loses_it_and_the_next_starts_clean(tmp_path):
    path = tmp_path / "s"
    async with process(path) as first, WireClient(path) as client:
        await client.start()
        request = {Tag.SESSION: client.session, Tag.CHAIN: encode_chain([b"wait"])}
        await client.send(
            encode(Frame(message=Message.CHECK_CERTIFICATE, response=False, sequence=2, fields=request))
        )
        first.kill()
        assert await client.closed()
        session = client.session
    assert path.exists()
    async with process(path):
        async with WireClient(path) as client:
            answer = await client.ask(Message.CHECK_CERTIFICATE, SESSION=session, CHAIN=CHAIN)
            assert Result.FAILED is result(answer)
        async with WireClient(path) as client:
            assert Result.DONE is result(await client.start())
            assert Result.DONE is result(await client.ask(Message.CHECK_CERTIFICATE, CHAIN=CHAIN))


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_told_to_stop_leaves_cleanly(tmp_path, number):
    async with process(tmp_path / "s") as started, WireClient(tmp_path / "s") as client:
        await client.start()
        started.send_signal(number)
        assert b"stopped\n" == await started.stdout.readline()
        assert 0 == await started.wait()
        assert await client.closed()
    assert not (tmp_path / "s").exists()


@pytest.mark.real
async def test_process_dumps_no_core_and_survives_sighup_without_configuration_file(tmp_path):
    async with process(tmp_path / "s") as started:
        assert (0, 0) == resource.prlimit(started.pid, resource.RLIMIT_CORE)
        started.send_signal(signal.SIGHUP)
        async with WireClient(tmp_path / "s") as client:
            assert Result.DONE is result(await client.ask(Message.STATUS))


@pytest.mark.real
async def test_process_with_inherited_socket_serves_it_and_leaves_it(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        # As systemd does: the socket is file descriptor 3 of the new process.
        shell = f'exec 3<&{listening.fileno()}; exec "$@"'
        started = await asyncio.create_subprocess_exec(
            "bash",
            *(
                "-c",
                shell,
                "bash",
                sys.executable,
                "-c",
                PROGRAM,
                str(tmp_path / "unused"),
                str(REPOSITORY),
                "inherit",
            ),
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
        try:
            assert b"ready\n" == await started.stdout.readline()
            async with WireClient(path) as client:
                assert Result.DONE is result(await client.ask(Message.STATUS))
            started.terminate()
            assert b"stopped\n" == await started.stdout.readline()
        finally:
            if started.returncode is None:
                started.kill()
            await started.wait()
        assert path.exists()
        assert not (tmp_path / "unused").exists()
