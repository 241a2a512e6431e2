"""
The whole of it: a service whose responder dies tells a web server, a mail server and a system log, and gives the all-clear;
a revoked partner at the door is told; `cftpki notify test` tries each.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import real_service
from tests.support.pki import Revoked, issue, make_crl, make_root
from tests.support.receivers import mail_server, server_tls, syslog_socket, web_server
from tests.support.servers import nginx
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.real

NOW = datetime.now(UTC).replace(microsecond=0)
FRESH = {"this_update": NOW - timedelta(hours=1), "next_update": NOW + timedelta(days=1)}
ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
GONE = issue(CA, "stolen key", eku=["clientAuth"])
WEB_ROOT = make_root("Web Root")
SERVER = issue(WEB_ROOT, "127.0.0.1", eku=["serverAuth"], san=["ip:127.0.0.1"])


def configured(folder: Path, lists: str, receivers: str) -> Path:
    (folder / "root.pem").write_bytes(ROOT.pem)
    (folder / "web-root.pem").write_bytes(WEB_ROOT.pem)
    config = folder / "c.toml"
    config.write_text(
        '[service]\nsocket = "s.sock"\nstate = "state"\nlog_format = "json"\n'
        f'[trust.p]\nanchors = ["root.pem"]\ncrl = ["{lists}/root.crl", "{lists}/ca.crl"]\nsources = ["crl"]\n'
        'allow_networks = ["127.0.0.0/8"]\n'
        '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "p"\n'
        f'[notify]\nsettle = "1s"\n{receivers}'
    )
    return config


async def alert(service: real_service.Service, leaf: Any) -> int:
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.CHECK, MODE=1, CHAIN=encode_chain((leaf.der, CA.der)))
        return answer.number(Tag.ALERT) or 0


async def test_revoked_partner_at_the_door_is_told_to_all(tmp_path: Path) -> None:
    tls = server_tls(tmp_path, SERVER)
    lists = {"root.crl": make_crl(ROOT, **FRESH), "ca.crl": make_crl(CA, [Revoked(GONE.serial)], **FRESH)}
    async with web_server(tls) as web:
        with (
            mail_server(tls=tls) as mails,
            syslog_socket(tmp_path / "log") as log,
            nginx(tmp_path, lists) as server,
        ):
            config = configured(
                tmp_path,
                server.url(""),
                f'[notify.webhook.chat]\nurl = "{web.url()}"\nroots = ["web-root.pem"]\n'
                f'[notify.mail.oncall]\nhost = "127.0.0.1"\nport = {mails.port}\nroots = ["web-root.pem"]\n'
                'sender = "cftpki@corp.example"\nrecipients = ["oncall@corp.example"]\n'
                f'[notify.syslog.here]\naddress = "{tmp_path / "log"}"\n',
            )
            done = await asyncio.to_thread(
                CliRunner().invoke, main, ["notify", "test", "--config", str(config), "--json"]
            )
            assert [("chat", True), ("oncall", True), ("here", True)] == [
                (one["receiver"], one["taken"]) for one in json.loads(done.stdout)
            ], done.output
            assert ["test"] == [one["kind"] for one in web.requests[0][3]["notices"]]
            assert " BEGUN test: this is a test" in log.line()
            mails.came.clear()

            with real_service.running(config) as service:
                assert 44 == await alert(service, GONE)
                await web.until(2)
                (notice,) = web.requests[1][3]["notices"]
                assert ("begun", "revoked_partner") == (notice["state"], notice["kind"])
                assert notice["text"].startswith(f"revoked partner CN=stolen key (serial {GONE.serial:x})")
                assert await asyncio.to_thread(mails.came.wait, 60)
                assert "1 begun: revoked partner CN=stolen key" in mails.mails[-1]["Subject"]
                assert "BEGUN revoked_partner: revoked partner CN=stolen key" in log.line()


def test_receiver_that_takes_nothing_is_told_by_the_command_with_the_reason(tmp_path: Path) -> None:
    config = configured(tmp_path, "http://127.0.0.1:1", '[notify.syslog.here]\naddress = "/nowhere/log"\n')
    done = CliRunner().invoke(main, ["notify", "test", "--config", str(config)])
    assert (1, True) == (done.exit_code, "/nowhere/log did not take it" in done.stdout)
    wrong = CliRunner().invoke(main, ["notify", "test", "her", "--config", str(config)])
    assert (2, True) == (wrong.exit_code, 'did you mean "here"?' in wrong.stderr)
    config.write_text("")
    nobody = CliRunner().invoke(main, ["notify", "test", "--config", str(config)])
    assert (2, True) == (nobody.exit_code, "nobody is told of anything" in nobody.stderr)
