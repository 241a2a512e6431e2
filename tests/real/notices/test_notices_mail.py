"""
Notices by mail: a real server with STARTTLS, with TLS, with a login; and servers that do not do what they should.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from cftpki_connectors.notify import mail
from cftpki_connectors.notify.mail import MailSender
from cftpki_ext.core.errors import NotTakenError
from cftpki_ext.core.notify import (
    Condition,
    MailReceiver,
    MailSecurity,
    Notice,
    NoticeKind,
    NoticeMessage,
    NoticeState,
)
from tests.support.pki import issue, make_root
from tests.support.receivers import mail_server, server_tls, talker

pytestmark = pytest.mark.real

ROOT = make_root("Mail Root")
SERVER = issue(ROOT, "127.0.0.1", eku=["serverAuth"], san=["ip:127.0.0.1"])
OTHER = issue(ROOT, "other", eku=["serverAuth"], san=["dns:other.example"])
STRANGER = issue(make_root("Stranger"), "127.0.0.1", eku=["serverAuth"], san=["ip:127.0.0.1"])
NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
PASSWORD = "correct horse"


def message(*states, text="source ocsp http://a/ is down: größer"):
    notices = tuple(
        Notice(state=state, condition=Condition(kind=NoticeKind.SOURCE_DOWN, about="a", text=text, since=NOW))
        for state in states
    )
    return NoticeMessage(id="1" * 32, at=NOW, host="mft1", notices=notices, more=2)


def receiver(port, **changed):
    given = {
        "name": "oncall",
        "host": "127.0.0.1",
        "port": port,
        "sender": "cftpki@corp.example",
        "recipients": ("oncall@corp.example", "boss@corp.example"),
        "roots": (ROOT.der,),
    }
    return MailReceiver(**given | changed)


async def send(one, told=None, *, within_s=60.0):
    async with contextlib.aclosing(MailSender(one)) as sender:
        told = message(NoticeState.BEGUN, NoticeState.OVER) if told is None else told
        await sender.send(told, deadline=time.monotonic() + within_s)


async def refused(one, **options):
    with pytest.raises(NotTakenError) as caught:
        await send(one, **options)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


async def test_mail_says_what_has_begun_and_what_is_over(tmp_path):
    with mail_server(tls=server_tls(tmp_path, SERVER)) as server:
        await send(receiver(server.port))
    ((sender, recipients), found) = server.envelopes[0], server.mails[0]
    assert ("cftpki@corp.example", ["oncall@corp.example", "boss@corp.example"]) == (sender, recipients)
    assert {
        "From": "cftpki@corp.example",
        "To": "oncall@corp.example, boss@corp.example",
        "Subject": "[cftpki mft1] 1 begun, 1 over: source ocsp http://a/ is down: größer",
        "Date": "Mon, 01 Jun 2026 12:30:00 +0000",
        "Message-ID": f"<{'1' * 32}@corp.example>",
        "Auto-Submitted": "auto-generated",
    } == {
        # Where a long line was broken, the library that reads it here leaves one space more.
        name: " ".join(found[name].split())
        for name in ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted")
    }
    assert [
        "BEGUN source_down: source ocsp http://a/ is down: größer (since 2026-06-01 12:30Z)",
        "OVER source_down: source ocsp http://a/ is down: größer (since 2026-06-01 12:30Z)",
        "and 2 more: cftpki status, cftpki doctor",
        "",
        "Sent by cftpki on mft1.",
    ] == found.get_content().splitlines()


@pytest.mark.parametrize("security", [MailSecurity.STARTTLS, MailSecurity.TLS])
async def test_password_goes_to_a_server_that_is_known(tmp_path, security):
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o600)
    one = {"user": "u", "password_file": tmp_path / "password", "security": security}
    tls, at_once = server_tls(tmp_path, SERVER), security is MailSecurity.TLS
    with mail_server(tls=tls, at_once=at_once, login=("u", PASSWORD)) as server:
        await send(receiver(server.port, **one))
        assert 1 == len(server.mails)
    with mail_server(tls=tls, at_once=at_once, login=("u", "another")) as server:
        assert "answers 535" in await refused(receiver(server.port, **one))
    (tmp_path / "password").chmod(0o644)
    assert "can be read by others" in await refused(receiver(1, **one))


@pytest.mark.parametrize("certificate", [OTHER, STRANGER], ids=["another-name", "another-root"])
async def test_server_that_is_not_known_is_told_nothing(tmp_path, certificate):
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    one = {"user": "u", "password_file": tmp_path / "password"}
    with mail_server(tls=server_tls(tmp_path, certificate), login=("u", PASSWORD)) as server:
        assert "certificate" in await refused(receiver(server.port, **one))
    assert [] == server.mails


async def test_server_without_starttls_is_told_nothing_unless_that_was_asked_for():
    with mail_server() as server:
        assert "STARTTLS" in await refused(receiver(server.port))
        assert [] == server.mails
        await send(receiver(server.port, security=MailSecurity.UNSAFE_PLAIN))
        assert 1 == len(server.mails)


async def test_recipients_that_are_refused_are_named(tmp_path):
    with mail_server(tls=server_tls(tmp_path, SERVER)) as server:
        server.refuse = "550 nobody here"
        assert "550 nobody here" in await refused(receiver(server.port))


async def test_server_that_is_not_there_or_not_allowed_has_not_taken_it():
    with mail_server() as server:
        port = server.port
        one = receiver(port, host="localhost", security=MailSecurity.UNSAFE_PLAIN)
        assert "is not public and not in allow_networks" in await refused(one)
        networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        await send(
            receiver(port, host="localhost", security=MailSecurity.UNSAFE_PLAIN, allow_networks=networks)
        )
    assert "did not take it" in await refused(receiver(port))


async def hostile(reader, writer, *, begin=b"", again=b"", pause_s=0.0):
    writer.write(begin)
    while True:
        writer.write(again)
        await writer.drain()
        await asyncio.sleep(pause_s)


async def test_answer_that_never_ends_is_not_kept():
    async def endless(reader, writer):
        await hostile(reader, writer, again=b"220-" + b"x" * 500 + b"\r\n")

    async with talker(endless) as port:
        assert f"more than {mail.MAX_ANSWER_BYTES} octets" in await refused(
            receiver(port, security=MailSecurity.UNSAFE_PLAIN)
        )


@pytest.mark.parametrize("security", list(MailSecurity))
async def test_server_that_drips_is_given_up_with_its_thread(security):
    connected, closed = asyncio.Event(), asyncio.Event()

    async def drip(reader, writer):
        connected.set()
        try:
            await hostile(reader, writer, again=b"2", pause_s=0.05)
        finally:
            closed.set()

    async with talker(drip) as port:
        sending = asyncio.create_task(send(receiver(port, security=security)))
        await connected.wait()
        # As the service does when its time for a message is over.
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(60):
            await closed.wait()


async def test_server_that_repeats_the_password_is_not_quoted(tmp_path):
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    tls = server_tls(tmp_path, SERVER)

    async def parrot(reader, writer):
        async def say(text):
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 hello")
        await reader.readline()
        await say("250-here\r\n250 STARTTLS")
        await reader.readline()
        await say("220 go")
        await writer.start_tls(tls)
        await reader.readline()
        await say("250-here\r\n250 AUTH PLAIN LOGIN")
        while line := await reader.readline():
            await say(f"535 you said {line.decode().strip()}, which is {PASSWORD}")

    async with talker(parrot) as port:
        one = receiver(port, user="u", password_file=Path(tmp_path / "password"))
        assert "127.0.0.1 answers 535" == await refused(one)
