"""
Which phases are called, in which order, with what; and what the simulator does with each answer.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import subprocess
from pathlib import Path

import pytest

from tests.support import hostsim, pki, servers
from tests.support.hostsim import World
from tests.support.ports import free_port

pytestmark = pytest.mark.real

VERSIONS = ["1_2", "1_3"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hostsim.make_world(tmp_path_factory.mktemp("phases"))


def serve(world: World, tmp_path: Path, *arguments, **script):
    return hostsim.server(
        *("--lib", hostsim.TESTEXIT, "--send-data", *arguments),
        trace=tmp_path / "trace",
        env=world.script(**script),
    )


def connect(world: World, tmp_path: Path, peer_options=(), *arguments, **script):
    """
    A client-mode run against `openssl s_server`; the run and what the server printed.
    """
    port = free_port()
    log = tmp_path / "s_server"
    command = ["openssl", "s_server", "-naccept", "1", "-accept", str(port), "-rev", *map(str, peer_options)]
    command += ["-cert", str(world.path("rsa.pem")), "-key", str(world.path("rsa.key"))]
    command += ["-cert_chain", str(world.path("issuing.pem"))]
    with servers.running(command, port, log) as process:
        run = hostsim.run(
            *("client", "--lib", hostsim.TESTEXIT, "--connect", f"127.0.0.1:{port}"),
            *("--send-data", *arguments),
            trace=tmp_path / "trace",
            env=world.script(chain=world.path("client.chain"), key=world.path("client.key")) | script,
        )
        process.wait(hostsim.WAIT_S)  # it has read, and written down, all of the one connection
    return run, log.read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_server_with_client_authentication_calls_all_phases_in_order(world, tmp_path, version):
    with serve(world, tmp_path, "--client-auth") as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert 0 == run.status, seen
    assert [
        *("StartTask", "StartHandshake", "GetCertificate", "GetCAList", "CryptData"),
        *("CheckCertificate", "HandshakeDone", "EndSession", "EndTask"),
    ] == run.phases
    assert "hello" in seen


@pytest.mark.parametrize("version", VERSIONS)
def test_server_without_client_authentication_asks_for_no_ca_list_and_checks_nothing(
    world, tmp_path, version
):
    with serve(world, tmp_path, "--no-client-auth") as simulator:
        hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert 0 == run.status
    assert [
        *("StartTask", "StartHandshake", "GetCertificate", "CryptData"),
        *("HandshakeDone", "EndSession", "EndTask"),
    ] == run.phases


@pytest.mark.parametrize("version", VERSIONS)
def test_client_asked_for_a_certificate_checks_and_then_authenticates(world, tmp_path, version):
    options = [f"-tls{version}", "-Verify", "3", "-CAfile", world.path("root.pem")]
    run, log = connect(world, tmp_path, options)
    assert 0 == run.status, log
    assert [
        *("StartTask", "StartHandshake", "CheckCertificate", "GetCertificate", "CryptData"),
        *("HandshakeDone", "EndSession", "EndTask"),
    ] == run.phases


@pytest.mark.parametrize("version", VERSIONS)
def test_client_not_asked_gives_no_certificate_and_signs_nothing(world, tmp_path, version):
    run, log = connect(world, tmp_path, [f"-tls{version}"])
    assert 0 == run.status, log
    assert [
        *("StartTask", "StartHandshake", "CheckCertificate"),
        *("HandshakeDone", "EndSession", "EndTask"),
    ] == run.phases


@pytest.mark.parametrize("version", VERSIONS)
def test_refusal_deletes_the_context_after_handshake_alert(world, tmp_path, version):
    with serve(
        world, tmp_path, "--client-auth", "--expect", "44", CheckCertificate="error", alert=44
    ) as simulator:
        hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert ["CheckCertificate", "HandshakeAlert", "EndTask"] == run.phases[-3:]


@pytest.mark.parametrize("version", VERSIONS)
def test_chain_reaches_the_exit_as_the_peer_sent_it(world, tmp_path, version):
    """
    Byte for byte, with several certificates; another chain (the negative twin) is noticed.
    """
    for wanted, status in (("client", 0), ("rsa", 1)):
        script = {"want_chain": world.path(f"{wanted}.chain")}
        with serve(world, tmp_path, "--client-auth", **script) as simulator:
            hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
            assert status == simulator.finish().status


@pytest.mark.parametrize("version", VERSIONS)
def test_ca_list_of_the_exit_is_what_the_client_sees(world, tmp_path, version):
    with serve(world, tmp_path, "--client-auth", ca_list=world.path("cas.list")) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        assert 0 == simulator.finish().status
    names = seen.split("Acceptable client certificate CA names\n")[1].splitlines()[:2]
    assert ["CN = Simulator Root", "CN = Simulator Issuing CA"] == names


@pytest.mark.parametrize("version", VERSIONS)
def test_ca_list_of_the_server_reaches_the_exit_in_client_mode(world, tmp_path, version):
    dump = tmp_path / "ca-list"
    options = [f"-tls{version}", "-Verify", "3", "-CAfile", world.path("root.pem")]
    run, log = connect(
        world,
        tmp_path,
        options,
        **world.script(chain=world.path("client.chain"), key=world.path("client.key"), dump_ca_list=dump),
    )
    assert 0 == run.status, log
    assert hostsim.ca_list_bytes(pki.name_der(world.root.name)) == dump.read_bytes()


@pytest.mark.parametrize(
    ("label", "version", "sigalg", "scheme", "size"),
    [
        ("rsa", "1_3", "rsa_pss_rsae_sha256", 0x0804, 32),
        ("rsa", "1_3", "rsa_pss_rsae_sha384", 0x0805, 48),
        ("rsa", "1_3", "rsa_pss_rsae_sha512", 0x0806, 64),
        ("rsa", "1_2", "rsa_pss_rsae_sha256", 0x0804, 32),
        ("rsa", "1_2", "RSA+SHA256", 0, 51),
        ("rsa", "1_2", "RSA+SHA512", 0, 83),
        ("ec", "1_3", "ecdsa_secp256r1_sha256", 0x0403, 32),
        ("ec", "1_2", "ECDSA+SHA256", 0x0403, 32),
        ("ec", "1_2", "ECDSA+SHA384", 0x0503, 48),
    ],
)
@pytest.mark.parametrize("hand_over", [0, 1])
def test_crypt_data_gets_digest_and_scheme_and_the_peer_verifies(
    *, world, tmp_path, label, version, sigalg, scheme, size, hand_over
):
    script = {
        "chain": world.path(f"{label}.chain"),
        "key": world.path(f"{label}.key"),
        "hand_over": hand_over,
    }
    with serve(world, tmp_path, **script) as simulator:
        seen = hostsim.s_client(
            simulator.port, f"-tls{version}", "-sigalgs", sigalg, "-CAfile", world.path("root.pem")
        )
        run = simulator.finish()
    call = run.all("CryptData")[0]
    assert (scheme, size) == (call["scheme"], call["in"])
    assert ("key" if hand_over else "output") == call["kind"]
    assert 0 == run.status
    assert "Verify return code: 0 (ok)" in seen


def test_crypt_data_tls10_gets_md5_and_sha1(world, tmp_path):
    with serve(world, tmp_path, "--tls-min", "1.0", "--tls-max", "1.0") as simulator:
        hostsim.s_client(simulator.port, "-tls1", "-cipher", "DEFAULT@SECLEVEL=0")
        run = simulator.finish()
    assert (0, 36) == (run.all("CryptData")[0]["scheme"], run.all("CryptData")[0]["in"])
    assert (0, "TLSv1") == (run.status, run.sessions[0]["version"])


def test_crypt_data_with_another_key_is_noticed_by_the_peer(world, tmp_path):
    with serve(world, tmp_path, "--expect", "51", key=world.path("client.key")) as simulator:
        hostsim.s_client(simulator.port, "-tls1_2")
        run = simulator.finish()
    assert (0, "remote") == (run.status, run.sessions[0]["side"])


@pytest.mark.parametrize("phase", ["GetCertificate", "GetCAList", "CryptData", "CheckCertificate"])
@pytest.mark.parametrize("version", VERSIONS)
def test_error_of_a_phase_ends_the_session(world, tmp_path, phase, version):
    with serve(
        world, tmp_path, "--client-auth", "--expect", "80", **{phase: "error", "alert": 80}
    ) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert 0 == run.status
    assert 80 == hostsim.alert_seen(seen), seen
    assert [phase, "HandshakeAlert", "EndTask"] == run.phases[-3:]


@pytest.mark.parametrize("phase", ["StartHandshake", "GetCertificate", "GetCAList"])
def test_error_of_a_phase_before_the_server_speaks_goes_out_with_the_exits_code(world, tmp_path, phase):
    with serve(
        world, tmp_path, "--client-auth", "--expect", "49", **{phase: "error", "alert": 49}
    ) as simulator:
        seen = hostsim.s_client(simulator.port, *world.as_client())
        assert 0 == simulator.finish().status
    assert 49 == hostsim.alert_seen(seen), seen


def test_error_of_start_handshake_opens_no_session(world, tmp_path):
    with serve(world, tmp_path, "--expect", "80", StartHandshake="error") as simulator:
        seen = hostsim.s_client(simulator.port, "-tls1_2")
        run = simulator.finish()
    assert 80 == hostsim.alert_seen(seen), seen
    assert ["StartTask", "StartHandshake", "EndTask"] == run.phases


def test_error_of_start_task_is_exit_status_5(world, tmp_path):
    with serve(world, tmp_path, StartTask="error") as simulator:
        run = simulator.finish()
    assert (5, ["StartTask"]) == (run.status, run.phases)


def test_start_task_not_handled_is_never_called_again(world, tmp_path):
    with serve(
        world, tmp_path, "--client-auth", "--sessions", "2", *world.own_pki(), StartTask="not_handled"
    ) as simulator:
        for _ in range(2):
            hostsim.s_client(simulator.port, *world.as_client())
        run = simulator.finish()
    assert (0, ["StartTask"]) == (run.status, run.phases)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("phase", ["StartHandshake", "HandshakeDone", "EndSession"])
def test_not_handled_at_a_frame_phase_changes_nothing(world, tmp_path, phase, version):
    with serve(world, tmp_path, "--client-auth", **{phase: "not_handled"}) as simulator:
        hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client())
        run = simulator.finish()
    assert (0, 9) == (run.status, len(run.phases))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("client", "status"), [("client", 0), ("stranger", 1)])
def test_check_not_handled_is_decided_by_the_hosts_own_ca_file(world, tmp_path, client, status, version):
    script = {"CheckCertificate": "not_handled", "GetCAList": "not_handled"}
    with serve(world, tmp_path, "--client-auth", *world.own_pki(), **script) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}", *world.as_client(client))
        run = simulator.finish()
    assert status == run.status
    assert run.sessions[0]["own_verification"]
    assert (48 if status else None) == hostsim.alert_seen(seen)
    assert "CN = Simulator Root" in seen


def test_check_not_handled_without_a_ca_file_refuses(world, tmp_path):
    """
    Nobody is trusted by default: "not handled" is not an acceptance.
    """
    with serve(
        world, tmp_path, "--client-auth", "--expect", "48", CheckCertificate="not_handled"
    ) as simulator:
        hostsim.s_client(simulator.port, "-tls1_2", *world.as_client())
        assert 0 == simulator.finish().status


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("label", ["rsa", "ec"])
def test_certificate_and_crypt_not_handled_use_the_hosts_own_files(world, tmp_path, label, version):
    script = {"GetCertificate": "not_handled", "CryptData": "not_handled"}
    with serve(world, tmp_path, *world.own_pki(label), **script) as simulator:
        seen = hostsim.s_client(simulator.port, f"-tls{version}", "-CAfile", world.path("root.pem"))
        run = simulator.finish()
    assert (0, 1) == (run.status, len(run.all("CryptData")))
    assert f"CN = server-{label}" in seen
    assert "Verify return code: 0 (ok)" in seen


@pytest.mark.parametrize("version", VERSIONS)
def test_client_without_a_certificate_sends_an_empty_list(world, tmp_path, version):
    options = [f"-tls{version}", "-verify", "3", "-CAfile", world.path("root.pem")]
    run, log = connect(world, tmp_path, options, **world.script(chain=None, CryptData="error"))
    assert 0 == run.status, log
    assert 0 == run.all("GetCertificate")[0]["out"]
    assert [] == run.all("CryptData")


@pytest.mark.parametrize("version", VERSIONS)
def test_client_without_a_certificate_can_alert_instead(world, tmp_path, version):
    run, log = connect(
        world,
        tmp_path,
        [f"-tls{version}", "-verify", "3"],
        *("--alert-without-certificate", "--expect", "40"),
        **world.script(chain=None),
    )
    assert 0 == run.status, log
    assert 40 == hostsim.alert_seen(log)
    assert (40, "local") == (run.all("HandshakeAlert")[0]["alert"], run.all("HandshakeAlert")[0]["side"])


@pytest.mark.parametrize("garbage", [b"\x00", b"\x00\x00\x05abc", b"\x00\x00\x04\x00\x00\x01\x30", b"PEM"])
def test_certificate_output_that_is_no_chain_ends_the_session(world, tmp_path, garbage):
    (tmp_path / "garbage").write_bytes(garbage)
    with serve(world, tmp_path, "--expect", "80", chain=tmp_path / "garbage") as simulator:
        hostsim.s_client(simulator.port, "-tls1_2")
        assert 0 == simulator.finish().status


@pytest.mark.parametrize(
    "garbage", [b"\x01", b"\x01\x02\x00\x00", b"\x01\x01\x00\x05\x00\x03abc", b"\x01\x01\x00\x01\x00"]
)
def test_ca_list_output_that_is_no_list_ends_the_session(world, tmp_path, garbage):
    (tmp_path / "garbage").write_bytes(garbage)
    with serve(world, tmp_path, "--client-auth", "--expect", "80", ca_list=tmp_path / "garbage") as simulator:
        hostsim.s_client(simulator.port, "-tls1_2", *world.as_client())
        assert 0 == simulator.finish().status


def test_start_handshake_narrows_versions_and_suites(world, tmp_path):
    with serve(world, tmp_path, tls_max=0x0303, suite=0xC02F) as simulator:
        seen = hostsim.s_client(simulator.port)
        run = simulator.finish()
    assert ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256") == (
        run.sessions[0]["version"],
        run.sessions[0]["suite"],
    )
    assert "Cipher is ECDHE-RSA-AES128-GCM-SHA256" in seen


def test_start_handshake_cannot_widen_the_profile(world, tmp_path):
    """
    Neither a version that is not offered, nor no client authentication where the profile asks for it.
    """
    with serve(
        world, tmp_path, "--client-auth", "--tls-max", "1.2", tls_max=0x0304, client_auth=0
    ) as simulator:
        hostsim.s_client(simulator.port, *world.as_client())
        run = simulator.finish()
    assert ("TLSv1.2", 1) == (run.sessions[0]["version"], len(run.all("CheckCertificate")))


def test_start_handshake_can_ask_for_client_authentication(world, tmp_path):
    with serve(world, tmp_path, "--no-client-auth", client_auth=1) as simulator:
        hostsim.s_client(simulator.port, *world.as_client())
        assert 1 == len(simulator.finish().all("CheckCertificate"))


def test_start_handshake_with_a_suite_that_was_not_offered_ends_the_session(world, tmp_path):
    with serve(world, tmp_path, "--expect", "80", suite=0x0005) as simulator:
        seen = hostsim.s_client(simulator.port)
        assert 0 == simulator.finish().status
    assert 80 == hostsim.alert_seen(seen)


def test_staple_reaches_the_exit_in_tls13(world, tmp_path):
    answer = tmp_path / "answer.der"
    answer.write_bytes(pki.make_ocsp_response(world.issuing, world.identities["rsa"]))
    run, log = connect(world, tmp_path, ["-tls1_3", "-status_file", answer], "--staple")
    assert 0 == run.status, log
    assert len(answer.read_bytes()) == run.all("CheckCertificate")[0]["staple"]


def test_nothing_is_resumed(world, tmp_path):
    """
    A resumed session has no chain to check: every handshake is a whole one, though the client offers its session.
    """
    with serve(world, tmp_path, "--client-auth", "--sessions", "6") as simulator:
        seen = hostsim.s_client(simulator.port, "-tls1_2", "-reconnect", *world.as_client())
        run = simulator.finish()
    assert (6, 0) == (seen.count("\nNew, "), seen.count("\nReused, "))
    assert 6 == len(run.all("CheckCertificate"))


def test_curl_and_gnutls_peers_agree(world, tmp_path):
    with serve(world, tmp_path, "--client-auth", "--sessions", "2") as simulator:
        got = subprocess.run(
            [
                *("curl", "-sS", "--resolve", f"localhost:{simulator.port}:127.0.0.1"),
                *("--cacert", world.path("root.pem"), "--cert", world.path("client.pem")),
                *("--key", world.path("client.key"), f"https://localhost:{simulator.port}/"),
            ],
            capture_output=True,
            text=True,
            timeout=hostsim.WAIT_S,
            check=False,
        )
        seen = hostsim.gnutls_cli(
            simulator.port,
            *("--x509certfile", world.path("client.pem"), "--x509keyfile", world.path("client.key")),
        )
        run = simulator.finish()
    assert ("from cft-hostsim", "", 0) == (got.stdout, got.stderr, got.returncode)
    assert "Handshake was completed" in seen
    assert 0 == run.status


def test_gnutls_server_and_client_mode_agree(world, tmp_path):
    port = free_port()
    log = tmp_path / "gnutls-serv"
    command = ["gnutls-serv", "-p", str(port), "--echo", "--require-client-cert", "--verify-client-cert"]
    command += ["--x509certfile", str(world.path("rsa.pem")), "--x509keyfile", str(world.path("rsa.key"))]
    command += ["--x509cafile", str(world.path("root.pem"))]
    with servers.running(command, port, log):
        for version in ("1.2", "1.3"):
            run = hostsim.run(
                *("client", "--lib", hostsim.TESTEXIT, "--connect", f"127.0.0.1:{port}"),
                *("--send-data", "--tls-min", version, "--tls-max", version),
                trace=tmp_path / f"trace{version}",
                env=world.script(chain=world.path("client.chain"), key=world.path("client.key")),
            )
            assert 0 == run.status, log.read_text()
            assert 1 == len(run.all("CryptData"))


def test_late_refusal_tls13_is_seen_by_the_client_with_its_first_read(world, tmp_path):
    """
    HandshakeDone has been called by then, so EndSession is the one phase that is left.
    """
    options = ["-tls1_3", "-Verify", "3", "-verify_return_error", "-CAfile", world.path("root.pem")]
    run, log = connect(
        world,
        tmp_path,
        options,
        *("--expect", "48"),
        **world.script(chain=world.path("stranger.chain"), key=world.path("stranger.key")),
    )
    assert 0 == run.status, log
    assert (48, "remote") == (run.sessions[0]["alert"], run.sessions[0]["side"])
    assert ["HandshakeDone", "EndSession", "EndTask"] == run.phases[-3:]
