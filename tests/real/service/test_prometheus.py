"""
What we ship for Prometheus and Grafana names metrics that exist, and a real Prometheus scrapes us and evaluates it.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cftpki_ext.service.metrics import encoded, exposition
from tests.real.identity.test_enrolment_matrix import until
from tests.real.service.test_monitors import CONFIG
from tests.support import pki, real_service
from tests.support.ports import free_port
from tests.support.whole_status import SEEN

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "cftpki.rules.yml"
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
DOCUMENT = (ROOT / "docs" / "monitoring.md").read_text()
NAME = re.compile(r"\bcftpki_[a-z0-9_]+")


def existing():
    """
    The names of all samples.
    """
    body, _ = encoded(SEEN, "application/openmetrics-text")
    families = text_string_to_metric_families(body.decode())
    return {sample.name for family in families for sample in family.samples}


def used(text):
    # A file of ours is no metric.
    return {name for name in NAME.findall(text) if not name.startswith("cftpki_ext")}


def expressions():
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_dashboard_and_alerts_name_metrics_that_exist():
    assert set() == used("\n".join(expressions())) - existing()
    assert set() == used(RULES.read_text()) - existing()


def test_dashboard_has_panels_that_do_not_overlap():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len(places) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_every_metric_is_documented():
    table = "\n".join(line for line in DOCUMENT.splitlines() if line.startswith("|"))
    documented = set()
    for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        names = re.findall(r"`([a-z0-9_…]+)(?:\{[^}]*\})?`", cell)
        for name in names:
            whole = name if name.startswith("cftpki_") else None
            if whole is None:  # "…_rest" goes on from the first name of the cell
                stem = names[0].split("_")
                ends = [f"{'_'.join(stem[:n])}{name[1:]}" for n in range(len(stem) - 1, 0, -1)]
                whole = next((end for end in ends if end in existing()), name)
            documented.add(whole)
    plain = {re.sub("_(bucket|count|sum)$", "", name) for name in existing()}
    assert set() == plain - documented
    assert set() == {name for name in documented if name.startswith("cftpki_")} - plain - existing()


@pytest.mark.real
def test_promtool_finds_nothing_wrong_with_the_rules():
    for command in (["check", "rules", RULES.name], ["test", "rules", "cftpki.rules.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert (0, True) == (done.returncode, "SUCCESS" in done.stdout), done.stdout + done.stderr


@pytest.mark.real
def test_promtool_finds_a_rule_that_does_not_do_what_its_test_says(tmp_path):
    for path in FOLDER.glob("*.yml"):
        text = path.read_text()
        (tmp_path / path.name).write_text(text.replace("expr: cftpki_up == 0", "expr: cftpki_up == 2"))
    command = ["promtool", "test", "rules", "cftpki.rules.test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, "CftpkiDown" in done.stdout + done.stderr)


@pytest.mark.real
def test_promtool_has_nothing_to_say_of_the_metrics_but_that_days_are_no_seconds():
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(SEEN), capture_output=True, text=True, check=False
    )
    # That name is older than the check.
    assert 'cftpki_partner_ends_days use base unit "seconds" instead of "days"\n' == done.stdout + done.stderr


@contextlib.contextmanager
def prometheus(folder, target):
    """
    A real one that does not take its time.
    """
    text = (FOLDER / "prometheus.yml").read_text()
    for old, new in (
        ("127.0.0.1:9105", target),
        ("scrape_interval: 30s", "scrape_interval: 6s"),  # a service that is stopped takes four seconds
        ("    scrape_timeout: 10s\n", ""),
        ("cftpki.rules.yml", str(RULES)),
    ):
        assert old in text
        text = text.replace(old, new)
    config = folder / "prometheus.yml"
    config.write_text("global: {evaluation_interval: 1s}\n" + text)
    port = free_port()
    command = [
        *("setpriv", "--pdeathsig", "KILL", "prometheus", f"--config.file={config}"),
        *(f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield f"http://127.0.0.1:{port}/api/v1/"
        finally:
            process.terminate()
            process.wait(60)


def ask(base, path, **fields):
    try:
        query = f"{base}{path}?{urllib.parse.urlencode(fields)}"
        with urllib.request.urlopen(query, timeout=30) as answer:  # noqa: S310 - an address of our own
            return json.load(answer)["data"]
    except urllib.error.URLError:
        return None  # it is not up yet


def value(base, query):
    found = ask(base, "query", query=query)
    return None if not found or not found["result"] else float(found["result"][0]["value"][1])


@pytest.mark.real
def test_prometheus_scrapes_and_evaluates(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root().pem)
    config, address = tmp_path / "cftpki.toml", free_port()
    config.write_text(CONFIG.format(port=address))
    with (
        real_service.running(config) as service,
        prometheus(tmp_path, f"127.0.0.1:{address}") as base,
    ):
        until(lambda: 1 == value(base, "cftpki_up"))
        (target,) = ask(base, "targets")["activeTargets"]
        assert "" == target["lastError"]
        # Whoever looks at the configuration may be slower than the service.
        until(lambda: 1 == value(base, "cftpki_config_ok"))
        assert (1, 0) == (
            value(base, 'cftpki_process_up{role="metrics"}'),
            value(base, 'cftpki_rule_verdicts_total{rule="inbound",outcome="refused"}'),
        )

        def health():
            return {rule["name"]: rule for group in ask(base, "rules")["groups"] for rule in group["rules"]}

        until(lambda: {"ok"} == {rule["health"] for rule in health().values()})
        assert "inactive" == health()["CftpkiDown"]["state"]
        service.process.send_signal(signal.SIGSTOP)
        until(lambda: "pending" == health()["CftpkiDown"]["state"])
        until(lambda: 1 == value(base, 'cftpki_down{why="stopped"}'))
        service.process.send_signal(signal.SIGCONT)
        until(lambda: "inactive" == health()["CftpkiDown"]["state"])
