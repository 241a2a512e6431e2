"""
The simulator as a program: own PKI, threads, forks, tasks, raw chains, bench, limits, exit statuses.
"""

import json
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import hostsim
from tests.support.hostsim import World

pytestmark = pytest.mark.real

ENDS = ["HandshakeDone", "EndSession"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hostsim.make_world(tmp_path_factory.mktemp("runs"))


def raw(world: World, tmp_path, data: bytes, *arguments, **script):
    path = tmp_path / "chain"
    path.write_bytes(data)
    run = hostsim.run(
        *("raw", "--lib", hostsim.TESTEXIT, "--raw-chain", path, *arguments),
        trace=tmp_path / "trace",
        env=world.script(**script),
    )
    return run, [json.loads(line) for line in run.stdout.splitlines()]


def test_own_pki_without_an_exit_serves_and_verifies(world, tmp_path):
    for label, status in (("client", 0), ("stranger", 1)):
        with hostsim.server(
            "--client-auth", *world.own_pki(), trace=tmp_path / f"trace-{label}"
        ) as simulator:
            hostsim.s_client(simulator.port, "-tls1_2", *world.as_client(label))
            run = simulator.finish()
        assert (status, []) == (run.status, run.phases)


def test_200_handshakes_from_8_threads_all_pass_through_the_exit(world, tmp_path):
    """
    Both ends are simulators, each with 8 threads; every session has its own references and areas.
    """
    trace = tmp_path / "client-trace"
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--threads", "8", "--sessions", "200"),
        trace=tmp_path / "trace",
        env=world.script(),
    ) as simulator:
        client = hostsim.run(
            *("client", "--lib", hostsim.TESTEXIT, "--connect", f"127.0.0.1:{simulator.port}"),
            *("--threads", "8", "--sessions", "200", "--send-data"),
            trace=trace,
            env=world.script(chain=world.path("client.chain"), key=world.path("client.key")),
        )
        run = simulator.finish()
    for side in (client, run):
        assert 0 == side.status, side.stderr
        assert 200 == len(side.all("CheckCertificate")) == len(side.all("EndSession"))
        assert list(range(1, 201)) == sorted(line["session"] for line in side.all("HandshakeDone"))
        assert (1, 1) == (len(side.all("StartTask")), len(side.all("EndTask")))


@pytest.mark.parametrize("where", ["--fork", "--fork-handshake"])
@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_fork_session_goes_on_in_the_child(world, tmp_path, where, version):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--send-data", "--sessions", "3", where),
        trace=tmp_path / "trace",
        env=world.script(),
    ) as simulator:
        for _ in range(3):
            assert "hello" in hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert 0 == run.status
    assert ["StartTask", *run.phases[1:-1], "EndTask"] == run.phases
    assert 3 == len(run.all("CheckCertificate")) == len(run.all("EndSession"))


def test_fork_refusal_in_the_child_is_the_exit_status(world, tmp_path):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--fork-handshake"),
        trace=tmp_path / "trace",
        env=world.script(CheckCertificate="error", alert=44),
    ) as simulator:
        assert 44 == hostsim.alert_seen(hostsim.s_client(simulator.port, "-tls1_2", *world.as_client()))
        assert 1 == simulator.finish().status


def test_tasks_with_reloaded_library_each_start_and_end(world, tmp_path):
    run, answers = raw(world, tmp_path, b"any", "--tasks", "3", "--reload-lib", "--sessions", "2")
    assert 0 == run.status
    assert 6 == len(answers)
    assert [1, 2, 3] == [line["task"] for line in run.all("StartTask")]
    assert [1, 2, 3] == [line["task"] for line in run.all("EndTask")]


def test_print_global_shows_what_handshake_done_left(world, tmp_path):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--print-global"), trace=tmp_path / "trace", env=world.script()
    ) as simulator:
        hostsim.s_client(simulator.port)
        run = simulator.finish()
    area = bytes.fromhex(run.stdout.removeprefix("global "))
    assert b"testexit session 1".ljust(64, b"\0") == area
    assert area.hex() == run.sessions[0]["global"]


