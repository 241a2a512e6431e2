"""
What the doctor says of the server that nodes share.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cftpki_ext.core.cluster import Address, ClusterSettings, NodeRow, Probe
from cftpki_ext.core.settings import Limits
from cftpki_ext.doctor.cluster import examine_cluster, examine_node
from cftpki_ext.doctor.findings import Level

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SETTINGS = ClusterSettings(
    addresses=(Address(host="h", port=1),),
    user="cftpki",
    password_file=Path("password"),
    secret_file=Path("secret"),
)
PLAIN = ClusterSettings(addresses=(Address(host="127.0.0.1", port=1),), tls=False)
WELL = Probe(kept=True, took_ms=3, anonymous=False)


def row(node="a", *, ago_s=1.0, version="1"):
    return NodeRow(node=node, version=version, position="0-0", at=NOW - timedelta(seconds=ago_s))


def found(settings=SETTINGS, probe=WELL, status=None):
    return [
        (one.level, one.check, one.detail)
        for one in examine_cluster(settings, probe, status, limits=Limits(), now=NOW)
        if one.level is not Level.OK
    ]


def test_server_that_is_well_is_told_as_that_and_nothing_else():
    assert [] == found()
    (one,) = examine_cluster(SETTINGS, WELL, None, limits=Limits(), now=NOW)
    assert "rediss://h:1 keeps what is put there" == one.detail


@pytest.mark.parametrize(
    ("probe", "detail"),
    [
        (Probe(fault="connection refused"), "rediss://h:1: connection refused"),
        (Probe(refused="it is full (maxmemory)", anonymous=False), "rediss://h:1: it is full (maxmemory)"),
        (Probe(anonymous=False), "rediss://h:1: what was put there is not found again"),
        (Probe(kept=True, took_ms=150), "rediss://h:1 took 150 ms to keep a probe"),
    ],
)
def test_server_that_cannot_be_used_is_a_warning(probe, detail):
    assert [(Level.WARN, "server", detail)] == found(probe=probe)


def test_server_that_lets_anybody_in_is_found():
    ((level, check, detail),) = found(probe=Probe(kept=True, anonymous=True))
    assert (Level.WARN, "password") == (level, check)
    assert "by anybody who reaches it" in detail


def test_server_without_tls_password_and_secret_is_found():
    assert [(Level.WARN, "TLS"), (Level.WARN, "password"), (Level.NOTE, "secret")] == [
        one[:2] for one in found(settings=PLAIN)
    ]


def test_nodes_that_are_gone_ahead_or_of_another_version_are_found():
    rows = (row(), row("b", ago_s=300), row("c", ago_s=-200, version="2"))
    assert [
        (Level.NOTE, "node b", "has said nothing for 300 s"),
        (Level.WARN, "node c", "its clock is 200 s ahead of ours"),
        (Level.NOTE, "versions", "nodes are of 1, 2"),
    ] == found(probe=Probe(kept=True, anonymous=False, nodes=rows))


def test_node_that_the_service_sees_is_judged_by_that_and_not_by_its_clock():
    rows = (row(), row("b", ago_s=300), row("c", ago_s=1))
    nodes = [
        {"node": name, "silent_s": silent_s, "ahead_s": ahead_s, "here": silent_s < 15}
        for name, silent_s, ahead_s in (("a", 0.5, 0.0), ("b", 0.5, -299.5), ("c", 70.0, 0.0))
    ]
    probe = Probe(kept=True, anonymous=False, nodes=rows)
    assert [
        (Level.WARN, "node b", "its clock is 300 s behind ours"),
        (Level.NOTE, "node c", "has said nothing for 70 s"),
    ] == found(probe=probe, status={"up": True, "lag_s": 0.0, "nodes": nodes})


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        ({"up": False, "fault": "no answer"}, "the service does not reach it: no answer"),
        ({"up": True, "lag_s": 11.0}, "the service is 11.0 s behind what was told"),
        ({"up": True, "lag_s": 0.0, "news": {"waiting": 2}}, "2 announcements could not be told yet"),
    ],
)
def test_service_that_is_cut_off_or_behind_is_found(status, detail):
    assert [(Level.WARN, "service", detail)] == found(status=status)


def test_revocations_that_are_verified_later_are_told():
    ((level, check, detail),) = found(status={"up": True, "lag_s": 0.0, "news": {"put_off": 3}})
    assert (Level.NOTE, "service") == (level, check)
    assert detail.startswith("3 revocations of other nodes are verified later")


def test_nodes_lag_answers_and_leases_are_told_where_the_service_answers():
    status = {
        "up": True,
        "lag_s": 0.2,
        "nodes": [{"node": "a", "here": True}, {"node": "b", "here": False}],
        "sharing": {"leases_now": 1},
    }
    answers = {"memory": 5, "disk": 2, "cluster": 3, "network": 4}
    assert [
        "1 of 2 nodes are there, and this one is 0.2 s behind",
        "answers were found since the start: memory 5, disk 2, cluster 3, network 4; leases now: 1",
    ] == [one.detail for one in examine_node(status, answers)]
    assert () == examine_node(None, answers)
    assert ["the service does not reach it: gone"] == [
        one.detail for one in examine_node({"up": False, "fault": "gone"}, answers)
    ]
