"""
libcftpkie.so where the service is out of reach, or answers what no service should.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cftpki_ext.protocol.codec import Frame, Message, Result, Tag
from tests.support.native_host import DONE, ERROR, NOT_HANDLED, Session, Task
from tests.support.native_misbehaviour import (
    MISBEHAVIOURS,
    never,
)
from tests.support.native_service import (
    CHAIN,
    DEFAULTS,
    HANG_UP,
    FakeService,
    Reply,
    answer,
    refused,
)
from tests.support.native_session import HANDSHAKE, SHORT_MS, SLACK_S, begin, descriptors

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("native")]


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


# The others are of fields that only the answer to CheckCertificate has.
@pytest.mark.parametrize("name", sorted(MISBEHAVIOURS.keys() - {"drip", "empty_verdict_id"}))
def test_misbehaviour_at_start_handshake_is_never_left_to_the_host(
    library: ctypes.CDLL, path: Path, name: str
) -> None:
    task_fields = {
        **DEFAULTS[Message.START_TASK],
        Tag.UNREACHABLE: Result.NOT_HANDLED,
        Tag.TIMEOUT_MS: SHORT_MS,
    }
    replies = {Message.START_TASK: task_fields, Message.START_HANDSHAKE: MISBEHAVIOURS[name]}
    with FakeService(path, replies) as service:
        task = Task(library)
        assert DONE == task.start()
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)
        service.replies.update(DEFAULTS)
        assert (ERROR, 80) == (session.check(CHAIN), session.alert)


@pytest.mark.parametrize("reply", [never, HANG_UP, b"garbage" * 9])
def test_misbehaviour_at_a_late_start_task_is_never_left_to_the_host(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setenv("CFTPKI_UNREACHABLE", "not_handled")
    monkeypatch.setenv("CFTPKI_TIMEOUT_MS", str(SHORT_MS))
    task = Task(library)
    assert DONE == task.start()
    with FakeService(path, {Message.START_TASK: reply}):
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)


@pytest.mark.parametrize("queued", [0, 1])
def test_a_service_that_accepts_no_connection_is_never_left_to_the_host(
    library: ctypes.CDLL, path: Path, monkeypatch: pytest.MonkeyPatch, queued: int
) -> None:
    monkeypatch.setenv("CFTPKI_UNREACHABLE", "not_handled")
    monkeypatch.setenv("CFTPKI_TIMEOUT_MS", str(SHORT_MS))
    task = Task(library)
    assert DONE == task.start()
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(queued):  # one waits, which is all that a backlog of 0 takes
            stranger = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
            stranger.connect(str(path))
        session = Session(task)
        assert (ERROR, 80) == (session.start(), session.alert)
    path.unlink()
    assert NOT_HANDLED == Session(task).start()


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
