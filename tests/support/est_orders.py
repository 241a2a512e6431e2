"""
Orders at an EST server, moved on by one attempt.
"""

from __future__ import annotations

from tests.support.orders import Saves, in_s, make_order

NAME = "mft.corp.example"


def order(**changes):
    return make_order(NAME, common_name=NAME, **changes)


async def advance(one, wanted=None, saves=None):
    saves = saves or Saves()
    wanted = wanted or order()
    return await one.advance(wanted, saves.last, saves, deadline=in_s(20))
