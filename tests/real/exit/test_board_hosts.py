"""
libcftpkie.so beside a real service with the verdict board: known partners without it, and never a moment longer than it says.

The host is this process, which calls the library as Transfer CFT does; statuses come from `openssl ocsp` and nginx.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Frame, Message, Tag, decode_header, decode_payload, encode
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import hostsim, partners, real_service
from tests.support.learned_revocations import remember
from tests.support.native_host import DONE, Session, Task
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("board")]

LIBRARY = ctypes.CDLL(str(hostsim.BUILD / "libcftpkie.so"))
_ID = slice(8, 24)
_NOBODY = 65534


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("vh")) as made:
        yield made


@contextlib.contextmanager
def serving(company, name, monkeypatch, *, rule="", limits=""):
    config = company.configure(name, board=True)
    text = config.read_text().replace('profile = "RSA"\n', f'profile = "RSA"\n{rule}\n')
    config.write_text(f"{text}\n[limits]\n{limits}\n")
    with real_service.running(config) as service:
        monkeypatch.setenv("CFTPKI_SOCKET", str(service.socket))
        yield config, service
        assert [] == service.failures()


def chain_of(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return encode_chain(tuple(one.public_bytes(Encoding.DER) for one in found))


def handshake(task, chain, *, profile=b"RSA", remote=b"192.0.2.7"):
    """
    All calls of a session but CryptData: what became of CheckCertificate, and the verdict id of the global area.
    """
    session = Session(task, room=8192)
    session.pki.acProfile, session.pki.acRemoteAddress = profile, remote
    if session.start() != DONE:
        return session.alert or 80, None
    assert DONE == session.call(Message.GET_CERTIFICATE)
    assert DONE == session.call(Message.GET_CA_LIST)
    if session.check(chain) != DONE:
        alert = session.alert
        session.pki.iAlertCode, session.pki.iAlertSide = alert, 1
        session.call(Message.HANDSHAKE_ALERT)
        return alert, None
    assert DONE == session.call(Message.HANDSHAKE_DONE)
    verdict_id = bytes(session.pki.aGlobalArea_w)[_ID].hex()
    assert DONE == session.call(Message.END_SESSION)
    return 0, verdict_id


def known(service, chain):
    """
    A task of a host that knows a partner: the verdict id does not change any more.
    """
    task = Task(LIBRARY)
    assert DONE == task.start()
    ids = []

    def same():
        alert, verdict_id = handshake(task, chain)
        assert 0 == alert
        ids.append(verdict_id)
        return len(ids) > 2 and ids[-1] == ids[-2] == ids[-3]

    until(same)
    return task, ids[-1]


def ask(service, message, **fields):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(service.socket))
        given = {Tag[name]: value for name, value in sorted(fields.items(), key=lambda item: Tag[item[0]])}
        connection.sendall(encode(Frame(message=message, response=False, sequence=1, fields=given)))
        with connection.makefile("rb") as reader:
            header = decode_header(reader.read(12))
            return decode_payload(header, reader.read(header.length))


def board(service):
    return json.loads(ask(service, Message.STATUS).fields[Tag.JSON])["board"]


def test_known_partner_goes_on_while_the_service_is_frozen_or_dead_and_no_stranger_does(company, monkeypatch):
    with serving(company, "frozen", monkeypatch) as (_, service):
        good = chain_of(company, "good")
        task, verdict_id = known(service, good)
        assert verdict_id in {line["verdict_id"] for line in service.verdicts()}
        service.process.send_signal(signal.SIGSTOP)
        assert (0, verdict_id) == handshake(task, good)
        service.process.send_signal(signal.SIGCONT)
        until(lambda: board(service)["given"] >= 2)
        service.kill()
        assert (0, verdict_id) == handshake(task, good)
        assert 80 == handshake(task, chain_of(company, "by-crl"))[0]
        service.start()
        # Whoever listens is asked: the new one judges, and gives its own board.
        alert, new = handshake(task, good)
        assert 0 == alert
        assert verdict_id != new
        assert DONE == task.end()


def test_known_partner_that_an_operator_blocks_is_refused_in_the_next_session_also_of_a_dead_service(
    company, monkeypatch
):
    with serving(company, "blocked", monkeypatch) as (config, service):
        good = chain_of(company, "good")
        task, _ = known(service, good)

        def partners_command(*arguments):
            done = CliRunner().invoke(main, ["partners", *arguments, "--config", str(config)])
            assert 0 == done.exit_code, done.stderr

        partners_command("block", "CN=good", "--reason", "its key was stolen")
        assert (49, None) == handshake(task, good)
        service.kill()
        assert (80, None) == handshake(task, good)
        service.start()
        assert (49, None) == handshake(task, good)
        partners_command("unblock", "CN=good")
        assert 0 == handshake(task, good)[0]
        assert DONE == task.end()


def test_known_partner_of_a_dead_service_is_refused_once_its_verdict_has_ended(company, monkeypatch):
    with serving(company, "ends", monkeypatch, limits='ocsp_refresh = "4s"\ncrl_refresh = "4s"') as (
        _,
        service,
    ):
        good = chain_of(company, "good")
        task = Task(LIBRARY)
        assert DONE == task.start()
        until(lambda: board(service)["entries"] == 1 or handshake(task, good) == ())
        service.kill()
        begun = time.monotonic()
        answers = []
        until(lambda: answers.append(handshake(task, good)[0]) or answers[-1] != 0)
        assert 80 == answers[-1]
        assert time.monotonic() - begun < 6
        service.start()
        assert 0 == handshake(task, good)[0]


def hammer(task, chain, stop, accepted, refused, start):
    start.wait()
    while not stop.is_set():
        begun = time.monotonic()
        alert, _ = handshake(task, chain)
        (accepted if alert == 0 else refused).append(begun)


@pytest.mark.parametrize("how", ["revoked", "reloaded"])
def test_no_session_that_begins_after_the_announcement_is_let_in(company, monkeypatch, how):
    with serving(company, how, monkeypatch) as (config, service):
        good = chain_of(company, "good")
        task, _ = known(service, good)
        stop, start, accepted, refused = threading.Event(), threading.Event(), [], []
        threads = [
            threading.Thread(target=hammer, args=(task, good, stop, accepted, refused, start))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        start.set()
        until(lambda: len(accepted) > 50)
        if how == "revoked":
            remember(company, config, "good")
            until(lambda: _alert(service, good) == 44)
        else:
            config.write_text(
                config.read_text().replace(
                    'profile = "RSA"\n', 'profile = "RSA"\npartners = { subjects = ["CN=somebody else"] }\n'
                )
            )
            service.process.send_signal(signal.SIGHUP)
            until(lambda: service.events("reloaded"))
        announced = time.monotonic()
        until(lambda: len([at for at in refused if at > announced]) > 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert [] == [at - announced for at in accepted if at > announced]
        assert DONE == task.end()


def _alert(service, chain):
    return ask(service, Message.CHECK, MODE=1, PROFILE="RSA", CHAIN=chain).fields.get(Tag.ALERT, 0)


def settled(service, task, chain):
    """
    The board's counts once every session before this moment is in them: datagrams are read in the order of their coming.
    """
    last = f"198.51.100.{len(service.events('handshake_done')) % 256}"
    assert 0 == handshake(task, chain, remote=last.encode())[0]
    until(lambda: last in {line["remote"] for line in service.events("handshake_done")})
    return board(service)


def test_every_session_is_in_the_evidence_or_counted_as_lost(company, monkeypatch):
    with serving(company, "lost", monkeypatch) as (_, service):
        good = chain_of(company, "good")
        task, verdict_id = known(service, good)
        before = settled(service, task, good)
        service.process.send_signal(signal.SIGSTOP)
        # More than the socket's queue holds while nobody reads it.
        for _ in range(600):
            assert (0, verdict_id) == handshake(task, good)
        service.process.send_signal(signal.SIGCONT)
        until(lambda: board(service)["sessions"] > before["sessions"])
        assert 0 == handshake(task, good)[0]
        until(lambda: board(service)["lost"] > 0)
        until(lambda: _all(board(service)) - _all(before) == 601)
        assert 0 == board(service)["refused"]
        assert service.events("board_sessions_lost")
        assert DONE == task.end()


def _all(counts):
    return counts["sessions"] + counts["lost"]


def test_rule_without_board_asks_the_service_in_each_session(company, monkeypatch):
    with serving(company, "each", monkeypatch, rule="board = false") as (_, service):
        good = chain_of(company, "good")
        task = Task(LIBRARY)
        assert DONE == task.start()
        ids = [handshake(task, good)[1] for _ in range(4)]
        assert 4 == len(set(ids))
        assert set(ids) == {line["verdict_id"] for line in service.verdicts()}
        service.kill()
        assert 80 == handshake(task, good)[0]
        service.start()


def test_new_certificate_of_ours_is_given_in_the_next_session(company, monkeypatch):
    with serving(company, "renewed", monkeypatch) as (config, service):
        good = chain_of(company, "good")
        chain, key = company.path("own.pem"), company.path("own.key")
        for source, target in (("host-rsa.pem", chain), ("host-rsa.key", key)):
            target.write_bytes(company.path(source).read_bytes())
            target.chmod(0o600)
        config.write_text(
            config.read_text().replace('"host-rsa.pem"', '"own.pem"').replace('"host-rsa.key"', '"own.key"')
        )
        until(lambda: service.events("listening"))
        service.process.send_signal(signal.SIGHUP)
        until(lambda: service.events("reloaded"))
        task, _ = known(service, good)
        assert chain_of(company, "host-rsa") == _presented(task)
        # Another one, as an enroller or an administrator puts it there.
        for source, target in (("good.pem", chain), ("good.key", key)):
            new = target.with_suffix(".new")
            new.write_bytes(company.path(source).read_bytes())
            new.chmod(0o600)
            new.replace(target)
        until(lambda: _presented(task) == chain_of(company, "good"))


def _presented(task):
    session = Session(task, room=8192)
    session.pki.acProfile = b"RSA"
    assert DONE == session.start()
    assert DONE == session.call(Message.GET_CERTIFICATE)
    session.pki.iAlertCode, session.pki.iAlertSide = 80, 1
    session.call(Message.HANDSHAKE_ALERT)
    return session.out


def test_handshakes_of_8_threads_on_both_sides_are_answered_by_the_board_and_all_told(
    company, monkeypatch, tmp_path
):
    with serving(company, "tls", monkeypatch) as (_, service):
        task, _ = known(service, chain_of(company, "good"))
        # Each side's partner is known to the board, beside that one.
        until(lambda: simulated(service, tmp_path, 1) and board(service)["entries"] >= 3)
        before = settled(service, task, chain_of(company, "good"))
        asked = len(service.verdicts()) - before["given"]
        sessions = simulated(service, tmp_path, 200)
        after = settled(service, task, chain_of(company, "good"))
        assert (0, 2) == (after["refused"], after["hosts"] - before["hosts"])
        # The service gave none of these verdicts; what the last sessions of a host lost, nobody tells.
        assert asked == len(service.verdicts()) - after["given"]
        assert 1 < after["given"] - before["given"] <= 401
        # One verdict for each side's partner.
        ids = {line["global"][16:48] for line in sessions}
        assert (400, 2) == (len(sessions), len(ids))
        assert ids <= {line["verdict_id"] for line in service.verdicts()}
        assert DONE == task.end()


def simulated(service, folder, count):
    """
    So many handshakes of 8 threads on both sides: the simulators' sessions.
    """
    both = ("--lib", str(hostsim.BUILD / "libcftpkie.so"), "--profile", "EC", "--threads", "8")
    for side in ("server", "client"):
        (folder / side).unlink(missing_ok=True)
    with hostsim.server(
        *(*both, "--client-auth", "--send-data", "--sessions", str(count)),
        trace=folder / "server",
        env=service.environment,
    ) as simulator:
        client = hostsim.run(
            *("client", *both, "--connect", f"127.0.0.1:{simulator.port}", "--sessions", str(count)),
            trace=folder / "client",
            env=service.environment,
        )
        run = simulator.finish()
    assert (0, 0) == (client.status, run.status), client.stderr + run.stderr
    return client.sessions + run.sessions


@pytest.fixture
def shared_folder():
    """
    A folder whose sockets the group of `nobody` may use, with the library and the simulator in it.
    """
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(folder, -1, _NOBODY)
    folder.chmod(0o2755)
    for file in (hostsim.BUILD / "libcftpkie.so", hostsim.PROGRAM):
        shutil.copy(file, folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_hosts_of_several_users_have_the_board_and_those_who_may_not_do_not(
    company, monkeypatch, shared_folder
):
    config = company.configure("users", board=True)
    path = shared_folder / "s"
    config.write_text(
        config.read_text().replace('socket = "users.sock"', f'socket = "{path}"\nallow_users = [{_NOBODY}]')
    )
    shutil.copy(company.path("good.pem"), shared_folder)
    (shared_folder / "good.pem").chmod(0o644)

    def by(user):
        done = subprocess.run(
            [
                *("setpriv", f"--reuid={user}", f"--regid={_NOBODY}", "--clear-groups"),
                *(shared_folder / "cft-hostsim", "raw", "--lib", shared_folder / "libcftpkie.so"),
                *("--pem-chain", shared_folder / "good.pem", "--profile", "RSA"),
            ],
            env={"CFTPKI_SOCKET": str(path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else done.returncode

    with real_service.running(config) as service:
        monkeypatch.setenv("CFTPKI_SOCKET", str(path))
        _, verdict_id = known(service, chain_of(company, "good"))
        until(lambda: board(service)["hosts"] == 1)
        answer = by(_NOBODY)
        assert ("done", verdict_id) == (answer["result"], answer["verdict_id"])
        until(lambda: board(service)["hosts"] == 2)
        before = board(service)["handed_out"]
        answer = by(_NOBODY - 1)
        assert answer == 5 or answer["result"] != "done", answer
        assert (before, 0) == (board(service)["handed_out"], board(service)["refused"])
