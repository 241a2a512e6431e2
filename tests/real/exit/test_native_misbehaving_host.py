"""
libcftpkie.so under hosts that hand over nonsense, reuse descriptors or overwrite areas.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from pathlib import Path

import pytest

from cftpki_ext.protocol.codec import Message, Result, Tag
from tests.support.native_host import DONE, ERROR, Session, Task
from tests.support.native_misbehaviour import (
    never,
)
from tests.support.native_service import (
    CHAIN,
    DEFAULTS,
    HANG_UP,
    FakeService,
    Reply,
    refused,
)
from tests.support.native_session import SHORT_MS, begin, descriptor_of, descriptors

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("native")]


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
        assert 15 == service.told(Message.HANDSHAKE_ALERT, times=15).count(Message.HANDSHAKE_ALERT)
    assert before == descriptors()
    assert listening