@pytest.mark.parametrize("size", [0, 1, 3, 1 << 24, 17_000_000])
def test_raw_bytes_reach_the_exit_whatever_they_are(world, tmp_path, size):
    run, answers = raw(world, tmp_path, b"\xff" * size)
    assert 0 == run.status
    assert ("done", 0, size) == (answers[0]["result"], answers[0]["alert"], answers[0]["length"])
    assert size == run.all("CheckCertificate")[0]["in"]
    assert ENDS == run.phases[-3:-1]


@pytest.mark.parametrize(
    ("answer", "rc", "phase"), [("error", -1, "HandshakeAlert"), ("not_handled", 1, "HandshakeAlert")]
)
def test_raw_refusal_is_told_with_its_alert(world, tmp_path, answer, rc, phase):
    run, answers = raw(world, tmp_path, b"x", CheckCertificate=answer, alert=50)
    assert (0, rc) == (run.status, answers[0]["rc"])
    assert (50 if rc == -1 else 0) == answers[0]["alert"]
    assert phase == run.phases[-2]


def test_raw_expectation_is_judged(world, tmp_path):
    for expect, status in (("50", 0), ("accept", 1), ("any", 0)):
        run, _ = raw(world, tmp_path, b"x", "--expect", expect, CheckCertificate="error", alert=50)
        assert status == run.status


def test_raw_pem_chain_is_the_chain_in_the_exits_format(world, tmp_path):
    run = hostsim.run(
        *("raw", "--lib", hostsim.TESTEXIT, "--pem-chain", world.path("client.pem"), "--expect", "accept"),
        trace=tmp_path / "trace",
        env=world.script(want_chain=world.path("client.chain")),
    )
    assert 0 == run.status


def test_raw_input_above_the_cap_is_refused(world, tmp_path):
    run, answers = raw(world, tmp_path, b"\0" * ((32 << 20) + 1))
    assert (4, []) == (run.status, answers)
    assert "more than" in run.stderr


def test_write_behind_an_area_is_exit_status_7(world, tmp_path):
    run, answers = raw(world, tmp_path, b"x", overrun=1)
    assert (7, "error") == (run.status, answers[0]["result"])


@pytest.mark.parametrize("mode", ["server", "client"])
def test_bench_counts_handshakes_with_and_without_the_exit(world, tmp_path, mode):
    peer, mine = ("client", "rsa") if mode == "server" else ("rsa", "client")
    common = ["bench", "--mode", mode, "--sessions", "20", "--threads", "2", "--client-auth"]
    common += ["--peer-cert", str(world.path(f"{peer}.pem")), "--peer-key", str(world.path(f"{peer}.key"))]
    common += ["--peer-ca", str(world.path("root.pem"))]
    script = world.script(chain=world.path(f"{mine}.chain"), key=world.path(f"{mine}.key"))
    through = hostsim.run(*common, "--lib", hostsim.TESTEXIT, trace=tmp_path / "with", env=script)
    alone = hostsim.run(*common, *world.own_pki(mine), trace=tmp_path / "without")
    for run, used in ((through, True), (alone, False)):
        figures = json.loads(run.stdout)
        assert (0, 20, 2, used) == (run.status, figures["handshakes"], figures["threads"], figures["exit"])
        assert figures["per_second"] > 0
    assert 20 == len(through.all("CheckCertificate"))
    assert [] == alone.phases


def test_bench_refused_handshakes_are_exit_status_1(world, tmp_path):
    run = hostsim.run(
        *("bench", "--sessions", "3", "--client-auth", "--lib", hostsim.TESTEXIT),
        *("--peer-cert", world.path("client.pem"), "--peer-key", world.path("client.key")),
        trace=tmp_path / "trace",
        env=world.script(CheckCertificate="error", alert=49),
    )
    assert (1, False) == (run.status, json.loads(run.stdout)["expected"])


def test_silent_peer_is_given_up_at_the_timeout(world, tmp_path):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--timeout", "1"), trace=tmp_path / "trace", env=world.script()
    ) as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=hostsim.WAIT_S) as peer:
            assert b"" == peer.recv(1)
        run = simulator.finish()
    assert (1, "timeout") == (run.status, run.sessions[0]["how"])
    assert (0, "local") == (run.all("HandshakeAlert")[0]["alert"], run.all("HandshakeAlert")[0]["side"])


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x00\x05\x01", b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 40])
def test_peer_that_speaks_no_tls_is_a_failed_session(world, tmp_path, sent):
    with hostsim.server("--lib", hostsim.TESTEXIT, trace=tmp_path / "trace", env=world.script()) as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=hostsim.WAIT_S) as peer:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(64)
        run = simulator.finish()
    assert 1 == run.status
    assert ["StartTask", "StartHandshake", "HandshakeAlert", "EndTask"] == run.phases


