"""
Numbers for monitoring, in Prometheus' text form: what the service counts, and how long identities can live.

Owns names and help texts of the metrics. Pure: plain data in, text out. Whom to ask is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Reason
from cftpki_ext.identity.renewal.standing import ALARMS, Standing
from cftpki_ext.service.key_use import KeyUse
from cftpki_ext.service.monitoring.asking import Absence
from cftpki_ext.service.monitoring.families import (
    of_answers,
    of_board,
    of_cluster,
    of_exceptions,
    of_measures,
    of_reloads,
    of_sources,
)
from cftpki_ext.service.monitoring.labels import label

# Characters of a label: a distinguished name, a URL.
_LABEL = 256
# A name and its help text, and the key of STATUS that holds one number, or one by label.
_GAUGES = (
    ("uptime_s", "cftpki_uptime_seconds", "Seconds since the service started."),
    ("sessions", "cftpki_sessions", "TLS sessions that are open now."),
    ("max_sessions", "cftpki_sessions_max", "Sessions that the configuration allows at once."),
)
_COUNTERS = (
    ("requests", "message", "cftpki_requests", "Calls of the exit, by message."),
    ("results", "result", "cftpki_results", "Answers to the exit, by kind."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What could be learned.

    `status` is the running service's own word, `None` where it does not answer, and `absence` then says why. `identities` has
    for each identity its row as plain data, as the service has it where it runs, else as the disk has it. `config_ok`: whether
    the service could begin with its configuration; `None` where that is not known. `at`: when it was learned.
    """

    status: Mapping[str, Any] | None
    identities: Mapping[str, Mapping[str, Any]]
    absence: Absence | None = None
    config_ok: bool | None = None
    config_faults: int = 0
    identities_read: bool = True
    at: datetime | None = None


def exposition(seen: Seen) -> str:
    """
    Write the metrics.

    What the service's answer lacks is left out, never told as zero.

    Args:
        seen: what could be learned.

    Returns:
        Prometheus' text form 0.0.4, with a line end.

    """
    return generate_latest(_registry(seen)).decode()


def encoded(seen: Seen, accept: str) -> tuple[bytes, str]:
    """
    Write the metrics in the form that a scraper asks for: Prometheus' text, or OpenMetrics.

    Args:
        seen: what could be learned.
        accept: the request's header.

    Returns:
        The body, and its content type.

    """
    encode, content_type = choose_encoder(accept)
    return encode(_registry(seen)), content_type


def _registry(seen: Seen) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(tuple(map(_shown, _families(seen)))))
    return registry


def _shown(family: Metric) -> Metric:
    """
    A family whose labels hold nothing that a partner or a CA could have chosen to mislead: escaped, and not without end.
    """
    family.samples = [
        sample._replace(labels={name: label(str(one), _LABEL) for name, one in sample.labels.items()})
        if sample.labels
        else sample
        for sample in family.samples
    ]
    return family


class _Once(Collector):
    """
    Families that were made already.
    """

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """
        The families.
        """
        return self._families


def _families(seen: Seen) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "cftpki_up", "1 where the service answers, else 0.", value=int(seen.status is not None)
    )
    down = GaugeMetricFamily("cftpki_down", "1 for why the service does not answer, else 0.", labels=("why",))
    for why in Absence:
        down.add_metric((why.value,), int(seen.status is None and seen.absence is why))
    yield down
    if seen.config_ok is not None:
        yield GaugeMetricFamily(
            "cftpki_config_ok",
            "1 where the service could begin with the configuration as it is, else 0.",
            value=int(seen.config_ok),
        )
        yield GaugeMetricFamily("cftpki_config_faults", "What is wrong with it.", value=seen.config_faults)
    yield GaugeMetricFamily(
        "cftpki_identities_read",
        "1 where the state of our own certificates could be read from the disk, else 0.",
        value=int(seen.identities_read),
    )
    if seen.at is not None:
        yield GaugeMetricFamily(
            "cftpki_told_timestamp_seconds", "When all this was learned.", value=seen.at.timestamp()
        )
    if seen.status is not None:
        yield from _of_service(seen.status)
    yield from _of_identities(seen.identities)


