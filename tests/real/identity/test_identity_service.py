"""A running service and the command line on one identity: what a command issues the service presents."""

import asyncio
import json
import os

import pytest

from cftpki_ext.protocol.codec import Message, Tag
from cftpki_ext.protocol.tls_vectors import decode_chain
from tests.support import forked, pki, real_service
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.real

CONFIG = """
[service]
socket = "{socket}"
state = "state"

[trust.corp]
anchors = ["root.pem"]

[identity.mft]
enrollers = ["drop"]
names = ["mft.corp.example"]
key = "p256"
trust = "corp"
password_file = "secret"
min_interval = "1s"

[enroller.drop]
type = "file"
chain = "chain.pem"
key = "key.pem"

[[rule]]
direction = "server"
port = 1762
trust = "corp"
identity = "mft"
"""


class Site:
    def __init__(self, folder):
        self.folder = folder
        self.config = folder / "cftpki.toml"
        self.config.write_text(CONFIG.format(socket=folder / "s"))
        self.root = pki.make_root("Service Root")
        self.issuing = pki.issue(self.root, "Service Issuing", ca=True)
        (folder / "root.pem").write_bytes(self.root.pem)
        self.secret(folder / "secret", b"geheim\n")

    def secret(self, path, data):
        path.write_bytes(data)
        path.chmod(0o600)

    def put(self):
        leaf = pki.issue(
            self.issuing,
            "mft.corp.example",
            san=["dns:mft.corp.example"],
            eku=["serverAuth", "clientAuth"],
            usage=["digitalSignature", "keyEncipherment"],
        )
        (self.folder / "chain.pem").write_bytes(leaf.pem + self.issuing.pem)
        self.secret(self.folder / "key.pem", leaf.key_pem)
        return leaf

    def run(self, *arguments, status=0):
        done = forked.run(
            ["identity", *arguments],
            env={**os.environ, "CFTPKI_CONFIG": str(self.config)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert status == done.returncode, done.stderr
        return done.stdout + done.stderr

    def data(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    async def leaf(self):
        async with WireClient(self.folder / "s") as client:
            await client.start()
            answer = await client.ask(Message.GET_CERTIFICATE)
            return decode_chain(answer.fields[Tag.CHAIN], max_bytes=65536, max_certificates=9)[0]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_command_issues_renews_rolls_back_and_tells(site):
    first = site.put()
    assert "no certificate yet" in site.run("list")
    assert "generation 1 is in force" in site.run("issue", "mft")
    assert "not due before" in site.run("issue", "mft")
    second = site.put()
    assert "generation 2 is in force" in site.run("renew", "mft", "--now")
    shown = site.data("show", "mft")
    assert (f"{second.serial:x}", 2) == (
        shown["generation"]["serial"].lstrip("0"),
        shown["generation"]["number"],
    )
    assert "generation 1 is in force" in site.run("rollback", "mft")
    assert "no earlier generation" in site.run("rollback", "mft", status=2)
    assert "no generation 9" in site.run("rollback", "mft", "--to", "9", status=2)
    told = site.data("history", "mft")
    assert [True, False] == [one["in_force"] for one in told["generations"]]
    assert ["activated", "activated"] == [one["outcome"] for one in told["orders"]]
    assert f"{first.serial:x}" in site.run("history", "mft")
    assert "files revoke nothing" in site.run("revoke", "mft", status=1)
    assert "there is no identity 'else'" in site.run("renew", "else", status=2)
    key = site.folder / "state/identities/mft/generations/0002/key.pem"
    assert b"ENCRYPTED" in key.read_bytes()


def test_command_that_leaves_no_certificate_is_not_done(site):
    for _ in range(2):  # the second one waits
        assert "no certificate yet" in site.run("issue", "mft", status=1)
    told = json.loads(site.run("issue", "mft", "--json", status=1))
    assert (None, False) == (told["generation"], told["issued"])
    site.put()
    assert "generation 1 is in force" in site.run("renew", "mft", "--now")


def test_command_that_fails_says_why_and_what_stays(site):
    site.put()
    site.run("issue", "mft")
    (site.folder / "key.pem").write_bytes(b"broken")
    assert "generation 1 stays in force" in site.run("renew", "mft", "--now", status=1)
    renewal = json.loads(site.run("renew", "mft", "--now", "--json", status=1))
    assert (True, False, 1) == (renewal["failed"], renewal["issued"], renewal["generation"])
    (told,) = site.data("list")
    assert "cannot be read" in told["trouble"]


def test_running_service_presents_what_a_command_has_issued(site):
    first = site.put()
    with real_service.running(site.config) as service:
        # The service issues by itself; the command waits for it or finds it done.
        site.run("issue", "mft")
        assert first.der == asyncio.run(site.leaf())
        second = site.put()
        site.run("renew", "mft", "--now")
        assert second.der == asyncio.run(site.leaf())
        site.run("rollback", "mft")
        assert first.der == asyncio.run(site.leaf())
        service.kill()
        service.start()
        assert first.der == asyncio.run(site.leaf())
        assert b"PRIVATE KEY" not in service.log.read_bytes()


def test_running_service_takes_a_replaced_pair_by_itself_and_tells_its_runway(site):
    first = site.put()
    with real_service.running(site.config) as service:
        wait(lambda: "identity_activated" in service.log.read_text())
        assert first.der == asyncio.run(site.leaf())
        second = site.put()
        wait(lambda: service.log.read_text().count("identity_activated") == 2)
        assert second.der == asyncio.run(site.leaf())

        def told():
            done = forked.run(
                ["status", "--config", site.config, "--json"],
                capture_output=True,
                timeout=60,
                check=True,
            )
            return json.loads(done.stdout)["certificates"]

        wait(lambda: told().get("mft"))
        assert second.certificate.not_valid_after_utc.isoformat(timespec="seconds") == told()["mft"]["runway"]


def wait(condition, *, seconds=60):
    """
    Until the other process has done something that it tells in no other way.
    """

    async def poll():
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process cannot set our event
                await asyncio.sleep(0.2)

    asyncio.run(poll())


def alarms(service):
    return [(line["level"], line["alarm"]) for line in service.events("identity_alarm")]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("harm", ["mode", "empty", "password"])
def test_running_service_replaces_a_key_that_cannot_be_used_and_says_so(site, harm, restarted):
    site.config.write_text(site.config.read_text().replace("[service]", '[service]\nlog_format = "json"'))
    site.put()
    with real_service.running(site.config) as service:
        wait(lambda: "identity_activated" in service.log.read_text())
        assert not alarms(service)[1:]
        if restarted:
            service.stop()
        key = site.folder / "state/identities/mft/generations/0001/key.pem"
        if harm == "mode":
            key.chmod(0o644)
        elif harm == "empty":
            key.write_bytes(b"")
        else:
            site.secret(site.folder / "secret", b"another\n")
        second = site.put()
        if restarted:
            service.start()
        wait(lambda: service.log.read_text().count("identity_activated") == 2)
        assert second.der == asyncio.run(site.leaf())
        (done,) = [one for one in service.events("identity_activated") if one["generation"] == 2]
        assert "unusable" == done["why"]
        assert "key:" in service.events("identity_not_loaded")[-1]["error"]
        wait(lambda: site.data("list")[0]["alarm"] is None)


def test_running_service_tells_of_a_key_that_cannot_be_replaced(site):
    site.config.write_text(site.config.read_text().replace("[service]", '[service]\nlog_format = "json"'))
    site.put()
    with real_service.running(site.config) as service:
        wait(lambda: "identity_activated" in service.log.read_text())
        (site.folder / "key.pem").unlink()
        (site.folder / "state/identities/mft/generations/0001/key.pem").chmod(0o644)
        wait(lambda: ("error", "unusable") in alarms(service))
        shown = site.data("list")[0]
        assert ("unusable", "unusable") == (shown["alarm"], shown["next"]["why"])
        assert "UNUSABLE (" in shown["trouble"]
        assert "has mode 0644" in shown["trouble"] or "mode 0644" in shown["trouble"]


@pytest.mark.parametrize("restarted", [False, True])
def test_running_service_heals_a_generation_that_is_not_whole_and_says_so(site, restarted):
    site.config.write_text(site.config.read_text().replace("[service]", '[service]\nlog_format = "json"'))
    site.put()
    with real_service.running(site.config) as service:
        wait(lambda: "identity_activated" in service.log.read_text())
        if restarted:
            service.stop()
        place = site.folder / "state/identities/mft"
        (site.folder / "key.pem").unlink()  # nothing to heal it with, yet
        (place / "generations/0001/chain.pem").write_bytes(b"")
        next((place / "journal").glob("2*.json")).write_bytes(b"")
        shown = site.data("list")[0]
        assert ("damaged", True) == (shown["state"], shown["trouble"].startswith("DAMAGED (generation "))
        if not restarted:
            wait(lambda: ("error", "damaged") in alarms(service))
        second = site.put()
        if restarted:
            service.start()
        else:
            assert "generation 2 is in force" in site.run("renew", "mft", "--now")
        wait(lambda: (place / "current").readlink().name == "0002")
        assert second.der == asyncio.run(site.leaf())
        wait(lambda: site.data("list")[0]["states"] == ["healthy"])
        said = site.run("history", "mft")
        assert "damaged: generation " in " ".join(said.split())
