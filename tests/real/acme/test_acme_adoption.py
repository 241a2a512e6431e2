"""
Identities with the same names share one account at a real Pebble: whose is an open order, after kills and all at once?
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cftpki_connectors.acme import store
from cftpki_connectors.ca.client import CaClient
from cftpki_ext.identity.enroller_port import Issued, Order, Pending
from tests.support import pki
from tests.support.acme import WAIT_S, enroller
from tests.support.ca_pebble import Pebble, pebble
from tests.support.orders import KilledError, Saves, SystemClock, in_s, leaf_of, make_order
from tests.support.ports import free_port

pytestmark = pytest.mark.real

NEW_ORDER = "order-plz"


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[Pebble]:
    with pebble(tmp_path) as running:
        yield running


def order_of(identity: str) -> Order:
    key = pki.key("ec", f"adoption {identity}")
    return make_order("mft.example", private=key, id=f"order-{identity}", identity=identity)


async def advance(
    folder: Path, options: dict[str, Any], order: Order, saves: Saves, *, wait_s: float = WAIT_S
) -> Any:
    async with enroller(folder, options) as made:
        return await made.advance(order, saves.last, saves, deadline=in_s(wait_s))


@pytest.fixture
def deaf(monkeypatch) -> set[str]:
    """
    Where requests are sent, and their answers lost with the process.
    """
    real, where = CaClient.send, set()

    async def losing(self, request, *, deadline):
        answer = await real(self, request, deadline=deadline)
        if any(part in request.url for part in where) and answer.status < 400:
            raise KilledError
        return answer

    monkeypatch.setattr(CaClient, "send", losing)
    return where


async def lose(folder: Path, ca: Pebble, deaf: set[str], order: Order, saves: Saves) -> None:
    deaf.add(NEW_ORDER)
    with pytest.raises(KilledError):
        await advance(folder, ca.options(), order, saves)
    deaf.clear()


def unreachable(ca: Pebble) -> dict[str, Any]:
    """
    Options with which an order is placed and its challenge is never shown.
    """
    return ca.options(http01={"webroot": ca.folder / "www", "check": f"http://127.0.0.1:{free_port()}"})


async def test_order_that_another_identity_has_is_not_adopted_after_a_kill(tmp_path, ca, deaf):
    first, second = order_of("first"), order_of("second")
    one, two = Saves(), Saves()
    await lose(tmp_path, ca, deaf, first, one)
    pending = await advance(tmp_path, unreachable(ca), second, two, wait_s=3)
    assert isinstance(pending, Pending), pending
    theirs = two.last["order"]
    issued = await advance(tmp_path, ca.options(), first, one)
    assert isinstance(issued, Issued), issued
    assert leaf_of(issued).public_key() == first.key.public_key()
    assert theirs not in {state["order"] for state in one.states}
    issued = await advance(tmp_path, ca.options(), second, two)
    assert leaf_of(issued).public_key() == second.key.public_key()
    assert {theirs, None} == {state["order"] for state in two.states}
    assert (2, 2) == (ca.orders, ca.certificates)


async def test_lost_orders_of_two_processes_that_come_back_at_once_are_one_each(tmp_path, ca, deaf):
    orders, saves = [order_of("first"), order_of("second")], [Saves(), Saves()]
    for order, kept in zip(orders, saves, strict=True):
        await lose(tmp_path, ca, deaf, order, kept)
    listening = ca.options()
    both = (advance(tmp_path, listening, order, kept) for order, kept in zip(orders, saves, strict=True))
    outcomes = await asyncio.gather(*both)
    for number, (order, outcome) in enumerate(zip(orders, outcomes, strict=True)):
        if isinstance(outcome, Pending):  # one port for two responders
            outcomes[number] = await advance(tmp_path, listening, order, saves[number])
        assert isinstance(outcomes[number], Issued), outcomes
        assert leaf_of(outcomes[number]).public_key() == order.key.public_key()
    assert (2, 2) == (ca.orders, ca.certificates)
    assert {} == store.AccountStore(tmp_path / "state-corp", ca.directory, SystemClock()).claims()


async def test_order_whose_answer_is_on_its_way_is_nobody_elses(tmp_path, ca, deaf, monkeypatch):
    """
    The other process looks for its lost order at the moment at which ours is at the CA and not written down.
    """
    first, second = order_of("first"), order_of("second")
    one, two, others = Saves(), Saves(), []
    await lose(tmp_path, ca, deaf, first, one)
    waiting, taken, send = asyncio.Event(), store._taken, CaClient.send

    def noticing(descriptor: int, *, shared: bool) -> bool:
        got = taken(descriptor, shared=shared)
        if not got:
            waiting.set()
        return got

    async def slow(self, request, *, deadline):
        answer = await send(self, request, deadline=deadline)
        if NEW_ORDER in request.url and not others:
            others.append(asyncio.create_task(advance(tmp_path, ca.options(), first, one)))
            await asyncio.wait_for(waiting.wait(), WAIT_S)
        return answer

    monkeypatch.setattr(store, "_taken", noticing)
    monkeypatch.setattr(CaClient, "send", slow)
    pending = await advance(tmp_path, unreachable(ca), second, two, wait_s=3)
    assert isinstance(pending, Pending), pending
    issued = await others[0]
    assert leaf_of(issued).public_key() == first.key.public_key()
    assert one.last["order"] != two.last["order"]
    assert isinstance(await advance(tmp_path, ca.options(), second, two), Issued)
    assert (2, 2) == (ca.orders, ca.certificates)


async def test_order_adopted_is_written_down_before_it_is_used(tmp_path, ca, deaf):
    first, second = order_of("first"), order_of("second")
    one, two = Saves(), Saves()
    await lose(tmp_path, ca, deaf, first, one)
    # Adopted, and killed when the order's first authorization is looked at.
    deaf.add("authZ")
    with pytest.raises(KilledError):
        await advance(tmp_path, ca.options(), first, one)
    deaf.clear()
    assert one.last["order"] is not None
    await lose(tmp_path, ca, deaf, second, two)
    issued = await advance(tmp_path, ca.options(), second, two)
    assert isinstance(issued, Issued), issued
    assert two.last["order"] != one.last["order"]
    assert isinstance(await advance(tmp_path, ca.options(), first, one), Issued)
    assert (2, 2) == (ca.orders, ca.certificates)
