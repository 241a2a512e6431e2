"""
`cftpki enroller …` on one configuration with a real Pebble, a real step-ca, a real estserver and files.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cftpki_ext.config import load
from cftpki_ext.identity.renewal.schedule import Plan, Why
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.service.renewals import make_manager
from tests.support import forked, pki
from tests.support.ca_est import PASSWORD, USER, EstServer, estserver
from tests.support.ca_pebble import Pebble, pebble
from tests.support.ca_servers import StepCa, make_step_ca, write_secret
from tests.support.orders import SystemClock

pytestmark = pytest.mark.real

TYPES = {"acme": "acme", "est": "est", "files": "file", "step": "stepca", "stepacme": "acme"}


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value if isinstance(value, bool | int) else str(value))


@dataclass(slots=True)
class Site:
    """
    A configuration, and the command line on it.
    """

    folder: Path
    enrollers: dict[str, dict[str, Any]]
    acme: Pebble
    step: StepCa
    est: EstServer

    def run(self, *arguments: str, status: int = 0) -> str:
        identity = {"enrollers": ["acme"], "names": ["mft.corp.example"], "key": "p256", "trust": "own"}
        identity |= {"usages": ["server"]}
        tables = {"identity.mft": identity} | {
            f"enroller.{name}": one for name, one in self.enrollers.items()
        }
        lines = ['[service]\nsocket = "s"\nstate = "state"\n[trust.own]\nanchors = ["root.pem"]']
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
        config = self.folder / "cftpki.toml"
        config.write_text("\n".join(lines) + "\n")
        command = [*arguments, "--config", config]
        done = forked.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert status == done.returncode, done.stdout + done.stderr
        # What is logged on the way is no part of the answer.
        return done.stdout if "--json" in arguments else done.stdout + done.stderr

    def listed(self) -> dict[str, dict[str, Any]]:
        return {one["enroller"]: one for one in json.loads(self.run("enroller", "list", "--json"))}

    def checked(self, name: str, *, status: int = 0) -> dict[str, tuple[bool, str]]:
        (told,) = json.loads(self.run("enroller", "check", name, "--json", status=status))
        assert told["ok"] is (status == 0)
        return {one["what"]: (one["ok"], one["detail"]) for one in told["findings"]}


@pytest.fixture(scope="module")
def cas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pebble, StepCa, EstServer]]:
    folder = tmp_path_factory.mktemp("cas")
    step = make_step_ca(folder)
    profiles = {"default": {"description": "usual", "validityPeriod": 7776000}}
    with pebble(folder, profiles=profiles) as acme, step.running(), estserver(folder) as est:
        yield acme, step, est


@pytest.fixture
def site(tmp_path: Path, cas: tuple[Pebble, StepCa, EstServer]) -> Site:
    acme, step, est = cas
    mine = pki.issue(pki.make_root("Files Root"), "files")
    (tmp_path / "chain.pem").write_bytes(mine.pem)
    (tmp_path / "root.pem").write_bytes(acme.manage("roots/0"))
    password = write_secret(tmp_path / "est-password", PASSWORD.encode() + b"\n")
    known = {"url": est.url, "implicit_roots": est.roots, "username": USER, "password_file": password}
    key = write_secret(tmp_path / "key", mine.key_pem)
    enrollers = {
        "acme": {"type": "acme", **acme.options()},
        "est": {"type": "est", **known},
        "files": {"type": "file", "chain": "chain.pem", "key": key},
        "step": {"type": "stepca", **step.options()},
        "stepacme": {
            "type": "acme",
            "directory": step.acme_directory,
            "root_file": step.folder / "root0.pem",
        },
    }
    return Site(tmp_path, enrollers, acme, step, est)


def test_list_asks_no_ca_writes_nothing_and_tells_what_is_known_later(site):
    before = site.listed()
    assert TYPES == {name: one["type"] for name, one in before.items()}
    assert not (site.folder / "state").exists()
    assert {None} == {one["account"] for one in before.values()}
    assert ([], ["mft"]) == (before["step"]["identities"], before["acme"]["identities"])
    assert [] == before["step"]["roots"] == before["est"]["roots"]
    site.run("identity", "issue", "mft")
    site.run("enroller", "check")
    after = site.listed()
    assert after["acme"]["account"].startswith("https://127.0.0.1")
    assert (0, False) == (after["acme"]["key_age_days"], after["acme"]["key_change_open"])
    assert [sha256(site.step.root.der).hexdigest()] == [one["sha256"] for one in after["step"]["roots"]]
    (root,) = after["est"]["roots"]
    assert site.est.root.certificate.not_valid_after_utc.isoformat() == root["until"]
    assert "CN=EST Root" == root["subject"]
    assert str(site.folder / "chain.pem") == after["files"]["where"]
    assert {None} == {one["trouble"] for one in after.values()}


def test_check_of_everything_orders_nothing_and_exits_0(site):
    before = site.acme.orders, site.acme.accounts, site.est.issued
    output = site.run("enroller", "check")
    assert "FAULT" not in output
    assert before == (site.acme.orders, site.acme.accounts, site.est.issued)
    assert "path=/1.0/sign" not in site.step.log_text()
    acme = site.checked("acme")
    assert (True, "the CA offers default; none is asked for") == acme["profiles"]
    assert (True, "the CA offers ARI") == acme["renewal information"]
    assert (True, "the CA offers a key change") == acme["key change"]
    assert (True, "the CA does not ask for one") == acme["external account"]
    assert (True, "none yet: the first order makes it") == acme["account"]
    assert "does not offer ARI" in site.checked("stepacme")["renewal information"][1]
    assert "2 certificates, 1 of them roots" in site.checked("est")["cacerts"][1]
    assert "csrattrs" in site.checked("est")
    assert "credentials are its own" in site.checked("step")["provisioner"][1]
    site.run("identity", "issue", "mft")
    assert "is valid, and our key is its key" in site.checked("acme")["account"][1]


def test_check_tells_what_an_operator_has_to_change_and_exits_1(site):
    site.enrollers["acme"] |= {"profile": "forever", "terms_agreed": False}
    site.enrollers["step"] |= {"password_file": write_secret(site.folder / "wrong", b"wrong\n")}
    site.enrollers["est"] |= {"implicit_roots": "root.pem"}
    site.enrollers["files"] |= {"chain": "root.pem"}
    acme = site.checked("acme", status=1)
    assert {"profiles", "terms"} == {what for what, (good, _) in acme.items() if not good}
    assert not site.checked("step", status=1)["provisioner"][0]
    assert "not trusted" in site.checked("est", status=1)["cacerts"][1]
    assert not site.checked("files", status=1)["files"][0]
    site.enrollers["acme"]["directory"] = "https://127.0.0.1:9/dir"
    assert {"directory"} == set(site.checked("acme", status=1))
    assert 2 == site.run("enroller", "check", "acme", "files", status=1).count("FAULT")
    assert "there is no enroller 'other'" in site.run("enroller", "check", "other", status=2)


def test_check_of_an_account_that_the_ca_has_forgotten_exits_1(site):
    site.run("identity", "issue", "mft")
    account = next((site.folder / "state" / "enrollers" / "acme").glob("*/account.json"))
    document = json.loads(account.read_text())
    account.write_text(json.dumps(document | {"url": document["url"] + "0"}))
    good, detail = site.checked("acme", status=1)["account"]
    assert not good
    assert "accountDoesNotExist" in detail


def test_rollover_gives_the_account_a_new_key_and_orders_go_on(site):
    accounts, certificates = site.acme.accounts, site.acme.certificates
    assert "no account yet" in site.run("enroller", "rollover", "acme", status=1)
    site.run("identity", "issue", "mft")
    key = next((site.folder / "state" / "enrollers" / "acme").glob("*/key.pem"))
    old = key.read_bytes()
    told = json.loads(site.run("enroller", "rollover", "acme", "--json"))
    assert site.listed()["acme"]["account"] == told["account"]
    assert old != key.read_bytes()
    assert "is valid" in site.checked("acme")["account"][1]
    site.run("identity", "renew", "mft", "--now")
    assert (1, 2) == (site.acme.accounts - accounts, site.acme.certificates - certificates)


@pytest.mark.parametrize("name", ["est", "files", "step"])
def test_rollover_of_what_has_no_account_is_not_applicable(site, name):
    output = site.run("enroller", "rollover", name, status=2)
    assert f"type {TYPES[name]}, which has no account key: not applicable" in output


def test_renewal_information_makes_a_renewal_due_that_names_what_it_replaces(site):
    site.run("identity", "issue", "mft")
    settings = load(site.folder / "cftpki.toml")
    generations = site_of(settings.service.state, settings.identities["mft"]).generations
    now = datetime.now(UTC)
    window = {"start": f"{now - timedelta(days=2):%FT%TZ}", "end": f"{now - timedelta(days=1):%FT%TZ}"}
    said = {
        "Certificate": pki.pem(generations.current().leaf.der).decode(),
        "ARIResponse": json.dumps({"suggestedWindow": window}),
    }
    site.acme.manage("set-renewal-info/", said)
    before = site.acme.certificates, site.acme.log_text().count("is a replacement of")

    async def tick(ahead: timedelta) -> Plan:
        """
        What the service does.
        """
        manager = make_manager(settings, clock=SystemClock(ahead), event=lambda _event, **_fields: None)
        async with aclosing(manager):
            return await manager.tick("mft")

    # A certificate is a day old at least before its CA may wish for the next one.
    assert Why.CA is asyncio.run(tick(timedelta(0))).why
    assert 1 == generations.current().number
    asyncio.run(tick(timedelta(hours=25)))
    assert 2 == generations.current().number
    assert (1, True) == (
        site.acme.certificates - before[0],
        site.acme.log_text().count("is a replacement of") > before[1],
    )
