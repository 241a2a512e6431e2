"""
The lab, for real: its process, its answers as openssl sees them, and the service's verdicts on its partners.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from cftpki_ext import lab
from cftpki_ext.cli import main
from tests.support import forked

pytestmark = pytest.mark.real

PROGRAM = Path(sys.executable).with_name("cftpki")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lab")
    lab.up(directory)
    yield directory
    lab.down(directory)


@pytest.fixture
def mine(tmp_path):
    """
    A lab that the test may stop and change.
    """
    lab.up(tmp_path / "lab")
    yield tmp_path / "lab"
    lab.down(tmp_path / "lab")


def check(directory, partner, *options):
    configuration = directory / "cftpki.toml"
    chain = directory / "partners" / partner / "chain.pem"
    return CliRunner().invoke(main, ["check", str(chain), "--config", str(configuration), *options])


def openssl_ocsp(directory, partner, *options):
    chain = directory / "partners" / partner / "chain.pem"
    ca = directory / "ca" / "issuing" / "chain.pem"
    done = subprocess.run(
        [
            "openssl",
            "ocsp",
            "-issuer",
            ca,
            "-cert",
            chain,
            "-url",
            lab.status(directory).ocsp_url,
            "-CAfile",
            directory / "anchors" / "root.pem",
            "-verify_other",
            ca,
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout + done.stderr


PARTNERS = {"good": 0, "revoked": 44, "expired": 45, "not-yet-valid": 45, "unknown-ca": 48, "no-eku": 43}


@pytest.mark.parametrize("direction", ["server", "client"])
@pytest.mark.parametrize("partner", PARTNERS)
def test_check_of_each_partner_exits_with_its_alert(running, partner, direction):
    result = check(running, partner, "--direction", direction, "--json")

    verdict = json.loads(result.stdout)
    assert (PARTNERS[partner], PARTNERS[partner]) == (result.exit_code, verdict["alert"])


def test_partners_of_the_lab_are_those_of_the_table(running):
    assert set(PARTNERS) | {"host"} == set(lab.status(running).partners)


@pytest.mark.parametrize(("partner", "status"), [("good", "good"), ("revoked", "revoked")])
@pytest.mark.parametrize("nonce", ["-nonce", "-no_nonce"])
def test_responder_as_openssl_sees_it_tells_the_status(running, partner, status, nonce):
    told = openssl_ocsp(running, partner, nonce)

    assert "Response verify OK" in told
    assert f"chain.pem: {status}" in told
    assert "WARNING: no nonce" not in told


def test_responder_asked_about_another_ca_is_unauthorized(running):
    chain = running / "partners" / "unknown-ca" / "chain.pem"

    done = subprocess.run(
        ["openssl", "ocsp", "-issuer", chain, "-cert", chain, "-url", lab.status(running).ocsp_url],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert "Responder Error: unauthorized (6)" in done.stdout + done.stderr


@pytest.mark.parametrize("request_", [("POST", "x" * 5000), ("GET", None)])
def test_responder_asked_nonsense_answers_an_error(running, request_):
    method, body = request_
    url = lab.status(running).ocsp_url + ("" if body else "/%%%")
    more = ["--data-binary", body] if body else []

    done = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, *more, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert {"POST": "413", "GET": "400"}[method] == done.stdout


def test_crl_as_openssl_sees_it_names_the_revoked(running):
    revoked = x509.load_pem_x509_certificate((running / "partners" / "revoked" / "chain.pem").read_bytes())
    raw = subprocess.run(
        ["curl", "-s", lab.status(running).crl_url], capture_output=True, check=True, timeout=20
    )
    told = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-noout", "-text", "-CAfile", running / "ca/issuing/chain.pem"],
        input=raw.stdout,
        capture_output=True,
        check=True,
        timeout=20,
    )

    serial = f"{revoked.serial_number:X}"
    assert f"Serial Number: {'0' * (len(serial) % 2)}{serial}\n".encode() in told.stdout
    assert b"verify OK" in told.stderr


def test_revoke_while_it_runs_is_seen_at_once(mine):
    before = check(mine, "good").exit_code
    CliRunner().invoke(main, ["cache", "flush", "--config", str(mine / "cftpki.toml")])

    done = CliRunner().invoke(main, ["lab", "revoke", str(mine), "good"])

    assert (0, 0, 44) == (before, done.exit_code, check(mine, "good").exit_code)


def test_revoke_of_somebody_else_exits_1(running):
    result = CliRunner().invoke(main, ["lab", "revoke", str(running), "nobody"])

    assert (1, True) == (result.exit_code, "the lab has no partner 'nobody'" in result.stderr)


def test_down_and_up_gives_the_same_pki(mine):
    chain = (mine / "partners" / "good" / "chain.pem").read_bytes()
    first = lab.status(mine)

    stopped = lab.down(mine)
    between = lab.status(mine)
    again = lab.up(mine)

    assert (True, None, True) == (stopped, between.pid, again.pid not in {None, first.pid})
    assert (first.ocsp_url, first.crl_url) == (again.ocsp_url, again.crl_url)
    assert chain == (mine / "partners" / "good" / "chain.pem").read_bytes()
    assert 0 == check(mine, "good").exit_code


def test_up_while_it_runs_leaves_the_process(running):
    before = lab.status(running).pid

    assert before == lab.up(running).pid


def test_up_called_twice_at_once_makes_and_starts_one_lab(tmp_path):
    calls = [
        subprocess.Popen([PROGRAM, "lab", "up", tmp_path / "lab", "--json"], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [json.loads(call.communicate(timeout=60)[0]) for call in calls]
    lab.down(tmp_path / "lab")

    assert [0, 0] == [call.returncode for call in calls]
    assert told[0] == told[1]


def test_down_twice_says_that_it_did_not_run(mine):
    assert [True, False] == [lab.down(mine), lab.down(mine)]


def test_down_never_stops_a_foreign_process(mine):
    """
    The number in the pid file has passed to another process: its start time differs, and it lives on.
    """
    lab.down(mine)
    with subprocess.Popen(["sleep", "60"]) as other:
        (mine / "lab.pid").write_text(json.dumps({"pid": other.pid, "started": 1}))

        stopped = lab.down(mine)

        assert (False, None) == (stopped, other.poll())
        other.kill()


def test_up_after_a_kill_starts_again(mine):
    pid = lab.status(mine).pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert lab.status(mine).pid is None
    assert lab.up(mine).pid is not None


def test_up_in_a_directory_of_somebody_else_changes_nothing(tmp_path):
    (tmp_path / "letter").write_text("mine")

    result = CliRunner().invoke(main, ["lab", "up", str(tmp_path)])

    assert (1, True) == (result.exit_code, "is not empty and is no lab" in result.stderr)
    assert ["letter"] == [entry.name for entry in tmp_path.iterdir()]


def test_up_in_a_directory_too_deep_for_a_socket_says_so(tmp_path):
    result = CliRunner().invoke(main, ["lab", "up", str(tmp_path / ("x" * 100))])

    assert (1, True) == (result.exit_code, "is too long for the service's socket" in result.stderr)
    assert [] == list(tmp_path.iterdir())


def test_up_with_a_taken_port_says_which(mine, tmp_path):
    """
    A copy of a running lab has the same ports in its certificates.
    """
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", mine, copy], check=True)
    (copy / "lab.pid").unlink()

    result = CliRunner().invoke(main, ["lab", "up", str(copy)])

    assert (1, True) == (result.exit_code, "is taken" in result.stderr)


def test_up_after_a_half_made_lab_makes_it_anew(tmp_path):
    (tmp_path / ".making" / "ca").mkdir(parents=True)

    assert lab.create(tmp_path).configuration.exists()


def test_keys_of_the_lab_are_for_the_owner_alone(running):
    modes = {path.stat().st_mode & 0o777 for path in running.rglob("key.pem")}

    assert {0o600} == modes


def test_status_exits_1_where_it_does_not_run(mine):
    up = CliRunner().invoke(main, ["lab", "status", str(mine)]).exit_code
    lab.down(mine)

    assert (0, 1) == (up, CliRunner().invoke(main, ["lab", "status", str(mine)]).exit_code)


def test_up_in_the_foreground_answers_until_interrupted(tmp_path):
    with subprocess.Popen(
        [PROGRAM, "lab", "up", tmp_path, "--foreground", "--json"], stdout=subprocess.PIPE, text=True
    ) as process:
        told = "".join(iter(process.stdout.readline, "}\n"))
        answer = openssl_ocsp(tmp_path, "good")
        process.send_signal(signal.SIGINT)

        assert 0 == process.wait(20)
    assert f'"pid": {process.pid}' in told
    assert "chain.pem: good" in answer
    assert lab.status(tmp_path).pid is None


def test_service_of_the_lab_answers_status_and_stops_cleanly(running):
    """
    The ready configuration is ready: `serve` runs with it, `status` hears it, SIGTERM ends it.
    """
    configuration = running / "cftpki.toml"
    with forked.Popen(["serve", "--config", configuration], stderr=subprocess.PIPE, text=True) as service:
        # The end of the stream, where the service did not start, is no line with the word.
        first = next((line for line in service.stderr if "listening" in line), "")
        told = CliRunner().invoke(main, ["status", "--config", str(configuration), "--json"])
        begun = time.monotonic()
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=20)
        took_s = time.monotonic() - begun

    assert "listening" in first
    assert (0, ["incoming", "outgoing"]) == (told.exit_code, json.loads(told.stdout)["rules"])
    assert 0 == service.returncode
    assert took_s < 10
