"""
Real handshakes through the real library and the real service, judged by what a foreign peer reads.

`libcftpkie.so` in the host simulator, `cftpki serve`, `openssl ocsp` and nginx behind it; `openssl`, `gnutls` and
`curl` are the partners.

More than 400 lines: one company and one service for every test; another file would start both again.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support import hostsim, native_host, pki, real_service, servers
from tests.support.ports import free_port

# One company and one service for the file.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("handshakes")]

LIBRARY = hostsim.BUILD / "libcftpkie.so"
VERSIONS = ("1.2", "1.3")
# partner → the alert that it must read, and the reason that the operator is told.
REFUSED = {
    "outside": (42, "name_constraints"),
    "no-eku": (43, "extended_key_usage"),
    "revoked": (44, "revoked"),
    "revoked-by-crl": (44, "revoked"),
    "held": (44, "on_hold"),
    "below-withdrawn": (44, "revoked"),
    "expired": (45, "expired"),
    "early": (45, "not_yet_valid"),
    "unheard": (46, "status_not_established"),
    "not-known": (46, "status_not_established"),
    "stranger": (48, "no_path"),
    "large": (50, "undecodable"),
}
ACCEPTED = {"good": "ocsp", "good-ec": "ocsp", "by-crl": "crl"}
ALL_PHASES = [
    *("StartTask", "StartHandshake", "GetCertificate", "GetCAList", "CryptData"),
    *("CheckCertificate", "HandshakeDone", "EndSession", "EndTask"),
]


def host(service, tmp_path, *arguments, lib=LIBRARY, **environment):
    return hostsim.server(
        *("--lib", lib, "--client-auth", "--send-data", "--profile", "RSA", *arguments),
        trace=tmp_path / "trace",
        env={**service.environment, **environment},
    )


def by_openssl(company, port, partner, version):
    return hostsim.s_client(port, f"-tls{version.replace('.', '_')}", *company.s_client(partner))


def by_gnutls(company, port, partner, version):
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
    return hostsim.gnutls_cli(port, *company.gnutls_cli(partner), "--priority", priority)


def by_curl(company, port, partner, version):
    """
    curl, with the alert's number where OpenSSL has packed it: reason 1000 + alert in "error:0A000414".
    """
    seen = hostsim.peer(
        [
            *("curl", "-sS", "--resolve", f"localhost:{port}:127.0.0.1", f"https://localhost:{port}/"),
            *("--cacert", str(company.path("root.pem")), "--tls-max", version, f"--tlsv{version}"),
            *("--cert", str(company.path(f"{partner}.pem")), "--key", str(company.path(f"{partner}.key"))),
        ]
    )
    if "(60) SSL certificate verification failed" in seen:
        # curl's own words for alert 45; what it finds wrong itself is "SSL certificate problem".
        return "SSL alert number 45"
    found = re.search(r"error:0A000([0-9A-F]{3})", seen)
    return f"SSL alert number {int(found[1], 16) - 1000}" if found else seen


PEERS = {"openssl": by_openssl, "gnutls": by_gnutls, "curl": by_curl}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("partner", REFUSED)
def test_refused_partner_reads_the_alert_and_the_operator_is_told_why(
    company, service, tmp_path, partner, peer, version
):
    alert, reason = REFUSED[partner]
    before = len(service.verdicts())
    with host(service, tmp_path, "--expect", str(alert)) as simulator:
        seen = PEERS[peer](company, simulator.port, partner, version)
        run = simulator.finish()
    assert alert == hostsim.alert_seen(seen), seen
    assert (0, alert, "local") == (run.status, run.sessions[0]["alert"], run.sessions[0]["side"])
    assert ["CheckCertificate", "HandshakeAlert", "EndTask"] == run.phases[-3:]
    (verdict,) = service.verdicts()[before:] or service.events("check_certificate_refused")[-1:]
    assert reason == verdict["reason"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("partner", ACCEPTED)
def test_good_partner_is_let_in_and_its_source_is_named(company, service, tmp_path, partner, peer, version):
    before = len(service.verdicts())
    with host(service, tmp_path) as simulator:
        seen = PEERS[peer](company, simulator.port, partner, version)
        run = simulator.finish()
    assert None is hostsim.alert_seen(seen), seen
    assert ("hello" in seen) is (peer != "curl"), seen
    assert ("from cft-hostsim" == seen) is (peer == "curl"), seen
    assert 0 == run.status
    # TLS 1.2 signs before it asks for the client's chain, 1.3 likewise: the documents' order in both.
    assert ALL_PHASES == run.phases
    (verdict,) = service.verdicts()[before:]
    assert ("accepted", None) == (verdict["status"], verdict["reason"])
    assert verdict["source"].startswith(ACCEPTED[partner])
    area = bytes.fromhex(run.sessions[0]["global"])
    assert verdict["verdict_id"] == area[8:24].hex()


@pytest.mark.parametrize(("version", "alert"), [("1.2", 40), ("1.3", 116)])
def test_client_without_certificate_is_refused_without_asking(company, service, tmp_path, version, alert):
    with host(service, tmp_path, "--expect", str(alert)) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version.replace('.', '_')}")
        run = simulator.finish()
    assert (0, alert) == (run.status, hostsim.alert_seen(seen))
    assert "CheckCertificate" not in run.phases


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", ["RSA", "EC", "KEY"])
def test_server_identity_signs_in_the_service_or_is_handed_over(company, service, tmp_path, profile, version):
    """
    The peer verifies the chain that the exit gave, and the signature with its key.
    """
    with host(service, tmp_path, "--profile", profile) as simulator:
        seen = hostsim.s_client(
            *(simulator.port, f"-tls{version.replace('.', '_')}", *company.s_client("good")),
            *("-CAfile", company.path("root.pem"), "-verify_return_error"),
        )
        run = simulator.finish()
    assert 0 == run.status, seen
    assert "Verify return code: 0 (ok)" in seen
    assert {"EC": "ECDSA"}.get(profile, "RSA") in re.findall(r"Peer signature type: (\S+)", seen)[0].upper()
    (crypt,) = run.all("CryptData")
    assert ("key" if profile == "KEY" else "output") == crypt["kind"]


def test_server_without_client_authentication_needs_no_verdict(company, service, tmp_path):
    before = len(service.verdicts())
    with host(service, tmp_path, "--no-client-auth") as simulator:
        seen = hostsim.s_client(simulator.port, *company.s_client("revoked"))
        run = simulator.finish()
    assert 0 == run.status
    assert "hello" in seen
    assert {"CheckCertificate", "GetCAList"}.isdisjoint(run.phases)
    assert before == len(service.verdicts())


def test_server_lists_the_anchors_to_its_clients(company, service, tmp_path):
    with host(service, tmp_path) as simulator:
        seen = hostsim.s_client(simulator.port, "-tls1_2", *company.s_client("good"))
        simulator.finish()
    listed = seen.partition("Acceptable client certificate CA names\n")[2].splitlines()[0]
    assert "CN = Company Root" == listed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("partner", "alert"), [("good", None), ("good-ec", 49), ("revoked", 44)])
def test_partner_that_the_rule_does_not_list_is_denied_access(
    company, service, tmp_path, partner, alert, peer, version
):
    """
    After path and revocation: who is revoked hears that.
    """
    expect = str(alert) if alert else "accept"
    with host(service, tmp_path, "--profile", "LIST", "--expect", expect) as simulator:
        seen = PEERS[peer](company, simulator.port, partner, version)
        run = simulator.finish()
    assert (0, alert) == (run.status, hostsim.alert_seen(seen)), seen


# -- our host as the client ------------------------------------------------------------------------------------


def connect(company, service, tmp_path, partner, version, *arguments, peer=(), profile="RSA"):
    """
    Our host connects to `openssl s_server` with a partner's certificate; the run and what the server printed.
    """
    port, log = free_port(), tmp_path / "s_server"
    chain = str(company.path(f"{partner}.pem"))
    # It ends by itself when it has read all of the one connection, so its log is whole.
    command = ["openssl", "s_server", "-naccept", "1", "-accept", str(port), "-rev"]
    command += [f"-tls{version.replace('.', '_')}"]
    command += ["-cert", chain, "-key", str(company.path(f"{partner}.key")), "-cert_chain", chain]
    with servers.running([*command, *map(str, peer)], port, log) as process:
        run = hostsim.run(
            *("client", "--lib", LIBRARY, "--connect", f"127.0.0.1:{port}", "--send-data"),
            *("--profile", profile, *arguments),
            trace=tmp_path / "trace",
            env=service.environment,
        )
        process.wait(hostsim.WAIT_S)
    return run, log.read_text()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("partner", REFUSED)
def test_refused_server_reads_the_alert(company, service, tmp_path, partner, version):
    alert, _ = REFUSED[partner]
    run, log = connect(company, service, tmp_path, partner, version, "--expect", str(alert))
    assert (0, alert, "local") == (run.status, run.sessions[0]["alert"], run.sessions[0]["side"]), log
    assert alert == hostsim.alert_seen(log)
    assert ["StartTask", "StartHandshake", "CheckCertificate", "HandshakeAlert", "EndTask"] == run.phases


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("partner", ACCEPTED)
def test_good_server_is_accepted_without_client_authentication(company, service, tmp_path, partner, version):
    run, log = connect(company, service, tmp_path, partner, version)
    assert 0 == run.status, log
    assert ["CheckCertificate", "HandshakeDone", "EndSession", "EndTask"] == run.phases[-4:]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("listed", "sent"), [("root.pem", True), ("strangers-root.pem", False)])
def test_client_certificate_is_chosen_by_the_servers_list(company, service, tmp_path, listed, sent, version):
    """
    It is sent only to a server that names a CA above it; the server's own log says what came.
    """
    peer = ["-verify", "3", "-CAfile", company.path(listed)]
    run, log = connect(company, service, tmp_path, "good", version, peer=peer)
    assert 0 == run.status, log
    assert ("CN = host-rsa" in log) is sent, log
    assert sent is bool(run.all("CryptData"))


@pytest.mark.parametrize("version", VERSIONS)
def test_gnutls_server_lets_our_client_in_and_reads_its_refusal(company, service, tmp_path, version):
    """
    The refusal is read in TLS 1.2 alone: of one that is not encrypted in 1.3 gnutls-serv tells no number.
    """
    for partner, alert in (("good", 0), ("revoked", 44)):
        port, log = free_port(), tmp_path / f"gnutls-serv-{partner}"
        command = ["gnutls-serv", "-d", "5", "-p", str(port), "--echo", *company.gnutls_cli(partner)]
        if not alert:
            # A server that insists on a certificate reports any alert in its place as its absence.
            command += ["--require-client-cert", "--verify-client-cert"]
            command += ["--x509cafile", str(company.path("root.pem"))]
        with servers.running(command, port, log):
            run = hostsim.run(
                *("client", "--lib", LIBRARY, "--connect", f"127.0.0.1:{port}", "--send-data"),
                *("--profile", "EC", "--tls-min", version, "--tls-max", version),
                *("--expect", str(alert) if alert else "accept"),
                trace=tmp_path / f"trace-{partner}",
                env=service.environment,
            )
            if version == "1.2" and alert:
                servers.wait_for_words(log, b"Alert[2|44]")
        assert 0 == run.status, log.read_text()
        assert (1 if not alert else 0) == len(run.all("CryptData"))


@pytest.mark.parametrize("stapled", [True, False])
def test_stapled_answer_counts_where_the_responder_is_down(company, service, tmp_path, stapled):
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"this_update": now - timedelta(minutes=5), "next_update": now + timedelta(hours=1)}
    answer = pki.make_ocsp_response(
        company.mute, company.unheard, produced_at=now - timedelta(minutes=5), **times
    )
    staple = tmp_path / "staple.der"
    staple.write_bytes(answer)
    peer = ["-status_file", staple] if stapled else []
    expect = "accept" if stapled else "46"
    run, log = connect(
        company, service, tmp_path, "unheard", "1.3", "--staple", "--expect", expect, peer=peer
    )
    assert 0 == run.status, log


# -- rules and phases left to the host -------------------------------------------------------------------------


def test_profile_without_a_rule_is_refused_with_80(company, service, tmp_path):
    with host(service, tmp_path, "--profile", "NOBODY", "--expect", "80") as simulator:
        seen = by_openssl(company, simulator.port, "good", "1.2")
        run = simulator.finish()
    assert (0, 80) == (run.status, hostsim.alert_seen(seen))
    assert ["StartTask", "StartHandshake", "EndTask"] == run.phases
    assert "no_rule" == service.events("start_handshake_refused")[-1]["reason"]


@pytest.mark.parametrize(("partner", "alert"), [("good", None), ("revoked", 44)])
def test_phases_left_to_the_host_use_its_own_certificate_and_still_judge(
    company, service, tmp_path, partner, alert
):
    arguments = ["--profile", "HOST", *company.own_pki(), "--expect", str(alert) if alert else "accept"]
    with host(service, tmp_path, *arguments) as simulator:
        seen = by_openssl(company, simulator.port, partner, "1.2")
        run = simulator.finish()
    assert (0, alert) == (run.status, hostsim.alert_seen(seen))
    assert ["not_handled"] == [line["result"] for line in run.all("GetCertificate")]


@pytest.mark.parametrize(("partner", "alert"), [("revoked", None), ("stranger", 48)])
def test_check_left_to_the_host_is_decided_by_its_own_pki(company, service, tmp_path, partner, alert):
    """
    The host's own PKI knows no revocation; that it refuses a stranger shows that somebody decides.
    """
    arguments = ["--profile", "CHECK", *company.own_pki(), "--expect", str(alert) if alert else "accept"]
    with host(service, tmp_path, *arguments) as simulator:
        seen = by_openssl(company, simulator.port, partner, "1.2")
        run = simulator.finish()
    assert (0, alert) == (run.status, hostsim.alert_seen(seen)), seen
    assert ["not_handled"] == [line["result"] for line in run.all("CheckCertificate")]


@pytest.mark.parametrize(("partner", "asked", "results"), [("good", True, []), (None, False, ["error"])])
def test_handshake_that_ends_without_the_check_that_its_rule_requires_is_refused(
    company, service, tmp_path, partner, asked, results
):
    """
    As of a session that is resumed: the host does not ask for a certificate, and CheckCertificate is not called.
    """
    with hostsim.server(
        *("--lib", LIBRARY, "--profile", "REQUIRED", "--expect", "any"),
        *(("--client-auth",) if asked else ()),
        trace=tmp_path / "trace",
        env=service.environment,
    ) as simulator:
        hostsim.s_client(simulator.port, *(company.s_client(partner) if partner else ()))
        run = simulator.finish()
    done = [line["result"] for line in run.all("HandshakeDone")]
    assert (results or ["done"], asked) == (done, run.all("CheckCertificate") != [])
    (session,) = [line for line in run.lines if line.get("event") == "session"]
    assert (asked, "done" if asked else "exit") == (session["established"], session["how"])


# -- the service goes away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_service_killed_in_mid_handshake_accepts_nobody_and_recovers(company, tmp_path, version):
    """
    The partner has the server's flight and holds its own back; the service dies; the partner goes on.
    """
    with (
        real_service.running(company.configure(f"k{version[-1]}")) as service,
        host(service, tmp_path, "--sessions", "2", "--expect", "any") as simulator,
    ):
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=hostsim.WAIT_S) as wire:
            partner = _Partner(company, version, wire)
            partner.up_to_the_certificate()
            service.kill()
            assert 80 == partner.finish()
        service.start()
        assert "hello" in by_openssl(company, simulator.port, "good", version)
        run = simulator.finish()
    assert [(False, 80), (True, 0)] == [(line["established"], line["alert"]) for line in run.sessions]
    assert ["error", "done"] == [line["result"] for line in run.all("CheckCertificate")]
    assert [80] == [line["alert"] for line in run.all("HandshakeAlert")]


class _Partner:
    """
    A TLS client whose messages are sent when the test says so.
    """

    def __init__(self, company, version, wire):
        context = ssl.create_default_context(cafile=company.path("root.pem"))
        context.load_cert_chain(company.path("good.pem"), company.path("good.key"))
        context.minimum_version = context.maximum_version = {
            "1.2": ssl.TLSVersion.TLSv1_2,
            "1.3": ssl.TLSVersion.TLSv1_3,
        }[version]
        self.incoming, self.outgoing, self.wire = ssl.MemoryBIO(), ssl.MemoryBIO(), wire
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.done = False

    def step(self):
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass

    def up_to_the_certificate(self):
        """
        Hello out, the server's flight in, the certificate in hand (and not sent).
        """
        self.step()
        self.wire.sendall(self.outgoing.read())
        while not self.outgoing.pending:
            received = self.wire.recv(65536)
            assert received, "the server hung up"
            self.incoming.write(received)
            self.step()

    def finish(self):
        """
        Send what was held back; the alert that comes.
        """
        self.wire.sendall(self.outgoing.read())
        try:
            while True:
                received = self.wire.recv(65536)
                assert received, "the server hung up without an alert"
                self.incoming.write(received)
                if self.done:
                    self.tls.read()
                else:
                    self.step()
                    assert not self.done, "the handshake was completed"
        except ssl.SSLWantReadError:
            return self.finish()
        except ssl.SSLError as error:
            return {"TLSV1_ALERT_INTERNAL_ERROR": 80}.get(error.reason, error.reason)


@pytest.mark.parametrize("version", VERSIONS)
def test_service_that_never_ran_refuses_with_80_until_it_does(company, tmp_path, version):
    with real_service.running(company.configure(f"n{version[-1]}")) as service:
        service.kill()
        with host(service, tmp_path, "--sessions", "2", "--expect", "any", *company.own_pki()) as simulator:
            assert 80 == hostsim.alert_seen(by_openssl(company, simulator.port, "good", version))
            service.start()
            assert "hello" in by_openssl(company, simulator.port, "good", version)
            run = simulator.finish()
    assert [False, True] == [line["established"] for line in run.sessions]


@pytest.mark.parametrize("said_by", ["environment", "service"])
def test_unreachable_left_to_the_host_is_decided_by_its_own_pki(company, tmp_path, said_by):
    """
    What the service said last at StartTask, or the environment where it has said nothing yet.
    """
    rule = "not_handled" if said_by == "service" else "refuse"
    with real_service.running(company.configure(f"u{said_by[0]}", unreachable=rule)) as service:
        environment = {"CFTPKI_UNREACHABLE": "not_handled"} if said_by == "environment" else {}
        if said_by == "environment":
            service.kill()
        arguments = ["--sessions", "3", "--expect", "any", *company.own_pki()]
        with host(service, tmp_path, *arguments, **environment) as simulator:
            if said_by == "service":
                # The task has begun once a session has: only then the service may go.
                assert 44 == hostsim.alert_seen(by_openssl(company, simulator.port, "revoked", "1.2"))
                service.kill()
            else:
                assert "hello" in by_openssl(company, simulator.port, "good", "1.2")
            assert "hello" in by_openssl(company, simulator.port, "good", "1.2")
            assert 48 == hostsim.alert_seen(by_openssl(company, simulator.port, "stranger", "1.2"))
            run = simulator.finish()
    assert "not_handled" == run.all("StartHandshake")[-1]["result"]


# -- many, forks, sanitizers -----------------------------------------------------------------------------------


def test_200_handshakes_from_8_threads_on_both_sides(company, service, tmp_path):
    """
    Server and client are our host: 400 sessions of the service, each with its own answer.
    """
    before = len(service.verdicts())
    with host(service, tmp_path, "--threads", "8", "--sessions", "200") as simulator:
        client = hostsim.run(
            *("client", "--lib", LIBRARY, "--connect", f"127.0.0.1:{simulator.port}", "--profile", "EC"),
            *("--threads", "8", "--sessions", "200", "--send-data"),
            trace=tmp_path / "client-trace",
            env=service.environment,
        )
        run = simulator.finish()
    assert (0, 0) == (client.status, run.status), client.stderr + run.stderr
    for side in (client, run):
        assert list(range(1, 201)) == sorted(line["session"] for line in side.all("HandshakeDone"))
        assert 200 == len({line["global"][16:48] for line in side.sessions}), "a verdict of its own for each"
    assert 400 == len(service.verdicts()[before:])


def test_good_and_bad_partners_at_once_get_each_their_own_answer(company, service, tmp_path):
    names = ["good", "revoked", "expired", "stranger", "no-eku", "outside", "good-ec", "by-crl"] * 4
    expected = [REFUSED[name][0] if name in REFUSED else None for name in names]
    with host(
        service, tmp_path, "--threads", "8", "--sessions", str(len(names)), "--expect", "any"
    ) as simulator:
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda name: by_openssl(company, simulator.port, name, "1.2"), names))
        simulator.finish()
    assert expected == [hostsim.alert_seen(output) for output in seen]


@pytest.mark.parametrize("where", ["--fork", "--fork-handshake"])
@pytest.mark.parametrize("version", VERSIONS)
def test_forked_child_goes_on_with_its_session(company, service, tmp_path, where, version):
    with host(service, tmp_path, where, "--sessions", "4", "--expect", "any") as simulator:
        seen = [
            by_openssl(company, simulator.port, partner, version)
            for partner in ("good", "revoked", "good", "expired")
        ]
        run = simulator.finish()
    assert [None, 44, None, 45] == [hostsim.alert_seen(output) for output in seen]
    assert 0 == run.status
    assert 4 == len(run.all("CheckCertificate"))


def _outcomes(company, service, tmp_path, command):
    """
    A good and a refused handshake in both modes, in memory, with a program in front of the simulator.
    """
    for mode in ("server", "client"):
        for partner, expect in (("good", "accept"), ("revoked", "44")):
            done = subprocess.run(
                [
                    *command,
                    *("bench", "--lib", str(LIBRARY), "--mode", mode, "--client-auth", "--profile", "RSA"),
                    *("--expect", expect, "--sessions", "2", "--peer-ca", str(company.path("root.pem"))),
                    *("--peer-cert", str(company.path(f"{partner}.pem"))),
                    *("--peer-key", str(company.path(f"{partner}.key"))),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=3 * hostsim.WAIT_S,
                env={**os.environ, **service.environment},
            )
            assert 0 == done.returncode, (mode, partner, done.stdout, done.stderr)
            assert "" == done.stderr


def test_valgrind_finds_nothing_in_handshakes_of_each_outcome(company, service, tmp_path):
    valgrind = shutil.which("valgrind")
    assert valgrind is not None, "valgrind is missing: scripts/system-packages test"
    command = [valgrind, "-q", "--leak-check=full", "--error-exitcode=99", hostsim.program()]
    _outcomes(company, service, tmp_path, command)


def test_sanitizers_find_nothing_in_real_handshakes(company, service, tmp_path):
    """
    Library and simulator with AddressSanitizer and UndefinedBehaviorSanitizer: partners good, bad and unreadable.
    """
    build = native_host.build_native(
        tmp_path / "san", "-DCFTPKIE_SANITIZE=ON", targets=("cftpkie", "cft-hostsim")
    )
    names = ("good", "revoked", "expired", "stranger", "large", "good-ec")
    command = [build / "hostsim/cft-hostsim", "server", "--listen", "127.0.0.1:0", "--client-auth"]
    command += ["--lib", build / "libcftpkie.so", "--send-data", "--profile", "RSA", "--threads", "4"]
    command += ["--sessions", str(2 * len(names)), "--expect", "any", "--quiet"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **service.environment},
    ) as process:
        try:
            port = int(process.stdout.readline().removeprefix("listening "))
            for version in VERSIONS:
                for name in names:
                    expected = REFUSED[name][0] if name in REFUSED else None
                    assert expected == hostsim.alert_seen(by_openssl(company, port, name, version))
            _, errors = process.communicate(timeout=hostsim.WAIT_S)
        finally:
            process.kill()
    assert (0, "") == (process.returncode, errors)


# -- building --------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("building")
def test_vendors_header_is_built_against_when_named_and_forgotten_when_not(tmp_path):
    """
    `make native CFTPKIE_INC=DIR`: the library without the simulator, which speaks our header; then `make native`.
    """
    build = tmp_path / "build"
    # The environment is there, or this test would not run: make must not go to install it again.
    make = ["make", "-o", ".venv/.ready", "native", f"BUILD={build}"]
    for options, ours in ((["CFTPKIE_INC=native/tests/vendor_mock"], False), ([], True)):
        subprocess.run([*make, *options], cwd=native_host.ROOT, check=True, capture_output=True)
        assert (build / "libcftpkie.so").exists()
        cached = (build / "CMakeCache.txt").read_text()
        assert ("vendor_mock" in cached) is not ours
    assert (build / "hostsim/cft-hostsim").exists()
