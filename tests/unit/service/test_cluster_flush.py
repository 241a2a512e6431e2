"""
What a command tells a cluster.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cftpki_ext.bootstrap import clustering
from cftpki_ext.core.cluster import ClusterSettings, Told
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import Settings
from cftpki_ext.service.cluster.place import Place, save_place
from cftpki_ext.stores import cluster_place

YEAR = datetime(2026, 6, 1, tzinfo=UTC)
MICROSECONDS = int(YEAR.timestamp() * 1_000_000)


class Clock:
    def __init__(self, at=YEAR):
        self.at = at

    def now(self):
        return self.at

    def monotonic(self):
        return 0.0


class Server:
    """
    Takes everything, or nothing.
    """

    def __init__(self, position):
        self.position, self.told = position, []

    async def announce(self, one):
        self.told.append(one)
        return self.position

    def status(self):
        return {"server": "rediss://r:6379", "fault": "it does not answer", "refused": None}

    async def aclose(self):
        pass


@pytest.fixture
def settings(tmp_path):
    made = Settings()
    return replace(made, service=replace(made.service, state=tmp_path), cluster=ClusterSettings(node="a"))


@pytest.fixture
def server(monkeypatch):
    made = Server("1-0")
    monkeypatch.setattr(clustering, "open_server", lambda *_: made)
    return made


def test_flush_after_the_clock_was_set_back_has_a_later_number(settings, server):
    for at in (YEAR, YEAR.replace(year=2020), YEAR.replace(year=2020)):
        clustering.tell_flushed(settings, Clock(at))
    assert [MICROSECONDS, MICROSECONDS + 1, MICROSECONDS + 2] == [one.number for one in server.told]
    assert {(Told.FLUSHED, "a")} == {(one.told, one.node) for one in server.told}


def test_flush_has_a_later_number_than_this_node_was_heard_with_also_where_its_own_file_is_gone(
    settings, server
):
    heard = Place(flushes=frozenset({("a", 1 << 60), ("b", 1 << 61)}))
    cluster_place(settings.service).save(save_place(heard))
    clustering.tell_flushed(settings, Clock())
    assert [(1 << 60) + 1] == [one.number for one in server.told]


def test_flush_that_nobody_takes_is_told(settings, server):
    server.position = None
    with pytest.raises(StoreError, match="does not answer: the other nodes have not forgotten"):
        clustering.tell_flushed(settings, Clock())
