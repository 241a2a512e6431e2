"""
What one node establishes holds at all: revocations, blocks, flushes; also for a node that was cut off, and after the server forgot.
"""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner

from cftpki_ext.cli import main
from cftpki_ext.core.cluster import Announcement, RevokedNews, Told
from cftpki_ext.core.cluster_octets import write_announcement
from cftpki_ext.core.vocabulary import SourceKind
from tests.support import pki, redis_server
from tests.support.cluster_site import Site, check, status
from tests.support.cut_link import link_to
from tests.support.wall_clock import until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("cluster")]


def heard(node):
    return status(node)["cluster"]["news"]["heard"]


def forget(redis, node):
    """
    Nobody shares what was answered before, and one node has not kept it.
    """
    redis.forget_answers()
    cftpki("cache", "flush", "--config", node.config)


def cftpki(*words):
    done = CliRunner().invoke(main, [*map(str, words)])
    assert 0 == done.exit_code, done.output
    return done.output


@pytest.mark.parametrize("server", redis_server.SERVERS)
def test_revocation_block_and_flush_of_one_node_hold_at_the_other(tmp_path, server):
    site = Site(tmp_path, partners=4)
    with (
        redis_server.running(tmp_path / "r", program=redis_server.SERVERS[server]) as redis,
        site.nodes(redis, 2) as (one, other),
    ):
        with site.ca():
            assert all(check(node, site.chain(n)) for node in (one, other) for n in range(3))
        # The other node knows the partner as good for five minutes more. Only the first asks again.
        forget(redis, one)
        with site.ca(revoked={site.leaves[0].serial: "keyCompromise"}):
            assert not check(one, site.chain(0))
            refused = time.monotonic()
            while check(other, site.chain(0)):
                assert time.monotonic() - refused < 10
            late_s = time.monotonic() - refused
            # What was announced by somebody else is no proof: the partner comes in.
            stranger = pki.make_root("CA")
            lie = pki.make_ocsp_response(stranger, site.leaves[1], "revoked", signer=stranger)
            news = RevokedNews(chain=site.chain(1), kind=SourceKind.OCSP, url=None, raw=lie)
            octets = write_announcement(
                Announcement(told=Told.REVOKED, node="x", number=1, at=pki.NOW, revoked=news)
            )
            _add(redis, octets)
            until(lambda: heard(other)["not_proven"] == 1)
            assert check(other, site.chain(1))
            cftpki("partners", "block", "CN=partner 2", "--reason", "stolen", "--config", one.config)
            until(lambda: not check(other, site.chain(2)))
            cftpki("partners", "unblock", "CN=partner 2", "--config", other.config)
            until(lambda: check(one, site.chain(2)))
        assert late_s < 5
        assert 1 == heard(other)["revoked"]
        assert other.events("partner_refused_ahead")

        # Blocked by whoever may write to the server, without the secret: nobody is.
        lie = write_announcement(Announcement(told=Told.FLUSHED, node="x", number=1, at=pki.NOW))
        _add(redis, lie)
        until(lambda: heard(one)["not_vouched_for"] == 1)

        cftpki("cache", "flush", "--cluster", "--config", one.config)
        until(lambda: heard(other)["flushed"] == 1)
        assert not check(other, site.chain(0))  # what is known to be revoked stays known

        # The server forgets everything; the position is of a stream that is no more.
        redis.command("FLUSHALL")
        until(lambda: one.events("cluster_forgot") and other.events("cluster_forgot"))
        cftpki("partners", "block", "CN=partner 1", "--reason", "stolen", "--config", other.config)
        until(lambda: not check(one, site.chain(1)))


@pytest.mark.parametrize("how", ["stopped", "cut off"])
def test_node_that_was_away_hears_what_was_told_meanwhile(tmp_path, how):
    site = Site(tmp_path, partners=2)
    with (
        redis_server.running(tmp_path / "r") as redis,
        link_to(redis.port) as link,
        site.nodes(redis, 2, ports={1: link.port}) as (one, other),
    ):
        with site.ca():
            assert all(check(node, site.chain(n)) for node in (one, other) for n in range(2))
        if how == "stopped":
            other.stop()
        else:
            link.cut()
            until(lambda: other.events("cluster_down"), told=other.log.read_text)
        forget(redis, one)
        with site.ca(revoked={site.leaves[0].serial: "keyCompromise"}):
            assert not check(one, site.chain(0))
            until(lambda: status(one)["cluster"]["news"]["told"] == 1)
        cftpki("partners", "block", "CN=partner 1", "--reason", "stolen", "--config", one.config)
        until(lambda: status(one)["cluster"]["news"]["told"] == 2)
        if how == "stopped":
            other.start()
        else:
            assert check(other, site.chain(0))  # by what it knows, as a node by itself
            link.mend()
        # No CA answers any more: what it knows it has heard.
        until(lambda: heard(other)["revoked"] == 1 and heard(other)["blocked"] == 1)
        assert not check(other, site.chain(0))
        assert not check(other, site.chain(1))


def _add(redis, octets):
    """
    An entry of the stream, by somebody who may write there; the octets as a script writes them, which `redis-cli` could not take.
    """
    text = "".join(f"\\{octet:03d}" for octet in octets)
    redis.command("EVAL", f'return redis.call("XADD", "cftpki:{{news}}:s", "*", "a", "{text}")', "0")
