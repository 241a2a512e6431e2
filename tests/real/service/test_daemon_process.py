"""
The daemon as a process of its own: killed, stopped, told by signals, handed a socket.
"""

import asyncio
import resource
import signal
import socket
import sys
from contextlib import asynccontextmanager

import pytest

from cftpki_ext.protocol.codec import Frame, Message, Result, Tag, encode
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support.daemon_world import CHAIN, REPOSITORY, result
from tests.support.wire_client import WireClient

# A process of its own

PROGRAM = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from types import MappingProxyType
import os, socket
from cftpki_ext.core.settings import ServiceSettings, Settings, TrustSet, Rule
from cftpki_ext.core.vocabulary import Direction
from tests.support.daemon_world import World

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
