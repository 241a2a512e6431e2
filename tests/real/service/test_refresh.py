"""
Evidence is renewed before a partner comes: by the real service, from `openssl ocsp` and nginx.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.config import load
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.question import Question
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import pki, real_service, servers
from tests.support.checking import make_checker
from tests.support.ports import free_port
from tests.support.wall_clock import until
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("refresh")]

_CONFIGURATION = """
[service]
socket = "s"
state = "state"
log_format = "json"

[limits]
ocsp_refresh = "8s"
crl_refresh = "8s"

[trust.partners]
anchors = ["root.pem"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]

[[rule]]
name = "in"
direction = "server"
trust = "partners"
"""


class Ca:
    """
    A CA whose leaves are looked up at `openssl ocsp`, and itself in the root's list at nginx.
    """

    def __init__(self, folder, partners=1):
        self.folder = folder
        self.ports = free_port(), free_port()
        ocsp, crl = (f"http://127.0.0.1:{port}/" for port in self.ports)
        begun = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        self.root = pki.make_root("Root", not_before=begun)
        self.issuing = pki.issue(self.root, "CA", ca=True, not_before=begun, crl_urls=[f"{crl}root.crl"])
        self.partners = [
            pki.issue(self.issuing, f"partner {n}", not_before=begun, eku=["clientAuth"], ocsp_urls=[ocsp])
            for n in range(partners)
        ]
        self.list = pki.make_crl(self.root, this_update=begun, next_update=begun + timedelta(days=1))
        (folder / "root.pem").write_bytes(self.root.pem)
        self.config = folder / "c.toml"
        self.config.write_text(_CONFIGURATION)
        self.started = 0

    @contextlib.contextmanager
    def up(self, revoked=None, *, text=False):
        self.started += 1
        folder = self.folder / f"up-{self.started}"
        folder.mkdir()
        with (
            servers.openssl_ocsp(
                folder,
                issuer=self.issuing,
                known=self.partners,
                revoked=revoked or {},
                port=self.ports[0],
                options=("-nmin", "60", *(("-text",) if text else ())),
            ) as ocsp,
            servers.nginx(folder, {"root.crl": self.list}, port=self.ports[1]) as crls,
        ):
            yield ocsp, crls

    def chain(self, number=0):
        return (self.partners[number].der, self.issuing.der)


async def ask(service, message, **fields):
    async with WireClient(service.socket) as client:
        return await client.ask(message, **fields)


async def check(service, ca):
    begun = time.monotonic()
    answer = await ask(service, Message.CHECK, MODE=int(Mode.SERVER), CHAIN=encode_chain(ca.chain()))
    return answer.fields, time.monotonic() - begun


def refresh(service):
    answer = asyncio.run(ask(service, Message.STATUS))
    return json.loads(answer.fields[Tag.JSON])["refresh"]


def test_outage_revocation_and_restart_of_a_known_partner(tmp_path):
    ca = Ca(tmp_path)
    with real_service.running(ca.config) as service:
        with ca.up() as (_, crls):
            fields, _ = asyncio.run(check(service, ca))
            assert Result.DONE == fields[Tag.RESULT]
            until(lambda: refresh(service)["renewed"] >= 4)
            # The list has not changed, and is not sent again.
            until(lambda: [line for line in crls.log_lines() if '"GET /root.crl HTTP/1.1" 304 0 ' in line])
            renewed = refresh(service)
            assert (1, 0, []) == (renewed["partners"], renewed["failed"], renewed["troubles"])
        # Nobody is there any more, and nobody is asked.
        fields, took_s = asyncio.run(check(service, ca))
        assert (Result.DONE, True) == (fields[Tag.RESULT], took_s < 2)
        verdict = json.loads(fields[Tag.JSON])
        assert [] == verdict["warnings"]
        assert {"cache"} == {s["origin"] for hop in verdict["evidence"]["hops"] for s in hop["sources"]}
        until(lambda: refresh(service)["troubles"])
        until(lambda: 2 == len(service.events("source_down")))
        ocsp, crl = sorted(
            (one["kind"], one["location"], one["error"]) for one in service.events("source_down")
        )[::-1]
        assert (f"http://127.0.0.1:{ca.ports[0]}/", f"http://127.0.0.1:{ca.ports[1]}/root.crl") == (
            ocsp[1],
            crl[1],
        )
        assert "connection refused" in ocsp[2]
        assert "connection refused" in crl[2]
        with ca.up():
            until(lambda: {ocsp[1], crl[1]} == {one["location"] for one in service.events("source_up")})
        service.kill()
        with ca.up():
            service.start()
            # Nobody came since.
            until(lambda: refresh(service)["renewed"] >= 2)
            assert 1 == refresh(service)["partners"]
        with ca.up({ca.partners[0].serial: "keyCompromise"}):
            until(lambda: service.events("partner_refused_ahead"))
        (told,) = service.events("partner_refused_ahead")
        assert ("revoked", "CN=partner 0") == (told["reason"], told["partner"])
        fields, took_s = asyncio.run(check(service, ca))
        assert (Result.REFUSED, 44, True) == (fields[Tag.RESULT], fields[Tag.ALERT], took_s < 2)
        assert 0 == refresh(service)["partners"]
        assert [] == service.failures()
    rows = json.loads(
        CliRunner().invoke(main, ["audit", "list", "--json", "--config", str(ca.config)]).stdout
    )
    assert ["revoked", "revoked"] == [row["reason"] for row in rows[-2:]]
    shown = CliRunner().invoke(main, ["explain", rows[-2]["id"], "--json", "--config", str(ca.config)])
    assert "refresh" == json.loads(shown.stdout)["asked"]["door"]
    stats = CliRunner().invoke(main, ["cache", "stats", "--json", "--config", str(ca.config)])
    assert 0 == json.loads(stats.stdout)["partners"]


async def test_many_first_handshakes_at_once_ask_each_location_once(tmp_path):
    ca = Ca(tmp_path, partners=4)
    settings = load(ca.config)
    with ca.up(text=True) as (ocsp, crls):
        # Two processes that share a cache: one asks, the other finds what it got.
        checkers = [make_checker(tmp_path / "cache", shared=True) for _ in range(2)]
        questions = [
            Question(
                chain=ca.chain(number),
                direction=Direction.SERVER,
                trust=settings.trusts["partners"],
                limits=settings.limits,
                at=datetime.now(UTC),
                rule="in",
            )
            for number in range(4)
        ]
        verdicts = await asyncio.gather(
            *(checker.check(one) for one in questions * 10 for checker in checkers)
        )
        assert [0] * 80 == [verdict.alert for verdict in verdicts]
        for checker in checkers:
            await checker.aclose()
        asked = Counter(line.split('"')[1] for line in crls.log_lines())
        assert {"GET /root.crl HTTP/1.1": 1} == asked
    asked = Counter(line.split()[2] for line in ocsp.log_lines() if "Serial Number:" in line)
    # Each request is printed, and its answer.
    assert [2] * 4 == [asked[f"{one.serial:X}"] for one in ca.partners]