def test_no_connection_within_the_idle_time_is_exit_status_6(world, tmp_path):
    with hostsim.server("--idle-timeout", "1", *world.own_pki(), trace=tmp_path / "trace") as simulator:
        assert 6 == simulator.finish().status


def test_stop_signal_ends_the_run_and_the_task(world, tmp_path):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--sessions", "100", "--threads", "4"),
        trace=tmp_path / "trace",
        env=world.script(),
    ) as simulator:
        hostsim.s_client(simulator.port)
        simulator.process.terminate()
        run = simulator.finish()
    assert (0, "EndTask") == (run.status, run.phases[-1])


def test_port_file_holds_the_bound_port(world, tmp_path):
    path = tmp_path / "port"
    with hostsim.server(
        "--idle-timeout", "1", "--port-file", path, *world.own_pki(), trace=tmp_path / "trace"
    ) as simulator:
        simulator.finish()
        assert simulator.port == int(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["server", "--help"], 0),
        ([], 2),
        (["nonsense"], 2),
        (["server"], 2),
        (["raw", "--raw-chain", "/dev/null"], 2),
        (["server", "--listen", "127.0.0.1:0", "--tls-min", "1.3", "--tls-max", "1.2"], 2),
        (["server", "--listen", "127.0.0.1:0", "--expect", "sometimes"], 2),
        (["server", "--listen", "127.0.0.1:0", "--fork", "--threads", "2"], 2),
        (["server", "--listen", "127.0.0.1:0", "--profile", "P" * 33], 2),
        (["raw", "--lib", "/nonexistent.so", "--raw-chain", "/dev/null"], 3),
        (["raw", "--lib", "libm.so.6", "--raw-chain", "/dev/null"], 3),
        (["server", "--listen", "127.0.0.1:0", "--ca", "/dev/null"], 4),
        (["server", "--listen", "nowhere"], 4),
        (["client", "--connect", "127.0.0.1:1"], 4),
    ],
)
def test_exit_status_of_a_bad_command_line_or_set_up(tmp_path, arguments, status):
    done = subprocess.run(
        [hostsim.program(), *arguments], capture_output=True, text=True, timeout=hostsim.WAIT_S, check=False
    )
    assert status == done.returncode, done.stderr
    assert bool(status) == bool(done.stderr)


def test_valgrind_finds_nothing_in_a_session_of_each_outcome(world, tmp_path):
    valgrind = shutil.which("valgrind")
    assert valgrind is not None, "valgrind is missing"
    for script in ({}, {"CheckCertificate": "error", "alert": 44}, {"CheckCertificate": "not_handled"}):
        done = subprocess.run(
            [
                *(valgrind, "-q", "--leak-check=full", "--error-exitcode=99", hostsim.program(), "bench"),
                *("--client-auth", "--lib", str(hostsim.TESTEXIT), "--expect", "any", *world.own_pki()),
                *("--peer-cert", str(world.path("client.pem")), "--peer-key", str(world.path("client.key"))),
            ],
            capture_output=True,
            text=True,
            timeout=3 * hostsim.WAIT_S,
            check=False,
            env={**os.environ, **world.script(**script)},
        )
        assert 0 == done.returncode, done.stderr


def test_sessions_of_several_peers_at_once_do_not_mix(world, tmp_path):
    """
    Each peer gets its own line back, while eight are served at a time.
    """
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--send-data", "--threads", "8", "--sessions", "16"),
        trace=tmp_path / "trace",
        env=world.script(sleep_ms=50),
    ) as simulator:
        command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{simulator.port}", "-ign_eof"]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: hostsim.peer(command, f"line {i}\n"), range(16)))
        assert 0 == simulator.finish().status
    assert [True] * 16 == [f"line {i}\n" in answer for i, answer in enumerate(answers)]
