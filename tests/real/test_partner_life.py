"""
The scenario of docker-compose.yml without containers: native step-ca, the service enrolled with it, real handshakes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import hostsim, real_service
from tests.support.ca_servers import make_step_ca
from tests.support.pki import Revoked, make_crl

pytestmark = pytest.mark.real
SCENARIO = Path(__file__).parents[2] / "deploy" / "compose" / "scenario.py"
ENROLLED_S = 30

SERVICE = """
[service]
socket = "{folder}/s.sock"
state = "{folder}/state"
[limits]
crl_refresh = "0s"
[trust.partners]
anchors = ["root.pem"]
sources = ["crl"]
crl = ["{crl_url}", "root.crl"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]
{enroller}
[identity.server]
enrollers = ["step"]
names = ["127.0.0.1"]
trust = "partners"
[[rule]]
name = "incoming"
direction = "server"
trust = "partners"
identity = "server"
"""
PARTNER = """
[service]
state = "{folder}/partner"
[trust.hosts]
anchors = ["root.pem"]
{enroller}
[identity.partner]
enrollers = ["step"]
names = ["partner"]
trust = "hosts"
[[rule]]
name = "outgoing"
direction = "client"
trust = "hosts"
identity = "partner"
"""


def write(folder, ca):
    enroller = "\n".join(
        ["[enroller.step]", 'type = "stepca"']
        + [f"{name} = {json.dumps(str(value))}" for name, value in ca.options().items()]
    )
    (folder / "root.pem").write_bytes(ca.root.pem)
    (folder / "root.crl").write_bytes(fresh_root_list(ca))
    for name, text in (("service.toml", SERVICE), ("partner.toml", PARTNER)):
        (folder / name).write_text(text.format(folder=folder, crl_url=ca.crl_url, enroller=enroller))
        (folder / name).chmod(0o600)


def fresh_root_list(ca):
    now = datetime.now(UTC)
    return make_crl(
        ca.root, [Revoked(1)], this_update=now - timedelta(hours=1), next_update=now + timedelta(days=1)
    )


def test_partner_is_accepted_then_revoked_at_the_ca_and_refused_with_44(tmp_path):
    ca = make_step_ca(tmp_path)
    write(tmp_path, ca)
    with ca.running(), real_service.running(tmp_path / "service.toml") as service:
        until = time.monotonic() + ENROLLED_S
        while not (tmp_path / "state" / "identities" / "server" / "current").exists():
            assert time.monotonic() < until, service.failures()
            time.sleep(0.05)
        with hostsim.server(
            *("--lib", Path(hostsim.program()).parents[1] / "libcftpkie.so", "--client-auth", "--send-data"),
            *("--sessions", "8", "--expect", "any"),
            trace=tmp_path / "trace",
            env=service.environment,
        ) as simulator:
            told = subprocess.run(
                [
                    *(sys.executable, SCENARIO, "--hostsim", hostsim.program()),
                    *("--config", tmp_path / "partner.toml", "--state", tmp_path / "partner"),
                    *("--root", tmp_path / "root.pem", "--connect", f"127.0.0.1:{simulator.port}"),
                ],
                check=False,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "default"},
                timeout=120,
            )
            assert told.returncode == 0, told.stdout + told.stderr
            assert told.stdout.splitlines()[-1] == "all was seen"
            assert simulator.finish().status == 0
        verdicts = [(event["status"], event["alert"]) for event in service.verdicts()]
        assert [("accepted", 0)] * 4 + [("refused", 44)] * 4 == verdicts
