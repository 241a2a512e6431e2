"""
The cluster as this node sees it: who is there, how far behind, where answers come from, who asks for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cftpki_ext.config.units import format_size
from cftpki_ext.console.blocks import Block, Cell, Facts, Mark, Note, Page, Table, at_cell, number

_TITLE, _HERE = "Cluster", "/cluster"
# As the doctor has it.
_LAG_S = 10.0
_TIERS = (
    ("memory", "in this service's memory"),
    ("disk", "on this node's disk"),
    ("cluster", "at another node"),
    ("network", "at the CA's location"),
)
_LEASES = (
    ("leases_now", "locations that this node asks for all now", "sharing"),
    ("leases", "leases that it has had", None),
    ("leases_held", "times that another node was asking already", None),
    ("waited_in_vain", "times that it waited for that in vain", "sharing"),
    ("fenced", "answers that came behind one of a later lease", None),
)
_SHARED = (
    ("brought", "answers that other nodes had", "sharing"),
    ("used", "of those, the ones that could be used", "sharing"),
    ("not_used", "of those, too old to stand alone, or no answer at all", "sharing"),
    ("put", "answers that this node shared", None),
    ("too_much", "not shared for their size", None),
    ("full", "times that the server had no room", None),
    ("late", "calls of the server that were late", None),
)
_NEWS = (
    ("told", "announcements of this node"),
    ("waiting", "not told yet"),
    ("dropped", "waited in vain"),
    ("put_off", "revocations that are verified later"),
    ("missed", "times that some may have been missed"),
)
_HEARD = (
    ("revoked", "revocations, verified and remembered"),
    ("not_proven", "revocations that prove nothing here"),
    ("blocked", "partners blocked"),
    ("unblocked", "partners unblocked"),
    ("flushed", "caches flushed"),
    ("not_vouched_for", "not done: the secret does not vouch for it"),
    ("said_before", "not done: a flush that was done before"),
    ("not_understood", "not understood"),
)


def cluster_page(status: Mapping[str, Any] | None, *, at: str) -> Page:
    """
    One node among the others.

    Args:
        status: the service's own word, `None` where it does not answer.
        at: when it was asked.

    Returns:
        The page.

    """
    cluster = None if status is None else status.get("cluster")
    if not isinstance(cluster, Mapping):
        words = (
            "The service does not answer: what it knows of its cluster is not known"
            if status is None
            else "This node is by itself: its configuration has no [cluster]"
        )
        return Page(title=_TITLE, here=_HERE, at=at, lead=Note(mark=Mark.NOTE, text=words), blocks=())
    return Page(title=_TITLE, here=_HERE, at=at, lead=_lead(cluster), blocks=_blocks(cluster, status or {}))


def cluster_cell(cluster: Mapping[str, Any], *, href: str) -> Cell:
    """
    How the cluster is, in a word.

    Args:
        cluster: `cluster` of STATUS.
        href: where there is more.

    Returns:
        A cell with a mark.

    """
    lead = _lead(cluster)
    return Cell(text=lead.text, mark=lead.mark, href=href)


def _lead(cluster: Mapping[str, Any]) -> Note:
    if not cluster.get("up"):
        more = (
            f"{cluster.get('server')}: {cluster.get('fault') or cluster.get('refused') or 'no answer yet'}",
        )
        return Note(mark=Mark.WARN, text="The server that nodes share does not answer", more=more)
    nodes = _nodes(cluster)
    here = sum(bool(one.get("here")) for one in nodes)
    lag_s = cluster.get("lag_s") or 0.0
    is_well = here == len(nodes) and lag_s <= _LAG_S and not _part(cluster, "news").get("waiting")
    return Note(
        mark=Mark.OK if is_well else Mark.WARN,
        text=f"{here} of {len(nodes)} nodes are there, this one is {lag_s} s behind",
    )


def _blocks(cluster: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Block, ...]:
    return (
        Facts(pairs=tuple(_facts(cluster))),
        Table(
            caption="Nodes",
            headings=("node", "state", "version", "behind", "silent for", "clock ahead of ours"),
            rows=tuple(map(_node, _nodes(cluster))),
            empty="nobody has said anything yet",
        ),
        Table(
            caption="Where the answers of CAs were that checks looked for, since the start",
            headings=("where", "answers", "share"),
            rows=tuple(_tiers(status)),
        ),
        _counts("Leases", _LEASES, cluster),
        _counts("Shared", _SHARED, cluster),
        Table(
            caption="Told and heard",
            headings=("what", "count"),
            rows=(
                *((Cell(text=words), number(_part(cluster, "news").get(key))) for key, words in _NEWS),
                *(
                    (Cell(text=f"heard: {words}"), number(_part(_part(cluster, "news"), "heard").get(key)))
                    for key, words in _HEARD
                ),
            ),
        ),
    )


def _facts(cluster: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    up = bool(cluster.get("up"))
    yield "server", Cell(text=str(cluster.get("server")), is_code=True)
    yield "state", Cell(text="answers" if up else "does not answer", mark=Mark.OK if up else Mark.WARN)
    yield "since", at_cell(cluster.get("since"))
    for name in ("fault", "refused"):
        if cluster.get(name):
            yield name, Cell(text=str(cluster[name]), mark=Mark.WARN)
    yield "this node", Cell(text=str(cluster.get("node")))
    yield "behind", Cell(text=f"{cluster.get('lag_s')} s")
    octets, most = cluster.get("bytes"), cluster.get("max_bytes")
    if isinstance(octets, int) and isinstance(most, int):
        yield "kept there by this node", Cell(text=f"{format_size(octets)} of {format_size(most)}")
    yield (
        "secret of the nodes",
        Cell(text="yes", mark=Mark.OK)
        if cluster.get("vouched")
        else Cell(text="none: blocks and flushes are believed by whoever may write there", mark=Mark.NOTE),
    )


def _node(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    here, lag_s, ahead_s = bool(one.get("here")), one.get("lag_s") or 0.0, one.get("ahead_s") or 0.0
    return (
        Cell(text=str(one.get("node"))),
        Cell(text="there", mark=Mark.OK) if here else Cell(text="silent", mark=Mark.WARN),
        Cell(text=str(one.get("version"))),
        Cell(text=f"{lag_s} s", is_number=True, mark=Mark.WARN if lag_s > _LAG_S else None),
        Cell(text=f"{one.get('silent_s')} s", is_number=True),
        Cell(text=f"{ahead_s} s" if ahead_s else "-", is_number=True),
    )


def _tiers(status: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    answers = _part(status, "answers")
    total = sum(answers.get(tier, 0) for tier, _ in _TIERS)
    for tier, words in _TIERS:
        count = answers.get(tier, 0)
        share = f"{100 * count / total:.1f} %" if total else "-"
        yield Cell(text=words), number(count), Cell(text=share, is_number=True)


def _counts(caption: str, rows: Sequence[tuple[str, str, str | None]], cluster: Mapping[str, Any]) -> Table:
    return Table(
        caption=caption,
        headings=("what", "count"),
        rows=tuple(
            (Cell(text=words), number((cluster if part is None else _part(cluster, part)).get(key)))
            for key, words, part in rows
        ),
    )


def _nodes(cluster: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = cluster.get("nodes")
    return found if isinstance(found, Sequence) else ()


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
