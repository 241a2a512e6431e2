"""
A judge that is to look at more large lists at once than it keeps: a new list beside the old one, those of two CAs.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cftpki_ext.core.verdict import Status
from cftpki_ext.service.judging import exchange, judge
from tests.support import evidence_samples as samples
from tests.support.judge_here import JudgePool
from tests.unit.service.test_hostile_judge import SETTINGS, ask

LISTS = [replace(samples.GOOD[0], raw=bytes([65 + n]) * (exchange.LARGE_BYTES + 1)) for n in range(4)]


class Counting(JudgePool):
    """
    Knows what its judge has been sent, and how often each list was.
    """

    def __init__(self):
        super().__init__(SETTINGS)
        self.sent = 0

    async def call(self, job, build, *, within_s):
        def counting(seat):
            message = build(seat)
            self.sent += len(message.descriptors)
            return message

        answer = await super().call(job, counting, within_s=within_s)
        self.seat.bodies.update(job.large)
        return answer


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(judge, "_BODY_BYTES", exchange.LARGE_BYTES * 3 // 2)
    return Counting()


def test_lists_that_one_case_needs_are_all_there(pool):
    assert Status.ACCEPTED is ask(pool, (*samples.GOOD, *LISTS)).status
    assert (4, []) == (pool.sent, pool.distrusted)


def test_list_that_comes_beside_one_that_is_there_pushes_it_out_only_afterwards(pool):
    for heard, sent in ((LISTS[:1], 1), (LISTS[:2], 2), (LISTS[1:2], 2), (LISTS[2:3], 3), (LISTS[:1], 4)):
        assert Status.ACCEPTED is ask(pool, (*samples.GOOD, *heard)).status
        assert (sent, []) == (pool.sent, pool.distrusted)
