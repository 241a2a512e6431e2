"""
Tries docker-compose.cluster.yml, which is up: what two nodes do as one, and what becomes of it while each link in turn is cut.

    python3 -m tests.compose.links

Each check is a handshake of a partner with a host, and has one right outcome: accepted, or a TLS alert. Links are cut where they are: a container
leaves the network of that link, at either end, or the node's socket loses its name. Exit status 0 only if all was as it should be.
Needs Python 3.11, docker with compose, and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tests.compose.site import ACCEPTED, PARTNERS, PYTHON, Agent, Node, Site, compose, left, nameless

REVOKED, UNKNOWN, DENIED, FAILED = 44, 46, 49, 80
# The last accept anywhere begins within a second of the first refusal.
AT_ONCE_S = 1.0
# A server that is back is asked twice a second; what was told is heard ten times a second.
CAUGHT_UP_S = 10.0
# A name that was asked for while the link was away is asked for until the resolver gives up.
RESOLVED_S = 30.0


def together(site: Site) -> None:
    """
    Two nodes, no link cut: asked once, told at once.
    """
    a, b = site.nodes
    site.flush(a, b)
    before = site.questions()
    site.comes("steady", a, ACCEPTED, "whom nobody knows yet")
    site.comes("steady", b, ACCEPTED, "whom the other node has judged")
    for node in (a, b):
        for name in ("one", "guest"):
            site.comes(name, node, ACCEPTED, "whom nobody knows yet")
    site.right("questions to the CA for all of them", site.questions() - before, 1)

    site.revoke("one")
    site.comes("one", b, ACCEPTED, "revoked, and no node has asked")
    site.forget_shared()
    a.run("cache", "flush")
    refused = site.comes("one", a, REVOKED, "which has asked anew")
    site.becomes("one", b, REVOKED, AT_ONCE_S, "which has not asked: told with the proof", since=refused)
    site.right("questions to the CA for the revocation", site.questions() - before, 2)

    a.run("partners", "block", "CN=guest", "--reason", "stolen")
    refused = site.comes("guest", a, DENIED, "where he was blocked")
    site.becomes("guest", b, DENIED, AT_ONCE_S, "told", since=refused)
    b.run("partners", "unblock", "CN=guest")
    site.becomes("guest", a, ACCEPTED, AT_ONCE_S, "unblocked at the other node", before=DENIED)


def without_valkey(
    site: Site, cut: Node, other: Node, gone: tuple[str, str], newcomer: str, revoked: str, *, finder: Node
) -> None:
    """
    A node without the server is a node by itself; what was found meanwhile, at either, holds at both once the link is back.
    """
    with left(*gone):
        site.holds(f"{cut.service} knows that it is alone", lambda: not cut.status()["up"])
        for node in (cut, other):
            site.comes("steady", node, ACCEPTED, "known")
            site.comes(newcomer, node, ACCEPTED, "new")
        site.revoke(revoked)
        if finder is other:
            site.forget_shared()
        finder.run("cache", "flush")
        site.comes(revoked, finder, REVOKED, "which has asked anew")
        hearer = cut if finder is other else other
        site.comes(
            revoked,
            hearer,
            ACCEPTED,
            "which can be told nothing: as a node by itself, by the list that it has",
        )
        other.run("partners", "block", "CN=guest", "--reason", "stolen")
        site.comes("guest", other, DENIED, "where he was blocked")
        site.comes("guest", cut, ACCEPTED, "which can be told nothing")
    begun = time.monotonic()
    site.becomes(revoked, hearer, REVOKED, CAUGHT_UP_S, "the link is back")
    site.becomes("guest", cut, DENIED, CAUGHT_UP_S, "the link is back")
    print(f"  caught up {time.monotonic() - begun:.1f} s after the link was back", flush=True)
    site.holds(f"{cut.service} is not alone any more", lambda: cut.status()["up"])
    other.run("partners", "unblock", "CN=guest")
    site.becomes("guest", cut, ACCEPTED, AT_ONCE_S, "unblocked at the other node", before=DENIED)


def without_ca(
    site: Site, cut: Node, other: Node, gone: tuple[str, str], newcomers: tuple[str, str], revoked: str
) -> None:
    """
    A node that cannot ask the CA lives on what the other asks.
    """
    before = site.questions()
    with left(*gone):
        for node in (cut, other):
            site.comes("steady", node, ACCEPTED, "known")
            site.comes(newcomers[0], node, ACCEPTED, "new")
        site.right("questions to the CA for all of them", site.questions() - before, 0)
        site.revoke(revoked)
        site.forget_shared()
        other.run("cache", "flush")
        refused = site.comes(revoked, other, REVOKED, "which has asked anew")
        site.becomes(revoked, cut, REVOKED, AT_ONCE_S, "which cannot ask: told with the proof", since=refused)
        site.flush(other, cut)
        site.comes(newcomers[1], cut, UNKNOWN, "which has nothing and cannot ask")
        site.comes(newcomers[1], other, ACCEPTED, "which has asked")
        site.comes(newcomers[1], cut, ACCEPTED, "by what the other was told")
        site.comes("steady", cut, ACCEPTED, "by what the other was told")
        site.right("questions to the CA for all of them", site.questions() - before, 2)
    site.comes("steady", other, ACCEPTED, "the link is back")
    site.flush(other, cut)
    site.becomes(
        "steady", cut, ACCEPTED, RESOLVED_S, "the link is back: it asks the CA itself", before=UNKNOWN
    )
    site.comes("steady", other, ACCEPTED, "by what the other was told")
    site.right("questions to the CA for all of them", site.questions() - before, 3)


def without_node(site: Site, cut: Node, other: Node, newcomer: str, revoked: str) -> None:
    """
    A host that cannot reach its node answers known partners from the verdict board, which the node still writes; nobody else comes in.
    """
    for name in ("steady", revoked):
        site.comes(name, cut, ACCEPTED, "known")
    with nameless(cut):
        site.comes("steady", cut, ACCEPTED, "known to the host")
        site.comes(revoked, cut, ACCEPTED, "known to the host")
        site.comes(newcomer, cut, FAILED, "new, and the host can ask nobody")
        site.comes(newcomer, other, ACCEPTED, "new")
        site.revoke(revoked)
        site.forget_shared()
        other.run("cache", "flush")
        refused = site.comes(revoked, other, REVOKED, "which has asked anew")
        site.becomes(
            revoked, cut, FAILED, AT_ONCE_S, "its node was told, and took the verdict back", since=refused
        )
    site.comes(revoked, cut, REVOKED, "the link is back")
    site.comes(newcomer, cut, ACCEPTED, "the link is back")
    site.comes("steady", cut, ACCEPTED, "the link is back")


def links(site: Site) -> None:
    """
    Each link in turn; a newcomer of one part is known in the next, and is revoked there.
    """
    a, b = site.nodes
    parts: list[tuple[str, Callable[[], None]]] = [
        ("all links are there", lambda: together(site)),
        # Node A leaves the network: its own end is gone. Then Valkey leaves it: what node B sends is lost.
        ("no link: node A - Valkey",
         lambda: without_valkey(site, a, b, ("node-a", "valkey-node-a"), "three", "two", finder=b)),
        ("no link: node B - Valkey",
         lambda: without_valkey(site, b, a, ("valkey", "valkey-node-b"), "four", "three", finder=b)),
        ("no link: node A - CA",
         lambda: without_ca(site, a, b, ("node-a", "ca-node-a"), ("five", "six"), "four")),
        ("no link: node B - CA",
         lambda: without_ca(site, b, a, ("step-ca", "ca-node-b"), ("seven", "eight"), "five")),
        ("no link: host A - node A", lambda: without_node(site, a, b, "nine", "six")),
        ("no link: host B - node B", lambda: without_node(site, b, a, "ten", "seven")),
    ]  # fmt: skip
    for title, part in parts:
        begun = time.monotonic()
        print(title, flush=True)
        part()
        print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    print("in the end, every link back")
    for node in site.nodes:
        for version in ("1.2", "1.3"):
            for name in ("one", "two", "three", "four", "five", "six", "seven"):
                site.comes(name, node, REVOKED, f"TLS {version}", version)
            for name in ("steady", "guest", "eight", "nine", "ten"):
                site.comes(name, node, ACCEPTED, f"TLS {version}", version)


def main() -> int:
    """
    Partners with certificates, and then each part.
    """
    names = ["steady", "guest", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    # The partner that comes by itself would ask in between.
    compose("stop", "--timeout", "2", "partner")
    with (
        Agent("partner", "run", "--rm", "-T", "--no-deps", "--entrypoint", PYTHON, "partner") as partners,
        Node("a") as a,
        Node("b") as b,
    ):
        partners.ask("prepare", names=names)
        for name in names:
            partners.cftpki("identity", "issue", name, config=PARTNERS)
        site = Site(partners, (a, b))
        links(site)
    compose("start", "partner")
    print(
        f"{site.checks} checks, {site.wrong} not as it should be"
        if site.wrong
        else f"all {site.checks} were as they should be"
    )
    return 1 if site.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
