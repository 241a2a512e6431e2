"""
Every refusal has a reason, an alert and evidence, also where nothing was judged.

The real service, its socket, the real exit library and the real ledger: each refusal is found by the id that the
answer carries, replays to the same verdict, and is recorded once.
"""

import asyncio
import contextlib
import ctypes
import json
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from cftpki_ext.api import check_certificate
from cftpki_ext.cli import main
from cftpki_ext.core.verdict_json import verdict_to_data
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.doors import scenarios
from tests.support import hostsim, partners, pki, real_service
from tests.support.native_host import DONE, ERROR, Session, Task
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("doors")]

LIBRARY = hostsim.BUILD / "libcftpkie.so"
CERTIFICATES = 400


@pytest.fixture(scope="module")
def doors():
    # A socket's path is short.
    with TemporaryDirectory() as folder:
        made = scenarios.make(Path(folder))
        # What is refused at the socket: with a board, a session comes to it when it must.
        made.config.write_text(made.config.read_text().replace("[service]\n", "[service]\nboard = false\n"))
        yield made


@pytest.fixture
def service(doors):
    with real_service.running(doors.config) as running:
        yield running
        assert [] == running.failures()


@pytest.fixture(scope="module")
def large(doors):
    """
    A good leaf and so many certificates behind it that the protocol does not carry them.
    """
    good = doors.scenarios["good"].chain
    return (*good[:1], *good[1:] * CERTIFICATES)


@pytest.fixture
def session(service, monkeypatch):
    monkeypatch.setenv("CFTPKI_SOCKET", str(service.socket))
    task = Task(ctypes.CDLL(str(LIBRARY)))
    assert DONE == task.start()
    begun = Session(task)
    assert DONE == begun.start()
    return begun


def cftpki(doors, *arguments):
    """
    Status and answer of a command about the evidence.
    """
    done = CliRunner().invoke(main, [*map(str, arguments), "--json", "--config", str(doors.config)])
    assert done.stdout, (arguments, done.stderr)
    return done.exit_code, json.loads(done.stdout)


def recorded(doors, verdict_id, alert, reason):
    """
    The record of a refusal, which replays to itself and is there once.
    """
    code, explained = cftpki(doors, "explain", verdict_id, "--replay")
    assert 0 == code
    verdict = explained["verdict"]
    assert ("refused", alert, reason) == (verdict["status"], verdict["alert"], verdict["reason"])
    assert [verdict_id] == [row["id"] for row in rows(doors) if row["id"] == verdict_id]
    return explained


def rows(doors):
    return cftpki(doors, "audit", "list")[1]


def detail_of(explained):
    (fault,) = explained["verdict"]["evidence"]["faults"]
    return fault["detail"]


async def asked(service, *steps, **start):
    """
    The answers to the steps of one session.
    """
    async with WireClient(service.socket) as client:
        answers = [await client.start(**start)]
        answers += [await client.ask(message, **fields) for message, fields in steps]
        return answers


async def asked_alone(service, message, **fields):
    async with WireClient(service.socket) as client:
        return await client.ask(message, **fields)


# A chain that the protocol does not carry


def test_chain_too_long_for_the_protocol_has_evidence_at_each_door(doors, service, session, large, tmp_path):
    message = encode_chain(large)
    assert len(message) > 128 * 1024
    assert (ERROR, 50) == (session.check(message), session.alert)
    told = {
        "CHAIN": message[:32768],
        "CHAIN_LENGTH": len(message),
        "CHAIN_CERTIFICATES": len(large),
    }
    checked = asyncio.run(asked_alone(service, Message.CHECK, MODE=Mode.SERVER, **told))
    by_python = verdict_to_data(check_certificate(list(large), config=doors.config))
    path = tmp_path / "chain.pem"
    path.write_bytes(pki.pem(*large))
    command, by_command = cftpki(doors, "check", path)
    assert 50 == command
    for verdict_id, door in (
        (bytes(session.pki.aGlobalArea_w[8:24]).hex(), "exit"),
        (checked.text(Tag.VERDICT_ID), "socket"),
        (by_python["id"], "python"),
        (by_command["id"], "cli"),
    ):
        explained = recorded(doors, verdict_id, 50, "undecodable")
        assert door == explained["asked"]["door"]
        if door in {"exit", "socket"}:
            for words in (
                f"chain of {len(message)} bytes in {len(large)} certificates",
                sha256(large[0]).hexdigest(),
            ):
                assert words in detail_of(explained)
    assert 0 == cftpki(doors, "audit", "verify")[0]


