"""
A partner that an operator shuts out: at once in every host, over restarts and kills, by the real service.

The host is the library's own reader of the board; statuses come from `openssl ocsp` and nginx.
"""

import asyncio
import contextlib
import json
import time
from hashlib import sha256

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cftpki_cache.blocked import LIST
from cftpki_ext.cli import main
from cftpki_ext.protocol.codec import Message, Mode, Result, Tag
from cftpki_ext.protocol.tls_vectors import encode_chain
from tests.support import partners, real_service
from tests.support.board_host import start_task
from tests.support.wall_clock import until
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("blocked")]


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    with partners.company(tmp_path_factory.mktemp("bl")) as made:
        yield made


def ders(company, partner):
    found = x509.load_pem_x509_certificates(company.path(f"{partner}.pem").read_bytes())
    return tuple(one.public_bytes(Encoding.DER) for one in found)


async def check(service, chain):
    async with WireClient(service.socket) as client:
        return await client.ask(
            Message.CHECK, MODE=int(Mode.SERVER), PROFILE="RSA", CHAIN=encode_chain(chain)
        )


async def status(service):
    async with WireClient(service.socket) as client:
        answer = await client.ask(Message.STATUS)
    return json.loads(answer.fields[Tag.JSON])


def given(service):
    """
    The board as soon as there is one.
    """
    end = time.monotonic() + 60
    while True:
        _, view = start_task(service.socket)
        if view is not None and view.rule(profile="RSA") is not None:
            return view
        assert time.monotonic() < end
        time.sleep(0.02)


async def known(service, chain):
    """
    A host that knows a partner by itself.
    """
    for _ in range(2):
        answer = await check(service, chain)
        assert Result.DONE == answer.fields[Tag.RESULT], answer.fields
    view = await asyncio.to_thread(given, service)
    key = view.rule(profile="RSA")
    assert view.ask(key, chain) is not None
    return view, key


def told(config, *arguments):
    done = CliRunner().invoke(main, ["partners", *arguments, "--config", str(config), "--json"])
    assert 0 == done.exit_code, done.stderr
    return json.loads(done.stdout)


async def blocks(config, *arguments):
    return await asyncio.to_thread(told, config, *arguments)


def refused(answer):
    return answer.fields[Tag.ALERT], answer.fields[Tag.REASON]


async def test_block_is_in_force_in_every_host_when_the_command_ends_and_is_lifted_as_soon(company):
    config = company.configure("hosts", board=True)
    chain = ders(company, "good")
    with real_service.running(config) as service:
        view, key = await known(service, chain)
        another = await asyncio.to_thread(given, service)
        made = await blocks(config, "block", sha256(chain[0]).hexdigest(), "--reason", "key stolen")
        assert "in_force" == made["service"]
        # Not a moment later: the command has waited for the service's word.
        assert None is view.ask(key, chain)
        assert None is another.ask(key, chain)
        answer = await check(service, chain)
        assert (49, "blocked") == refused(answer)
        (line,) = service.events("partner_blocked")
        assert (made["blocked"]["what"], "key stolen", made["blocked"]["by"]) == (
            *(line["partner"], line["reason"], line["by"]),
        )
        explained = CliRunner().invoke(
            main,
            ["explain", answer.fields[Tag.VERDICT_ID], "--replay", "--config", str(config), "--json"],
        )
        whole = json.loads(explained.stdout)
        assert (0, True, "blocked") == (
            *(explained.exit_code, whole["replay"]["agrees"], whole["verdict"]["reason"]),
        )
        assert {"in_force": 1, "ended": 0, "fault": None}.items() <= (await status(service))["blocks"].items()
        lifted = await blocks(config, "unblock", sha256(chain[0]).hexdigest())
        assert "in_force" == lifted["service"]
        await known(service, chain)
        assert [made["blocked"]["what"]] == [e["partner"] for e in service.events("partner_unblocked")]
        view.close()
        another.close()
        assert [] == service.failures()


async def test_block_survives_kill_and_restart_and_one_made_while_the_service_is_stopped_counts_at_once(
    company,
):
    config = company.configure("killed", board=True)
    chain, other = ders(company, "good"), ders(company, "good-ec")
    with real_service.running(config) as service:
        await known(service, chain)
        await blocks(config, "block", f"fingerprint:{sha256(chain[0]).hexdigest()}", "--reason", "stolen")
        service.kill()
        service.start()
        assert (49, "blocked") == refused(await check(service, chain))
        assert 0 == service.stop()
        await blocks(config, "unblock", sha256(chain[0]).hexdigest())
        made = await blocks(config, "block", "CN=good-ec", "--reason", "the CA sleeps")
        assert "stopped" == made["service"]
        service.start()
        assert Result.DONE == (await check(service, chain)).fields[Tag.RESULT]
        assert (49, "blocked") == refused(await check(service, other))


async def test_services_that_share_a_state_directory_all_take_a_block(company):
    one = company.configure("one", board=True)
    two = one.with_name("two.toml")
    two.write_text(one.read_text().replace('socket = "', 'socket = "2'))
    chain = ders(company, "good")
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(real_service.running(config)) for config in (one, two)]
        views = [await known(service, chain) for service in services]
        await blocks(one, "block", sha256(chain[0]).hexdigest(), "--reason", "stolen")
        await asyncio.to_thread(until, lambda: services[1].events("partner_blocked"))
        assert [None, None] == [view.ask(key, chain) for view, key in views]
        assert [(49, "blocked")] * 2 == [refused(await check(service, chain)) for service in services]
        for view, _ in views:
            view.close()


async def test_damaged_list_refuses_everybody_in_every_host_until_it_can_be_read(company):
    config = company.configure("damaged", board=True)
    chain = ders(company, "good")
    with real_service.running(config) as service:
        await blocks(config, "block", "dns:nobody.example", "--reason", "r")
        view, key = await known(service, chain)
        path = company.path("damaged.state") / LIST
        kept = path.read_bytes()
        path.write_bytes(kept.replace(b"nobody", b"nobadi"))
        await asyncio.to_thread(until, lambda: service.events("blocked_partners_unreadable"))
        assert None is view.ask(key, chain)
        answer = await check(service, chain)
        assert (Result.FAILED, 80) == (answer.fields[Tag.RESULT], answer.fields[Tag.ALERT])
        assert "those that were written" in (await status(service))["blocks"]["fault"]
        assert 0 == service.stop()
        # A service that is started with such a list listens and refuses: a host whose own PKI may decide where nobody
        # listens must not let in whom it does not know.
        service.start()
        assert 80 == (await check(service, chain)).fields[Tag.ALERT]
        path.write_bytes(kept)
        assert Result.DONE == (await check(service, chain)).fields[Tag.RESULT]
        view.close()
