"""
libcftpkie.so as the host sees it: built alone, loaded by path, driven against services that behave and do not.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.errors import WireError
from cftpki_ext.protocol.codec import Frame, Message, Mode, Result, Tag, decode_header, decode_payload, encode
from tests.support.native_host import DONE, ERROR, NOT_HANDLED, ROOT, Pkicom, Session, Task, build_native
from tests.support.native_service import (
    CA_LIST,
    CHAIN,
    DEFAULTS,
    HANG_UP,
    FakeService,
    Reply,
    answer,
    refused,
)
from tests.support.native_service import NOT_HANDLED as NOT_HANDLED_FIELDS

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("native")]

HANDSHAKE = (
    Message.GET_CA_LIST,
    Message.GET_CERTIFICATE,
    Message.CHECK_CERTIFICATE,
    Message.CRYPT_DATA,
    Message.HANDSHAKE_DONE,
)
# The exit's deadline in tests of silent services, and what a call may take beyond it on a busy machine.
SHORT_MS = 300
SLACK_S = 2.0


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_native(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def library(build: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(build / "libcftpkie.so"), use_errno=True)


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own folders are too deep for a socket address.
    with TemporaryDirectory() as folder:
        monkeypatch.setenv("CFTPKI_SOCKET", f"{folder}/s")
        monkeypatch.setenv("CFTPKI_TIMEOUT_MS", "5000")
        monkeypatch.delenv("CFTPKI_UNREACHABLE", raising=False)
        yield Path(folder) / "s"


def begin(library: ctypes.CDLL, **options: int) -> Session:
    task = Task(library)
    assert task.start() == DONE
    session = Session(task, **options)
    assert session.start() == DONE
    return session


def descriptor_of(session: Session) -> int:
    # `fd` of struct session_record in native/exit/session_area.c.
    return int.from_bytes(bytes(session.private[44:48]), sys.byteorder, signed=True)


def descriptors() -> set[str]:
    # Once the folder is read, its own descriptor is closed and leads nowhere.
    return {entry.name for entry in list(Path("/proc/self/fd").iterdir()) if entry.is_symlink()}


# The file itself.


def test_library_exports_one_symbol_and_needs_libc_alone(build: Path) -> None:
    symbols = subprocess.check_output(["nm", "-D", "--defined-only", build / "libcftpkie.so"], text=True)
    dynamic = subprocess.check_output(["readelf", "-d", build / "libcftpkie.so"], text=True)
    assert ["cftpkie"] == [line.split()[-1] for line in symbols.splitlines()]
    assert 1 == dynamic.count("(NEEDED)")
    assert "libc.so.6" in dynamic
    assert "NODELETE" in dynamic
    assert "BIND_NOW" in dynamic
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic


def test_library_has_no_writable_data_of_its_own(build: Path) -> None:
    names = subprocess.check_output(["nm", build / "libcftpkie.so"], text=True).splitlines()
    own = [line.split()[-1] for line in names if line.split()[-2] in {"b", "B", "d", "D"}]
    assert [] == [name for name in own if not name.startswith(("_", "completed."))]  # the C start files' own


def test_unit_tests_and_fuzz_corpora_pass(build: Path) -> None:
    ctest = shutil.which("ctest", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    run = subprocess.run(
        [ctest, "--test-dir", build, "--output-on-failure", "-R", "^(test|corpus)_"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == run.returncode, run.stdout
    assert "No tests were found" not in run.stdout + run.stderr


# Sessions that go well.


def test_all_ten_phases_done(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path) as service:
        task = Task(library)
        assert DONE == task.start()
        assert 9 == task.pki.lTaskRef_w
        session = Session(task)
        session.pki.iClientAuth_w = 1
        assert DONE == session.start()
        assert 5 == session.pki.lSessionRef_w
        assert (DONE, CA_LIST) == (session.call(Message.GET_CA_LIST), session.out)
        session.give("pCaList", "uCaListLength", CA_LIST)
        assert (DONE, CHAIN) == (session.call(Message.GET_CERTIFICATE), session.out)
        session.give("pStaple", "uStapleLength", b"staple")
        assert (DONE, 0) == (session.check(CHAIN), session.alert)
        session.give("pCryptInput", "uCryptInputLength", b"digest")
        session.pki.uCryptScheme = 0x0804
        assert (DONE, b"signature") == (session.call(Message.CRYPT_DATA), session.out)
        assert 1 == session.pki.iCryptResult_w
        session.pki.usTlsNegotiated, session.pki.usSuiteNegotiated = 0x0304, 0x1301
        assert DONE == session.call(Message.HANDSHAKE_DONE)
        assert bytes(range(64)) == bytes(session.pki.aGlobalArea_w)
        assert -1 == descriptor_of(session)  # a transfer of hours holds no connection
        assert DONE == session.call(Message.END_SESSION)
        assert DONE == task.end()
        assert [1, 1, 2, 3, 4, 5, 6, 1, 1] == [frame.sequence for frame in service.frames]
        frames = {frame.message: frame.fields for frame in service.frames}
        assert list(frames) == [
            Message.START_TASK,
            Message.START_HANDSHAKE,
            *HANDSHAKE,
            Message.END_SESSION,
            Message.END_TASK,
        ]
    assert {
        Tag.TASK: 9,
        Tag.MODE: Mode.SERVER,
        Tag.PROFILE: "SSLPROF",
        Tag.REMOTE_ADDRESS: "192.0.2.7",
        Tag.REMOTE_PORT: 40000,
        Tag.LOCAL_PORT: 1762,
        Tag.TLS_MIN: 0x0303,
        Tag.TLS_MAX: 0x0304,
        Tag.SUITES: bytes.fromhex("1301c02f"),
        Tag.CLIENT_AUTH: 1,
        Tag.HOST_TASK: 77,
        Tag.HOST_SESSION: 3,
    } == frames[Message.START_HANDSHAKE]
    assert {Tag.SESSION: 5, Tag.CA_LIST: CA_LIST} == frames[Message.GET_CERTIFICATE]
    assert {Tag.SESSION: 5, Tag.CHAIN: CHAIN, Tag.STAPLE: b"staple"} == frames[Message.CHECK_CERTIFICATE]
    assert {Tag.SESSION: 5, Tag.CRYPT_SCHEME: 0x0804, Tag.CRYPT_INPUT: b"digest"} == frames[
        Message.CRYPT_DATA
    ]
    assert {Tag.SESSION: 5, Tag.TLS_MIN: 0x0304, Tag.SUITES: b"\x13\x01"} == frames[Message.HANDSHAKE_DONE]
    assert {Tag.SESSION: 5, Tag.TASK: 9} == frames[Message.END_SESSION]


def test_start_task_hands_over_the_password(library: ctypes.CDLL, path: Path) -> None:
    fields = {**DEFAULTS[Message.START_TASK], Tag.PASSWORD: b"x" * 128}
    with FakeService(path, {Message.START_TASK: fields}):
        task = Task(library)
        assert DONE == task.start()
    assert b"x" * 128 == task.pki.acDatafilePassword_w


VERDICT_ID = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(("result", "alert"), [(Result.DONE, None), (Result.REFUSED, 44)])
def test_check_certificate_leaves_the_verdict_id_in_the_global_area(
    library: ctypes.CDLL, path: Path, result: Result, alert: int | None
) -> None:
    told = {Tag.RESULT: result, Tag.VERDICT_ID: VERDICT_ID}
    if alert is not None:
        told |= {Tag.ALERT: alert, Tag.REASON: "revoked", Tag.DETAIL: "the partner's certificate"}
    with FakeService(path, {Message.CHECK_CERTIFICATE: told}):
        session = begin(library)
        assert (ERROR if alert else DONE, alert or 0) == (session.check(CHAIN), session.alert)
    # Version 1, and no flag: nothing is claimed but that there is a verdict.
    expected = b"\1" + bytes(7) + bytes.fromhex(VERDICT_ID) + bytes(40)
    assert expected == bytes(session.pki.aGlobalArea_w)


@pytest.mark.parametrize(
    "verdict_id", [VERDICT_ID[:-1], VERDICT_ID[:-1] + "g", VERDICT_ID.upper(), "v-1", ""]
)
def test_check_certificate_leaves_the_global_area_alone_for_anything_else(
    library: ctypes.CDLL, path: Path, verdict_id: str
) -> None:
    told = {**refused(44), Tag.VERDICT_ID: verdict_id}
    with FakeService(path, {Message.CHECK_CERTIFICATE: told}):
        session = begin(library)
        session.pki.aGlobalArea_w[63] = 7
        assert (ERROR, 44) == (session.check(CHAIN), session.alert)
    assert bytes(63) + b"\7" == bytes(session.pki.aGlobalArea_w)


def test_start_handshake_narrows_the_profile(library: ctypes.CDLL, path: Path) -> None:
    narrow = {Tag.TLS_MIN: 0x0304, Tag.TLS_MAX: 0x0304, Tag.SUITES: b"\x13\x01", Tag.CLIENT_AUTH: 1}
    with FakeService(path, {Message.START_HANDSHAKE: {**DEFAULTS[Message.START_HANDSHAKE], **narrow}}):
        session = begin(library)
    assert (0x0304, 0x0304, 1) == (session.pki.usTlsMin_w, session.pki.usTlsMax_w, session.pki.iClientAuth_w)
    assert (1, 0x1301) == (session.pki.uSuiteCount_w, session.pki.ausSuites_w[0])


@pytest.mark.parametrize(
    "wide",
    [
        {Tag.TLS_MIN: 0x0301},
        {Tag.TLS_MAX: 0x0305},
        {Tag.TLS_MIN: 0x0304, Tag.TLS_MAX: 0x0303},
        {Tag.SUITES: b"\x13\x02"},
        {Tag.SUITES: b"\x13"},
        {Tag.SUITES: b""},
    ],
)
def test_start_handshake_never_widens_the_profile(library: ctypes.CDLL, path: Path, wide: dict) -> None:
    with FakeService(path, {Message.START_HANDSHAKE: {**DEFAULTS[Message.START_HANDSHAKE], **wide}}):
        task = Task(library)
        assert DONE == task.start()
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)
        assert (0x0303, 0x0304, 2) == (
            session.pki.usTlsMin_w,
            session.pki.usTlsMax_w,
            session.pki.uSuiteCount_w,
        )
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)


@pytest.mark.parametrize("chain", [b"", b"\0\0\0"])
def test_get_certificate_without_certificate_is_done_with_length_0(
    library: ctypes.CDLL, path: Path, chain: bytes
) -> None:
    with FakeService(path, {Message.GET_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.CHAIN: chain}}):
        session = begin(library)
        assert (DONE, b"") == (session.call(Message.GET_CERTIFICATE), session.out)


def test_crypt_data_may_hand_over_the_key(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path, {Message.CRYPT_DATA: {Tag.RESULT: Result.DONE, Tag.CRYPT_KEY: b"pkcs8"}}):
        session = begin(library)
        assert (DONE, b"pkcs8") == (session.call(Message.CRYPT_DATA), session.out)
    assert 2 == session.pki.iCryptResult_w


def test_output_too_small_names_the_length_and_may_be_repeated(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path):
        session = begin(library, room=len(CHAIN) - 1)
        assert (ERROR, 80) == (session.call(Message.GET_CERTIFICATE), session.alert)
        assert len(CHAIN) == session.pki.uOutputLength_w
        assert bytes(len(session.output)) == bytes(session.output)
        session.output = (ctypes.c_uint8 * len(CHAIN))()
        session.pki.pOutput_w, session.pki.uOutputSize = ctypes.addressof(session.output), len(CHAIN)
        assert (DONE, CHAIN) == (session.call(Message.GET_CERTIFICATE), session.out)


# Refusals and "not handled".


def test_refusal_carries_documented_alerts_and_80_for_all_others(library: ctypes.CDLL, path: Path) -> None:
    documented = {int(alert) for alert in Alert}
    with FakeService(path) as service:
        for code in range(256):
            service.replies[Message.CHECK_CERTIFICATE] = refused(code)
            session = begin(library)
            assert ERROR == session.check(CHAIN)
            assert (code if code in documented else 80) == session.alert
            session.pki.iAlertCode, session.pki.iAlertSide = session.alert, 1
            assert (DONE, 0) == (session.call(Message.HANDSHAKE_ALERT), session.alert)
        alerts = [frame for frame in service.frames if frame.message is Message.HANDSHAKE_ALERT]
    assert {Tag.SESSION: 5, Tag.ALERT: 44, Tag.ALERT_SIDE: 1} == alerts[44].fields
    assert 256 == len(alerts)


@pytest.mark.parametrize("phase", HANDSHAKE)
def test_phase_not_handled_by_the_service_is_the_hosts(
    library: ctypes.CDLL, path: Path, phase: Message
) -> None:
    with FakeService(path, {phase: NOT_HANDLED_FIELDS}):
        session = begin(library)
        session.give("pChain", "uChainLength", CHAIN)
        assert [NOT_HANDLED if each is phase else DONE for each in HANDSHAKE] == [
            session.call(each) for each in HANDSHAKE
        ]


def test_phase_outside_the_sessions_mask_is_not_asked(library: ctypes.CDLL, path: Path) -> None:
    fields = {**DEFAULTS[Message.START_HANDSHAKE], Tag.PHASE_MASK: 1 << Message.CHECK_CERTIFICATE}
    before = descriptors()
    with FakeService(path, {Message.START_HANDSHAKE: fields}) as service:
        session = begin(library)
        assert DONE == session.check(CHAIN)
        for phase in (*HANDSHAKE, Message.END_SESSION):
            if phase is not Message.CHECK_CERTIFICATE:
                assert (NOT_HANDLED, 0) == (session.call(phase), session.alert)
        assert [Message.START_TASK, Message.START_HANDSHAKE, Message.CHECK_CERTIFICATE] == service.heard()
    assert before == descriptors()


def test_session_not_handled_stays_not_handled(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path, {Message.START_HANDSHAKE: NOT_HANDLED_FIELDS}) as service:
        task = Task(library)
        assert DONE == task.start()
        session = Session(task)
        assert NOT_HANDLED == session.start()
        for phase in (*HANDSHAKE, Message.HANDSHAKE_ALERT, Message.END_SESSION):
            assert (NOT_HANDLED, 0) == (session.call(phase), session.alert)
        assert [Message.START_TASK, Message.START_HANDSHAKE] == service.heard()


@pytest.mark.parametrize("fields", [NOT_HANDLED_FIELDS, {**DEFAULTS[Message.START_TASK], Tag.PHASE_MASK: 2}])
def test_start_task_is_not_handled_only_when_the_service_says_so(
    library: ctypes.CDLL, path: Path, fields: dict
) -> None:
    with FakeService(path, {Message.START_TASK: fields}):
        assert NOT_HANDLED == Task(library).start()


# The service out of reach.


def test_unreachable_refuses_each_session_until_the_service_is_back(library: ctypes.CDLL, path: Path) -> None:
    task = Task(library)
    assert (DONE, 0) == (task.start(), task.pki.iAlertReason_w)
    session = Session(task)
    assert (ERROR, 80) == (session.start(), session.alert)
    with FakeService(path) as service:
        for phase in HANDSHAKE:
            assert (ERROR, 80) == (session.call(phase), session.alert)
        assert DONE == session.call(Message.END_SESSION)
        assert [] == service.heard()
        later = Session(task)
        assert (DONE, DONE) == (later.start(), later.check(CHAIN))
        assert [Message.START_TASK, Message.START_HANDSHAKE, Message.CHECK_CERTIFICATE] == service.heard()
        assert DONE == later.call(Message.END_SESSION)


def test_unreachable_left_to_the_host_for_the_whole_session(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFTPKI_UNREACHABLE", "not_handled")
    task = Task(library)
    assert DONE == task.start()
    session = Session(task)
    assert NOT_HANDLED == session.start()
    with FakeService(path) as service:
        assert NOT_HANDLED == session.check(CHAIN)
        assert [] == service.heard()
        later = Session(task)
        assert (DONE, DONE) == (later.start(), later.check(CHAIN))
        later.call(Message.END_SESSION)


def test_the_services_rule_for_unreachable_wins_over_the_environment(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFTPKI_UNREACHABLE", "not_handled")
    with FakeService(path):
        task = Task(library)
        assert DONE == task.start()
    session = Session(task)
    assert (ERROR, 80) == (session.start(), session.alert)


@pytest.mark.parametrize("phase", HANDSHAKE)
@pytest.mark.parametrize("unreachable", [Result.REFUSED, Result.NOT_HANDLED])
def test_service_killed_in_mid_session_refuses_with_80(
    library: ctypes.CDLL, path: Path, phase: Message, unreachable: Result
) -> None:
    before = descriptors()
    fields = {**DEFAULTS[Message.START_TASK], Tag.UNREACHABLE: unreachable}
    with FakeService(path, {Message.START_TASK: fields}):
        session = begin(library)
        for each in HANDSHAKE[: HANDSHAKE.index(phase)]:
            assert DONE == session.call(each)
    assert (ERROR, 80) == (session.call(phase), session.alert)
    with FakeService(path):
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
    assert DONE == session.call(Message.END_SESSION)
    assert before == descriptors()


def test_a_path_that_is_no_socket_is_no_reason_to_leave_it_to_the_host(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFTPKI_UNREACHABLE", "not_handled")
    for bad in ("relative/s", "/" + "x" * 200, "/proc/self/exe/s"):
        monkeypatch.setenv("CFTPKI_SOCKET", bad)
        task = Task(library)
        assert DONE == task.start()
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)


# Services that misbehave.


def never(service: FakeService, connection: socket.socket, request: Frame) -> None:
    service.stopping.wait(30)


def half(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(answer(request, DEFAULTS[request.message])[:-1])
    service.stopping.wait(30)


def drip(service: FakeService, connection: socket.socket, request: Frame) -> None:
    for byte in answer(request, {**DEFAULTS[request.message], Tag.DETAIL: "x" * 1000}):
        connection.sendall(bytes([byte]))
        if service.stopping.wait(0.02):
            return


def cut(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(answer(request, DEFAULTS[request.message])[:15])
    connection.shutdown(socket.SHUT_RDWR)


def another_sequence(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(answer(request, DEFAULTS[request.message], sequence=request.sequence - 1))


def another_message(service: FakeService, connection: socket.socket, request: Frame) -> None:
    other = answer(replace(request, message=Message.HANDSHAKE_ALERT), DEFAULTS[Message.HANDSHAKE_ALERT])
    connection.sendall(other)


def echo(service: FakeService, connection: socket.socket, request: Frame) -> None:
    connection.sendall(encode(request))


def patched(offset: int, value: int) -> Callable[[FakeService, socket.socket, Frame], None]:
    def send(service: FakeService, connection: socket.socket, request: Frame) -> None:
        raw = bytearray(answer(request, DEFAULTS[request.message]))
        raw[offset] = value
        connection.sendall(raw)

    return send


MISBEHAVIOURS: dict[str, Reply] = {
    "never": never,
    "half": half,
    "drip": drip,
    "cut": cut,
    "hang_up": HANG_UP,
    "another_sequence": another_sequence,
    "another_message": another_message,
    "echo": echo,
    "garbage": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "zeros": bytes(64),
    "a_flood": b"\xff" * 1_000_000,
    "magic": patched(0, 0),
    "version": patched(2, 2),
    "huge_payload": patched(8, 0xFF),
    "result_out_of_range": patched(21, 9),
    "no_verdict_id": patched(15, 3),
    "field_length": patched(27, 200),
    "empty_verdict_id": {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: ""},
    "failed": {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: "no"},
}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_misbehaving_service_is_refused_with_80_within_the_deadline(
    library: ctypes.CDLL, path: Path, name: str
) -> None:
    before = descriptors()
    fields = {**DEFAULTS[Message.START_TASK], Tag.TIMEOUT_MS: SHORT_MS}
    with FakeService(path, {Message.START_TASK: fields, Message.CHECK_CERTIFICATE: MISBEHAVIOURS[name]}):
        session = begin(library)
        started = time.monotonic()
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
        assert time.monotonic() - started < SHORT_MS / 1000 + SLACK_S
        assert DONE == session.call(Message.END_SESSION)
    assert before == descriptors()


@pytest.mark.parametrize("reply", [never, HANG_UP, b"garbage" * 9])
def test_misbehaviour_at_start_task_leaves_the_protection_on(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setenv("CFTPKI_TIMEOUT_MS", str(SHORT_MS))
    with FakeService(path, {Message.START_TASK: reply}):
        task = Task(library)
        started = time.monotonic()
        assert DONE == task.start()
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)
        assert time.monotonic() - started < 2 * SHORT_MS / 1000 + SLACK_S


def test_garbage_at_start_handshake_is_never_left_to_the_host(library: ctypes.CDLL, path: Path) -> None:
    task_fields = {**DEFAULTS[Message.START_TASK], Tag.UNREACHABLE: Result.NOT_HANDLED}
    with FakeService(path, {Message.START_TASK: task_fields, Message.START_HANDSHAKE: b"garbage" * 9}):
        task = Task(library)
        assert DONE == task.start()
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)


def test_second_answer_to_one_question_ends_the_session(library: ctypes.CDLL, path: Path) -> None:
    def twice(service: FakeService, connection: socket.socket, request: Frame) -> None:
        raw = answer(request, DEFAULTS[request.message])
        connection.sendall(raw + raw)

    with FakeService(path, {Message.GET_CA_LIST: twice}):
        session = begin(library)
        assert DONE == session.call(Message.GET_CA_LIST)
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)


def test_acceptance_sent_ahead_of_the_question_is_no_answer(library: ctypes.CDLL, path: Path) -> None:
    def ahead(service: FakeService, connection: socket.socket, request: Frame) -> None:
        next_one = replace(request, message=Message.CHECK_CERTIFICATE, sequence=request.sequence + 1)
        accepted = answer(next_one, DEFAULTS[Message.CHECK_CERTIFICATE])
        connection.sendall(answer(request, DEFAULTS[request.message]) + accepted)

    with FakeService(path, {Message.GET_CA_LIST: ahead, Message.CHECK_CERTIFICATE: refused(44)}) as service:
        session = begin(library)
        assert DONE == session.call(Message.GET_CA_LIST)
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
        # Asked once more, for the evidence, and not on the session's connection.
        assert [Message.GET_CA_LIST, Message.CHECK_CERTIFICATE] == service.heard()[2:]


@pytest.mark.parametrize("chain", [b"\0\0\x06\0\0\x02\x30\0", b"\0\0", b"\0\0\x03\0\0\0"])
def test_chain_with_inconsistent_lengths_never_reaches_the_host(
    library: ctypes.CDLL, path: Path, chain: bytes
) -> None:
    with FakeService(path, {Message.GET_CERTIFICATE: {Tag.RESULT: Result.DONE, Tag.CHAIN: chain}}):
        session = begin(library)
        assert (ERROR, 80) == (session.call(Message.GET_CERTIFICATE), session.alert)
        assert b"" == session.out


# Hosts that misbehave.


def chain_of(*certificates: bytes) -> bytes:
    body = b"".join(len(one).to_bytes(3, "big") + one for one in certificates)
    return len(body).to_bytes(3, "big") + body


@pytest.mark.parametrize(
    ("chain", "count"),
    [
        (chain_of(*[b"\x30\x00" + bytes(998)] * 140), 140),
        (chain_of(bytes(0xFFFFFC)), 1),
        (bytes(128 * 1024 + 1), None),
        (bytes(16 * 1024 * 1024), None),
    ],
    ids=["many", "the longest", "no chain", "no chain, longer"],
)
def test_chain_above_the_cap_is_told_by_its_length_and_refused(
    library: ctypes.CDLL, path: Path, chain: bytes, count: int | None
) -> None:
    with FakeService(path, {Message.CHECK_CERTIFICATE: refused(50)}) as service:
        session = begin(library)
        assert (ERROR, 50) == (session.check(chain), session.alert)
        asked = service.frames[-1]
        assert (chain[:32768], len(chain), count) == (
            asked.raw(Tag.CHAIN),
            asked.number(Tag.CHAIN_LENGTH),
            asked.number(Tag.CHAIN_CERTIFICATES),
        )


def test_chain_at_the_cap_is_sent_whole(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path) as service:
        assert DONE == begin(library).check(bytes(128 * 1024))
        assert bytes(128 * 1024) == service.frames[-1].raw(Tag.CHAIN)
        assert Tag.CHAIN_LENGTH not in service.frames[-1].fields


def test_length_that_no_chain_has_is_told_and_nothing_is_read(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path, {Message.CHECK_CERTIFICATE: refused(50)}) as service:
        session = begin(library)
        for pointer in (0x10, None):  # nothing of ours is there
            session.pki.pChain, session.pki.uChainLength = pointer, 2**32 - 1
            assert (ERROR, 50) == (session.call(Message.CHECK_CERTIFICATE), session.alert)
            assert (b"", 2**32 - 1) == (
                service.frames[-1].raw(Tag.CHAIN),
                service.frames[-1].number(Tag.CHAIN_LENGTH),
            )


@pytest.mark.parametrize("reply", [DEFAULTS[Message.CHECK_CERTIFICATE], HANG_UP, b"no frame"])
def test_chain_above_the_cap_is_refused_whatever_the_service_says(
    library: ctypes.CDLL, path: Path, reply: Reply
) -> None:
    with FakeService(path, {Message.CHECK_CERTIFICATE: reply}):
        session = begin(library)
        assert (ERROR, 50) == (session.check(bytes(128 * 1024 + 1)), session.alert)


def test_chain_above_the_cap_is_refused_with_50_when_the_service_is_gone(
    library: ctypes.CDLL, path: Path
) -> None:
    with FakeService(path):
        session = begin(library)
    assert (ERROR, 50) == (session.check(bytes(128 * 1024 + 1)), session.alert)


def test_staple_above_the_cap_is_told_by_its_length_and_the_service_decides(
    library: ctypes.CDLL, path: Path
) -> None:
    with FakeService(path) as service:
        session = begin(library)
        session.give("pStaple", "uStapleLength", bytes(64 * 1024 + 1))
        assert DONE == session.check(CHAIN)
        assert 64 * 1024 + 1 == service.frames[-1].number(Tag.STAPLE_LENGTH)
        assert Tag.STAPLE not in service.frames[-1].fields


def test_session_whose_connection_is_gone_is_refused_and_the_service_hears_of_it(
    library: ctypes.CDLL, path: Path
) -> None:
    with FakeService(path):
        session = begin(library)
    verdict_id = "0198c0de00000123456789abcdef0123"
    failed = {
        Tag.RESULT: Result.FAILED,
        Tag.ALERT: 80,
        Tag.DETAIL: "no session",
        Tag.VERDICT_ID: verdict_id,
    }
    for reply in (failed, DEFAULTS[Message.CHECK_CERTIFICATE]):
        # Another service, which knows nothing of the session: even its "done" accepts nothing.
        with FakeService(path, {Message.CHECK_CERTIFICATE: reply}) as service:
            assert (ERROR, 80) == (session.check(CHAIN), session.alert)
            assert [Message.CHECK_CERTIFICATE] == service.heard()
            assert CHAIN == service.frames[0].raw(Tag.CHAIN)
        assert verdict_id == bytes(session.pki.aGlobalArea_w[8:24]).hex()


def test_service_that_never_answers_is_not_asked_twice(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFTPKI_TIMEOUT_MS", str(SHORT_MS))
    silent = {**DEFAULTS[Message.START_TASK], Tag.TIMEOUT_MS: SHORT_MS}
    with FakeService(path, {Message.START_TASK: silent, Message.CHECK_CERTIFICATE: never}) as service:
        session = begin(library)
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
        assert 1 == service.heard().count(Message.CHECK_CERTIFICATE)


def test_null_pointers_do_not_crash(library: ctypes.CDLL, path: Path) -> None:
    for pointer, length, phase in (
        ("pChain", "uChainLength", Message.CHECK_CERTIFICATE),
        ("pStaple", "uStapleLength", Message.CHECK_CERTIFICATE),
        ("pCaList", "uCaListLength", Message.GET_CERTIFICATE),
        ("pCryptInput", "uCryptInputLength", Message.CRYPT_DATA),
        ("pOutput_w", "uOutputSize", Message.GET_CA_LIST),
    ):
        with FakeService(path):
            session = begin(library)
            setattr(session.pki, pointer, None)
            setattr(session.pki, length, 100)
            assert (ERROR, 80) == (session.call(phase), session.alert)


def test_empty_chain_is_asked_about(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path, {Message.CHECK_CERTIFICATE: refused(40)}) as service:
        session = begin(library)
        session.pki.pChain, session.pki.uChainLength = None, 0
        assert (ERROR, 40) == (session.call(Message.CHECK_CERTIFICATE), session.alert)
        assert b"" == service.frames[-1].fields[Tag.CHAIN]


def test_descriptor_that_the_host_reused_is_neither_written_nor_closed(
    library: ctypes.CDLL, path: Path
) -> None:
    with FakeService(path):
        task = Task(library)
        assert DONE == task.start()
        session = Session(task)
        mine, theirs = socket.socketpair()
        assert DONE == session.start()
        number = descriptor_of(session)
        assert Path(f"/proc/self/fd/{number}").is_socket()
        os.dup2(mine.fileno(), number)
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
        assert DONE == session.call(Message.END_SESSION)
        theirs.settimeout(0)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        os.fstat(number)
        os.close(number)
        mine.close()
        theirs.close()


def test_overwritten_areas_refuse(library: ctypes.CDLL, path: Path) -> None:
    with FakeService(path):
        session = begin(library)
        session.private[20] ^= 1
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
        session.private[20] ^= 1
        session.task.public[20] ^= 1
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)
        session.task.public[20] ^= 1
        assert DONE == session.check(CHAIN)
        session.call(Message.END_SESSION)


def test_errno_and_signals_are_the_hosts(library: ctypes.CDLL, path: Path) -> None:
    dispositions = [signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGALRM)]
    with FakeService(path, {Message.CHECK_CERTIFICATE: HANG_UP}):
        session = begin(library)
        ctypes.set_errno(77)
        assert ERROR == session.check(CHAIN)
        assert 77 == ctypes.get_errno()
    assert dispositions == [signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGALRM)]


def test_session_ends_leave_no_descriptor(library: ctypes.CDLL, path: Path) -> None:
    before = descriptors()
    with FakeService(path, {Message.CHECK_CERTIFICATE: refused(44)}) as service:
        listening = descriptors() - before
        task = Task(library)
        task.start()
        for number in range(30):
            session = Session(task)
            assert (DONE, ERROR) == (session.start(), session.check(CHAIN))
            session.pki.iAlertCode, session.pki.iAlertSide = 44, 1 + number % 2
            assert DONE == session.call((Message.HANDSHAKE_ALERT, Message.END_SESSION)[number % 2])
        task.end()
        assert 15 == service.heard().count(Message.HANDSHAKE_ALERT)
    assert before == descriptors()
    assert listening


# A C host: threads, fork, valgrind, sanitizers.


def drive(build: Path, path: Path, *arguments: str, wrapper: tuple[str, ...] = (), code: int = 0) -> dict:
    run = subprocess.run(
        [*wrapper, build / "tests/cftpkie-drive", build / "libcftpkie.so", *arguments],
        env={**os.environ, "CFTPKI_SOCKET": str(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert code == run.returncode, run.stderr
    assert wrapper or run.stderr == ""
    (line,) = run.stdout.splitlines()  # and nothing of the library's own
    return dict(loads(line))


def counts(result: dict) -> tuple[int, int, int, int]:
    return result["done"], result["error"], result["not_handled"], result["other_errors"]


def test_structure_has_the_size_that_these_tests_use(build: Path, path: Path) -> None:
    with FakeService(path):
        assert ctypes.sizeof(Pkicom) == drive(build, path, "1", "1")["struct_size"]


def test_eight_threads_share_a_task(build: Path, path: Path) -> None:
    with FakeService(path) as service:
        result = drive(build, path, "8", "25")
        assert 200 == service.heard().count(Message.CHECK_CERTIFICATE)
    assert (200, 0, 0, 0) == counts(result)
    assert 3 == result["next_descriptor"]


def test_forked_children_go_on_with_their_session(build: Path, path: Path) -> None:
    with FakeService(path):
        result = drive(build, path, "1", "20", "fork")
    assert (20, 0, 0, 0) == counts(result)
    assert 3 == result["next_descriptor"]


def test_threads_without_a_service_all_refuse(build: Path, path: Path) -> None:
    result = drive(build, path, "8", "25")
    assert (0, 200, 0) == counts(result)[:3]
    assert 80 == result["alert"]


def test_valgrind_finds_nothing(build: Path, path: Path) -> None:
    valgrind = (
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--show-leak-kinds=definite,indirect,possible",
        "--errors-for-leak-kinds=definite,indirect",
    )
    with FakeService(path):
        assert (6, 0, 0, 0) == counts(drive(build, path, "2", "3", wrapper=valgrind))
    assert (0, 2, 0) == counts(drive(build, path, "1", "2", wrapper=valgrind))[:3]


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang's libFuzzer")
def test_sanitizers_and_fuzzers_find_nothing(tmp_path: Path, path: Path) -> None:
    build = build_native(
        tmp_path / "fuzz",
        "-DCFTPKIE_FUZZ=ON",
        targets=("fuzz_frame", "fuzz_exit", "test_frame", "test_session_area", "test_pkicom_bind"),
        cc="clang",
    )
    for program in ("test_frame", "test_session_area", "test_pkicom_bind"):
        subprocess.run([build / "tests" / program], check=True)
    for target in ("frame", "exit"):
        found = tmp_path / target
        found.mkdir()
        run = subprocess.run(
            [
                build / f"tests/fuzz_{target}",
                "-runs=20000",
                "-max_len=4096",
                f"-artifact_prefix={tmp_path}/",
                found,
                ROOT / "native/tests/corpus" / target,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == run.returncode, run.stderr


def test_sanitized_library_is_clean_under_threads_fork_and_misbehaviour(tmp_path: Path, path: Path) -> None:
    build = build_native(tmp_path, "-DCFTPKIE_SANITIZE=ON", targets=("cftpkie", "cftpkie-drive"))
    with FakeService(path) as service:
        assert (40, 0, 0, 0) == counts(drive(build, path, "8", "5"))
        assert (4, 0, 0, 0) == counts(drive(build, path, "1", "4", "fork"))
        for name in ("cut", "garbage", "huge_payload", "echo", "failed"):
            service.replies[Message.CHECK_CERTIFICATE] = MISBEHAVIOURS[name]
            result = drive(build, path, "1", "2")
            assert (0, 2, 0) == counts(result)[:3]
            assert 80 == result["alert"]


# One file maps the vendor's header.


def test_another_order_of_the_same_names_needs_nothing_but_the_header(tmp_path: Path) -> None:
    text = (ROOT / "native/include/cftpkie.h").read_text()
    moved = text.replace("  int32_t iPhase;\n", "").replace(
        "struct pkicom {\n", "struct pkicom {\n  int64_t iPhase;\n"
    )
    assert text != moved
    (tmp_path / "cftpkie.h").write_text(moved)
    build = build_native(tmp_path / "build", f"-DCFTPKIE_INC={tmp_path}")
    assert (build / "libcftpkie.so").exists()
    assert not (build / "hostsim").exists()


def test_another_header_needs_another_bind_file_and_nothing_else(tmp_path: Path, path: Path) -> None:
    mock = ROOT / "native/tests/vendor_mock"
    build = build_native(
        tmp_path,
        f"-DCFTPKIE_INC={mock}",
    )
    with FakeService(path) as service:
        lines = subprocess.check_output(
            [build / "tests/test_vendor_mock", build / "libcftpkie.so"], text=True
        ).splitlines()
        heard = service.heard()
    assert [
        "S 0",
        "H 0 0 0",
        f"L 0 0 {len(CA_LIST)}",
        f"G 0 0 {len(CHAIN)}",
        f"C 0 0 {len(CHAIN)}",
        "D 0 0 9",
        "h 0 0 9",
        "E 0 0 9",
        "H 0",
        "C 8 50",  # a length of -1 is above every cap
        "s 0",
    ] == lines
    assert 2 == heard.count(Message.CHECK_CERTIFICATE)


def test_only_the_bind_file_names_fields_of_the_structure() -> None:
    fields = [field[0] for field in Pkicom._fields_]
    for source in sorted((*(ROOT / "native/client").iterdir(), *(ROOT / "native/exit").iterdir())):
        if source.name != "pkicom_bind.h":
            text = source.read_text()
            assert [] == [name for name in fields if f"->{name}" in text or f".{name}" in text], source
            assert "CFTPKIE_RC_" not in text


# The codec in C and the one in Python.


def mutated(rng: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice((0, 1, 1, 2))):
        kind = rng.randrange(4)
        at = rng.randrange(len(data)) if data else 0
        if kind == 0 and data:
            data[at] = rng.randrange(256)
        elif kind == 1 and data:
            del data[at : at + rng.randrange(1, 12)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 12))
        elif data:
            data[at] = rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 0x80, 0xFF))
    if len(data) >= 12 and rng.random() < 0.8:
        data[8:12] = (len(data) - 12).to_bytes(4, "big")
    return bytes(data)


def judged_by_python(message: Message, sequence: int, raw: bytes) -> str:
    try:
        header = decode_header(raw[:12])
        frame = decode_payload(header, raw[12:])
    except WireError:
        return "no"
    if not frame.response or (frame.message, frame.sequence) != (message, sequence):
        return "no"
    lengths = []
    for tag in sorted(frame.fields):
        value = frame.fields[tag]
        size = (
            len(value)
            if isinstance(value, bytes)
            else len(value.encode())
            if isinstance(value, str)
            else None
        )
        width = 8 if tag in {Tag.SESSION, Tag.TASK, Tag.HOST_TASK, Tag.HOST_SESSION} else 4
        lengths.append(f"{int(tag)}:{width if size is None else size}")
    return " ".join([f"ok {int(frame.fields[Tag.RESULT])}", *lengths])


def test_codecs_agree_on_mutated_answers(build: Path) -> None:
    rng = random.Random(20)  # noqa: S311 - the same cases each time, nothing secret
    cases = []
    frames = [*DEFAULTS.items()]
    frames += [(message, refused(44)) for message in DEFAULTS]
    frames += [(message, {**refused(44), Tag.JSON: "{é}", Tag.VERDICT_ID: "v"}) for message in DEFAULTS]
    frames += [(message, NOT_HANDLED_FIELDS) for message in DEFAULTS]
    frames.append((Message.START_TASK, {**DEFAULTS[Message.START_TASK], Tag.PASSWORD: b"p"}))
    for _ in range(300):
        for message, fields in frames:
            cases.append(
                (message, mutated(rng, encode(Frame(message, response=True, sequence=7, fields=fields))))
            )
    stream = b"".join(
        len(raw).to_bytes(4, "big") + bytes([message]) + (7).to_bytes(4, "big") + raw
        for message, raw in cases
    )
    output = subprocess.run(
        [build / "tests/cftpkie-frame-check"], input=stream, capture_output=True, check=True
    ).stdout
    expected = [judged_by_python(message, 7, raw) for message, raw in cases]
    found = output.decode().splitlines()
    assert len(expected) == len(found)
    assert [] == [
        (message, raw.hex(), python, c)
        for (message, raw), python, c in zip(cases, expected, found, strict=True)
        if python != c
    ]
    assert 1000 < sum(line != "no" for line in found) < len(found) - 1000
