"""
The board in bad company: a log that cannot be written, reloads that take something away, rules that fill it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from cftpki_ext.core.settings import Partners
from cftpki_ext.core.verdict import Status
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.service.board.driver import VerdictBoard
from cftpki_ext.service.board.native import BoardError
from tests.support.logs import FailingLog
from tests.unit.service.test_board_publisher import CHAIN, ELSE, OTHER, RECORD, RULE, SETTINGS, World, known


@pytest.fixture
async def world():
    with contextlib.closing(World()) as world:
        await world.publisher.refresh()
        yield world


@pytest.mark.parametrize(
    "act",
    [lambda publisher: publisher._begin(), lambda publisher: publisher.give_up(ValueError("x"))],
    ids=["new board", "given up"],
)
async def test_board_that_is_left_is_shut_although_the_log_cannot_be_written(world, act):
    view = world.view()
    world.add()
    world.publisher._log = FailingLog()
    with pytest.raises(OSError, match="No space left"):
        act(world.publisher)
    assert "EBADF" == view.look(1, CHAIN)


async def test_verdict_between_a_reload_and_its_board_costs_no_board(world):
    third = replace(ELSE, name="third")
    rules = (replace(RULE, trust="third"), OTHER)
    world.publisher.replace_settings(
        replace(SETTINGS, trusts={**SETTINGS.trusts, "third": third}, rules=rules)
    )
    question = replace(RECORD.question, trust=third)
    entry = world.add(question)
    await world.publisher.refresh()
    assert (1, ["board_begun", "board_begun"]) == (world.publisher.format, world.events())
    view = world.view()
    assert "ENOENT" == known(view)
    world.memory.given(question, entry)
    assert "ENOENT" != known(view)


@pytest.mark.parametrize(("left", "boards"), [((7, 8, 9), 1), ((7, 8), 1), ((7,), 2), ((8, 9), 2)])
async def test_user_who_may_no_more_keeps_no_board(left, boards):
    def settings(*users):
        return replace(SETTINGS, service=replace(SETTINGS.service, allow_users=users))

    with contextlib.closing(World(settings(7, 8))) as world:
        await world.publisher.refresh()
        view = world.view()
        world.publisher.replace_settings(settings(*left))
        await world.publisher.refresh()
        world.add()
        assert (boards, boards > 1) == (len(world.boards), view.look(1, CHAIN) == "EBADF")
        assert "ENOENT" != known(world.view())


async def test_rules_that_leave_no_room_for_verdicts_cost_one_board_and_are_told():
    names = [f"mft{number}" for number in range(35)]
    many = tuple(replace(RULE, name=name, identity=name) for name in names)
    with contextlib.closing(World(replace(SETTINGS, rules=many))) as world:
        for name in names:
            chain = (SimpleNamespace(der=b"l" * 24000, issuer=SimpleNamespace(der=b"\x30\x00")),)
            world.own.held[name] = SimpleNamespace(name=name, generation=1, chain=chain)
        for _ in range(3):
            await world.publisher.refresh()
        assert ["board_begun", "board_not_used"] == world.events()
        assert "raise service.board_bytes" in world.logs.calls[-1].kwargs["error"]
        assert 0 == world.publisher.format


async def test_board_that_is_given_up_while_it_is_looked_at_stays_so(world):
    current = world.own.current

    async def gives_up(name):
        world.publisher.give_up(ValueError("x"))
        return await current(name)

    world.own.current = gives_up
    await world.publisher.refresh()
    assert (0, 1) == (world.publisher.format, len(world.boards))


async def test_refusal_is_never_published(world):
    view = world.view()
    entry = world.add(lasts_s=60)
    world.memory.clear()
    refused = replace(entry, verdict=replace(entry.verdict, status=Status.REFUSED))
    world.memory.add(refused)
    assert "ENOENT" == known(view)


OTHERS_QUESTION = replace(RECORD.question, chain=(b"another", CHAIN[1]))
OTHERS = Partners(subjects=("CN=somebody else",))


@pytest.mark.parametrize(
    "changed",
    [
        {"rules": (replace(RULE, partners=OTHERS), OTHER)},
        {"rules": (replace(RULE, trust="else"), OTHER)},
        {"rules": (replace(RULE, direction=Direction.CLIENT), OTHER)},
        {"limits": replace(SETTINGS.limits, ocsp_refresh=timedelta(seconds=7))},
    ],
    ids=["partners", "trust", "direction", "limits"],
)
async def test_session_of_the_rule_before_a_reload_publishes_nothing_under_the_one_that_has_its_name(
    world, changed
):
    # Its rule is the one that it was matched by; trust sets are looked up anew.
    fresh = replace(SETTINGS, **changed)
    world.publisher.replace_settings(fresh)
    await world.publisher.refresh()
    view = world.view()
    entry = world.add(replace(RECORD.question, limits=SETTINGS.limits))
    world.memory.given(RECORD.question, entry)
    answers = {known(view, direction=direction) for direction in Direction if view.rule(direction=direction)}
    assert ({"ENOENT"}, 0) == (answers, world.publisher.status()["entries"])


def fault_of_ours(*_):
    msg = "a fault of ours"
    raise ValueError(msg)


def refuse(*_):
    what = "it cannot be"
    raise BoardError(what, errno.EINVAL)


@pytest.mark.parametrize(
    ("call", "fails", "act"),
    [
        ("put", refuse, lambda world: world.add(OTHERS_QUESTION)),
        ("put", fault_of_ours, lambda world: world.add(OTHERS_QUESTION)),
        ("end_trust", refuse, lambda world: world.publisher.ended_of({"partners"})),
        ("end_all", refuse, lambda world: world.memory.clear()),
    ],
)
async def test_board_that_fails_is_shut_and_nobody_is_refused_for_it(world, call, fails, act):
    view = world.view()
    world.add()
    setattr(world.boards[0], call, fails)
    act(world)
    assert "EBADF" == view.look(1, CHAIN)
    assert (["board_begun", "board_not_used"], 0) == (world.events(), world.publisher.format)


async def test_host_that_comes_when_no_descriptor_is_left_is_answered_without_a_board(world, monkeypatch):
    board = VerdictBoard(None, world.publisher, None, folder=None)
    number = board.hand_out()
    os.close(number)

    def none_left(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("os.dup", none_left)
    assert None is board.hand_out()