def _of_service(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "cftpki_build", "The running service.", value={"version": str(status.get("version"))}
    )
    for key, name, words in _GAUGES:
        if key in status:
            yield GaugeMetricFamily(name, words, value=status[key])
    for key, kind, name, words in _COUNTERS:
        yield _counter(name, words, (kind,), [((one,), count) for one, count in status.get(key, {}).items()])
    verdicts = status.get("verdicts", {})
    for key, words in (
        ("accepted", "Partners let in."),
        ("accepted_with_warnings", "Of those, the ones let in with a warning."),
    ):
        if key in verdicts:
            yield CounterMetricFamily(f"cftpki_verdicts_{key}", words, value=verdicts[key])
    for key, words in (
        ("refused", "Partners refused, by reason."),
        ("would_be_refused", "Partners let in only because their policy audits, by the reason it has."),
    ):
        # From zero on: a counter that begins with its first event has not increased by it.
        reasons = dict.fromkeys(map(str, Reason), 0) if key == "refused" and key in verdicts else {}
        counts = [((reason,), count) for reason, count in {**reasons, **verdicts.get(key, {})}.items()]
        yield _counter(f"cftpki_verdicts_{key}", words, ("reason",), counts)
    rows = [
        (tuple(row.split(" ", 1)), count)
        for row, count in verdicts.get("policy_rows", {}).items()
        if " " in row
    ]
    words = "Rows of the policy that were applied to partners' certificates, by cause and what the row did."
    yield _counter("cftpki_verdicts_policy_rows", words, ("cause", "action"), rows)
    evidence = status.get("evidence", {})
    for key, words in (("kept", "Verdicts recorded."), ("not_kept", "Verdicts that could not be recorded.")):
        if key in evidence:
            yield CounterMetricFamily(f"cftpki_evidence_{key}", words, value=evidence[key])
    for key, name, words in (
        ("bytes", "cftpki_evidence_bytes", "Size of the evidence."),
        ("reaches_back_s", "cftpki_evidence_reach_seconds", "How long ago the oldest record was kept."),
        (
            "lasts_s",
            "cftpki_evidence_lasts_seconds",
            "How long the largest size of the evidence lasts at the present rate.",
        ),
        ("keep_s", "cftpki_evidence_keep_seconds", "How long evidence is to be kept."),
        ("breaks", "cftpki_evidence_breaks", "How often the evidence did not end as it was left, ever."),
        (
            "let_go_early",
            "cftpki_evidence_let_go_early",
            "Records of partners let go before they were as old as they were to be kept, ever.",
        ),
        (
            "strangers_bytes",
            "cftpki_evidence_strangers_bytes",
            "What records of strangers take of the evidence.",
        ),
    ):
        if evidence.get(key) is not None:
            yield GaugeMetricFamily(name, words, value=evidence[key])
    uses = [
        ((identity, use.value), counts[use.value])
        for identity, counts in status.get("key_uses", {}).items()
        for use in KeyUse
    ]
    yield _counter("cftpki_key_uses", "Uses of private keys (CryptData).", ("identity", "use"), uses)
    if "renewals" in status:
        yield GaugeMetricFamily(
            "cftpki_renewals_up",
            "1 where the service keeps its certificates fresh, 0 where that could not be started.",
            value=int(status["renewals"]["running"]),
        )
    yield from of_measures(status.get("measures", {}), status.get("rules", ()))
    yield from of_sources(status.get("sources", {}))
    yield from of_exceptions(status.get("exceptions", {}))
    yield from of_reloads(status.get("reloads", {}))
    yield from _of_refresh(status.get("refresh", {}))
    yield from of_board(status.get("board"))
    yield from of_answers(status.get("answers", {}))
    yield from of_cluster(status.get("cluster"))
    yield from _of_signers(status.get("signers", {}))
    yield from _of_processes(status.get("processes", ()), status.get("judging", {}))


def _of_refresh(refresh: Mapping[str, Any]) -> Iterator[Metric]:
    """
    What is renewed ahead, and what ends. Locations and partners are told only in trouble, and few of them.
    """
    if not refresh:
        return
    yield GaugeMetricFamily(
        "cftpki_refresh_partners", "Partners whose evidence is renewed ahead.", value=refresh["partners"]
    )
    yield GaugeMetricFamily(
        "cftpki_refresh_waiting", "Answers that are due and were not afforded yet.", value=refresh["waiting"]
    )
    for key, words in (
        ("renewed", "Answers that were renewed before they ended."),
        ("failed", "Times that an answer could not be renewed."),
        ("requests", "Requests made for it."),
    ):
        yield CounterMetricFamily(f"cftpki_refresh_{key}", words, value=refresh[key])
    words = "Seconds until evidence ends that cannot be renewed now, by the location that should give it."
    failing = GaugeMetricFamily("cftpki_evidence_failing_ends_seconds", words, labels=("location",))
    for one in refresh["troubles"]:
        failing.add_metric((one["location"],), one["ends_in_s"])
    ends = refresh["ending"]
    soon = GaugeMetricFamily(
        "cftpki_partners_ending",
        "Partners whose certificate or CA ends within so many days.",
        labels=("days",),
    )
    counts = {7: ends["within_7d"], 30: ends.get("within_30d"), ends["within_days"]: ends["within"]}
    for within, count in sorted(counts.items()):
        if count is not None:
            soon.add_metric((str(within),), count)
    words = "Days until the certificate or CA of a partner ends; the first to end alone."
    days = GaugeMetricFamily("cftpki_partner_ends_days", words, labels=("partner", "serial"))
    # One that comes by two rules, or with two chains, is one partner.
    first = {(one["partner"], one["serial"]): one["days"] for one in reversed(ends["first"])}
    for labels, left in sorted(first.items(), key=lambda one: one[1]):
        days.add_metric(labels, left)
    yield from (failing, soon, days)


