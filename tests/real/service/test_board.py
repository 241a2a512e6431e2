"""
A host that is given the verdict board of a real service: what it can answer, until when, and what becomes of what it tells.

The host is the library's own reader; statuses come from `openssl ocsp` and nginx.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import partners, real_service
from tests.support.board_host import start_task, told
from tests.support.learned_revocations import remember
from tests.support.wall_clock import until
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("board")]


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("vb")) as made:
        yield made


@contextlib.contextmanager
def serving(company, name, *, rule="", board=True, **more):
    config = company.configure(name, board=board)
    text = config.read_text()
    if rule:
        text = text.replace('profile = "RSA"\n', f'profile = "RSA"\n{rule}\n')
    for section, lines in more.items():
        text = (
            text.replace(f"[{section}]\n", f"[{section}]\n{lines}\n")
            if f"[{section}]" in text
            else (f"{text}\n[{section}]\n{lines}\n")
        )
    config.write_text(text)
    with real_service.running(config) as service:
        yield config, service
        assert [] == service.failures()


def ders(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return tuple(one.public_bytes(Encoding.DER) for one in found)


async def check(service, chain, **fields):
    async with WireClient(service.socket) as client:
        return await client.ask(
            Message.CHECK,
            **{"MODE": int(Mode.SERVER), "PROFILE": "RSA", "CHAIN": encode_chain(chain), **fields},
        )


async def status(service):
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.STATUS)
    return json.loads(answer.fields[Tag.JSON])


async def known(company, service, partner="good"):
    """
    A host that has the board, and a partner that it knows: its chain, its rule, verdict and entry.
    """
    chain = ders(company, partner)
    for _ in range(2):
        answer = await check(service, chain)
        assert Result.DONE == answer.fields[Tag.RESULT]
    view = await asyncio.to_thread(given, service)
    key = view.rule(profile="RSA")
    found = view.ask(key, chain)
    assert found is not None
    return view, key, chain, found


def given(service):
    """
    The board as soon as there is one: it is published within moments of the start.
    """
    end = time.monotonic() + 60
    while True:
        answer, view = start_task(service.socket)
        if view is not None and view.rule(profile="RSA") is not None:
            assert 1 == answer.fields[Tag.BOARD]
            return view
        assert time.monotonic() < end
        time.sleep(0.02)


def ends(view, key, chain):
    until(lambda: view.ask(key, chain) is None)


def test_library_that_takes_no_board_is_given_none(company):
    with serving(company, "none") as (_, service):
        given(service).close()
        answer, view = start_task(service.socket, newest=0)
        assert (Result.DONE, None) == (answer.fields[Tag.RESULT], view)
        assert Tag.BOARD not in answer.fields


async def test_known_partner_is_answered_with_the_id_of_its_record_and_its_session_is_recorded(company):
    with serving(company, "told") as (config, service):
        view, _, _, (verdict_id, number) = await known(company, service)
        board = (await asyncio.to_thread(lambda: service.events("board_begun")))[0]["board"]
        datagram = told(
            bytes.fromhex(board),
            RULE="server-RSA",
            ENTRY=number,
            VERDICT_ID=verdict_id,
            RESULT=1,
            HOST_TASK=31,
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(datagram, f"{service.socket}.d/sessions")
        await asyncio.to_thread(until, lambda: service.events("handshake_done"))
        (done,) = service.events("handshake_done")
        assert verdict_id == done["verdict_id"]
        line = service.verdicts()[-1]
        explained = CliRunner().invoke(
            main, ["explain", line["verdict_id"], "--replay", "--config", str(config), "--json"]
        )
        whole = json.loads(explained.stdout)
        assert (0, True, 31, "192.0.2.9") == (
            *(explained.exit_code, whole["replay"]["agrees"]),
            *(whole["asked"]["host_task"], whole["asked"]["remote"]),
        )
        whole_status = await status(service)
        tiers = {row[3]: row[:3] + row[4:] for row in whole_status["measures"]["verdicts"]}
        assert ["server-RSA", "accepted", "", 1] == tiers["board"]
        assert "board" not in whole_status["measures"]["verdict_seconds"]
        counts = whole_status["board"]
        assert {"ready": True, "entries": 1, "sessions": 1, "given": 1, "lost": 0, "refused": 0}.items() <= (
            counts.items()
        )
        view.close()


async def test_partner_that_is_refused_is_not_known(company):
    with serving(company, "refused") as (_, service):
        view = await asyncio.to_thread(given, service)
        chain = ders(company, "revoked")
        for _ in range(3):
            assert 44 == (await check(service, chain)).fields[Tag.ALERT]
        assert None is view.ask(view.rule(profile="RSA"), chain)
        view.close()


async def test_revocation_that_another_process_learns_ends_it_in_every_host(company):
    with serving(company, "learned") as (config, service):
        view, key, chain, _ = await known(company, service)
        another = await asyncio.to_thread(given, service)
        remember(company, config, "good-ec")
        await asyncio.sleep(0.3)
        assert view.ask(key, chain) is not None  # somebody else's
        begun = time.monotonic()
        remember(company, config, "good")
        await asyncio.to_thread(ends, view, key, chain)
        assert None is another.ask(key, chain)
        print(f"ended within {time.monotonic() - begun:.3f} s")  # noqa: T201 - for who looks at figures
        assert 44 == (await check(service, chain)).fields[Tag.ALERT]
        view.close()
        another.close()


async def test_flush_and_reload_end_it_in_every_host(company):
    with serving(company, "flush") as (config, service):
        view, key, chain, _ = await known(company, service)
        assert 0 == CliRunner().invoke(main, ["cache", "flush", "--config", str(config)]).exit_code
        await asyncio.to_thread(ends, view, key, chain)
        view, key, chain, _ = await known(company, service)
        service.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(until, lambda: service.events("reloaded"))
        assert None is view.ask(key, chain)
        view.close()


async def test_service_that_is_stopped_or_killed_leaves_known_partners_to_hosts_and_a_new_one_makes_a_new_board(
    company,
):
    with serving(company, "killed") as (_, service):
        view, key, chain, found = await known(company, service)
        service.process.send_signal(signal.SIGSTOP)
        assert found == view.ask(key, chain)
        service.process.send_signal(signal.SIGCONT)
        service.kill()
        # Its owner is dead, and the library looks whether another one listens, before it believes this.
        assert "EOWNERDEAD" == view.look(key, chain)
        service.start()
        new, *_ = await known(company, service)
        assert "EOWNERDEAD" == view.look(key, chain)
        assert 2 == len({event["board"] for event in service.events("board_begun")})
        view.close()
        new.close()


async def test_rule_without_board_and_evidence_that_is_required_leave_verdicts_to_the_service(company):
    with serving(company, "off", rule="board = false") as (_, service):
        chain = ders(company, "good")
        for _ in range(3):
            await check(service, chain)
        assert 0 == (await status(service))["board"]["entries"]
        _, view = await asyncio.to_thread(start_task, service.socket)
        assert None is view.rule(profile="RSA")
        assert None is not view.rule(profile="EC")
        view.close()
    with serving(company, "required", evidence="required = true") as (_, service):
        view = await asyncio.to_thread(given, service)
        for _ in range(3):
            await check(service, chain)
        assert None is view.ask(view.rule(profile="RSA"), chain)
        view.close()


async def test_service_without_board_gives_none(company):
    with serving(company, "without", board=False) as (_, service):
        await check(service, ders(company, "good"))
        answer, view = await asyncio.to_thread(start_task, service.socket)
        assert (None, False) == (view, Tag.BOARD in answer.fields)
        assert False is (await status(service))["board"]["ready"]


async def test_host_cannot_write_what_it_is_given(company):
    with serving(company, "sealed") as (_, service):
        view = await asyncio.to_thread(given, service)
        for attempt in (
            lambda: os.write(view.descriptor, b"x"),
            lambda: os.truncate(view.descriptor, 0),
            lambda: (
                os.open(f"/proc/self/fd/{view.descriptor}", os.O_WRONLY) and os.write(view.descriptor, b"x")
            ),
        ):
            with pytest.raises(OSError, match=r"not permitted|denied|Bad file|Invalid"):
                attempt()
        view.close()
