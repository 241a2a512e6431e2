"""
The adapters for Python: pyOpenSSL's callbacks, and the standard library's verified server socket.

`examples/server.py` with real partners by `openssl s_client`; the client of the socket also against a scripted service.
"""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from OpenSSL import SSL, crypto

from cftpki_ext.adapters import pyopenssl, stdlib
from cftpki_ext.adapters.client import Answer, Partner, ServiceClient
from cftpki_ext.protocol.codec import Message, Result, Tag
from tests.support import callbacks, hostsim, partners, real_service
from tests.support.native_service import HANG_UP, FakeService, answer

# One company and one service for the file.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("callbacks-python")]

EXAMPLE = Path(__file__).parents[3] / "examples" / "server.py"
VERDICT = "0198c0de00000123456789abcdef0123"
PASSWORD = b"correct horse"
PARTNERS = {
    "good": None,
    "revoked": "revoked",
    "expired": "-",  # OpenSSL says so before anybody asks the service
    "stranger": "-",
    "unheard": "status_not_established",
}


@pytest.fixture(scope="module")
def service(company):
    with real_service.running(partners.with_password(company, PASSWORD.decode())) as running:
        yield running
        assert [] == running.failures()


def by_openssl(company, port, name, version):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", f"-tls{version.replace('.', '_')}"]
    command += ["-CAfile", company.path("root.pem"), "-ign_eof", *company.s_client(name)]
    done = subprocess.run(
        command, input="hello\n", capture_output=True, text=True, timeout=callbacks.WAIT_S, check=False
    )
    return done.stdout + done.stderr


def example(company, kind, count):
    files = company.path("host-rsa.pem"), company.path("host-rsa.key"), company.path("root.pem")
    return (sys.executable, EXAMPLE, kind, "RSA", count, *files)


def echoed(said):
    return "\nhello\n" in said


def test_verified_socket_gives_the_program_accepted_partners_alone(service, company):
    for version in ("1.2", "1.3"):
        with callbacks.serving(service.environment, *example(company, "stdlib", 1)) as host:
            for name in ("revoked", "unheard", "expired", "stranger", "good"):
                said = by_openssl(company, host.port, name, version)
                assert (name == "good") == echoed(said)
            lines = host.lines()
        expected = [PARTNERS[name] for name in ("revoked", "unheard", "expired", "stranger")]
        assert [*expected, None] == [
            None if line == "accepted" else line.split(":")[0].removeprefix("refused ") for line in lines
        ]


def test_pyopenssl_server_lets_in_who_is_good(service, company):
    for version in ("1.2", "1.3"):
        with callbacks.serving(service.environment, *example(company, "pyopenssl", len(PARTNERS))) as host:
            alerts = {}
            for name in PARTNERS:
                said = by_openssl(company, host.port, name, version)
                assert (name == "good") == echoed(said)
                alerts[name] = hostsim.alert_seen(said)
            lines = host.lines()
        # pyOpenSSL does not name the reason to OpenSSL: an unnamed error is 80. OpenSSL's own have their own alert.
        assert {"good": None, "revoked": 80, "expired": 45, "stranger": 48, "unheard": 80} == alerts
        told = [line.split(":")[0] for line in lines if not line.startswith("handshake failed")]
        assert ["accepted", "refused revoked", "refused status_not_established"] == told


@pytest.mark.parametrize("kind", ["stdlib", "pyopenssl"])
def test_nobody_comes_in_without_the_service(company, tmp_path, kind):
    absent = {"CFTPKI_SOCKET": str(tmp_path / "none.sock")}
    with callbacks.serving(absent, *example(company, kind, 1)) as host:
        said = by_openssl(company, host.port, "good", "1.3")
        assert not echoed(said)
        assert host.process.stdout.readline().startswith("refused internal_error: ")


def resumed_handshakes(company, port, version):
    """
    Two connections of one client that offers its session again: was the second one resumed?
    """
    context = ssl.create_default_context(cafile=company.path("root.pem"))
    context.check_hostname = False
    context.load_cert_chain(company.path("good.pem"), company.path("good.key"))
    context.minimum_version = context.maximum_version = version
    session = None
    reused = []
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=callbacks.WAIT_S) as plain,
            context.wrap_socket(plain, session=session) as tls,
        ):
            tls.sendall(b"hello")
            assert b"hello" == tls.recv(64)
            session = tls.session
            reused.append(tls.session_reused)
    return reused


