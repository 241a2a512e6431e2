"""
The server that nodes share: whether it can be used, and by whom else. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from cftpki_ext.core.cluster import ClusterSettings, NodeRow, Probe
from cftpki_ext.core.settings import Limits
from cftpki_ext.doctor.findings import Finding, Level

_ABOUT = "cluster"
# A handshake that has to ask waits for it.
_SLOW_MS = 100
_LAG_S = 10.0
# Nodes that said nothing for so long are gone, or cannot reach the server.
_GONE_S = 60.0


def examine_cluster(
    settings: ClusterSettings,
    probe: Probe,
    status: Mapping[str, Any] | None,
    *,
    limits: Limits,
    now: datetime,
    answers: Mapping[str, int] | None = None,
) -> tuple[Finding, ...]:
    """
    Judge what was learned of a server.

    Args:
        settings: `[cluster]`.
        probe: what was learned by trying it.
        status: `cluster` of the running service's STATUS; `None` where none answers, or it has no cluster.
        limits: the configured ones, for the clocks.
        now: the time.
        answers: `answers` of the running service's STATUS.

    Returns:
        Findings. Nothing of it refuses partners: a node without its server is as it is by itself.

    """
    return (
        *_server(settings, probe),
        *_guarded(settings, probe),
        *_nodes(probe, status, limits, now),
        *examine_node(status, answers),
    )


def _server(settings: ClusterSettings, probe: Probe) -> Iterator[Finding]:
    where = settings.where
    if probe.fault is not None or not probe.kept:
        why = probe.fault or probe.refused or "what was put there is not found again"
        yield _warn(
            "server",
            f"{where}: {why}",
            "until it is mended each node asks for itself, and hears of a revocation by itself",
        )
        return
    facts = {"took_ms": probe.took_ms}
    if probe.took_ms > _SLOW_MS:
        yield _warn(
            "server",
            f"{where} took {probe.took_ms} ms to keep a probe",
            "put it nearer to the nodes",
            **facts,
        )
    else:
        yield Finding(
            level=Level.OK,
            about=_ABOUT,
            check="server",
            detail=f"{where} keeps what is put there",
            facts=facts,
        )


def _guarded(settings: ClusterSettings, probe: Probe) -> Iterator[Finding]:
    if not settings.tls:
        yield _warn(
            "TLS",
            f"{settings.where} is used without TLS: whoever is on the way reads the password",
            "use rediss://",
        )
    if settings.password_file is None or probe.anonymous:
        who = "by anybody who reaches it" if probe.anonymous else "without a password"
        yield _warn(
            "password",
            f"the server can be used {who}: to slow nodes down, and without secret_file to block partners",
            "user default off, and a user of its own for the nodes (docs/cluster.md)",
        )
    if settings.secret_file is None:
        yield Finding(
            level=Level.NOTE,
            about=_ABOUT,
            check="secret",
            detail="without secret_file answers age from what their CA signed, and lists are asked for by every node",
            action="openssl rand -hex 32, the same on all nodes",
        )


def _nodes(
    probe: Probe, status: Mapping[str, Any] | None, limits: Limits, now: datetime
) -> Iterator[Finding]:
    # The service sees whether a node says something new; who looks once has nothing but the times that nodes tell.
    seen = {one["node"]: one for one in (status or {}).get("nodes") or ()}
    for one in probe.nodes:
        apart_s = (one.at - now).total_seconds()
        ahead_s, silent_s = max(0.0, apart_s), max(0.0, -apart_s)
        if one.node in seen:
            ahead_s, silent_s = seen[one.node]["ahead_s"], seen[one.node]["silent_s"]
        if abs(ahead_s) > limits.clock_skew.total_seconds() / 2:
            way = "ahead of" if ahead_s > 0 else "behind"
            yield _warn(_name(one), f"its clock is {abs(ahead_s):.0f} s {way} ours", "set the clocks")
        elif silent_s > _GONE_S:
            yield Finding(
                level=Level.NOTE,
                about=_ABOUT,
                check=_name(one),
                detail=f"has said nothing for {silent_s:.0f} s",
                action="look at it, unless it was taken away",
            )
    versions = sorted({one.version for one in probe.nodes})
    if len(versions) > 1:
        yield Finding(
            level=Level.NOTE, about=_ABOUT, check="versions", detail=f"nodes are of {', '.join(versions)}"
        )


def examine_node(
    status: Mapping[str, Any] | None, answers: Mapping[str, int] | None = None
) -> tuple[Finding, ...]:
    """
    Judge what the running service says of its cluster, without asking the server.

    Args:
        status: `cluster` of STATUS; `None` where none answers, or it has no cluster.
        answers: `answers` of STATUS.

    Returns:
        Findings: what is wrong; else who is there, how far the node is behind, and who answered.

    """
    return () if status is None else (*_troubles(status), *_facts(status, answers or {}))


def _troubles(status: Mapping[str, Any]) -> Iterator[Finding]:
    if not status.get("up"):
        yield _warn(
            "service", f"the service does not reach it: {status.get('fault')}", "see its log (cluster_down)"
        )
    elif float(status.get("lag_s", 0)) > _LAG_S:
        yield _warn("service", f"the service is {status['lag_s']} s behind what was told", "see its log")
    news = status.get("news") or {}
    if news.get("waiting"):
        yield _warn(
            "service",
            f"{news['waiting']} announcements could not be told yet",
            "is the server full (maxmemory)?",
        )
    if news.get("put_off"):
        yield Finding(
            level=Level.NOTE,
            about=_ABOUT,
            check="service",
            detail=f"{news['put_off']} revocations of other nodes are verified later: their proofs are lists that have to be asked for",
        )


def _facts(status: Mapping[str, Any], answers: Mapping[str, int]) -> Iterator[Finding]:
    if not status.get("up"):
        return
    nodes, sharing = status.get("nodes") or (), status.get("sharing") or {}
    here = sum(bool(one.get("here")) for one in nodes)
    lag_s = status.get("lag_s", 0.0)
    yield Finding(
        level=Level.OK,
        about=_ABOUT,
        check="nodes",
        detail=f"{here} of {len(nodes)} nodes are there, and this one is {lag_s} s behind",
        facts={"nodes": len(nodes), "here": here},
    )
    if answers:
        where = ", ".join(f"{name} {count}" for name, count in answers.items())
        leases = sharing.get("leases_now", 0)
        yield Finding(
            level=Level.OK,
            about=_ABOUT,
            check="answers",
            detail=f"answers were found since the start: {where}; leases now: {leases}",
            facts={**answers, "leases": leases},
        )


def _name(row: NodeRow) -> str:
    return f"node {row.node}"


def _warn(check: str, detail: str, action: str, **facts: int) -> Finding:
    return Finding(level=Level.WARN, about=_ABOUT, check=check, detail=detail, action=action, facts=facts)
