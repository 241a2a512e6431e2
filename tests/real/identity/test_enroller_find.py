"""
`cftpki enroller find` at a real Pebble, step-ca and estserver: what they speak, and a table that the configuration takes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support import forked, pki
from tests.support.ca_est import PASSWORD, USER, EstServer, estserver
from tests.support.ca_pebble import Pebble, pebble
from tests.support.ca_servers import StepCa, make_step_ca, write_secret
from tests.support.ports import free_port

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def step(tmp_path_factory) -> Iterator[StepCa]:
    with make_step_ca(tmp_path_factory.mktemp("step")).running() as ca:
        yield ca


@pytest.fixture(scope="module")
def est(tmp_path_factory) -> Iterator[EstServer]:
    with estserver(tmp_path_factory.mktemp("est")) as server:
        yield server


@pytest.fixture(scope="module")
def acme(tmp_path_factory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble"), profiles={"short": {"description": "x"}}) as server:
        yield server


def find(*arguments: object, status: int = 0) -> str:
    command = ["enroller", "find", *map(str, arguments)]
    done = forked.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert status == done.returncode, done.stdout + done.stderr
    return done.stdout if status in {0, 1} else done.stderr


def checked(folder: Path, text: str, **filled: str) -> None:
    """
    The table passes `config check` and `enroller check` once every placeholder is replaced.
    """
    table = next(iter(tomllib.loads(text)["enroller"].values()))
    for name, value in filled.items():
        assert re.fullmatch(r"<.*>", str(table[name])), name
        text = text.replace(json.dumps(table[name], ensure_ascii=False), json.dumps(str(value)))
    assert not re.search(r"= \"<", text)
    config = folder / "cftpki.toml"
    config.write_text(f'[service]\nsocket = "s"\nstate = "state"\n{text}')
    for command in (["config", "check"], ["enroller", "check"]):
        done = forked.run(
            [*command, "--config", config], capture_output=True, text=True, check=False, timeout=60
        )
        assert 0 == done.returncode, done.stdout + done.stderr


def only(told: str, kind: str, containing: str = "") -> str:
    """
    The table of one type, out of what `--json` prints.
    """
    (one,) = [
        one["toml"]
        for one in json.loads(told)["found"]
        if one["type"] == kind and containing in one["detail"]
    ]
    return one


def test_find_step_ca_by_its_roots_fingerprint_names_provisioners_and_acme(step, tmp_path):
    told = find(step.url, "--fingerprint", step.fingerprint, "--json")
    document = json.loads(told)
    assert ("fingerprint", None) == (document["trusted_by"], document["trouble"])
    details = sorted(one["detail"] for one in document["found"] if one["type"] == "stepca")
    assert [f"provisioner {name} of type {kind}" for name, kind in
            (("machines", "X5C"), ("mft", "JWK"), ("server-only", "JWK"))] == details  # fmt: skip
    assert {"est"} <= set(document["not_found"])
    password = write_secret(tmp_path / "password", step.password.encode() + b"\n")
    checked(tmp_path, only(told, "stepca", "provisioner mft "), password_file=password)


def test_find_step_cas_acme_directory_with_the_root_in_a_file(step, tmp_path):
    root = step.folder / "root0.pem"
    told = find(step.url, "--ca", root, "--json")
    text = only(told, "acme")
    table = next(iter(tomllib.loads(text)["enroller"].values()))
    assert (step.acme_directory, str(root)) == (table["directory"], table["root_file"])
    checked(tmp_path, text)
    text = only(told, "stepca", "machines")
    machine = pki.issue(step.machines, "machine 2", eku=["clientAuth"])
    (tmp_path / "chain.pem").write_bytes(machine.pem)
    key = write_secret(tmp_path / "key.pem", machine.key_pem)
    checked(tmp_path, text, chain_file=tmp_path / "chain.pem", key_file=key)


def test_find_estserver_names_what_is_to_be_filled_in_as_toml(est, tmp_path):
    text = find(est.url, "--ca", est.roots)
    (table,) = tomllib.loads(text)["enroller"].values()
    assert ("est", est.url, str(est.roots)) == (table["type"], table["url"], table["implicit_roots"])
    assert "# to be filled in: username, password_file" in text
    assert "# acme: not found: HTTP 404" in text or "# acme: not found:" in text
    password = write_secret(tmp_path / "password", PASSWORD.encode() + b"\n")
    checked(tmp_path, text, username=USER, password_file=password)
    before = est.issued
    root = sha256(est.root.der).hexdigest()
    assert (
        root == json.loads(find(est.url, "--fingerprint", root, "--json"))["found"][0]["table"]["fingerprint"]
    )
    assert before == est.issued


def test_find_pebble_says_what_has_to_be_agreed_to_and_makes_no_account(acme, tmp_path):
    before = acme.accounts
    told = find(acme.directory, "--ca", acme.options()["root_file"], "--json")
    (one,) = json.loads(told)["found"]
    assert ("acme", ["terms_agreed"]) == (one["type"], one["fill"])
    assert "profiles short" in one["detail"]
    checked(tmp_path, one["toml"].replace("terms_agreed = false", "terms_agreed = true"))
    assert before == acme.accounts


def test_find_of_a_server_that_is_not_trusted_asks_nothing_and_shows_its_fingerprints(step, tmp_path):
    before = step.log_text().count("path=")
    text = find(step.url, status=1)
    assert "is not trusted" in text
    assert {} == tomllib.loads(text)
    shown = re.findall(r"SHA-256 ([0-9a-f]{64})", text)
    assert sha256(step.intermediate.der).hexdigest() == shown[1]
    assert before == step.log_text().count("path=")
    # What was shown can be given, and kept for the configuration.
    kept = tmp_path / "ca.pem"
    document = json.loads(find(step.url, "--fingerprint", shown[1], "--save-ca", kept, "--json"))
    assert "fingerprint" == document["trusted_by"]
    assert step.intermediate.pem.strip() in kept.read_bytes()
    (table,) = [one["table"] for one in document["found"] if one["type"] == "acme"]
    assert str(kept) == table["root_file"]


def test_find_with_another_fingerprint_or_another_root_exits_1_and_asks_nothing(step, est, tmp_path):
    document = json.loads(find(step.url, "--fingerprint", "0" * 64, "--json", status=1))
    assert (None, []) == (document["trusted_by"], document["found"])
    assert "no certificate that it shows or hands out" in document["trouble"]
    assert 2 == len(document["shown"])
    document = json.loads(find(step.url, "--ca", est.roots, "--json", status=1))
    assert "not trusted" in document["trouble"]
    assert 2 == len(document["shown"])


def test_find_over_plain_http_looks_only_for_what_protects_itself(step):
    document = json.loads(find(f"http://127.0.0.1:{step.crl_port}", "--json", status=1))
    assert ("nothing", []) == (document["trusted_by"], document["found"])
    assert not {"acme", "est", "stepca"} & set(document["not_found"])


def test_find_of_nobody_exits_1_and_of_what_is_no_url_exits_2(tmp_path):
    text = find(f"https://127.0.0.1:{free_port()}", status=1)
    assert "connection refused" in text
    for arguments in (
        ["ca.corp.example"],
        ["ftp://ca.corp.example"],
        ["https://user@ca.corp.example"],
        ["https://ca.corp.example/?a=b"],
        ["https://127.0.0.1:9", "--fingerprint", "ab"],
        ["https://127.0.0.1:9", "--save-ca", tmp_path / "new"],
        ["https://127.0.0.1:9", "--ca", tmp_path / "missing"],
    ):
        assert "cftpki: " in find(*arguments, status=2)
