"""
What hosts can read in the board is what stands, at each moment: the real board, read by the library's own reader.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network
from types import SimpleNamespace

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cftpki_ext.checking.case import Recall
from cftpki_ext.checking.looked import Looked
from cftpki_ext.core.errors import KeyUnavailableError
from cftpki_ext.core.settings import EvidenceSettings, Rule, ServiceSettings, Settings, TrustSet
from cftpki_ext.core.vocabulary import Direction, Phase
from cftpki_ext.decision.rules import RuleKey, match
from cftpki_ext.service.board.contents import rules_of
from cftpki_ext.service.board.native import BoardError, NativeBoard
from cftpki_ext.service.board.publisher import Publisher
from cftpki_ext.service.judging.standing import Standing, StandingVerdicts
from tests.support import evidence_samples as samples
from tests.support.board_host import View, library

RECORD = samples.record(*samples.GOOD)
CHAIN = RECORD.question.chain
RULE = replace(samples.RULE, identity="mft")
OTHER = replace(samples.RULE, name="out", trust="else", direction=Direction.CLIENT)
ELSE = TrustSet(name="else", anchors=samples.PLAIN.anchors)
LIBRARY = library()
SETTINGS = Settings(
    service=ServiceSettings(board_bytes=1 << 20),
    trusts={"partners": samples.PLAIN, "else": ELSE},
    rules=(RULE, OTHER),
)


class Own:
    """
    An identity provider with what the test puts there.
    """

    def __init__(self):
        self.held = {}
        self.put(1)

    def put(self, generation):
        chain = (SimpleNamespace(der=b"leaf %d" % generation, issuer=SimpleNamespace(der=b"\x30\x00")),)
        self.held["mft"] = SimpleNamespace(name="mft", generation=generation, chain=chain)

    async def current(self, name):
        if name not in self.held:
            msg = "gone"
            raise KeyUnavailableError(msg)
        return self.held[name]


class World:
    def __init__(self, configured=SETTINGS):
        self.own = Own()
        self.boards = []
        self.logs = structlog.testing.CapturingLogger()
        self.publisher = Publisher(
            self.make,
            settings=configured,
            identities=self.own,
            log=structlog.wrap_logger(self.logs, processors=[]),
        )
        self.memory = StandingVerdicts()
        self.memory.mirror = self.publisher
        self.views = []

    def make(self, size, entries, trusts):
        board = NativeBoard(LIBRARY, size=size, entries=entries, trusts=trusts)
        self.boards.append(board)
        return board

    def view(self):
        """
        A host that is given the board now.
        """
        self.views.append(View(os.dup(self.publisher.hand_out())))
        return self.views[-1]

    def add(self, question=RECORD.question, *, keys=("ocsp",), lasts_s=60.0, verdict_id="a" * 32):
        now = datetime.now(UTC)
        verdict = RECORD.verdict
        evidence = replace(verdict.evidence, decided_at=now, rule=question.rule)
        entry = Standing(
            question=replace(question, at=now),
            verdict=replace(verdict, id=verdict_id, evidence=evidence),
            document="d" * 64,
            until=now + timedelta(seconds=lasts_s),
            ends_at=time.monotonic() + lasts_s,
            looked=Looked(responses=dict.fromkeys(keys), recalls=(Recall(number=0, key="leaf"),), state=7),
        )
        self.memory.add(entry)
        return entry

    def events(self):
        return [call.kwargs["event"] for call in self.logs.calls]

    def close(self):
        self.publisher.release()
        for view in self.views:
            view.close()


@pytest.fixture
async def world():
    with contextlib.closing(World()) as world:
        await world.publisher.refresh()
        yield world


def known(view, chain=CHAIN, **key):
    return view.look(view.rule(**key), chain)


async def test_verdict_that_stands_is_known_to_hosts_under_its_rule_and_no_other(world):
    view = world.view()
    assert "ENOENT" == known(view)
    world.add()
    assert ("a" * 32, 1) == known(view)
    assert "ENOENT" == known(view, direction=Direction.CLIENT)
    assert "ENOENT" == known(view, CHAIN[:1])
    assert "ENOENT" == known(view, (CHAIN[0] + b"\0", *CHAIN[1:]))
    given = world.publisher.given(world.boards[0].id, 1)
    assert ("a" * 32, None) == (given.standing.verdict.id, world.publisher.given(b"x" * 16, 1))


@pytest.mark.parametrize(
    "end",
    [
        lambda w: w.memory.changed("ocsp"),
        lambda w: w.memory.stored("ocsp", datetime.now(UTC)),
        lambda w: w.memory.revoked({"leaf"}),
        lambda w: w.memory.forgot(),
        lambda w: w.memory.clear(),
        lambda w: w.memory.drop(RECORD.question),
        lambda w: w.publisher.replace_settings(SETTINGS),
        lambda w: w.memory.forget(w.publisher.given(w.boards[0].id, 1).name),
    ],
    ids=["answer", "stored", "revoked", "flush", "clear", "drop", "reload", "record gone"],
)
async def test_whatever_ends_it_ends_it_in_every_host_at_once(world, end):
    views = [world.view(), world.view()]
    world.add()
    assert [("a" * 32, 1)] * 2 == [known(view) for view in views]
    key = views[0].rule()
    end(world)
    assert [None, None] == [view.ask(key, CHAIN) for view in views]


async def test_others_go_on_when_one_ends(world):
    view = world.view()
    questions = [replace(RECORD.question, chain=(b"leaf %d" % n, CHAIN[1])) for n in range(3)]
    for number, question in enumerate(questions):
        world.add(question, keys=(f"ocsp {number}", "list"))
    world.memory.changed("ocsp 1")
    assert [True, False, True] == [known(view, one.chain) != "ENOENT" for one in questions]
    world.memory.changed("list")
    assert [False] * 3 == [known(view, one.chain) != "ENOENT" for one in questions]


async def test_many_end_together_by_their_trust_set_and_the_rest_comes_back_when_it_is_given(world):
    view = world.view()
    questions = [replace(RECORD.question, chain=(b"leaf %d" % n, CHAIN[1])) for n in range(100)]
    entries = [world.add(one, keys=("list",) if n else ("ocsp",)) for n, one in enumerate(questions)]
    elsewhere = replace(RECORD.question, rule="out", trust=ELSE, direction=Direction.CLIENT)
    world.add(elsewhere, keys=("other list",))
    world.memory.changed("list")
    assert {"ENOENT"} == {known(view, one.chain) for one in questions}
    assert 2 == world.memory.count
    assert "ENOENT" != known(view, direction=Direction.CLIENT)
    world.memory.given(questions[0], entries[0])
    assert ("a" * 32) == known(view, questions[0].chain)[0]


async def test_entry_ends_by_itself(world):
    view = world.view()
    world.add(lasts_s=0.3)
    assert "ENOENT" != known(view)
    await _until(lambda: known(view) == "ENOENT")


async def _until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "configured",
    [
        replace(SETTINGS, rules=(replace(RULE, board=False), OTHER)),
        replace(SETTINGS, rules=(replace(RULE, not_handled=frozenset({Phase.START_HANDSHAKE})), OTHER)),
    ],
)
async def test_rule_without_a_board_is_the_services_from_the_beginning(configured):
    with contextlib.closing(World(configured)) as world:
        await world.publisher.refresh()
        view = world.view()
        world.add()
        assert (None, 0) == (view.rule(), world.publisher.status()["entries"])
        assert view.rule(direction=Direction.CLIENT) is not None


async def test_rules_of_one_name_are_the_services(world):
    twice = (RULE, replace(RULE, profile="RSA"), OTHER)
    world.publisher.replace_settings(replace(SETTINGS, rules=twice))
    await world.publisher.refresh()
    view = world.view()
    world.add()
    assert (None, None, 0) == (view.rule(), view.rule(profile="RSA"), world.publisher.status()["entries"])
    assert view.rule(direction=Direction.CLIENT) is not None


async def test_service_without_a_board_gives_none_and_one_that_loses_it_shuts_it():
    off = replace(SETTINGS, service=replace(SETTINGS.service, board=False))
    with contextlib.closing(World(off)) as world:
        await world.publisher.refresh()
        assert (0, None, []) == (world.publisher.format, world.publisher.hand_out(), world.boards)
        world.publisher.replace_settings(SETTINGS)
        await world.publisher.refresh()
        view = world.view()
        world.add()
        assert "ENOENT" != known(view)
        world.publisher.replace_settings(off)
        await world.publisher.refresh()
        assert (0, "EBADF") == (world.publisher.format, view.look(2, CHAIN))


async def test_evidence_that_is_required_keeps_verdicts_off_the_board():
    required = replace(SETTINGS, evidence=EvidenceSettings(required=True))
    with contextlib.closing(World(required)) as world:
        await world.publisher.refresh()
        view = world.view()
        world.add()
        assert view.rule() is not None
        assert "ENOENT" == known(view)


async def test_reload_gives_the_same_rule_another_key(world):
    view = world.view()
    before = view.rule()
    world.publisher.replace_settings(SETTINGS)
    assert None is view.rule()
    await world.publisher.refresh()
    assert view.rule() not in {None, before}


async def test_new_generation_is_published_and_verdicts_live_on(world):
    view = world.view()
    world.add()
    key = view.rule()
    world.own.put(2)
    await world.publisher.refresh()
    assert (key, 2) == (view.rule(), world.publisher._rules[0].generation)
    assert "ENOENT" != known(view)
    del world.own.held["mft"]
    await world.publisher.refresh()
    assert (None, key) == (world.publisher._rules[0].chain, view.rule())


async def test_full_board_is_superseded_and_what_is_given_again_stands_in_the_new_one(world):
    first = world.view()
    entries = []
    for number in range(1000):
        question = replace(RECORD.question, chain=(number.to_bytes(2, "big") * 700, CHAIN[1]))
        entries.append((question, world.add(question)))
        if len(world.boards) > 1:
            break
    await world.publisher.refresh()
    second = world.view()
    assert (2, "EBADF") == (len(world.boards), first.look(1, CHAIN))
    question, entry = entries[0]
    assert "ENOENT" == known(second, question.chain)
    world.memory.given(question, entry)
    assert "ENOENT" != known(second, question.chain)
    assert world.publisher.given(world.boards[0].id, 1) is not None
    assert world.boards[0].id != world.boards[1].id


async def test_board_that_is_nearly_full_gives_way_before_it_is(world):
    first = world.view()
    while world.boards[0].stats()["arena_used"] < 0.8 * world.boards[0].stats()["arena_size"]:
        world.add(replace(RECORD.question, chain=(os.urandom(1400), CHAIN[1])))
    assert 1 == len(world.boards)
    await world.publisher.refresh()
    assert (2, "EBADF") == (len(world.boards), first.look(1, CHAIN))


async def test_board_that_cannot_be_made_is_told_once_and_tried_again_after_a_reload():
    world = World()
    make = world.make

    def fail(*_):
        what = "it cannot be made"
        raise BoardError(what, 95)

    world.publisher._make = fail
    with contextlib.closing(world):
        await world.publisher.refresh()
        await world.publisher.refresh()
        world.add()
        assert (["board_not_used"], 0) == (world.events(), world.publisher.format)
        world.publisher._make = make
        world.publisher.replace_settings(SETTINGS)
        await world.publisher.refresh()
        assert 1 == world.publisher.format


async def test_service_that_stops_leaves_what_stands_to_hosts_that_find_nobody(world):
    view = world.view()
    world.add()
    world.publisher.release()
    # The library looks whether somebody listens, before it believes it.
    assert "EOWNERDEAD" == known(view)


async def test_verdict_that_stands_until_the_year_9999_is_known(world):
    world.add(lasts_s=(datetime.max.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() - 60)
    assert ("a" * 32, 1) == known(world.view())


async def test_trust_sets_that_are_more_than_the_board_has_begin_a_new_one(world):
    first = world.view()
    more = {**SETTINGS.trusts, "third": replace(ELSE, name="third")}
    world.publisher.replace_settings(replace(SETTINGS, trusts=more))
    await world.publisher.refresh()
    assert (2, "EBADF") == (len(world.boards), first.look(1, CHAIN))
    assert world.view().rule() is not None


async def test_question_of_a_configuration_that_is_gone_is_not_published(world):
    view = world.view()
    other = {**SETTINGS.trusts, "partners": replace(samples.PLAIN, deltas=False)}
    world.publisher.replace_settings(replace(SETTINGS, trusts=other))
    await world.publisher.refresh()
    world.add()
    assert "ENOENT" == known(view)


_NETWORKS = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "2001:db8::/32", "0.0.0.0/0"])
_RULES = st.lists(
    st.builds(
        dict,
        direction=st.sampled_from(Direction),
        profile=st.sampled_from([None, "RSA", "EC"]),
        networks=st.lists(_NETWORKS, max_size=2, unique=True),
        port=st.sampled_from([None, 1762, 443]),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    _RULES,
    st.sampled_from(Direction),
    st.sampled_from([None, "RSA", "EC", "other"]),
    st.sampled_from(
        ["", "10.1.2.3", "10.1.9.9", "10.9.9.9", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.1", "x"]
    ),
    st.sampled_from([0, 443, 1762]),
)
def test_rule_that_hosts_find_is_the_one_that_the_service_would(drawn, direction, profile, remote, port):
    rules = tuple(
        Rule(
            name=f"rule-{n}",
            trust="partners",
            **one | {"networks": tuple(ip_network(text) for text in one["networks"])},
        )
        for n, one in enumerate(drawn)
    )
    board = NativeBoard(LIBRARY, size=1 << 20, entries=64, trusts=2)
    view = View(board.descriptor)
    try:
        configured = replace(SETTINGS, rules=rules)
        board.publish_rules(
            rules_of(configured, keys=range(1, len(rules) + 1), held={}, ca_lists={"partners": b"\1\1\0\0"})
        )
        expected = match(rules, RuleKey(direction=direction, profile=profile, remote=remote, port=port))
        found = view.rule(direction=direction, profile=profile or "", remote=remote, port=port)
        # Where hosts do not decide it, they ask.
        assert found in {None, rules.index(expected) + 1 if expected else None}
        if expected is not None and "::ffff" not in remote:
            assert found is not None
    finally:
        board.release()


def test_digests_and_masks_are_those_of_the_wire():
    rules = rules_of(SETTINGS, keys=(5, 6), held={}, ca_lists={})
    assert (5, sha256(b"in").digest()[:8], None, None, 0) == (
        *(rules[0].key, rules[0].digest, rules[0].chain, rules[0].ca_list, rules[0].generation),
    )
    without = (1 << Phase.GET_CERTIFICATE) | (1 << Phase.CRYPT_DATA)
    assert rules[0].phase_mask & ~without == rules[1].phase_mask
