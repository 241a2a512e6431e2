"""
libcftpkie.so as the host sees it: built alone, loaded by path, driven against a service that behaves.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cftpki_ext.core.alerts import Alert
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from tests.support.native_host import DONE, ERROR, NOT_HANDLED, Session, Task
from tests.support.native_service import (
    CA_LIST,
    CHAIN,
    DEFAULTS,
    FakeService,
    refused,
)
from tests.support.native_service import NOT_HANDLED as NOT_HANDLED_FIELDS
from tests.support.native_session import HANDSHAKE, begin, descriptor_of, descriptors

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("native")]


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


def test_library_has_no_writable_data_but_the_pages_that_it_has_mapped_and_a_count_of_its_notes(
    build: Path,
) -> None:
    names = subprocess.check_output(["nm", build / "libcftpkie.so"], text=True).splitlines()
    own = [line.split()[-1] for line in names if line.split()[-2] in {"b", "B", "d", "D"}]
    assert ["cftpki_boards", "cftpki_kept", "cftpki_notes"] == sorted(
        name for name in own if not name.startswith(("_", "completed."))
    )  # the C start files' own


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
        service.told(Message.END_TASK)
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
        service.told(Message.HANDSHAKE_ALERT, times=256)
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
