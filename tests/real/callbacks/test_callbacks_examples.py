"""
The programs of examples/ with real partners: good, revoked, expired, unknown, and with the service absent.
"""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import callbacks, hostsim, partners, real_service, servers
from tests.support.ports import free_port

# One company and one service for the file.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("callback-examples")]

VERSIONS = ("1.2", "1.3")
PARTNERS = {
    "good": (None, "accepted good"),
    "revoked": (44, "refused revoked: "),
    "expired": (45, "refused expired: "),
    "stranger": (48, "refused no_path: "),
    "unheard": (46, "refused status_not_established: "),
}
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def service(company):
    with real_service.running(partners.with_password(company, PASSWORD)) as running:
        yield running
        assert [] == running.failures()


@pytest.fixture(scope="module")
def absent(tmp_path_factory):
    return {"CFTPKI_SOCKET": str(tmp_path_factory.mktemp("no") / "none.sock")}


def by_openssl(company, port, name, version):
    """
    What `openssl s_client` says as that partner.
    """
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", f"-tls{version.replace('.', '_')}"]
    command += [
        "-CAfile",
        company.path("root.pem"),
        "-verify_return_error",
        "-ign_eof",
        *company.s_client(name),
    ]
    done = subprocess.run(
        command, input="hello\n", capture_output=True, text=True, timeout=callbacks.WAIT_S, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("example", ["server", "poll_server"])
def test_server_lets_in_who_is_good_and_tells_the_others_why(service, company, example):
    """
    The chain with the root is complete: the client has the root alone, and verifies.
    """
    program = callbacks.EXAMPLES / example
    for version in VERSIONS:
        with callbacks.serving(service.environment, program, "RSA", len(PARTNERS)) as host:
            for name, (alert, _) in PARTNERS.items():
                said = by_openssl(company, host.port, name, version)
                assert alert == hostsim.alert_seen(said)
                assert (alert is None) == ("hello" in said)
            lines = host.lines()
        told = lines[:-1] if example == "poll_server" else lines
        assert len(PARTNERS) == len(told)
        for line, (_, expected) in zip(told, PARTNERS.values(), strict=True):
            assert line.startswith(expected)


def test_poll_server_serves_many_while_some_wait(service, company):
    """
    Sixteen partners at once, one thread: handshakes wait for the service together.
    """
    count = 16
    context = ssl.create_default_context(cafile=company.path("root.pem"))
    context.check_hostname = False
    context.load_cert_chain(company.path("good.pem"), company.path("good.key"))

    def talk(port):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=callbacks.WAIT_S) as plain,
            context.wrap_socket(plain) as tls,
        ):
            tls.sendall(b"hello")
            return tls.recv(64)

    with (
        callbacks.serving(service.environment, callbacks.EXAMPLES / "poll_server", "RSA", count) as host,
        ThreadPoolExecutor(count) as pool,
    ):
        answers = list(pool.map(talk, [host.port] * count))
        lines = host.lines()
    assert [b"hello"] * count == answers
    assert ["accepted good"] * count == lines[:-1]
    assert 2 <= int(lines[-1].removeprefix("suspended at once: "))


@pytest.mark.parametrize("version", VERSIONS)
def test_gnutls_reads_the_same_alerts(service, company, version):
    """
    Another implementation of TLS as the partner.
    """
    only = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
    with callbacks.serving(service.environment, callbacks.EXAMPLES / "server", "RSA", len(PARTNERS)) as host:
        for name, (alert, _) in PARTNERS.items():
            command = ["gnutls-cli", "--port", str(host.port), "--x509cafile", company.path("root.pem")]
            command += ["--priority", only, *company.gnutls_cli(name), "--no-ca-verification", "127.0.0.1"]
            done = subprocess.run(
                command,
                input="hello\n",
                capture_output=True,
                text=True,
                timeout=callbacks.WAIT_S,
                check=False,
            )
            assert alert == hostsim.alert_seen(done.stdout + done.stderr)
        told = host.lines()
    assert [True] * len(PARTNERS) == [
        line.startswith(expected) for line, (_, expected) in zip(told, PARTNERS.values(), strict=True)
    ]


@pytest.mark.parametrize("example", ["server", "poll_server"])
def test_server_without_the_service_refuses_everybody_with_80(absent, company, example):
    with callbacks.serving(absent, callbacks.EXAMPLES / example, "RSA", 2) as host:
        for version in VERSIONS:
            assert 80 == hostsim.alert_seen(by_openssl(company, host.port, "good", version))
        assert ["refused internal_error: cert cb error"] * 2 == host.lines()[:2]