def test_beginning_of_a_long_chain_is_kept_and_its_raw_bytes_are_given_out(doors, session, large, tmp_path):
    message = encode_chain(large)
    assert (ERROR, 50) == (session.check(message), session.alert)
    verdict_id = bytes(session.pki.aGlobalArea_w[8:24]).hex()
    done = CliRunner().invoke(
        main, ["explain", verdict_id, "--raw", str(tmp_path / "raw"), "--config", str(doors.config)]
    )
    assert (0, message[:32768]) == (done.exit_code, (tmp_path / "raw/message.bin").read_bytes())


def test_session_goes_no_further_after_a_long_chain_and_is_recorded_once(doors, service, session, large):
    before = len(rows(doors))
    assert (ERROR, 50) == (session.check(encode_chain(large)), session.alert)
    assert (ERROR, 80) == (session.check(encode_chain(large[:2])), session.alert)
    assert before + 1 == len(rows(doors))
    assert DONE == session.call(Message.HANDSHAKE_ALERT)
    assert DONE == session.call(Message.END_SESSION)
    assert before + 1 == len(rows(doors))


def test_staple_too_long_for_the_protocol_counts_as_a_failed_source_at_each_door(doors, service, session):
    chain = doors.scenarios["good"].chain
    staple = bytes(64 * 1024 + 1)
    session.give("pStaple", "uStapleLength", staple)
    assert DONE == session.check(encode_chain(chain))
    checked = asyncio.run(
        asked_alone(
            service,
            Message.CHECK,
            MODE=Mode.SERVER,
            CHAIN=encode_chain(chain),
            STAPLE_LENGTH=len(staple),
        )
    )
    by_python = verdict_to_data(check_certificate(list(chain), config=doors.config, staple=staple))
    by_exit = cftpki(doors, "explain", bytes(session.pki.aGlobalArea_w[8:24]).hex(), "--replay")[1]["verdict"]
    for verdict in (by_exit, json.loads(checked.text(Tag.JSON)), by_python):
        assert "accepted" == verdict["status"]
        stapled = [s for s in verdict["evidence"]["hops"][0]["sources"] if s["origin"] == "stapled"]
        assert ["too_large"] == [source["cause"] for source in stapled]


# Refusals that nobody judged


@pytest.mark.parametrize(
    ("steps", "start", "words"),
    [
        ([(Message.GET_CA_LIST, {})], {"MODE": 2}, "client mode"),
        ([(Message.CRYPT_DATA, {"CRYPT_SCHEME": 0, "CRYPT_INPUT": b"x" * 36})], {"MODE": 1}, None),
        ([(Message.HANDSHAKE_DONE, {}), (Message.CHECK_CERTIFICATE, {"CHAIN": b"\0\0\0"})], {}, "was done"),
        ([(Message.CHECK_CERTIFICATE, {"CHAIN": b"\0\0\0", "SESSION": 1})], {}, "not this connection's"),
        ([(Message.CHECK, {"MODE": 1, "CHAIN": b"\0\0\0"})], {}, "connection of a session"),
    ],
    ids=["CA list in client mode", "crypt data", "check after done", "another session", "check in a session"],
)
def test_phase_out_of_order_fails_with_evidence_and_once(doors, service, steps, start, words):
    before = len(rows(doors))
    *_, answer = asyncio.run(asked(service, *steps, (Message.HANDSHAKE_DONE, {}), **start))[:-1]
    if words is None:
        # The rule names no identity: nothing is refused, and nothing recorded.
        assert (Result.NOT_HANDLED, before) == (answer.number(Tag.RESULT), len(rows(doors)))
        return
    assert (Result.FAILED, 80) == (answer.number(Tag.RESULT), answer.number(Tag.ALERT))
    explained = recorded(doors, answer.text(Tag.VERDICT_ID), 80, "internal_error")
    assert words in detail_of(explained)
    assert "192.0.2.1" == explained["asked"]["remote"]
    assert before + 1 == len(rows(doors))


