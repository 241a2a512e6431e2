"""
Monitors cannot lie: what metrics, their endpoint and status say of a service that runs, is stopped by a signal, has ended, or cannot begin.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.real.identity.test_enrolment_matrix import until
from tests.support import forked, pki, real_service
from tests.support.ports import free_port

pytestmark = pytest.mark.real

CONFIG = """
[service]
socket = "s"
state = "state"
[metrics]
listen = "127.0.0.1:{port}"
[trust.partners]
anchors = ["root.pem"]
[[rule]]
name = "inbound"
direction = "server"
trust = "partners"
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "root.pem").write_bytes(pki.make_root().pem)
    path = tmp_path / "cftpki.toml"
    path.write_text(CONFIG.format(port=free_port()))
    return path


@contextlib.contextmanager
def exporting(config, *arguments):
    """
    The endpoint as a process that outlives the service; the service itself is told to leave it to that.
    """
    log = config.with_name("exporter.log")
    with (
        log.open("ab") as output,
        forked.Popen(
            ["metrics", "--serve", "--config", config, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            yield log
        finally:
            process.terminate()
            assert 0 == process.wait(60), log.read_text()


def samples(text):
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def scraped(config):
    listen = config.read_text().split('listen = "')[1].split('"')[0]
    with urllib.request.urlopen(f"http://{listen}/metrics", timeout=60) as answer:
        return samples(answer.read().decode())


def says(config, **wanted):
    """
    Whether the endpoint says so; why the service does not answer is `why`.
    """
    try:
        found = scraped(config)
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ConnectionRefusedError):
            raise
        found = {("cftpki_up",): None}
    why = next((key[1] for key, value in found.items() if key[0] == "cftpki_down" and value), None)
    told = {"up": found["cftpki_up",], "config_ok": found.get(("cftpki_config_ok",)), "why": why}
    return wanted.items() <= told.items()


def test_endpoint_tells_the_truth_whatever_becomes_of_the_service(config):
    good = config.read_text()
    with exporting(config) as log:
        until(lambda: "metrics_served" in log.read_text())
        until(lambda: says(config, up=0, config_ok=1, why="not_running"))
        with real_service.running(config, options=["--no-metrics"]) as service:
            until(lambda: says(config, up=1, config_ok=1, why=None))
            service.process.send_signal(signal.SIGSTOP)
            until(lambda: says(config, up=0, why="stopped"))
            begun = time.monotonic()
            status = forked.run(["status", "--config", config, "--json"], capture_output=True, text=True)
            assert time.monotonic() - begun < 60
            told = json.loads(status.stdout)
            assert (1, False, "stopped") == (status.returncode, told["answers"], told["absence"])
            assert f"process {service.process.pid} is stopped" in told["error"]
            service.process.send_signal(signal.SIGCONT)
            until(lambda: says(config, up=1, why=None))
            config.write_text(good + "[[rule]]\n")
            until(lambda: says(config, up=1, config_ok=0))
            service.kill()
            until(lambda: says(config, up=0, config_ok=0, why="not_running"))
        config.write_text(good.replace("[service]", "[service"))
        until(lambda: says(config, up=0, config_ok=0))
        config.write_text(good)
        until(lambda: says(config, up=0, config_ok=1))


def test_service_s_own_endpoint_tells_that_the_front_is_stopped_and_follows_the_configuration(config):
    with real_service.running(config) as service:
        until(lambda: says(config, up=1))
        front, child = service.process.pid, service.child("metrics")
        assert 1 == scraped(config)["cftpki_process_up", "metrics"]
        service.process.send_signal(signal.SIGSTOP)
        until(lambda: says(config, up=0, why="stopped"))
        service.process.send_signal(signal.SIGCONT)
        until(lambda: says(config, up=1))
        before = config.read_text()
        config.write_text(re.sub("127.0.0.1:[0-9]+", f"127.0.0.1:{free_port()}", before))
        service.process.send_signal(signal.SIGHUP)
        until(lambda: says(config, up=1))
        assert (front, True) == (service.process.pid, child != service.child("metrics"))
        config.write_text(before)
        assert says(config, up=None)
        service.kill()
    assert says(config, up=None)


def test_address_that_is_taken_is_told_once_and_had_when_it_is_free(config):
    (address,) = re.findall(r'"127.0.0.1:([0-9]+)"', config.read_text())
    with socket.create_server(("127.0.0.1", int(address))), real_service.running(config) as service:
        until(lambda: service.events("metrics_not_served"))
        (told,) = service.events("metrics_not_served")
        assert f"metrics cannot be served at 127.0.0.1:{address}: address already in use" == told["error"]
        status = forked.run(["status", "--config", config, "--json"], capture_output=True, text=True)
        assert "metrics" not in [one["role"] for one in json.loads(status.stdout)["processes"]]
    with real_service.running(config):
        until(lambda: says(config, up=1))


def test_numbers_and_status_of_a_configuration_with_faults(config, tmp_path):
    out = tmp_path / "cftpki.prom"
    with real_service.running(config):
        written = forked.run(["metrics", "--config", config, "--output", out], capture_output=True, text=True)
        assert (0, "") == (written.returncode, written.stderr)
        found = samples(out.read_text())
        assert (1, 1, 1) == (
            found["cftpki_up",],
            found["cftpki_config_ok",],
            found["cftpki_identities_read",],
        )
        config.write_text(config.read_text() + "\nnonsense\n")
        found = samples(
            forked.run(["metrics", "--config", config], capture_output=True, text=True, check=True).stdout
        )
        assert (1, 0, 0) == (
            found["cftpki_up",],
            found["cftpki_config_ok",],
            found["cftpki_identities_read",],
        )
        status = forked.run(["status", "--config", config], capture_output=True, text=True)
        assert (0, "") == (status.returncode, status.stderr)
        assert "The configuration has faults" in status.stdout
        assert "[file] is no TOML" in status.stdout
    forked.run(["metrics", "--config", config, "--output", out], check=True)
    found = samples(out.read_text())
    assert (0, 0) == (found["cftpki_up",], found["cftpki_config_ok",])
    status = forked.run(["status", "--config", config], capture_output=True, text=True)
    assert (1, "") == (status.returncode, status.stdout)
    faults, fault, absence = status.stderr.splitlines()
    assert "the service could not begin: its configuration has faults" == faults
    assert "[file] is no TOML" in fault
    assert "is the service running" in absence
