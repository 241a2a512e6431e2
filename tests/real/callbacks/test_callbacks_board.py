"""
libcftpki_ssl.so beside a real service with the verdict board: known partners without a call of it, and not a moment longer than it
says.

Both ends of TLS are in `ssl_drive`, where one process makes many handshakes; statuses come from `openssl ocsp` and nginx. What the
library makes of boards that are none is in native/tests/test_ssl_board.c.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.protocol.codec import (
    HEADER,
    Frame,
    Message,
    Mode,
    Result,
    Tag,
    decode_header,
    decode_payload,
    encode,
)
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import callbacks, partners, real_service
from tests.support.learned_revocations import remember
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("callback-board")]

# What a handshake asks of the service itself.
ASKED = ("START_HANDSHAKE", "GET_CERTIFICATE", "GET_CA_LIST", "CHECK_CERTIFICATE", "HANDSHAKE_DONE")
SIDES = {"client": "client_cert,cert_verify,info", "server": "cert,cert_verify"}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("cb")) as made:
        yield made


@contextlib.contextmanager
def serving(company, name, *, rule=""):
    config = company.configure(name, board=True)
    config.write_text(config.read_text().replace('profile = "KEY"\n', f'profile = "KEY"\n{rule}\n'))
    with real_service.running(config) as service:
        yield config, service
        assert [] == service.failures()


def ask(service, message, fields):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(service.socket))
        connection.sendall(encode(Frame(message, response=False, sequence=1, fields=fields)))
        with connection.makefile("rb") as reader:
            header = decode_header(reader.read(HEADER.size))
            return decode_payload(header, reader.read(header.length))


def status(service):
    return json.loads(ask(service, Message.STATUS, {}).fields[Tag.JSON])


def asked(service):
    requests = status(service)["requests"]
    return {name: requests[name.lower()] for name in ASKED if requests.get(name.lower())}


class Program:
    """
    A program that shakes hands whenever it is told to, each time with the same partner: one process, which has the board.
    """

    def __init__(self, service, company, partner, side, *, callback="", tls="1.3"):
        peer = callbacks.Peer(
            company.path(f"{partner}.pem"), company.path(f"{partner}.key"), company.path("root.pem")
        )
        given = {
            **peer.options,
            "side": side,
            "callbacks": callback or SIDES[side],
            "profiles": "KEY",
            "peer-auth": "need",
            "tls": tls,
        }
        self.handshakes = 0
        words = [str(word) for pair in given.items() for word in pair]
        self.process = subprocess.Popen(
            [callbacks.DRIVE, "again", *words],
            env={**service.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert 0 == self.process.wait(callbacks.WAIT_S)
        self.process.stdout.close()

    def shake(self):
        self.handshakes += 1
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def verdict(self):
        """
        The verdict's id of a handshake that came to its end.
        """
        done = self.shake()
        assert (True, 0, "") == (done["done"], done["alert"], done["reason"])
        return done["verdict"]

    def known(self):
        """
        Shake hands until the board knows the partner: the verdict's id does not change any more.
        """
        ids = []

        def same():
            ids.append(self.verdict())
            return len(ids) > 2 and ids[-1] == ids[-2] == ids[-3]

        until(same)
        return ids[-1]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("side", SIDES)
def test_known_partner_costs_no_call_of_the_service_and_is_in_its_evidence(company, side, tls):
    with (
        serving(company, f"{side[0]}{tls[2]}") as (_, service),
        Program(service, company, "good", side, tls=tls) as program,
    ):
        verdict = program.known()
        # Each handshake has a line, which comes a moment later; the key that was handed over is there by now.
        until(lambda: len(service.events("handshake_done")) == program.handshakes)
        before, asked_before = status(service)["board"], asked(service)
        for _ in range(20):
            assert verdict == program.verdict()
        until(lambda: status(service)["board"]["given"] - before["given"] >= 20)
        after = status(service)["board"]
        assert asked_before == asked(service)
        assert (20, 0, 0) == (
            after["given"] - before["given"],
            after["lost"] - before["lost"],
            after["refused"],
        )
        # A record for each, that repeats the verdict's; each line names the session that the host's other lines name.
        assert verdict in {line["verdict_id"] for line in service.verdicts()}
        done = [line for line in service.events("handshake_done") if line["verdict_id"] == verdict]
        given = {line["session_ref"] for line in service.verdicts()}
        assert len(done) >= 20
        assert {line["session_ref"] for line in done[-20:]} <= given
        assert f"{side}-KEY" == done[-1]["session_rule"]


def test_another_partner_and_a_refused_one_are_asked_about(company):
    with serving(company, "others") as (_, service):
        with Program(service, company, "good", "server") as program:
            program.known()
        for partner, alert in (("by-crl", 0), ("revoked", 44), ("stranger", 48)):
            before = asked(service)
            with Program(service, company, partner, "server") as program:
                assert alert == program.shake()["alert"]
                refused = program.shake()
                assert alert == refused["alert"]
            after = asked(service)
            expected = 1 if alert == 0 else 2
            assert after["CHECK_CERTIFICATE"] - before["CHECK_CERTIFICATE"] >= expected


@pytest.mark.parametrize("side", SIDES)
def test_revocation_that_is_learned_counts_in_the_next_handshake(company, side):
    with (
        serving(company, f"rev-{side[0]}") as (config, service),
        Program(service, company, "good-ec", side) as program,
    ):
        program.known()
        remember(company, config, "good-ec")
        until(lambda: program.shake()["alert"] == 44)
        for _ in range(3):
            done = program.shake()
            assert (False, 44, "revoked") == (done["done"], done["alert"], done["reason"])


def test_partner_that_is_blocked_is_refused_in_the_next_handshake_also_of_a_dead_service(company):
    with serving(company, "blk") as (config, service), Program(service, company, "good", "client") as program:
        program.known()
        for words, alert in ((["block", "CN=good", "--reason", "stolen"], 49), (["unblock", "CN=good"], 0)):
            done = subprocess.run(
                [real_service.PROGRAM, "partners", *words, "--config", config],
                capture_output=True,
                check=False,
            )
            assert 0 == done.returncode, done.stderr
            assert alert == program.shake()["alert"]
            if alert:
                service.kill()
                assert 80 == program.shake()["alert"]
                service.start()


def test_reload_that_takes_a_partner_out_counts_at_once(company):
    with serving(company, "rld") as (config, service), Program(service, company, "good", "server") as program:
        program.known()
        config.write_text(
            config.read_text().replace(
                'profile = "KEY"\n', 'profile = "KEY"\npartners = { subjects = ["CN=somebody else"] }\n'
            )
        )
        service.process.send_signal(signal.SIGHUP)
        until(lambda: service.events("reloaded"))
        assert "not_allowed" == program.shake()["reason"]


def test_rule_without_board_has_a_verdict_of_its_own_for_each_handshake(company):
    with (
        serving(company, "off", rule="board = false") as (_, service),
        Program(service, company, "good", "server") as program,
    ):
        ids = [program.verdict() for _ in range(4)]
        assert 4 == len(set(ids))
        assert set(ids) == {line["verdict_id"] for line in service.verdicts()}
        assert 0 == status(service)["board"]["given"]
        service.kill()
        assert 80 == program.shake()["alert"]
        service.start()


@pytest.mark.parametrize("side", SIDES)
def test_known_partner_goes_on_while_the_service_is_frozen_or_dead_and_no_stranger_does(company, side):
    with (
        serving(company, f"dead-{side[0]}") as (_, service),
        Program(service, company, "good", side) as program,
    ):
        verdict = program.known()
        program.verdict()
        service.process.send_signal(signal.SIGSTOP)
        assert verdict == program.verdict()
        service.process.send_signal(signal.SIGCONT)
        service.kill()
        assert verdict == program.verdict()
        with Program(service, company, "by-crl", side) as other:
            assert 80 == other.shake()["alert"]
        service.start()
        # Whoever listens is asked: the new one judges, and gives its own board.
        assert verdict != program.verdict()


def keep_busy(service, company, partner, stop, results):
    """
    Ask about a stranger's chain again and again.
    """
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    chain = encode_chain(tuple(one.public_bytes(Encoding.DER) for one in found))
    fields = {Tag.CHAIN: chain, Tag.MODE: int(Mode.SERVER), Tag.PROFILE: "KEY"}
    while not stop.is_set():
        with contextlib.suppress(OSError):
            results.append(ask(service, Message.CHECK, fields).fields[Tag.RESULT])


def kill(service, role):
    """
    End a process of the service, and wait until another one has its role.
    """
    killed = service.child(role)
    os.kill(killed, signal.SIGKILL)
    until(lambda: service.child(role) != killed)


def test_known_partner_is_answered_while_strangers_keep_the_service_busy_and_its_processes_are_killed(
    company,
):
    """
    No stranger is let in by it, and no session of the known partner comes to the service.
    """
    stop, results = threading.Event(), []
    # Errors in the log are what is expected here.
    with (
        real_service.running(company.configure("busy", board=True)) as service,
        Program(service, company, "good", "server") as program,
    ):
        verdict = program.known()
        program.verdict()
        begun = asked(service)["START_HANDSHAKE"]
        threads = [
            threading.Thread(target=keep_busy, args=(service, company, name, stop, results))
            for name in ("stranger", "revoked", "outside", "large", "not-known")
        ]
        for thread in threads:
            thread.start()
        try:
            for role in ("judge", "evidence", "judge"):
                for _ in range(5):
                    assert verdict == program.verdict()
                kill(service, role)
            for _ in range(5):
                assert verdict == program.verdict()
            assert begun == asked(service)["START_HANDSHAKE"]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert len(results) > len(threads)
    assert Result.DONE not in results
