"""
Large lists between nodes: in parts, whole or not at all, and got from their location once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC

import pytest

from cftpki_cache.disk import DiskStore
from cftpki_cache.listed import ListedStore
from cftpki_cache.lists import ListFiles
from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_ext.checking.checker import Checker
from cftpki_ext.checking.shared_lists import gather, scatter
from cftpki_ext.checking.sharing import Sharing
from cftpki_ext.core.cluster import PART_OCTETS, Parts
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.vocabulary import Direction, Origin
from cftpki_ext.decision.question import Question
from tests.support.pki import NOW, make_crl
from tests.support.shared_tier import Tier
from tests.support.virtual_world import CA, CRL, LEAF, ROOT, ROOT_LIST, Source

SIZE = 2 * PART_OCTETS + 17


class Here:
    """
    The machine's own time, moved to when the certificates are valid.
    """

    def now(self):
        return NOW.astimezone(UTC)

    def monotonic(self):
        return time.monotonic()


@pytest.fixture
def lists(tmp_path):
    return ListFiles(tmp_path, max_bytes=1 << 30)


def spooled(lists, octets):
    spooling = lists.begin()
    spooling.write(octets)
    return spooling.finish()


async def brought(tier, parts, lists, *, in_time=True):
    return await gather(tier, "k", parts, lists, in_time=lambda: in_time)


async def test_list_comes_as_it_was_put(lists, tmp_path):
    (tmp_path / "other").mkdir()
    octets = bytes(range(256)) * (SIZE // 256 + 1)
    raw, tier = spooled(lists, octets), Tier(Here())
    parts = await scatter(tier, "k", raw, keep_s=60)
    assert (Parts(digest=raw.digest, size=len(octets)), 3) == (parts, len(tier.parts))
    found = await brought(tier, parts, ListFiles(tmp_path / "other", max_bytes=1 << 30))
    assert octets == found.whole()


@pytest.mark.parametrize("harm", ["gone", "short", "long", "other", "late"])
async def test_list_of_which_a_part_is_not_as_it_was_does_not_come(lists, tmp_path, harm):
    (tmp_path / "other").mkdir()
    raw, tier = spooled(lists, bytes(SIZE)), Tier(Here())
    parts = await scatter(tier, "k", raw, keep_s=60)
    place = ("k", parts.digest, 1)
    part = tier.parts[place]
    tier.parts[place] = {"short": part[:-1], "long": part + b"x", "other": b"y" + part[1:]}.get(harm, part)
    if harm == "gone":
        del tier.parts[place]
    other = ListFiles(tmp_path / "other", max_bytes=1 << 30)
    assert await brought(tier, parts, other, in_time=harm != "late") is None


async def test_list_that_the_server_does_not_take_is_not_put(lists):
    tier = Tier(Here(), down=True)
    assert await scatter(tier, "k", spooled(lists, bytes(SIZE)), keep_s=60) is None
    assert 1 == len(tier.parts)


class Node:
    def __init__(self, folder, tier, answers):
        folder.mkdir()
        self.clock = Here()
        self.source = Source(CRL, self.clock, answers)
        store = ListedStore(
            TieredStore(MemoryStore(), DiskStore(folder / "d", max_bytes=1 << 30)),
            ListFiles(folder, max_bytes=1 << 30),
        )
        self.checker = Checker(sources={CRL: self.source}, store=store, clock=self.clock)
        self.sharing = Sharing(tier, self.clock)
        self.checker.share_by(self.sharing)

    async def check(self):
        asked = Question(
            chain=(LEAF.der, CA.der),
            direction=Direction.SERVER,
            trust=TrustSet(name="t", anchors=(ROOT.der,), sources=(CRL,)),
            limits=replace(Limits(), budget_ms=60_000),
            at=self.clock.now(),
            rule=None,
        )
        return await self.checker.check_with_statements(asked)


async def test_large_list_travels_once_and_each_node_makes_its_index(tmp_path):
    large = make_crl(CA, range(1 << 100, (1 << 100) + 45_000))
    assert len(large) > 2 * PART_OCTETS
    answers = {"http://ca/crl": (0, large), "http://root/crl": (0, ROOT_LIST)}
    tier = Tier(Here(), delay_s=0)
    one = Node(tmp_path / "a", tier, answers)
    assert (await one.check())[0].accepted
    await one.sharing.aclose()
    other = Node(tmp_path / "b", tier, answers)
    verdict, statements = await other.check()
    assert verdict.accepted
    assert [] == other.source.asked
    assert {Origin.CLUSTER} == {statement.origin for statement in statements}
    assert {True} == {s.raw.index is not None for s in statements if len(s.raw) == len(large)}
    await other.sharing.aclose()
    for node in (one, other):
        await node.checker.aclose()
    assert {} == tier.leases


def test_parts_are_as_many_as_they_must_be():
    sizes = [1, PART_OCTETS, PART_OCTETS + 1]
    assert [1, 1, 2] == [Parts(digest="00", size=size).count for size in sizes]