def _of_processes(processes: Sequence[Mapping[str, Any]], judging: Mapping[str, Any]) -> Iterator[Metric]:
    """
    The child processes, by role; several of one role together.
    """
    roles = sorted({str(one["role"]) for one in processes})

    def total(role: str, key: str) -> float:
        return float(sum(one[key] for one in processes if one["role"] == role))

    up = GaugeMetricFamily("cftpki_process_up", "Processes of a role that take calls.", labels=("role",))
    queue = GaugeMetricFamily("cftpki_process_queue", "Calls that were not answered yet.", labels=("role",))
    memory = GaugeMetricFamily(
        "cftpki_process_resident_bytes", "Resident memory, pages that are shared included.", labels=("role",)
    )
    for role in roles:
        up.add_metric((role,), total(role, "ready"))
        queue.add_metric((role,), total(role, "queue"))
        memory.add_metric((role,), total(role, "rss_bytes"))
    yield from (up, queue, memory)
    restarts = [((role,), total(role, "restarts")) for role in roles]
    yield _counter("cftpki_process_restarts", "Times that a process was begun anew.", ("role",), restarts)
    waiting = GaugeMetricFamily("cftpki_judging_waiting", "Questions that wait for a judge.", labels=("who",))
    for who in ("known", "strangers"):
        if f"{who}_waiting" in judging:
            waiting.add_metric((who,), judging[f"{who}_waiting"])
    if "standing" in judging:
        yield GaugeMetricFamily(
            "cftpki_judging_standing",
            "Verdicts that are given again without a judge.",
            value=judging["standing"],
        )
        yield CounterMetricFamily(
            "cftpki_judging_given_again", "Verdicts given without a judge.", value=judging["given_again"]
        )
    yield waiting


def _of_signers(signers: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """
    The processes that hold private keys, by identity.
    """

    def gauge(name: str, words: str, value: Callable[[Mapping[str, Any]], float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"cftpki_signer_{name}", words, labels=("identity",))
        for identity, one in signers.items():
            family.add_metric((identity,), value(one))
        return family

    def count(key: str, words: str) -> CounterMetricFamily:
        counts = [((identity,), one[key]) for identity, one in signers.items()]
        return _counter(f"cftpki_signer_{key}", words, ("identity",), counts)

    yield gauge("up", "1 where the identity's signer takes calls, else 0.", lambda one: int(one["ready"]))
    yield gauge("trouble", "1 where its key could not be used when it was last asked.", _is_troubled)
    yield gauge("queue", "Calls that wait for its key now.", lambda one: one["queue"])
    yield count("signatures", "Signatures that it made.")
    yield count("failures", "Times that its key could not be used.")
    yield count("restarts", "Times that its process was begun anew.")


def _is_troubled(signer: Mapping[str, Any]) -> int:
    return int(signer["error"] is not None)


def _counter(
    name: str, words: str, labels: Sequence[str], counts: Iterable[tuple[Sequence[str], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, words, labels=labels)
    for values, count in counts:
        family.add_metric(values, count)
    return family


def _of_identities(identities: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    def gauge(name: str, words: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"cftpki_identity_{name}", words, labels=("identity", *labels))

    readable = gauge("readable", "1 where the identity's state can be read, else 0.")
    standing = gauge("state", "1 for each word of `cftpki identity list` that holds, else 0.", "state")
    runway_end = gauge("runway_end_timestamp_seconds", "Until when the identity can live without any CA.")
    runway = gauge("runway_seconds", "How long it can live without any CA; negative once it has ended.")
    renewal = gauge("next_renewal_timestamp_seconds", "When the next renewal or attempt is due.")
    generation = gauge("generation", "The generation in force, 0 for none.")
    failures = gauge("failures", "Attempts that failed since the last success.")
    orders = gauge("open_orders", "Orders that are not at their end.")
    orphans = gauge("orphans", "Certificates that were, or may have been, issued and that nobody uses.")
    alarm = gauge("alarm", "1 for each alarm that holds now, else 0.", "alarm")
    troubled = gauge("troubled", "1 where `cftpki identity list` names a trouble, else 0.")
    for name, data in identities.items():
        states = data["states"]
        seen = Standing.UNREADABLE.value not in states
        readable.add_metric([name], int(seen))
        for word in Standing:
            standing.add_metric([name, word.value], int(word.value in states))
        troubled.add_metric([name], int(data["trouble"] is not None))
        if not seen:
            continue
        for one in ALARMS:
            alarm.add_metric([name, one.value], int(one.value in states))
        if data["runway"] is not None:
            runway_end.add_metric([name], datetime.fromisoformat(data["runway"]).timestamp())
            runway.add_metric([name], data["runway_s"])
        if data.get("next") is not None:
            renewal.add_metric([name], datetime.fromisoformat(data["next"]["at"]).timestamp())
        if data["kind"] != "enrollers" or "generation" not in data:
            continue  # the service tells less than the disk
        generation.add_metric([name], data["generation"]["number"] if data["generation"] else 0)
        failures.add_metric([name], data["failures"])
        orders.add_metric([name], len(data["open_orders"]))
        orphans.add_metric([name], len(data["orphans"]))
    yield from (readable, standing, runway_end, runway, renewal, generation, failures, orders, orphans)
    yield from (alarm, troubled)
