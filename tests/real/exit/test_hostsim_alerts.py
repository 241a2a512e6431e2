"""
The alert that the exit wants is the one that a foreign peer reads.
"""

import pytest

from tests.support import hostsim, servers
from tests.support.hostsim import World
from tests.support.ports import free_port

pytestmark = pytest.mark.real

DOCUMENTED = (40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 60, 71, 80, 90)

# Those for which OpenSSL has a verification error; the simulator puts the others on the wire itself.
OPENSSL_EXPRESSES = {40, 42, 43, 44, 45, 46, 48, 51, 80}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hostsim.make_world(tmp_path_factory.mktemp("alerts"))


def refuse(world: World, tmp_path, alert, *arguments):
    return hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--send-data", "--expect", str(alert), *arguments),
        trace=tmp_path / "trace",
        env=world.script(CheckCertificate="error", alert=alert),
    )


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("alert", DOCUMENTED)
def test_refusal_server_mode_gnutls_reads_every_documented_code(world, tmp_path, alert, version):
    with refuse(world, tmp_path, alert) as simulator:
        seen = hostsim.gnutls_cli(
            simulator.port,
            *("--x509certfile", world.path("client.pem"), "--x509keyfile", world.path("client.key")),
            *("--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}"),
        )
        run = simulator.finish()
    assert alert == hostsim.alert_seen(seen), seen
    assert 0 == run.status
    by = "openssl" if alert in OPENSSL_EXPRESSES else ("plaintext" if version == "1.2" else "sealed")
    assert by == run.sessions[0]["alert_by"]


@pytest.mark.parametrize("version", ["1_2", "1_3"])
@pytest.mark.parametrize("alert", DOCUMENTED)
def test_refusal_server_mode_openssl_reads_every_documented_code(world, tmp_path, alert, version):
    """
    Except 90 in TLS 1.3: OpenSSL's client takes user_canceled for a closing and says nothing (RFC 8446 6.1).
    """
    with refuse(world, tmp_path, alert) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert (None if (alert, version) == (90, "1_3") else alert) == hostsim.alert_seen(seen), seen
    assert 0 == run.status


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"])
def test_refusal_sealed_alert_holds_for_each_aead(world, tmp_path, suite):
    with refuse(world, tmp_path, 49, "--suites13", suite) as simulator:
        seen = hostsim.s_client(simulator.port, "-tls1_3", *world.as_client())
        run = simulator.finish()
    assert 49 == hostsim.alert_seen(seen), seen
    assert (suite, "sealed") == (run.sessions[0]["suite"], run.sessions[0]["alert_by"])


@pytest.mark.parametrize("version", ["1_2", "1_3"])
@pytest.mark.parametrize("alert", DOCUMENTED)
def test_refusal_client_mode_openssl_server_reads_the_code(world, tmp_path, alert, version):
    port = free_port()
    log = tmp_path / "s_server"
    command = ["openssl", "s_server", "-naccept", "1", "-accept", str(port), "-rev", f"-tls{version}"]
    command += ["-cert", str(world.path("rsa.pem")), "-key", str(world.path("rsa.key"))]
    with servers.running(command, port, log) as process:
        run = hostsim.run(
            *("client", "--lib", hostsim.TESTEXIT, "--connect", f"127.0.0.1:{port}", "--expect", str(alert)),
            trace=tmp_path / "trace",
            env=world.script(CheckCertificate="error", alert=alert),
        )
        process.wait(hostsim.WAIT_S)  # it has read, and written down, all of the one connection
    assert 0 == run.status
    assert ["CheckCertificate", "HandshakeAlert"] == run.phases[2:4]
    assert (alert, "local") == (run.sessions[0]["alert"], run.sessions[0]["side"])
    if (alert, version) != (90, "1_3"):
        assert alert == hostsim.alert_seen(log.read_text())


@pytest.mark.parametrize("reason", [0, 1, 47000, -5, 116])
def test_refusal_with_a_code_that_is_not_documented_is_internal_error(world, tmp_path, reason):
    """
    The value must be a recognised one; whatever else stands there, the session is refused.
    """
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--expect", "80"),
        trace=tmp_path / "trace",
        env=world.script(CheckCertificate="error", alert=reason),
    ) as simulator:
        seen = hostsim.s_client(simulator.port, "-tls1_2", *world.as_client())
        run = simulator.finish()
    assert 80 == hostsim.alert_seen(seen), seen
    assert 0 == run.status


def test_refusal_other_than_expected_is_exit_status_1(world, tmp_path):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--expect", "44"),
        trace=tmp_path / "trace",
        env=world.script(CheckCertificate="error", alert=45),
    ) as simulator:
        hostsim.s_client(simulator.port, "-tls1_2", *world.as_client())
        assert 1 == simulator.finish().status


@pytest.mark.parametrize(("version", "alert"), [("1_2", 40), ("1_3", 116)])
def test_client_without_certificate_is_refused_by_openssl(world, tmp_path, version, alert):
    """
    The exit is not asked: there is no chain. OpenSSL's own codes, which differ by version.
    """
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--client-auth", "--send-data", "--expect", str(alert)),
        trace=tmp_path / "trace",
        env=world.script(),
    ) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}")
        run = simulator.finish()
    assert alert == hostsim.alert_seen(seen), seen
    assert 0 == run.status
    assert [] == run.all("CheckCertificate")
    assert (alert, "local") == (run.all("HandshakeAlert")[0]["alert"], "local")


def test_alert_of_the_peer_is_given_to_the_exit_as_remote(world, tmp_path):
    with hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--expect", "48"), trace=tmp_path / "trace", env=world.script()
    ) as simulator:
        hostsim.s_client(
            simulator.port, "-tls1_2", "-verify_return_error", "-CAfile", world.path("stranger.pem")
        )
        run = simulator.finish()
    assert 0 == run.status, run.sessions
    assert (48, "remote") == (run.all("HandshakeAlert")[0]["alert"], run.all("HandshakeAlert")[0]["side"])
    assert "EndSession" not in run.phases