def test_session_without_a_rule_is_refused_with_evidence(doors, service):
    before = len(rows(doors))
    (answer,) = asyncio.run(asked(service, REMOTE_ADDRESS="nowhere"))
    assert ("no_rule", 80) == (answer.text(Tag.REASON), answer.number(Tag.ALERT))
    explained = recorded(doors, answer.text(Tag.VERDICT_ID), 80, "no_rule")
    assert ("exit", "nowhere") == (explained["asked"]["door"], explained["asked"]["remote"])
    assert before + 1 == len(rows(doors))


def test_frame_that_cannot_be_read_is_evidence_where_a_handshake_is_under_way(doors, service):
    async def send(*, start):
        async with WireClient(service.socket) as client:
            if start:
                await client.start()
            await client.send(b"CP\x01\x05\0\0\0\x09\xff\xff\xff\xff")
            answer = await client.receive()
            assert await client.closed()
            return answer

    before, lost = len(rows(doors)), service.events("session_lost")
    answer = asyncio.run(send(start=False))
    assert (Message.UNREADABLE, None) == (answer.message, answer.text(Tag.VERDICT_ID))
    assert before == len(rows(doors))
    answer = asyncio.run(send(start=True))
    assert (Message.UNREADABLE, 80) == (answer.message, answer.number(Tag.ALERT))
    assert "payload of" in detail_of(recorded(doors, answer.text(Tag.VERDICT_ID), 80, "internal_error"))
    assert lost == service.events("session_lost")


def test_check_certificate_after_a_restart_of_the_service_is_refused_with_evidence(doors, service, session):
    chain = encode_chain(doors.scenarios["good"].chain)
    service.kill()
    assert (ERROR, 80) == (session.check(chain), session.alert)
    assert bytes(64) == bytes(session.pki.aGlobalArea_w)  # nobody was there to keep anything
    service.start()
    assert (ERROR, 80) == (session.check(chain), session.alert)
    explained = recorded(doors, bytes(session.pki.aGlobalArea_w[8:24]).hex(), 80, "internal_error")
    assert "without StartHandshake" in detail_of(explained)
    assert DONE == session.call(Message.HANDSHAKE_ALERT)


def test_ledger_of_such_refusals_is_whole_and_replays(doors, service):
    (answer,) = asyncio.run(asked(service, REMOTE_ADDRESS="nowhere"))
    assert answer.text(Tag.VERDICT_ID) in {row["id"] for row in rows(doors)}
    assert 0 == cftpki(doors, "replay", "--recorded")[0]
    assert 0 == cftpki(doors, "replay")[0]
    assert 0 == cftpki(doors, "audit", "verify")[0]


def test_partner_with_a_chain_too_long_for_the_protocol_sees_50_and_is_recorded(tmp_path):
    """
    A real TLS handshake: openssl's client sends the chain, the simulator's host hands it to the exit.
    """
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        company = stack.enter_context(partners.company(Path(folder)))
        service = stack.enter_context(real_service.running(company.configure("long")))
        good = company.path("good.pem").read_bytes()
        company.path("many.pem").write_bytes(good * 80)
        with hostsim.server(
            *("--lib", LIBRARY, "--client-auth", "--profile", "RSA", "--expect", "50"),
            trace=tmp_path / "trace",
            env=service.environment,
        ) as simulator:
            certificate, key = company.path("good.pem"), company.path("good.key")
            seen = hostsim.s_client(
                simulator.port,
                *("-tls1_2", "-cert", certificate, "-key", key, "-cert_chain", company.path("many.pem")),
            )
            run = simulator.finish()
        assert (0, 50) == (run.status, hostsim.alert_seen(seen))
        (checked,) = run.all("CheckCertificate")
        done = CliRunner().invoke(
            main, ["explain", checked["verdict_id"], "--replay", "--json", "--config", str(service.config)]
        )
        assert 0 == done.exit_code
        (fault,) = json.loads(done.stdout)["verdict"]["evidence"]["faults"]
        assert "that the protocol carries; sha256 of its leaf" in fault["detail"]
