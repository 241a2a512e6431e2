"""
The ACME enroller against the ACME provisioner of a real step-ca 0.30.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cftpki_connectors.acme.flow import CHALLENGE_PATIENCE
from cftpki_connectors.ca.client import CaClient
from cftpki_ext.identity.enroller_port import Failed, Fault, Issued, Pending
from tests.support import servers
from tests.support.acme import WAIT_S, enroller
from tests.support.ca_servers import StepCa, make_step_ca
from tests.support.orders import KilledError, Saves, held, in_s, leaf_of, make_order
from tests.support.ports import free_port

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def http_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory, http_port: int, tls_port: int) -> Iterator[StepCa]:
    arguments = ["--insecure", f"--acme-http-port={http_port}", f"--acme-tls-port={tls_port}"]
    with make_step_ca(tmp_path_factory.mktemp("ca"), arguments=arguments).running() as running:
        yield running


def options(ca: StepCa, **changes: Any) -> dict[str, Any]:
    table = {"directory": ca.acme_directory, "root_file": ca.folder / "root0.pem"} | changes
    return {name: value for name, value in table.items() if value is not None}


async def test_http_for_name_and_address_issues_and_chain_leads_to_the_root(tmp_path, ca, http_port):
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table) as made:
        order = make_order("localhost", "127.0.0.1")
        issued = await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued), issued
    leaf = leaf_of(issued)
    assert leaf.public_key() == order.key.public_key()
    leaf.verify_directly_issued_by(ca.intermediate.certificate)
    assert (ca.intermediate.der,) == issued.certificates[1:]


async def test_tls_alpn_for_name_and_address_issues(tmp_path, ca, tls_port):
    table = options(ca, tlsalpn01={"listen": f"127.0.0.1:{tls_port}"})
    async with enroller(tmp_path, table) as made:
        issued = await made.advance(make_order("localhost", "127.0.0.1"), {}, Saves(), deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued), issued


async def test_lifetime_that_is_wished_for_is_granted(tmp_path, ca, http_port):
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table) as made:
        order = make_order("localhost", lifetime_s=3600)
        leaf = leaf_of(await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S)))
    assert 3500 < (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() < 3800


async def test_lifetime_beyond_the_cas_limit_is_told_as_what_may_be_wrong(tmp_path, ca, http_port):
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table) as made:
        order = make_order("localhost", lifetime_s=400 * 86400)
        outcome = await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S))
    # step-ca takes the order, and has an "internal error" at its end.
    assert isinstance(outcome, Failed)
    assert "serverInternal" in outcome.detail
    assert "lifetime" in outcome.detail


async def test_challenge_that_stays_pending_with_an_error_is_triggered_again(tmp_path, ca, http_port):
    """
    The CA comes to a port where nobody is; then somebody is.
    """
    elsewhere = free_port()
    table = options(ca, http01={"listen": f"127.0.0.1:{elsewhere}"})
    saves, order = Saves(), make_order("localhost")
    async with enroller(tmp_path, table) as made:
        pending = await made.advance(order, {}, saves, deadline=in_s(4))
    assert isinstance(pending, Pending), pending
    assert "not confirmed yet: connection" in pending.detail
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table) as made:
        issued = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued), issued


async def test_challenge_is_triggered_again_within_one_attempt(tmp_path, ca, http_port):
    table = options(ca, http01={"webroot": tmp_path / "www", "check": ""})

    async def serve_late() -> None:
        await asyncio.sleep(1.5)
        with servers.nginx(tmp_path, port=http_port) as server:
            root = tmp_path / f"nginx-{server.port}" / "www" / ".well-known"
            root.symlink_to(tmp_path / "www" / ".well-known")
            await done.wait()

    done = asyncio.Event()
    serving = asyncio.create_task(serve_late())
    async with enroller(tmp_path, table) as made:
        issued = await made.advance(make_order("localhost"), {}, Saves(), deadline=in_s(WAIT_S))
    done.set()
    await serving
    assert isinstance(issued, Issued), issued


async def test_challenge_that_is_never_confirmed_is_given_up_and_the_next_order_is_new(tmp_path, ca):
    table = options(ca, http01={"listen": f"127.0.0.1:{free_port()}"})
    saves, order = Saves(), make_order("localhost")
    async with enroller(tmp_path, table) as made:
        assert isinstance(await made.advance(order, {}, saves, deadline=in_s(3)), Pending)
    async with enroller(tmp_path, table, ahead=CHALLENGE_PATIENCE) as made:
        failed = await made.advance(order, saves.last, saves, deadline=in_s(3))
    assert (Fault.REFUSED, True) == (failed.fault, "connection" in failed.detail), failed


async def test_challenge_whose_time_went_by_without_anybody_has_another_chance(tmp_path, ca, http_port):
    # As after an outage: the order is an hour old, and nobody has looked for long.
    saves, order = Saves(), make_order("localhost")
    table = options(ca, http01={"listen": f"127.0.0.1:{free_port()}"})
    async with enroller(tmp_path, table) as made:
        assert isinstance(await made.advance(order, {}, saves, deadline=in_s(3)), Pending)
    placed = saves.last["order"]
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table, ahead=CHALLENGE_PATIENCE) as made:
        issued = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued), issued
    assert placed == saves.last["order"]


async def test_order_is_not_taken_for_expired_by_a_clock_that_is_days_ahead(tmp_path, ca, http_port):
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table, ahead=CHALLENGE_PATIENCE * 48) as made:
        issued = await made.advance(make_order("localhost"), {}, Saves(), deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued), issued


async def test_account_key_change_is_not_done_by_step_ca_and_the_old_key_stays(tmp_path, ca, http_port):
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table) as made:
        failed = await made.roll_over_account_key(deadline=in_s(WAIT_S))
        assert Fault.REFUSED == failed.fault, failed
        issued = await made.advance(make_order("localhost"), {}, Saves(), deadline=in_s(WAIT_S))
    assert isinstance(issued, Issued)


async def test_kill_at_any_request_is_resumed(tmp_path, ca, http_port, monkeypatch):
    real, left, orders = CaClient.send, [0], set()

    async def killing(self, request, *, deadline):
        left[0] -= 1
        answer = await real(self, request, deadline=deadline)
        if request.url.endswith("/new-order"):
            orders.add(answer.headers.get("location"))
        if left[0] == 0:
            raise KilledError
        return answer

    monkeypatch.setattr(CaClient, "send", killing)
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    killed = 0
    for number in range(1, 40):
        folder = tmp_path / str(number)
        folder.mkdir()
        orders.clear()
        left[0] = number
        order, saves = make_order("localhost"), Saves()
        try:
            async with enroller(folder, table) as made:
                await made.advance(order, {}, saves, deadline=in_s(WAIT_S))
        except KilledError:
            killed += 1
        else:
            break
        async with enroller(folder, table) as made:
            issued = await made.advance(order, saves.last, saves, deadline=in_s(WAIT_S))
        assert isinstance(issued, Issued), (number, issued)
        assert 1 == len(orders), number
    assert 10 <= killed < 39


async def test_revoke_and_renewal_information_of_a_ca_without_any(tmp_path, ca, http_port):
    table = options(ca, http01={"listen": f"127.0.0.1:{http_port}"})
    async with enroller(tmp_path, table) as made:
        order = make_order("localhost")
        issued = await made.advance(order, {}, Saves(), deadline=in_s(WAIT_S))
        mine = held(issued, order)
        assert await made.renewal_hint(mine, deadline=in_s(WAIT_S)) is None
        assert await made.revoke(mine, reason="superseded", deadline=in_s(WAIT_S)) is None
        again = await made.revoke(mine, reason="superseded", deadline=in_s(WAIT_S))
    assert again is None
