"""
`cftpki doctor` without arguments in each outage that it is for: made for real, and never called well.

One service with nginx' lists and `openssl ocsp` behind it; a partner came once, so that the evidence knows the addresses
that its certificate names, which the configuration does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import real_service
from tests.support.pki import issue, make_crl, make_root
from tests.support.ports import free_port
from tests.support.servers import nginx, openssl_ocsp
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.real

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FRESH = {"this_update": NOW - HOUR, "next_update": NOW + DAY}
ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)


@dataclass
class Place:
    config: Path
    state: Path
    lists: Path  # nginx' documents
    service: real_service.Service
    responder: contextlib.ExitStack


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    port = free_port()
    leaf = issue(CA, "partner", eku=["clientAuth"], ocsp_urls=[f"http://127.0.0.1:{port}/"])
    with contextlib.ExitStack() as stack:
        lists = stack.enter_context(nginx(tmp_path, {"root.crl": make_crl(ROOT, **FRESH)}))
        responder = stack.enter_context(contextlib.ExitStack())
        responder.enter_context(openssl_ocsp(tmp_path, issuer=CA, known=[leaf], port=port))
        (tmp_path / "root.pem").write_bytes(ROOT.pem)
        config = tmp_path / "c.toml"
        config.write_text(
            '[service]\nsocket = "s.sock"\nstate = "state"\nlog_format = "json"\ncache_bytes = 1048576\n'
            f'[trust.p]\nanchors = ["root.pem"]\ncrl = ["{lists.url("/root.crl")}"]\n'
            'allow_networks = ["127.0.0.0/8"]\nallow_hosts = ["127.0.0.1"]\n'
            '[[rule]]\nname = "in"\ndirection = "server"\ntrust = "p"\n'
        )
        service = stack.enter_context(real_service.running(config))
        assert 0 == alert(service, leaf)
        yield Place(config, tmp_path / "state", tmp_path, service, responder)


def alert(service: real_service.Service, leaf: Any) -> int:
    async def ask() -> int:
        async with WireClient(service.socket) as client:
            answer = await client.ask(Message.CHECK, MODE=1, CHAIN=encode_chain((leaf.der, CA.der)))
            return answer.number(Tag.ALERT) or 0

    return asyncio.run(ask())


def doctor(place: Place) -> tuple[int, list[dict[str, Any]]]:
    done = CliRunner().invoke(main, ["doctor", "--config", str(place.config), "--json"])
    assert done.exit_code in {0, 1}, done.output
    return done.exit_code, json.loads(done.stdout)


def fails(found: list[dict[str, Any]]) -> list[str]:
    return [f"{one['about']}: {one['check']}: {one['detail']}" for one in found if one["level"] == "fail"]


def test_each_outage_is_told_and_its_end_too(place: Place) -> None:
    status, found = doctor(place)
    assert (0, []) == (status, fails(found))
    assert {"ok"} == {one["level"] for one in found if one["check"].startswith("socket ")}
    # What no configuration names: the partner's own responder, known from the evidence.
    assert any("CN=partner: good" in one["detail"] for one in found)
    assert ["1 records are whole"] == [one["detail"] for one in found if one["check"] == "chain of records"]
    last = CliRunner().invoke(main, ["doctor", "--config", str(place.config)]).stdout.splitlines()[-1]
    assert last.startswith(("well: 0 fail", "look at the warnings: 0 fail"))

    # The service is frozen: its socket is there, and nobody answers.
    assert place.service.process is not None
    os.kill(place.service.process.pid, signal.SIGSTOP)
    try:
        status, found = doctor(place)
        assert (1, 1, True) == (
            status,
            len(fails(found)),
            "does not answer: it is stopped" in fails(found)[0],
        )
    finally:
        os.kill(place.service.process.pid, signal.SIGCONT)

    # The partner's responder is down.
    place.responder.close()
    status, found = doctor(place)
    assert (1, True) == (status, any("CN=partner: unreachable" in one for one in fails(found)))

    # The list of the root has ended.
    old = make_crl(ROOT, this_update=NOW - 3 * DAY, next_update=NOW - DAY)
    (document,) = place.lists.rglob("root.crl")
    document.write_bytes(old)
    status, found = doctor(place)
    assert (1, True) == (status, any("stale" in one for one in fails(found)))

    # The cache cannot be written.
    responses = place.state / "responses"
    responses.chmod(0o500)
    try:
        assert any("responses: cannot be written by its owner" in one for one in fails(doctor(place)[1]))
    finally:
        responses.chmod(0o700)

    # A record was changed.
    with contextlib.closing(sqlite3.connect(place.state / "evidence" / "ledger.sqlite3")) as ledger, ledger:
        ledger.execute("UPDATE record SET id = ?", ("f" * 32,))
    assert any("chain of records: is broken: record 1" in one for one in fails(doctor(place)[1]))

    # The service is not there.
    place.service.stop()
    assert any("nobody listens" in one for one in fails(doctor(place)[1]))

    # The configuration has a fault.
    place.config.write_text(place.config.read_text() + 'colour = "red"\n')
    done = CliRunner().invoke(main, ["doctor", "--config", str(place.config)])
    assert (2, "") == (done.exit_code, done.stdout)
    assert "colour" in done.stderr


def test_full_disk_and_clock_that_was_set_back_are_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 4096

    monkeypatch.setattr("cftpki_ext.doctor.machine.shutil.disk_usage", lambda _: Full())
    assert any("4096 bytes are free" in one for one in fails(doctor(place)[1]))
    monkeypatch.undo()

    class Behind:
        @staticmethod
        def now() -> datetime:
            return datetime.now(UTC) - timedelta(minutes=10)

        @staticmethod
        def monotonic() -> float:
            return time.monotonic()

    monkeypatch.setattr("cftpki_ext.cli.doctoring.SystemClock", Behind)
    assert any("this machine: the newest record was kept" in one for one in fails(doctor(place)[1]))
