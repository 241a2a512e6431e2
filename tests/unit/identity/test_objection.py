"""
What an order has against an answer, asked before it is confirmed: the same as the gate says when it is handed in.
"""

import pytest

from cftpki_ext.identity.store.journal import Outcome
from tests.support.managed_world import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class Asking:
    """
    An adapter that asks before it hands in, as one for a protocol with confirmation does.
    """

    def __init__(self, world):
        self.said, self._ask = [], world.ca.advance
        world.ca.advance = self

    async def __call__(self, order, state, save, *, deadline):
        answer = await self._ask(order, state, save, deadline=deadline)
        self.said.append(await order.objection(answer))
        return answer


async def test_answer_that_the_gate_takes_has_nothing_against_it(world):
    asking = Asking(world)
    await world.tick()
    assert ([None], 1) == (asking.said, world.number())


@pytest.mark.parametrize(
    ("plan", "said"),
    [("fewer_names", "names: wanted"), ("wrong_key", "is for our key"), ("expired", "valid until")],
)
async def test_answer_that_the_gate_refuses_has_the_same_against_it_before(world, plan, said):
    await world.tick()
    asking = Asking(world)
    world.ca.plan = [plan]
    await world.renew()
    assert 1 == world.number()
    (objection,) = asking.said
    assert said in objection
    (rejected,) = [one for one in world.site.journal.orders() if one.outcome is Outcome.REJECTED]
    assert f"issued, but not what was asked for: {objection}" == rejected.detail


async def test_asking_writes_nothing(world):
    await world.tick()
    seen = []

    class Looking(Asking):
        async def __call__(self, order, state, save, *, deadline):
            before = sorted(path.name for path in world.site.directory.rglob("*"))
            answer = await super().__call__(order, state, save, deadline=deadline)
            await order.objection(answer)
            seen.append({*(path.name for path in world.site.directory.rglob("*"))} - {*before})
            return answer

    Looking(world)
    world.ca.plan = ["fewer_names"]
    await world.renew()
    assert [set()] == seen
