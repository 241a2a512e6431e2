"""
`cftpki doctor` against nginx, `openssl ocsp`, evil servers and the files of this machine: each fault provoked once.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.x509.ocsp import load_der_ocsp_request

from cftpki_ext.cli import main
from tests.support.directory import SUFFIX, point, slapd
from tests.support.pki import Revoked, issue, make_crl, make_ocsp_response, make_root
from tests.support.ports import free_port
from tests.support.servers import (
    Behaviour,
    answer,
    asked,
    evil,
    nginx,
    openssl_ocsp,
    response,
    write_pem,
)

pytestmark = pytest.mark.real

ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
GOOD = issue(CA, "good", eku=["clientAuth"])
STRANGER = make_root("Stranger")
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FRESH = {"this_update": NOW - HOUR, "next_update": NOW + DAY}
OCSP = {"Content-Type": "application/ocsp-response"}
# The root's list says that the CA is good; the CA's own one is what each test bends.
ROOT_CRL = make_crl(ROOT, **FRESH)


def write(folder: Path, text: str, *, rest: str = "", tail: str = "", **files: bytes) -> Path:
    for name, data in {"root": ROOT.pem, "ca": CA.pem, **files}.items():
        path = folder / f"{name}.pem"
        path.write_bytes(data)
        path.chmod(0o600)
    path = folder / "c.toml"
    path.write_text(
        '[service]\nsocket = "s"\nstate = "state"\n[trust.p]\nanchors = ["root.pem"]\n'
        f'intermediates = ["ca.pem"]\nallow_networks = ["127.0.0.0/8"]\n{text}\n{rest}\n{tail}'
    )
    return path


async def doctor(config: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """
    Exit status and findings, asked in a thread so that the servers of this loop can answer.
    """
    command = ["doctor", "--config", str(config), "--json", *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code in {0, 1}, result.output
    return result.exit_code, json.loads(result.stdout)


def of(found: list[dict[str, Any]], level: str, words: str) -> dict[str, Any]:
    """
    The one finding of this level whose detail holds these words.
    """
    matching = [one for one in found if one["level"] == level and words in one["detail"]]
    assert matching, found
    return matching[0]


def serial_of(request: bytes) -> int:
    return load_der_ocsp_request(request.partition(b"\r\n\r\n")[2]).serial_number


def responder(**options: Any) -> Behaviour:
    """
    An OCSP responder that says good to everything, signed by `signer`.
    """

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = make_answer(serial_of(asked.get()), **options)
        writer.write(response(raw, headers=OCSP))
        await writer.drain()

    return behave


def make_answer(serial: int, **options: Any) -> bytes:
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"produced_at": now, "this_update": now - HOUR, "next_update": now + HOUR}
    return make_ocsp_response(CA, GOOD, **{"serial": serial, **times, **options})


async def test_everything_well_is_exit_0(tmp_path: Path) -> None:
    delegate = issue(CA, "Responder", eku=["OCSPSigning"], nocheck=True)
    lists = {"root.crl": ROOT_CRL, "ca.crl": make_crl(CA, [Revoked(77)], number=12, **FRESH)}
    with (
        nginx(tmp_path, lists) as server,
        openssl_ocsp(tmp_path, issuer=CA, signer=delegate, known=[GOOD]) as ocsp,
    ):
        config = write(
            tmp_path,
            f'ocsp = ["{ocsp.url()}"]\ncrl = ["{server.url("/root.crl")}", "{server.url("/ca.crl")}"]',
        )
        (tmp_path / "good.pem").write_bytes(GOOD.pem)
        status, found = await doctor(config, "--chain", str(tmp_path / "good.pem"))
    assert (0, []) == (status, [one for one in found if one["level"] == "fail"])
    listed = of(found, "ok", "certificates of CN=Issuing CA: answers")
    assert any(one["facts"].get("number") == 12 and one["facts"]["entries"] == 1 for one in found), listed
    asked = of(found, "ok", "CN=good: good")
    assert "signed by" in asked["detail"]


@pytest.mark.parametrize(
    ("bent", "cause", "action"),
    [
        ({"this_update": NOW - 3 * DAY, "next_update": NOW - DAY}, "stale", "publishes in time"),
        ({"signing_key": STRANGER.key, **FRESH}, "bad_signature", "who signs there"),
    ],
)
async def test_crl_that_does_not_count_refuses_partners(
    tmp_path: Path, bent: dict[str, Any], cause: str, action: str
) -> None:
    with nginx(tmp_path, {"root.crl": ROOT_CRL, "ca.crl": make_crl(CA, **bent)}) as server:
        config = write(
            tmp_path,
            f'sources = ["crl"]\ncrl = ["{server.url("/root.crl")}", "{server.url("/ca.crl")}"]',
        )
        status, found = await doctor(config)
    assert 1 == status
    assert action in of(found, "fail", f"{cause}:")["action"]


async def test_list_near_its_end_is_a_warning(tmp_path: Path) -> None:
    near = make_crl(CA, this_update=NOW - 3 * DAY, next_update=NOW + HOUR)
    with nginx(tmp_path, {"root.crl": ROOT_CRL, "ca.crl": near}) as server:
        config = write(
            tmp_path,
            f'sources = ["crl"]\ncrl = ["{server.url("/root.crl")}", "{server.url("/ca.crl")}"]',
        )
        status, found = await doctor(config)
    assert 0 == status
    of(found, "warn", "no newer one is out")


async def test_revoked_intermediate_is_a_fault(tmp_path: Path) -> None:
    revoked = make_crl(ROOT, [CA.serial], **FRESH)
    with nginx(tmp_path, {"root.crl": revoked, "ca.crl": make_crl(CA, **FRESH)}) as server:
        config = write(
            tmp_path,
            f'sources = ["crl"]\ncrl = ["{server.url("/root.crl")}", "{server.url("/ca.crl")}"]',
        )
        status, found = await doctor(config)
    assert 1 == status
    assert "take this CA out" in of(found, "fail", "CN=Issuing CA: revoked")["action"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param(f"http://127.0.0.1:{free_port()}/", "unreachable", id="nobody-listens"),
        ("http://nowhere.invalid/", "cannot be resolved"),
    ],
)
async def test_location_that_cannot_be_reached_refuses_partners(tmp_path: Path, url: str, words: str) -> None:
    status, found = await doctor(write(tmp_path, f'sources = ["ocsp"]\nocsp = ["{url}"]'))
    assert 1 == status
    assert "firewall" in of(found, "fail", words)["action"]


async def test_location_of_a_partner_that_is_not_allowed_says_what_to_allow(tmp_path: Path) -> None:
    leaf = issue(CA, "far", eku=["clientAuth"], ocsp_urls=["http://ocsp.far.example/"])
    (tmp_path / "leaf.pem").write_bytes(leaf.pem)
    config = write(tmp_path, 'sources = ["ocsp"]')
    status, found = await doctor(config, "--chain", str(tmp_path / "leaf.pem"))
    assert 1 == status
    forbidden = of(found, "fail", "forbidden_url")
    assert "allow_hosts" in forbidden["action"]
    assert "ocsp.far.example" in forbidden["detail"]


async def test_directory_is_asked_where_it_is_permitted_and_named_with_what_permits_it(
    tmp_path: Path,
) -> None:
    dn = f"CN=Issuing CA,{SUFFIX}"
    at = f"ldap:///CN=Issuing%20CA,{SUFFIX}?certificateRevocationList?base?objectClass=cRLDistributionPoint"
    leaf = issue(CA, "of AD CS", eku=["clientAuth"], crl_urls=[at])
    (tmp_path / "leaf.pem").write_bytes(leaf.pem)
    chain = ("--chain", str(tmp_path / "leaf.pem"))
    table = 'sources = ["crl"]\n'
    with slapd(tmp_path, [point(dn, make_crl(CA, **FRESH))]) as directory:
        _, found = await doctor(write(tmp_path, table), *chain)
        forbidden = of(found, "fail", "LDAP is not allowed: a table [trust.p.ldap] permits it")
        assert "permit it with a table [trust.p.ldap]" in forbidden["action"]
        permitted = f'{table}[trust.p.ldap]\nservers = ["{directory.server}"]\n'
        _, found = await doctor(write(tmp_path, permitted), *chain)
        assert "CN=of AD CS: good" in of(found, "ok", "signed by CN=Issuing CA")["detail"]
    _, found = await doctor(write(tmp_path, permitted), *chain)
    assert directory.server in of(found, "fail", "unreachable")["detail"]


async def test_responder_that_may_not_sign_refuses_partners(tmp_path: Path) -> None:
    with openssl_ocsp(tmp_path, issuer=CA, signer=STRANGER, known=[GOOD]) as ocsp:
        status, found = await doctor(write(tmp_path, f'sources = ["ocsp"]\nocsp = ["{ocsp.url()}"]'))
    assert 1 == status
    assert "ocsp_signers" in of(found, "fail", "bad_signature")["action"]


async def test_delegate_near_its_end_without_nocheck_and_nonce_is_named(tmp_path: Path) -> None:
    delegate = issue(CA, "Tired", eku=["OCSPSigning"], nocheck=True, not_after=NOW + 2 * DAY)
    plain = issue(CA, "Plain", eku=["OCSPSigning"])
    for signer, level, words in (
        (delegate, "warn", "its certificate ends"),
        (plain, "note", "id-pkix-ocsp-nocheck"),
    ):
        async with evil(responder(signer=signer)) as server:
            with nginx(tmp_path, {"ca.crl": make_crl(CA, **FRESH)}) as lists:
                config = write(tmp_path, f'ocsp = ["{server.url("/")}"]\ncrl = ["{lists.url("/ca.crl")}"]')
                _, found = await doctor(config)
        of(found, level, words)
        of(found, "note", "without our nonce")


async def test_clock_of_a_responder_ahead_of_ours_is_named(tmp_path: Path) -> None:
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=200)
    async with evil(responder(produced_at=ahead)) as server:
        _, found = await doctor(write(tmp_path, f'sources = ["ocsp"]\nocsp = ["{server.url("/")}"]'))
    assert "ahead of ours" in of(found, "warn", "its clock")["detail"]


async def test_http_date_of_each_server_is_held_against_our_clock(tmp_path: Path) -> None:
    """
    A server that says nothing usable otherwise tells the time all the same; nginx beside it is right.
    """
    ahead = format_datetime(datetime.now(UTC) + timedelta(seconds=400), usegmt=True)
    wrong = response(b"", status="404 Not Found", headers={"Date": ahead})
    async with evil(answer(wrong)) as server:
        with nginx(tmp_path, {"ca.crl": make_crl(CA, **FRESH), "root.crl": ROOT_CRL}) as lists:
            urls = [server.url("/"), lists.url("/ca.crl"), lists.url("/root.crl")]
            _, found = await doctor(write(tmp_path, f'sources = ["crl"]\ncrl = {json.dumps(urls)}'))
    (skewed, right) = sorted(
        (one for one in found if one["about"] == "clocks"), key=lambda one: one["level"]
    )[::-1]
    assert ("warn", server.url("").rstrip("/")) == (skewed["level"], skewed["check"])
    assert 385 <= skewed["facts"]["ahead_s"] <= 400
    assert ("ok", lists.url("").rstrip("/")) == (right["level"], right["check"])


async def test_source_slower_than_a_handshake_waits_refuses_partners(tmp_path: Path) -> None:
    prompt = responder()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)  # this is the fault
        await prompt(reader, writer)

    async with evil(slow) as server:
        config = write(
            tmp_path,
            f'sources = ["ocsp"]\nocsp = ["{server.url("/")}"]',
            tail="[limits]\nbudget_ms = 300\nrequest_ms = 200\nreserve_ms = 50",
        )
        status, found = await doctor(config)
    assert 1 == status
    of(found, "fail", "a handshake has 200 ms for it")


async def test_api_that_refuses_our_credentials_refuses_partners(tmp_path: Path) -> None:
    denied = response(b'{"errors":["permission denied"]}', status="403 Forbidden")
    async with evil(answer(denied)) as server:
        rest = f'[trust.p.rest]\nprofile = "vault"\nurl = "{server.url("")}"\nunsafe_plain_http = true'
        status, found = await doctor(write(tmp_path, 'sources = ["rest"]', rest=rest))
    assert 1 == status
    assert "credentials" in of(found, "fail", "permission denied")["action"]


async def test_expired_ca_and_identity_are_faults(tmp_path: Path) -> None:
    old = issue(ROOT, "Old CA", ca=True, not_before=NOW - 30 * DAY, not_after=NOW - DAY)
    host = issue(old, "host", not_before=NOW - 30 * DAY, not_after=NOW - HOUR)
    tail = '[identity.host]\nchain = "host.pem"\nkey = "host.pem"'
    status, found = await doctor(
        write(tmp_path, "", tail=tail, ca=old.pem, host=write_pem(tmp_path / "h.pem", host).read_bytes())
    )
    assert 1 == status
    of(found, "fail", "expired")
    assert "renew it" in of(found, "fail", "CN=host is valid to")["action"]


async def test_state_that_is_no_directory_is_a_fault_and_a_dead_socket_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    status, found = await doctor(write(tmp_path, ""))
    assert 1 == status
    of(found, "fail", "is no directory")
    assert "cftpki serve" in of(found, "warn", "nobody listens")["action"]


async def test_policy_that_accepts_a_dead_responder_makes_it_a_warning(tmp_path: Path) -> None:
    dead = f'sources = ["ocsp"]\nocsp = ["http://127.0.0.1:{free_port()}/"]'
    for policy, status in (("strict", 1), ("audit", 0)):
        assert status == (await doctor(write(tmp_path, f'{dead}\npolicy = "{policy}"')))[0]


def test_wrong_calls_are_exit_2(tmp_path: Path) -> None:
    config = write(tmp_path, "")
    wrong = CliRunner().invoke(main, ["doctor", "--config", str(config), "--trust", "q"])
    assert 2 == wrong.exit_code
    config.write_text("[trust.p]\nanchor = 1\n")
    assert 2 == CliRunner().invoke(main, ["doctor", "--config", str(config)]).exit_code


def test_table_names_what_fails_first_and_hides_what_is_well(tmp_path: Path) -> None:
    config = write(tmp_path, f'sources = ["ocsp"]\nocsp = ["http://127.0.0.1:{free_port()}/"]')
    result = CliRunner().invoke(main, ["doctor", "--config", str(config), "--trust", "p"])
    lines = result.stdout.splitlines()
    assert lines[1].startswith("fail")
    assert "would refuse partners" in lines[-1]
    assert "valid to" not in result.stdout
    assert "valid to" in CliRunner().invoke(main, ["doctor", "--config", str(config), "--all"]).stdout
