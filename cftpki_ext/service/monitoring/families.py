"""
The metrics of verdicts, calls, sources, clocks, exceptions, reloads and the board: names, help texts, and which words of STATUS they are made of.

Pure: plain data in, families out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from cftpki_ext.service.monitoring.measures import Outcome

_PLACE = ("trust", "kind", "location")
_DAYS = (7, 30)
_OUTCOMES = tuple(map(str, Outcome))
# Four series each.
_RULES = 100


def of_measures(measures: Mapping[str, Any], rules: Sequence[str] = ()) -> Iterator[Metric]:
    """
    Verdicts by rule, outcome, reason and tier; how long they and the exit's calls took.

    Args:
        measures: `measures` of STATUS; nothing where a service tells none.
        rules: those of the configuration.

    Yields:
        The families.

    """
    if not measures:
        return
    verdicts = CounterMetricFamily(
        "cftpki_verdicts",
        "Verdicts given to hosts, by rule, outcome, reason, and what answered.",
        labels=("rule", "outcome", "reason", "tier"),
    )
    for *labels, count in measures["verdicts"]:
        verdicts.add_metric(labels, count)
    yield verdicts
    # From zero on, unlike the family above: an alert sees the first refusal of a rule.
    totals = {(rule, outcome): 0 for rule in rules[:_RULES] for outcome in _OUTCOMES}
    for rule, outcome, _reason, _tier, count in measures["verdicts"]:
        if (rule, outcome) in totals:
            totals[rule, outcome] += count
    by_rule = CounterMetricFamily(
        "cftpki_rule_verdicts",
        f"Verdicts given to hosts, by rule of the configuration (the first {_RULES}) and outcome.",
        labels=("rule", "outcome"),
    )
    for labels, count in totals.items():
        by_rule.add_metric(labels, count)
    yield by_rule
    yield histogram(
        "cftpki_verdict_seconds",
        "How long hosts waited for a verdict, by what answered; not those that hosts gave themselves.",
        "tier",
        measures["verdict_seconds"],
    )
    yield histogram(
        "cftpki_request_seconds",
        "How long the exit's calls took, by message.",
        "message",
        measures["request_seconds"],
    )


def of_sources(sources: Mapping[str, Any]) -> Iterator[Metric]:
    """
    How each location stands that was asked for a status, and by how much the clocks of servers differ from ours.

    Args:
        sources: `sources` of STATUS; nothing where a service tells none.

    Yields:
        The families.

    """
    if not sources:
        return
    yield GaugeMetricFamily(
        "cftpki_sources_known",
        "Locations that were asked for a status in the last days.",
        value=sources["known"],
    )
    yield GaugeMetricFamily(
        "cftpki_sources_down",
        "Of those, the ones that do not answer, or nothing usable.",
        value=sources["down"],
    )
    up = GaugeMetricFamily(
        "cftpki_source_up",
        "1 where a location answers what can be used, else 0; those that are down, and those asked last.",
        labels=_PLACE,
    )
    moments = {
        key: GaugeMetricFamily(f"cftpki_source_{key}_timestamp_seconds", words, labels=_PLACE)
        for key, words in (
            ("since", "Since when a location is up, or down."),
            ("asked", "When it was asked last."),
            ("answered", "When it answered last."),
            ("next_update", "Until when what it said last holds, by its own word."),
        )
    }
    counts = {
        key: CounterMetricFamily(f"cftpki_source_{key}", words, labels=_PLACE)
        for key, words in (
            ("answers", "Times that a location answered."),
            ("failures", "Times that it did not, or nothing usable."),
        )
    }
    for one in sources["locations"]:
        labels = tuple(one[key] for key in _PLACE)
        if one["up"] is not None:
            up.add_metric(labels, int(one["up"]))
        for key, family in moments.items():
            if one[key] is not None:
                family.add_metric(labels, _moment(one[key]))
        for key, counted in counts.items():
            counted.add_metric(labels, one[key])
    yield from (up, *moments.values(), *counts.values())
    yield histogram("cftpki_source_seconds", "How long sources took to answer.", "kind", sources["seconds"])
    offsets = GaugeMetricFamily(
        "cftpki_clock_offset_seconds",
        "By how much a server's clock is ahead of ours, by its Date, to a second.",
        labels=("origin",),
    )
    for origin, one in sources["clocks"].items():
        offsets.add_metric((origin,), one["offset_s"])
    yield offsets


def of_exceptions(exceptions: Mapping[str, Any]) -> Iterator[Metric]:
    """
    What is let in for a while, and when that ends.

    Args:
        exceptions: `exceptions` of STATUS; nothing where a service tells none.

    Yields:
        The families.

    """
    if not exceptions:
        return
    states = GaugeMetricFamily(
        "cftpki_exceptions", "Exceptions of single partners, by whether they still hold.", labels=("state",)
    )
    for state in ("in_force", "ended"):
        states.add_metric((state,), exceptions[state])
    ending = GaugeMetricFamily(
        "cftpki_exceptions_ending", "Exceptions that end within so many days.", labels=("days",)
    )
    for days in _DAYS:
        ending.add_metric((str(days),), exceptions[f"within_{days}d"])
    ends = GaugeMetricFamily(
        "cftpki_exception_end_timestamp_seconds",
        "When an exception ends, by policy and the certificate's SHA-256; the first to end alone.",
        labels=("policy", "fingerprint"),
    )
    first: dict[tuple[str, str], float] = {}
    for one in exceptions["first"]:  # a partner may have several, for other causes
        first.setdefault((one["policy"], one["fingerprint"]), _moment(one["until"]))
    for labels, end in first.items():
        ends.add_metric(labels, end)
    rows = GaugeMetricFamily(
        "cftpki_policy_row_end_timestamp_seconds",
        "When a policy's row ends, and its cause refuses again.",
        labels=("policy", "cause"),
    )
    for one in exceptions["rows"]:
        rows.add_metric((one["policy"], one["cause"]), _moment(one["until"]))
    yield from (states, ending, ends, rows)


def of_reloads(reloads: Mapping[str, Any]) -> Iterator[Metric]:
    """
    Whether the configuration in force is the file as it was when it was last read.

    Args:
        reloads: `reloads` of STATUS; nothing where a service tells none.

    Yields:
        The families.

    """
    if not reloads:
        return
    counts = CounterMetricFamily(
        "cftpki_reloads", "Times that the configuration was read anew.", labels=("result",)
    )
    for result in ("ok", "failed"):
        counts.add_metric((result,), reloads[result])
    yield counts
    yield GaugeMetricFamily(
        "cftpki_reload_ok",
        "0 where the last reload failed: the configuration of before it is in force.",
        value=int(reloads["last_error"] is None),
    )


def of_board(board: Mapping[str, Any] | None) -> Iterator[Metric]:
    """
    What hosts answer by themselves.

    Args:
        board: `board` of STATUS; nothing where there is none.

    Yields:
        The families.

    """
    if board is None:
        return
    yield GaugeMetricFamily(
        "cftpki_board_up", "1 where hosts can have a verdict board, else 0.", value=int(board["ready"])
    )
    for key, words in (
        ("entries", "Partners that hosts know."),
        ("bytes", "Memory of the board that is used."),
        ("max_bytes", "Memory that the board may use."),
        ("hosts", "Processes of hosts that told of sessions."),
    ):
        yield GaugeMetricFamily(f"cftpki_board_{key}", words, value=board[key])
    for key, words in (
        ("boards", "Boards that were begun."),
        ("handed_out", "Times that a host was given the board."),
        ("sessions", "Sessions that hosts answered and told."),
        ("given", "Of those, the ones whose verdict the board gave."),
        ("lost", "Sessions that hosts answered and of which nothing came."),
        ("refused", "Datagrams that told of no session of ours."),
    ):
        yield CounterMetricFamily(f"cftpki_board_{key}", words, value=board[key])


def of_answers(answers: Mapping[str, int]) -> Iterator[Metric]:
    """
    Where the answers were that checks looked for.

    Args:
        answers: `answers` of STATUS; nothing where a service tells none.

    Yields:
        The family.

    """
    if not answers:
        return
    family = CounterMetricFamily(
        "cftpki_answers",
        "Answers of CAs that checks looked for, by where they were: memory, disk, another node of the cluster, the network.",
        labels=("tier",),
    )
    for tier, count in answers.items():
        family.add_metric((tier,), count)
    yield family


def of_cluster(cluster: Mapping[str, Any] | None) -> Iterator[Metric]:
    """
    How a node stands among the others.

    Args:
        cluster: `cluster` of STATUS; nothing where there is none.

    Yields:
        The families.

    """
    if not cluster:
        return
    yield GaugeMetricFamily(
        "cftpki_cluster_up", "1 where the server that nodes share answers, else 0.", value=int(cluster["up"])
    )
    yield GaugeMetricFamily(
        "cftpki_cluster_since_timestamp_seconds",
        "Since when it answers, or does not.",
        value=_moment(cluster["since"]),
    )
    nodes = cluster["nodes"]
    yield GaugeMetricFamily(
        "cftpki_cluster_nodes",
        "Nodes that said lately that they are there.",
        value=sum(n["here"] for n in nodes),
    )
    yield GaugeMetricFamily(
        "cftpki_cluster_lag_seconds",
        "By how much what this node heard last is older than what was told last.",
        value=cluster["lag_s"],
    )
    yield GaugeMetricFamily(
        "cftpki_cluster_bytes", "Octets of this node's that the server keeps.", value=cluster["bytes"]
    )
    yield GaugeMetricFamily(
        "cftpki_cluster_bytes_max", "Octets that it may keep of this node's.", value=cluster["max_bytes"]
    )
    sharing, news = cluster["sharing"], cluster["news"]
    yield GaugeMetricFamily(
        "cftpki_cluster_leases", "Locations that this node is asking for all.", value=sharing["leases_now"]
    )
    yield GaugeMetricFamily(
        "cftpki_cluster_waiting", "Announcements that could not be told yet.", value=news["waiting"]
    )
    yield GaugeMetricFamily(
        "cftpki_cluster_put_off",
        "Revocations of other nodes whose proof is asked for later.",
        value=news["put_off"],
    )
    lags = GaugeMetricFamily(
        "cftpki_cluster_node_lag_seconds",
        "By how much what a node heard last is older than what was told last, by its own word.",
        labels=("node",),
    )
    here = GaugeMetricFamily(
        "cftpki_cluster_node_here", "1 where a node said lately that it is there, else 0.", labels=("node",)
    )
    for one in nodes:
        lags.add_metric((one["node"],), one["lag_s"])
        here.add_metric((one["node"],), int(one["here"]))
    yield from (lags, here)
    for key, words, found in (
        ("brought", "Answers that other nodes had shared.", sharing),
        ("used", "Of those, the ones that were heard and could be used.", sharing),
        ("not_used", "Of those, the ones that were too old to stand alone, or no answer at all.", sharing),
        ("asked", "Requests of this node to locations.", sharing),
        (
            "leases_taken",
            "Leases that this node had, to ask a location for all.",
            {"leases_taken": cluster["leases"]},
        ),
        ("leases_held", "Times that another node was asking already.", cluster),
        ("put", "Answers that this node shared.", cluster),
        ("fenced", "Answers that came behind one of a later lease.", cluster),
        ("too_much", "Answers that were not shared for their size.", cluster),
        ("full", "Times that the server had no room.", cluster),
        ("late", "Calls of the server that were late.", cluster),
        ("told", "Announcements of this node.", news),
        ("dropped", "Announcements that waited in vain.", news),
        ("missed", "Times that announcements may have been missed.", news),
    ):
        yield CounterMetricFamily(f"cftpki_cluster_{key}", words, value=found[key])
    heard = CounterMetricFamily(
        "cftpki_cluster_heard", "Announcements of other nodes, by what came of them.", labels=("what",)
    )
    for what, count in news["heard"].items():
        heard.add_metric((what,), count)
    yield heard


def histogram(
    name: str, words: str, label: str, found: Mapping[str, Mapping[str, Any]]
) -> HistogramMetricFamily:
    """
    Histograms of one name.

    Args:
        name: of the family.
        words: what it says.
        label: what tells them apart.
        found: of each its `Latencies.status`.

    Returns:
        The family.

    """
    family = HistogramMetricFamily(name, words, labels=(label,))
    for value, one in found.items():
        so_far, buckets = 0, []
        for bound, count in zip((*map(str, one["bounds"]), "+Inf"), one["counts"], strict=True):
            so_far += count
            buckets.append((bound, so_far))
        family.add_metric((value,), buckets=buckets, sum_value=one["sum_s"])
    return family


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