@pytest.mark.parametrize("kind", ["stdlib", "pyopenssl"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_does_not_pass_the_service(service, company, kind, version):
    """
    pyOpenSSL's sessions are not resumed; the standard library's may be, in TLS 1.2, and are judged all the same.
    """
    with callbacks.serving(service.environment, *example(company, kind, 2)) as host:
        before = len(service.verdicts())
        reused = resumed_handshakes(company, host.port, version)
        lines = [line for line in host.lines() if not line.startswith("handshake failed")]
    assert ["accepted"] * 2 == lines
    assert 2 == len(service.verdicts()) - before
    assert kind == "stdlib" or [False, False] == reused


def test_pyopenssl_client_judges_its_server(service, company):
    """
    Both directions of one library: a pyOpenSSL client against `openssl s_server`'s kind of server, in memory.
    """
    for name, reason in (("good", ""), ("revoked", "revoked")):
        told = []
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.load_verify_locations(str(company.path("root.pem")))
        where = ServiceClient(service.socket)
        pyopenssl.protect(client, where, server=False, profile="RSA", answered=told.append)
        server = SSL.Context(SSL.TLS_SERVER_METHOD)
        server.use_certificate_chain_file(str(company.path(f"{name}.pem")))
        server.use_privatekey_file(str(company.path(f"{name}.key")))
        ends = SSL.Connection(client), SSL.Connection(server)
        ends[0].set_connect_state()
        ends[1].set_accept_state()
        done = _in_memory(*ends)
        assert (reason == "") == done
        (verdict,) = told
        assert (reason == "", reason) == (verdict.accepted, verdict.reason)


def _in_memory(client, server):
    for _ in range(6):
        for here, there in ((client, server), (server, client)):
            try:
                here.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return False
            with contextlib.suppress(SSL.WantReadError):
                there.bio_write(here.bio_read(65536))
    return client.get_state_string() == b"SSL negotiation finished successfully"


def test_password_reads_an_encrypted_key(service, company):
    pkcs8 = (
        "openssl",
        "pkey",
        "-aes256",
        "-in",
        company.path("good.key"),
        "-passout",
        f"pass:{PASSWORD.decode()}",
    )
    pem = subprocess.check_output(pkcs8)
    callback = pyopenssl.password_callback(ServiceClient(service.socket))

    def ask(longest):
        return callback(longest, *(False, None))

    assert PASSWORD == ask(1024)
    assert b"" == ask(len(PASSWORD) - 1)
    key = crypto.load_privatekey(crypto.FILETYPE_PEM, pem, lambda *_: ask(1024))
    assert 2048 == key.bits()


CHAIN = [b"\x30\x03\x02\x01\x01"]
FAILED = Answer(accepted=False, alert=80, reason="internal_error", detail="", verdict_id="")


def asked(path):
    given = ServiceClient(path, timeout_s=0.5).check(
        CHAIN, server=True, profile="P", partner=Partner(address="192.0.2.1", port=1, local_port=2)
    )
    return given.accepted, given.alert, given.reason


def test_client_tells_the_service_what_it_was_told(tmp_path):
    reply = {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: VERDICT, Tag.JSON: "{}"}
    with FakeService(tmp_path / "s.sock", {Message.CHECK: reply}) as service:
        client = ServiceClient(service.path)
        staple = bytes(65537)
        given = client.check(CHAIN, server=False, staple=b"staple")
        assert Answer(accepted=True, alert=0, reason="", detail="", verdict_id=VERDICT) == given
        assert client.check(CHAIN, server=True, profile="P", staple=staple).accepted
        first, second = service.frames
    assert (2, b"staple") == (first.number(Tag.MODE), first.raw(Tag.STAPLE))
    assert (1, "P", len(staple)) == (
        *(second.number(Tag.MODE), second.fields[Tag.PROFILE], second.number(Tag.STAPLE_LENGTH)),
    )


def _other(_service, connection, frame):
    fields = {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: VERDICT, Tag.JSON: "{}"}
    connection.sendall(answer(frame, fields, sequence=frame.sequence + 1))


def _half(_service, connection, frame):
    fields = {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: VERDICT, Tag.JSON: "{}"}
    connection.sendall(answer(frame, fields)[:40])
    connection.recv(1)


def _silence(_service, connection, _frame):
    connection.recv(1)


@pytest.mark.parametrize(
    "reply",
    [
        HANG_UP,
        b"HTTP/1.1 200 OK\r\n\r\n",
        {Tag.RESULT: Result.DONE, Tag.VERDICT_ID: "", Tag.JSON: "{}"},
        {Tag.RESULT: Result.NOT_HANDLED},
        {Tag.RESULT: Result.FAILED, Tag.ALERT: 80, Tag.DETAIL: "no"},
        _other,
        _half,
        _silence,
    ],
)
def test_anything_but_an_acceptance_refuses_with_80(tmp_path, reply):
    with FakeService(tmp_path / "s.sock", {Message.CHECK: reply}) as service:
        assert (False, 80, "internal_error") == asked(service.path)
    assert (False, 80, "internal_error") == asked(service.path)


def test_chain_that_is_too_long_for_the_socket_refuses(tmp_path):
    with FakeService(tmp_path / "s.sock") as service:
        given = ServiceClient(service.path).check([bytes(200_000)], server=True)
        assert (False, 80) == (given.accepted, given.alert)
        assert [] == service.frames


def test_refused_partner_is_closed_before_the_program_has_it(service, company):
    """
    `verify` for a program that accepts by itself: the error has the answer, the socket is closed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(company.path("host-rsa.pem"), company.path("host-rsa.key"))
    context.load_verify_locations(company.path("root.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        partner = threading.Thread(target=by_openssl, args=(company, port, "revoked", "1.3"))
        partner.start()
        plain, _ = listener.accept()
        connection = context.wrap_socket(plain, server_side=True)
        with pytest.raises(stdlib.PartnerRefusedError) as refused:
            stdlib.verify(connection, ServiceClient(service.socket), profile="RSA")
        partner.join(callbacks.WAIT_S)
    assert (44, "revoked") == (refused.value.answer.alert, refused.value.answer.reason)
    assert -1 == connection.fileno()
