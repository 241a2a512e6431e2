"""
Four nodes, and what must hold for them whatever becomes of the server between them.

    with farm(tmp_path) as four:
        four.endure(trouble)    # `trouble` is a context manager in which the server is no good
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.support import redis_server
from tests.support.cluster_site import Site, check, check_in, status
from tests.support.wall_clock import until

NODES = 4
# Longer than a busy machine keeps a node from its turn: what is late in these tests is the server.
MORE = 'patience = "1s"'
LIMITS = 'budget_ms = "30s"\nrequest_ms = "4s"'


@dataclass
class Farm:
    """
    Nodes, their CA and their server.
    """

    site: Site
    redis: redis_server.Redis
    nodes: list[Any]
    fresh: Iterator[int] = field(default_factory=itertools.count)

    def take(self, count: int) -> list[int]:
        """
        Partners that nobody has seen.
        """
        return list(itertools.islice(self.fresh, count))

    def at_all(self, *partners: int, nodes: list[Any] | None = None) -> set[bool]:
        """
        What nodes say to partners that come to all of them at once: one answer, where they agree.
        """
        return set(self.answers(*partners, nodes=nodes))

    def answers(self, *partners: int, nodes: list[Any] | None = None) -> list[bool]:
        """
        The same, each answer.
        """

        async def ask() -> list[bool]:
            return await asyncio.gather(
                *(check_in(node, self.site.chain(one)) for node in nodes or self.nodes for one in partners)
            )

        return asyncio.run(ask())

    def counted(self, *names: str) -> int:
        """
        How often something was counted at all nodes together.
        """
        found = [status(node)["cluster"] for node in self.nodes]
        return sum((one["sharing"] | one)[name] for one in found for name in names)

    def sources(self, partner: int) -> list[str]:
        """
        What nodes judged a partner by, each time that he came.
        """
        name = f"CN=partner {partner}"
        return [one["source"] for node in self.nodes for one in node.verdicts() if one["partner"] == name]

    def are_up(self) -> bool:
        """
        Whether all nodes reach the server, hear all that was told, and have heard under which number it keeps answers now.

        A node that has not yet, since the server forgot it, looks for answers in another place than the others.
        """
        there = self.redis.command("GET", "cftpki:{news}:g")
        found = [status(node)["cluster"] for node in self.nodes]
        return all(
            one["up"] and not one["news"]["waiting"] and there == str(one["generation"]) for one in found
        )

    def forget(self, partner: int) -> None:
        """
        Have the server forget all answers, once a node has shared one about a partner.
        """
        self.settle(partner)
        self.redis.forget_answers()

    def settle(self, partner: int) -> None:
        """
        Wait until a node has shared what a partner's CA said; or could not, for want of time.
        """
        late, serial = self.counted("late"), self.site.leaves[partner].serial
        until(lambda: self.redis.shares(serial) or self.counted("late") > late)

    def refuse(self, partner: int) -> bool:
        """
        Whether all nodes refuse a partner. One that has refused him never lets him in again.
        """
        refused = [not check(node, self.site.chain(partner)) for node in self.nodes]
        for node, said in zip(self.nodes, refused, strict=True):
            assert not said or not check(node, self.site.chain(partner)), node.log.read_text()
        return all(refused)

    def endure(self, trouble: Callable[[], AbstractContextManager[object]]) -> float:
        """
        Have trouble, and what must hold in it and after it.

        In it known partners come in, and those that nobody has seen are judged by what their CA says: revoked ones stay out. A revocation
        that is established meanwhile holds at all nodes once they hear of it. After it one node asks for all.

        Args:
            trouble: begins as it is entered, and ends as it is left.

        Returns:
            How long a first check in trouble took at most, in seconds.

        """
        known, stolen, new, bad = self.take(4)
        # The first node has not seen the stolen one: what it asks, it is told.
        assert {True} == self.at_all(known)
        assert {True} == self.at_all(stolen, nodes=self.nodes[1:])
        self.forget(stolen)
        with trouble():
            self.site.revoke(stolen, bad)
            begun = time.monotonic()
            assert [False] == self.answers(stolen, nodes=self.nodes[:1])
            took_s = [time.monotonic() - begun]
            begun = time.monotonic()
            assert [True, True, False] * NODES == self.answers(known, new, bad)
            took_s.append(time.monotonic() - begun)
        until(partial(self.refuse, stolen), told=lambda: [status(node)["cluster"] for node in self.nodes])
        until(self.are_up, told=lambda: [status(node)["cluster"] for node in self.nodes])
        assert {False} == self.at_all(stolen, bad)
        assert {True} == self.at_all(known, new)
        (after,) = self.take(1)
        waited = self.counted("late", "waited_in_vain")
        assert {True} == self.at_all(after)
        until(lambda: len(self.sources(after)) == NODES)
        # A call that is late, where the machine is busy, costs a question more.
        most = 1 + self.counted("late", "waited_in_vain") - waited
        found = self.sources(after)
        assert {"ocsp, network", "ocsp, cluster"} >= set(found)
        assert 1 <= found.count("ocsp, network") <= most, found
        return max(took_s)


@contextlib.contextmanager
def farm(
    folder: Path, *, partners: int = 5, server_more: str = "", program: Path = redis_server.SYSTEM
) -> Iterator[Farm]:
    """
    Four services with one server and one CA, for as long as the block lasts.
    """
    site = Site(folder, partners=partners, limits=LIMITS)
    with (
        redis_server.running(folder / "r", more=server_more, program=program) as redis,
        site.ca(),
        site.nodes(redis, NODES, more=MORE) as nodes,
    ):
        yield Farm(site, redis, nodes)
