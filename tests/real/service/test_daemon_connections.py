"""
Frames, peers, the socket itself, reload and stop of the daemon, through a real unix socket.
"""

import asyncio
import errno
import json
import os
import socket
import stat
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from cftpki_ext.core.errors import ConfigError
from cftpki_ext.protocol.codec import HEADER, MAX_PAYLOAD, VERSION, Frame, Message, Result, Tag, encode
from cftpki_ext.protocol.tls_vectors import encode_chain
from cftpki_ext.service.listener import ListenError, listen
from cftpki_ext.service.systemd import ActivationError
from tests.support.daemon_world import ANSWER_S, CHAIN, result, running, service_with

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
        # and so is the handshake that it is of
        assert Result.DONE is result(await busy.ask(Message.HANDSHAKE_DONE, TLS_MIN=0x0303))
        assert await busy.closed()
    assert [] == [
        event for event in world.events() if event in {"handshakes_cut_off", "calls_cut_off", "session_lost"}
    ]


@pytest.mark.parametrize("said", [(), (Message.START_TASK,)], ids=["nothing", "StartTask"])
async def test_stop_answers_the_handshake_of_a_connection_that_has_not_begun_it(settings, said):
    async with running(settings) as world, world.client() as client:
        await world.until(lambda: world.daemon.connections)
        for message in said:
            await client.ask(message, HOST_TASK=1)
        world.daemon.stop()
        assert Result.DONE is result(await client.start())
        assert Result.DONE is result(await client.ask(Message.HANDSHAKE_DONE, TLS_MIN=0x0303))
        assert await client.closed()


async def test_stop_waits_for_a_handshake_whose_partner_is_silent_no_longer_than_its_bound(settings):
    async with running(settings, handshakes_s=0.0) as world, world.client() as silent:
        await silent.start()
        world.daemon.stop()
        assert await silent.closed()
    assert ["handshakes_cut_off", "session_lost"] == [
        event for event in world.events() if event in {"handshakes_cut_off", "calls_cut_off", "session_lost"}
    ]


async def test_stop_begins_no_handshake_on_a_connection_whose_own_has_ended(settings):
    async with running(settings) as world, world.client() as client:
        await client.start()
        world.daemon.stop()
        assert Result.REFUSED is result(
            await client.ask(Message.CHECK_CERTIFICATE, CHAIN=encode_chain([b"revoked"]))
        )
        assert await client.closed()


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
            told = json.loads((await client.ask(Message.STATUS)).text(Tag.JSON))["reloads"]
        assert (1, 1, "line 3: nonsense") == (told["ok"], told["failed"], told["last_error"])


@pytest.mark.parametrize(
    "error",
    [
        OverflowError("date value out of range"),
        RecursionError(),
        MemoryError(),
        KeyError("x"),
        OSError(5, "io"),
    ],
)
async def test_reload_survives_every_exception_and_says_so(settings, error):
    def reload():
        raise error

    async with running(settings, reload=reload) as world:
        await world.daemon.reload()
        assert ["reload_failed"] == [event for event in world.events() if event.startswith("reload")]
        assert (0, 1) == (world.service.reloads.status()["ok"], world.service.reloads.status()["failed"])
        async with world.client() as client:
            assert Result.DONE is result(await client.start())


async def test_errors_of_accept_are_told_once_until_a_connection_is_accepted(settings):
    def accept_fails(loop, number):
        error = OSError(number, os.strerror(number))
        loop.call_exception_handler(
            {"message": "socket.accept() out of system resource", "exception": error, "socket": None}
        )

    async with running(settings) as world:
        loop = asyncio.get_running_loop()
        for _ in range(512):
            accept_fails(loop, 24)
        accept_fails(loop, 23)
        assert ["accept_failed"] * 2 == [event for event in world.events() if event == "accept_failed"]
        async with world.client() as client:
            assert Result.DONE is result(await client.start())
        accept_fails(loop, 23)
        assert 3 == world.events().count("accept_failed")


async def test_refused_user_in_a_loop_is_told_once_and_leaves_room_for_others(settings):
    uids = iter([4243] * 40)
    async with running(
        service_with(settings, max_sessions=1), peer_uid=lambda _: next(uids, os.geteuid())
    ) as world:
        strangers = [world.client() for _ in range(40)]
        for stranger in strangers:
            await stranger.__aenter__()
        async with world.client() as client:
            assert Result.DONE is result(await client.start())
        assert 1 == world.events().count("connection_refused")
        for stranger in strangers:
            await stranger.__aexit__(None, None, None)


async def test_fewer_descriptors_than_sessions_are_told_and_bound_the_connections(settings, monkeypatch):
    monkeypatch.setattr("cftpki_ext.service.daemon.raise_limit", lambda _: 4)
    async with running(settings) as world, world.client() as first:
        world.daemon._fit_descriptors()
        assert "descriptors_short" in world.events()
        assert Result.DONE is result(await first.start())
        async with world.client() as second:
            assert Result.DONE is result(await second.ask(Message.STATUS))
            async with world.client() as third:
                answer = await third.receive()
                assert (Result.FAILED, "2 connections are open") == (result(answer), answer.text(Tag.DETAIL))


async def test_descriptors_that_cannot_be_had_leave_a_new_configuration_in_force(settings, monkeypatch):
    async with running(settings, reload=lambda: settings) as world:

        def refused(_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr("cftpki_ext.service.daemon.raise_limit", refused)
        await world.daemon.reload()
        assert ["reloaded", "descriptors_not_raised"] == world.events()[-2:]
        assert (1, 0) == (world.service.reloads.status()["ok"], world.service.reloads.status()["failed"])


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
