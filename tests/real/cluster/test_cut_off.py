"""
A node whose network is cut: no packet passes, and no connection ends. It goes on by itself, the others do not notice, and it hears
what it missed when the network is back.

`CFTPKI_CUT_OFF_S` is how long it stays cut beyond what the test waits for, in seconds; by default not at all: once the server is known
not to answer, nothing changes with time but the backoff of TCP, which is no longer than connections are kept.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from tests.support import real_service, redis_server
from tests.support.cluster_farm import LIMITS, MORE, NODES, Farm
from tests.support.cluster_site import Site, check, status
from tests.support.island import island
from tests.support.pace import LATE_S
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cluster")]

LONGER_S = float(os.environ.get("CFTPKI_CUT_OFF_S", "0"))
# Looks for what was told, ten times a second, and tries to reach the server, twice a second, with a second's patience.
CATCHES_UP_S = 5.0


def cftpki(*words):
    done = CliRunner().invoke(main, [*map(str, words)])
    assert 0 == done.exit_code, done.output


def descriptors(node):
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network")
def test_node_whose_network_is_cut_goes_on_and_hears_what_it_missed_within_seconds(tmp_path):
    with island() as far:
        site = Site(tmp_path, partners=8, host=far.here, limits=LIMITS)
        with (
            redis_server.running(tmp_path / "r", host=far.here) as redis,
            site.ca(),
            site.nodes(
                redis, NODES, programs={NODES - 1: (*far.prefix, real_service.PROGRAM)}, more=MORE
            ) as nodes,
        ):
            four, near, cut = Farm(site, redis, nodes), nodes[:-1], nodes[-1]
            known, stolen, blocked, unseen, new, bad = four.take(6)
            assert {True} == four.at_all(known, blocked)
            assert {True} == four.at_all(stolen, nodes=nodes[1:])
            four.forget(stolen)
            open_before = descriptors(cut)

            far.cut()
            began = time.monotonic()
            until(lambda: cut.events("cluster_down"), told=cut.log.read_text)
            # By what it knows, as a node by itself; whom it has never seen it cannot let in.
            assert check(cut, site.chain(known))
            assert not check(cut, site.chain(unseen))

            # Meanwhile, at the others.
            site.revoke(stolen, bad)
            assert not check(near[0], site.chain(stolen))
            until(lambda: not any(four.answers(stolen, nodes=near)))
            cftpki(
                "partners", "block", f"CN=partner {blocked}", "--reason", "stolen", "--config", near[0].config
            )
            until(lambda: not any(four.answers(blocked, nodes=near)))
            cftpki("cache", "flush", "--cluster", "--config", near[0].config)
            until(lambda: all(status(node)["cluster"]["news"]["heard"]["flushed"] for node in near))
            asking = time.monotonic()
            assert {True} == four.at_all(known, new, nodes=near)
            assert {False} == four.at_all(stolen, blocked, bad, nodes=near)
            took_s = time.monotonic() - asking
            time.sleep(max(0.0, LONGER_S - (time.monotonic() - began)))
            open_cut = descriptors(cut)
            assert {True} == set(four.answers(stolen, blocked, nodes=[cut]))  # it cannot know

            far.mend()
            mended = time.monotonic()
            let_in = []
            for partner in (stolen, blocked):
                while check(cut, site.chain(partner)):
                    let_in.append(partner)
                    assert time.monotonic() - mended < CATCHES_UP_S + LATE_S, status(cut)["cluster"]
                    time.sleep(0.02)
            caught_up_s = time.monotonic() - mended
            until(lambda: status(cut)["cluster"]["news"]["heard"]["flushed"] == 1)
            # What was heard holds.
            assert {False} == four.at_all(stolen, blocked, bad)
            assert {True} == four.at_all(known, new, unseen)
            sys.stdout.write(
                f"cut for {mended - began:.1f} s, caught up {caught_up_s:.2f} s after; {open_before} descriptors, {open_cut} while cut\n"
            )
            assert took_s < LATE_S + 2
            # What is lost is closed: no connection stays for each that was tried.
            assert open_cut <= open_before + 8
            assert [] == cut.events("cluster_forgot")
            assert [] == [failure for node in nodes for failure in node.failures()]
