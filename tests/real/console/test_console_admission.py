"""
Who may see the console and who not, over real sockets and real TLS: a local user, whoever has the link or the token, whoever has a
client certificate that our engine accepts.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import contextlib
import os
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from cftpki_ext.support.pem import certificates
from tests.support import console_site, real_service
from tests.support.console_site import configure, keep
from tests.support.ports import free_port

NOBODY = 65534
TOKEN = "0123456789abcdef" * 4


def over(path, **options):
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=60, **options
    )


def secret(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path.name


def tls_section(company, folder, port, more):
    """
    `[console]` on a loopback address with TLS.
    """
    return (
        f'[console]\nlisten = "127.0.0.1:{port}"\ncertificate = "{company.path("host-rsa.pem")}"\n'
        f'key = "{company.path("host-rsa.key")}"\n{more}'
    )


def client(company, port, name=None, **options):
    context = ssl.create_default_context(cafile=str(company.path("root.pem")))
    if name is not None:
        context.load_cert_chain(company.path(f"{name}.pem"), company.path(f"{name}.key"))
    return httpx.Client(verify=context, base_url=f"https://localhost:{port}", timeout=60, **options)


# --- the unix socket ------------------------------------------------------------------------------------------------------


def test_socket_is_for_its_user_and_group_and_what_is_asked_there_is_logged(tmp_path):
    config = configure(tmp_path, '[console]\ngroup = "root"\n')
    keep(tmp_path / "state", 3)
    before = sorted(path.name for path in (tmp_path / "state").rglob("*"))
    with console_site.running(config) as console, over(tmp_path / "console.sock") as browser:
        assert 0o660 == stat.S_IMODE((tmp_path / "console.sock").stat().st_mode)
        page = browser.get("/")
        assert (200, "nobody listens") == (
            page.status_code,
            "nobody listens" if "nobody listens" in page.text else "",
        )
        assert "✖" in page.text
        assert 200 == browser.get("/partners").status_code
        told = console.until("console_asked", 2)[-1]
        assert ("/partners", "200") == (told["path"], told["status"])
        assert "user" in told["who"]
        # Nothing was written: not even what SQLite makes beside a database.
        assert before == sorted(path.name for path in (tmp_path / "state").rglob("*"))
        for host in ("evil.example", "evil.example:8443", "localhost.evil.example"):
            assert 421 == browser.get("/", headers={"Host": host}).status_code
        assert [405, 405, 405] == [
            browser.request(method, "/").status_code for method in ("POST", "PUT", "DELETE")
        ]
        assert 404 == browser.post("/login", data={"token": "x"}).status_code
        head = browser.head("/partners")
        assert (200, "") == (head.status_code, head.text)
    assert not (tmp_path / "console.sock").exists()


def test_service_that_is_frozen_or_gone_is_red_and_one_that_runs_is_green(company, tmp_path):
    config = company.configure("seen")
    keep(company.path("seen.state"), 2)
    with (
        real_service.running(config) as service,
        console_site.running(config, "--listen", str(tmp_path / "c")) as console,
        over(tmp_path / "c") as browser,
    ):
        page = browser.get("/").text
        assert ("✓</span> answers" in page, "nobody listens" in page) == (True, False)
        service.process.send_signal(signal.SIGSTOP)
        try:
            page = browser.get("/").text
            assert ("Red:" in page, "does not answer: it is stopped (SIGSTOP)" in page) == (True, True)
            assert 200 == browser.get("/partners").status_code
        finally:
            service.process.send_signal(signal.SIGCONT)
        assert "✓</span> answers" in browser.get("/").text
        service.kill()
        page = browser.get("/").text
        assert ("Red:" in page, "hosts refuse whom the board does not know" in page) == (True, True)
        config.write_text(config.read_text() + 'colour = "red"\n')
        assert 200 == browser.get("/partners").status_code
        assert console.process.poll() is None
    with console_site.running(config, "--listen", str(tmp_path / "c")), over(tmp_path / "c") as browser:
        page = browser.get("/").text
        assert ("Red:" in page, "the service could not begin with it" in page, "colour" in page) == (
            True,
            True,
            True,
        )


def test_state_that_the_user_may_not_read_is_said_and_no_traceback():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        config = configure(place)
        keep(place / "state", 2)
        (place / "run").mkdir()
        os.chown(place / "run", NOBODY, -1)
        program = (
            "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            real_service.PROGRAM,
        )
        with (
            console_site.running(config, "--listen", str(place / "run" / "c"), program=program) as console,
            over(place / "run" / "c") as browser,
        ):
            page = browser.get("/")
            assert (200, True) == (page.status_code, "Red:" in page.text)
            answer = browser.get("/partners")
            assert (503, True, False) == (
                answer.status_code,
                "cannot be read by user nobody" in answer.text,
                "Traceback" in answer.text + console.log.read_text(),
            ), answer.text[-1500:]


# --- loopback, and the link -----------------------------------------------------------------------------------------------


def test_link_counts_once_and_without_it_nothing_is_seen(tmp_path):
    port = free_port()
    with console_site.running(configure(tmp_path), "--listen", f"127.0.0.1:{port}") as console:
        base = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=base, timeout=60) as stranger:
            for place in ("/", "/partners", "/verdicts/abcdef", "/trial", "/nope"):
                assert 401 == stranger.get(place).status_code
            # Whoever tries wrong ones shuts nobody out.
            assert [401] * 10 == [stranger.get(f"/enter/wrong{number}").status_code for number in range(10)]
            assert 401 == stranger.get("/", headers={"Cookie": f"cftpki-{port}=guessed"}).status_code
            assert 401 == stranger.post("/login", data={"token": ""}).status_code
            assert 200 == stranger.get("/static/console.css").status_code
            assert 421 == stranger.get("/", headers={"Host": "rebound.example"}).status_code
        link = console.link()
        with httpx.Client(timeout=60) as browser:
            assert 404 == browser.head(link).status_code
            answer = browser.get(link)
            cookie = answer.headers["set-cookie"]
            assert (303, True, True, False) == (
                answer.status_code,
                "HttpOnly" in cookie,
                "SameSite=strict" in cookie,
                link.rpartition("/")[2] in cookie,
            )
            assert 200 == browser.get(base + "/").status_code
            elsewhere = browser.get(base + "//evil.example/x")
            assert (404, False) == (elsewhere.status_code, 'href="//' in elsewhere.text)
            assert 401 == httpx.get(link, timeout=60).status_code
        following = console.until("console_link", 2)[-1]["link"]
        assert following != link
        assert 303 == httpx.get(following, timeout=60).status_code
        assert link.rpartition("/")[2] not in "".join(str(one) for one in console.events("console_asked"))


def test_address_that_is_not_loopback_is_not_served_without_tls_and_somebody_named(tmp_path):
    done = subprocess.run(
        [real_service.PROGRAM, "console", "--config", configure(tmp_path), "--listen", "192.0.2.7:8443"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (2, "") == (done.returncode, done.stdout)
    assert "by TLS alone" in done.stderr


# --- the token ------------------------------------------------------------------------------------------------------------


def test_token_over_tls_begins_a_session_and_wrong_ones_are_held_back(company, tmp_path):
    port = free_port()
    name = secret(tmp_path / "token", TOKEN)
    config = configure(
        tmp_path, tls_section(company, tmp_path, port, f'token_file = "{name}"\nhosts = ["pki.example"]\n')
    )
    with console_site.running(config) as console, client(company, port) as browser:
        assert [] == console.events("console_link")
        assert 401 == browser.get("/").status_code
        assert (
            403
            == browser.post(
                "/login", data={"token": TOKEN}, headers={"Origin": "https://evil.example"}
            ).status_code
        )
        assert 401 == browser.post("/login", data={"token": TOKEN + "0"}).status_code
        answer = browser.post("/login", data={"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        assert (303, True) == (answer.status_code, cookie.startswith(f"__Host-cftpki-{port}="))
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        assert (200, True) == (
            browser.get("/").status_code,
            "max-age" in browser.get("/").headers["strict-transport-security"],
        )
        assert 200 == browser.get("/", headers={"Host": "pki.example"}).status_code
        assert 303 == browser.post("/logout").status_code
        assert 401 == browser.get("/").status_code
        secret(tmp_path / "token", TOKEN[::-1])
        wrong = [browser.post("/login", data={"token": TOKEN}).status_code for _ in range(6)]
        assert [401, 401, 401, 401, 429, 429] == wrong
        assert TOKEN not in console.log.read_text()


def test_wrong_tokens_that_come_at_once_are_counted_one_by_one(company, tmp_path):
    port = free_port()
    name = secret(tmp_path / "token", TOKEN)
    config = configure(tmp_path, tls_section(company, tmp_path, port, f'token_file = "{name}"\n'))
    context = ssl.create_default_context(cafile=str(company.path("root.pem")))
    body = b"token=" + b"0" * 64
    with console_site.running(config), contextlib.ExitStack() as opened:
        connections = [
            opened.enter_context(
                context.wrap_socket(
                    socket.create_connection(("127.0.0.1", port), timeout=60), server_hostname="localhost"
                )
            )
            for _ in range(12)
        ]
        head = (
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        for one in connections:
            one.sendall(head)
        # Each of them is being looked at.
        assert {b"HTTP/1.1 100"} == {one.recv(4096)[:12] for one in connections}
        for one in connections:
            one.sendall(body)
        given = sorted(one.recv(12)[-3:] for one in connections)
    assert [b"401"] * 5 + [b"429"] * 7 == given


def test_form_that_is_too_long_or_none_is_a_wrong_token(company, tmp_path):
    port = free_port()
    name = secret(tmp_path / "token", TOKEN)
    config = configure(tmp_path, tls_section(company, tmp_path, port, f'token_file = "{name}"\n'))
    with console_site.running(config), client(company, port) as browser:
        bodies = (b"token=" + b"a" * 100_000, b"\xff\x00", b"token=a&token=" + TOKEN.encode())
        assert [401, 401, 401] == [browser.post("/login", content=body).status_code for body in bodies]


# --- client certificates --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_certificate(company):
    """
    A console for whoever has a certificate that the trust set `partners` accepts.
    """
    port = free_port()
    config = company.configure("console")
    config.write_text(
        config.read_text() + tls_section(company, company.folder, port, 'client_trust = "partners"\n')
    )
    with console_site.running(config) as console:
        yield console, port, config


@pytest.mark.parametrize("name", ["good", "good-ec", "by-crl"])
def test_client_that_our_engine_accepts_sees_pages_and_is_named_in_the_log(company, by_certificate, name):
    console, port, _ = by_certificate
    with client(company, port, name) as browser:
        assert 200 == browser.get("/partners").status_code
    assert any(f"CN={name}" in one["who"] for one in console.until("console_asked"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("revoked", "revoked"),
        ("held", "hold"),
        ("revoked-by-crl", "revoked"),
        ("not-known", ""),
        ("below-withdrawn", ""),
    ],
)
def test_client_that_is_revoked_or_not_known_is_refused_and_told_why(company, by_certificate, name, why):
    _, port, _ = by_certificate
    with client(company, port, name) as browser:
        for place in ("/", "/partners", "/static/console.css", "/login"):
            answer = browser.get(place)
            assert 403 == answer.status_code
        assert ("not accepted" in answer.text, why in answer.text, "<table" in answer.text) == (
            True,
            True,
            False,
        )


@pytest.mark.parametrize("name", [None, "stranger", "expired"])
def test_client_without_a_certificate_of_ours_does_not_get_through_the_handshake(
    company, by_certificate, name
):
    _, port, _ = by_certificate
    with client(company, port, name) as browser, pytest.raises((httpx.HTTPError, ssl.SSLError)):
        browser.get("/")


def test_client_that_is_blocked_is_refused(company, by_certificate, tmp_path):
    _, _, config = by_certificate
    port = free_port()
    again = config.with_name("blocked.toml")
    again.write_text(config.read_text())
    leaf = certificates(company.path("good.pem").read_bytes(), what="leaf")[0]
    digest = sha256(leaf).hexdigest()
    block = [real_service.PROGRAM, "partners", "block", digest, "--reason", "gone", "--config", again]
    subprocess.run(block, check=True, capture_output=True)
    try:
        with (
            console_site.running(again, "--listen", f"127.0.0.1:{port}"),
            client(company, port, "good") as browser,
        ):
            answer = browser.get("/")
            assert (403, True) == (answer.status_code, "block" in answer.text)
    finally:
        lift = [real_service.PROGRAM, "partners", "unblock", digest, "--reason", "back", "--config", again]
        subprocess.run(lift, check=True, capture_output=True)


def test_handshake_that_never_ends_keeps_nobody_out(company, by_certificate):
    _, port, _ = by_certificate
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(80)]
    try:
        with client(company, port, "good") as browser:
            assert 200 == browser.get("/partners").status_code
    finally:
        for one in held:
            one.close()


def test_certificate_that_was_renewed_is_served_without_a_restart(company, tmp_path):
    port = free_port()
    for kind in ("pem", "key"):
        (tmp_path / f"own.{kind}").write_bytes(company.path(f"host-rsa.{kind}").read_bytes())
        (tmp_path / f"own.{kind}").chmod(0o600)
    name = secret(tmp_path / "token", TOKEN)
    section = f'[console]\nlisten = "127.0.0.1:{port}"\ncertificate = "own.pem"\nkey = "own.key"\ntoken_file = "{name}"\n'

    def served():
        context = ssl.create_default_context(cafile=str(company.path("root.pem")))
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as made,
        ):
            names: Any = made.getpeercert()["subject"]
            return dict(one[0] for one in names)["commonName"]

    with console_site.running(configure(tmp_path, section)) as console:
        assert "host-rsa" == served()
        (tmp_path / "own.key").write_bytes(b"half written")
        assert "host-rsa" == served()
        assert 1 == len(console.until("console_certificate_not_loaded"))
        for kind in ("key", "pem"):
            (tmp_path / f"own.{kind}").write_bytes(company.path(f"host-ec.{kind}").read_bytes())
        assert "host-ec" == served()


def test_raw_requests_that_are_none_are_refused_and_the_next_is_answered(tmp_path):
    config = configure(tmp_path)
    with console_site.running(config):
        for octets in (
            b"\x16\x03\x01\x00\xa5\x01",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x00" * 64 + b"\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(60)
                one.connect(str(tmp_path / "console.sock"))
                one.sendall(octets)
                assert b"200" not in one.recv(200)
        with over(tmp_path / "console.sock") as browser:
            assert 200 == browser.get("/exceptions").status_code