@pytest.fixture(scope="module")
def foreign(company):
    """
    `openssl s_server` as each partner, for clients of ours; it asks for their certificate.
    """
    ports = {}
    with contextlib.ExitStack() as stack:
        for name in PARTNERS:
            ports[name] = free_port()
            command = ["openssl", "s_server", "-accept", f"127.0.0.1:{ports[name]}", "-Verify", "3", "-rev"]
            command += ["-verify_return_error", "-CAfile", company.path("root.pem"), *company.s_client(name)]
            log = company.path(f"s_server-{name}.log")
            stack.enter_context(servers.running(command, port=ports[name], log=log))
        yield ports


@pytest.mark.parametrize("trusting", [False, True], ids=["alone", "on top of OpenSSL"])
def test_client_goes_on_with_a_good_server_alone(service, company, foreign, trusting):
    root = [company.path("root.pem")] if trusting else []
    for name, (alert, expected) in PARTNERS.items():
        status, said = callbacks.run(
            service.environment, callbacks.EXAMPLES / "client", "RSA", foreign[name], *root
        )
        assert (0 if alert is None else 1) == status
        # OpenSSL knows no such root, and says so at a depth that is not ours.
        mine = not trusting or name != "stranger"
        assert said.startswith(expected if mine else "refused -: "), said


def test_client_without_the_service_refuses_every_server(absent, foreign):
    for name in PARTNERS:
        status, said = callbacks.run(absent, callbacks.EXAMPLES / "client", "RSA", foreign[name])
        assert (1, "refused internal_error: certificate verify failed\n") == (status, said)


def test_cpp_classes_of_secure_sockets_shape(service, company, foreign, absent):
    program = callbacks.EXAMPLES / "secure_sockets"
    root = company.path("root.pem")
    assert (0, "answered olleh\n") == callbacks.run(
        service.environment, program, "RSA", foreign["good"], root
    )
    for name, reason in (
        ("revoked", "revoked"),
        ("unheard", "status_not_established"),
        ("expired", "expired"),
    ):
        assert (1, f"refused {reason}\n") == callbacks.run(
            service.environment, program, "RSA", foreign[name], root
        )
    assert (1, "refused \n") == callbacks.run(service.environment, program, "RSA", foreign["stranger"], root)
    assert (1, "refused internal_error\n") == callbacks.run(absent, program, "RSA", foreign["good"], root)


def encrypted(company, tmp_path, password):
    path = tmp_path / "encrypted.key"
    subprocess.run(
        [
            "openssl",
            "pkey",
            "-aes256",
            "-in",
            company.path("good.key"),
            "-passout",
            f"pass:{password}",
            "-out",
            path,
        ],
        check=True,
        capture_output=True,
    )
    return path


def test_password_of_the_service_reads_the_hosts_key(service, company, foreign, absent, tmp_path):
    program = callbacks.EXAMPLES / "secure_sockets"
    root = company.path("root.pem")
    right = encrypted(company, tmp_path, PASSWORD)
    call = (program, "RSA", foreign["good"], root)
    assert (0, "key read\nanswered olleh\n") == callbacks.run(service.environment, *call, right)
    # The service that is absent has no password.
    status, said = callbacks.run(absent, *call, right)
    assert (1, f"unable to read private key {right}\n") == (status, said)
    wrong = encrypted(company, tmp_path, "something else")
    status, said = callbacks.run(service.environment, *call, wrong)
    assert (1, f"unable to read private key {wrong}\n") == (status, said)


def test_examples_are_a_project_of_their_own_against_an_installed_library(service, foreign, tmp_path):
    """
    `cmake --install`, and the examples from their folder alone, by what pkg-config says of the library.
    """
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert cmake is not None, "cmake is part of what `make setup` installs"
    root, build = tmp_path / "root", tmp_path / "build"
    commands = [[cmake, "--install", hostsim.BUILD, "--prefix", root]]
    commands += [
        [cmake, "-S", Path(__file__).parents[3] / "examples", "-B", build],
        [cmake, "--build", build],
    ]
    libraries: list[Path] = []
    for command in commands:
        where = {"PKG_CONFIG_PATH": str(libraries[0] / "pkgconfig")} if libraries else {}
        subprocess.run(command, env={**os.environ, **where}, check=True, capture_output=True)
        libraries = [path.parent for path in root.rglob("libcftpki_ssl.so")]
    environment = {**service.environment, "LD_LIBRARY_PATH": str(libraries[0])}
    status, said = callbacks.run(environment, build / "client", "RSA", foreign["good"])
    assert (0, "accepted good\n") == (status, said)
