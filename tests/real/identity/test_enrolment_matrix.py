"""
One identity through everything that its CAs and its host may do: other protocols, lies, outages, revocation.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from cftpki_ext.bootstrap.checker import SystemClock
from cftpki_ext.config import load
from cftpki_ext.exit.global_area import AREA, AREA_PRESENTED
from cftpki_ext.identity.enroller_port import EnrollerContext, Held
from cftpki_ext.identity.issuance.plugins import load_plugin
from cftpki_ext.identity.store.layout import site_of
from cftpki_ext.identity.store.private_keys import public_bytes
from cftpki_ext.service.renewals import make_manager
from tests.support import forked, hostsim, pki, real_service
from tests.support.ca_est import PASSWORD, USER, estserver
from tests.support.ca_pebble import pebble
from tests.support.ca_servers import make_step_ca, write_secret
from tests.support.ports import free_port
from tests.support.scripted_ca import DAY, TestClock, make_ca

pytestmark = pytest.mark.real

LIBRARY = hostsim.BUILD / "libcftpkie.so"
WAIT_S = 60
NAME = "mft.corp.example"


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value if isinstance(value, bool | int) else str(value))


class Site:
    """
    A configuration with one identity, and the command line on it.
    """

    def __init__(
        self, folder, enrollers, *, anchors, trust="", rule="", limits='crl_refresh = "0s"', **identity
    ):
        self.folder, self.config = folder, folder / "cftpki.toml"
        self.enrollers, self.anchors, self.trust, self.rule = enrollers, anchors, trust, rule
        self.limits = limits
        self.identity = {
            "enrollers": list(enrollers),
            "names": [NAME],
            "key": "p256",
            "trust": "own",
            **identity,
        }
        self.write(self.config)

    def write(self, path, **changes):
        tables = {"identity.mft": self.identity | changes}
        tables |= {f"enroller.{name}": table for name, table in self.enrollers.items()}
        lines = [f'[service]\nsocket = "s"\nstate = "state"\nlog_format = "json"\n[limits]\n{self.limits}']
        lines += [f"[trust.own]\nanchors = {toml(self.anchors)}\n{self.trust}"]
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
        path.write_text("\n".join([*lines, self.rule]) + "\n")
        return path

    @property
    def site(self):
        settings = load(self.config)
        return site_of(settings.service.state, settings.identities["mft"])

    def current(self):
        return self.site.generations.current()

    def begin(self, *arguments, config=None):
        command = ["identity", *arguments, "--config", config or self.config]
        return forked.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments, status=0, config=None):
        process = self.begin(*arguments, config=config)
        output, _ = process.communicate(timeout=WAIT_S)
        assert status == process.returncode, output
        return output

    def status(self):
        """
        What our own check said last, where it was made.
        """
        return json.loads(self.run("show", "mft", "--json"))["status"]

    def listed(self, config=None):
        (told,) = json.loads(self.run("list", "--json", config=config))
        return told


def issued(ca):
    """
    How many certificates a step-ca has issued so far.
    """
    return len(re.findall(r"path=/1\.0/(?:sign|renew|rekey) .*status=201", ca.log_text()))


def until(condition, *, seconds=WAIT_S):
    """
    Until another process has done what it tells in no other way.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def assert_normal(site, root):
    """
    Leaf first, each signed by the next, without root, verified by a foreign tool; the key is the leaf's.
    """
    current = site.current()
    folder = site.folder
    chain = [pki.pem(one.der) for one in current.chain]
    (folder / "leaf.pem").write_bytes(chain[0])
    (folder / "above.pem").write_bytes(b"".join(chain[1:]))
    (folder / "anchor.pem").write_bytes(root)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", folder / "anchor.pem"]
    command += ["-untrusted", folder / "above.pem", folder / "leaf.pem"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    for below, above in zip(current.chain, current.chain[1:], strict=False):
        assert below.issuer.key == above.subject.key
    assert all(one.issuer.key != one.subject.key for one in current.chain)
    assert public_bytes(current.key(None)) == current.leaf.spki


# -- fail-over across protocols --------------------------------------------------------------------------------


def test_one_identity_fails_over_across_three_protocols_into_one_form_of_chain(tmp_path):
    step = make_step_ca(tmp_path)
    (tmp_path / "step.pem").write_bytes(step.root.pem)
    secret = write_secret(tmp_path / "est-password", PASSWORD.encode() + b"\n")
    with estserver(tmp_path) as est, pebble(tmp_path, started=False) as acme:
        (tmp_path / "est.pem").write_bytes(est.root.pem)
        # Pebble makes its root when it starts.
        (tmp_path / "acme.pem").write_bytes(est.root.pem)
        enrollers = {
            "first": {"type": "stepca", **step.options()},
            "second": {"type": "acme", **acme.options()},
            "third": {
                "type": "est",
                "url": est.url,
                "implicit_roots": est.roots,
                "username": USER,
                "password_file": secret,
            },
        }
        site = Site(
            tmp_path,
            enrollers,
            anchors=["step.pem", "acme.pem", "est.pem"],
            usages=["server"],
            lifetime="12h",
        )
        site.run("issue", "mft")
        assert (1, "third") == (site.current().number, site.current().meta.enroller)
        assert_normal(site, est.root.pem)
        # The failure that was passed over is told, and nothing else is wrong.
        failure = site.listed()["last_failure"]
        assert "unreachable" == failure["fault"]
        with acme.running():
            (tmp_path / "acme.pem").write_bytes(acme.manage("roots/0"))
            site.run("renew", "mft", "--now")
            assert (2, "second") == (site.current().number, site.current().meta.enroller)
            assert_normal(site, acme.manage("roots/0"))
            assert (1, 1) == (acme.orders, acme.certificates)
            with step.running():
                site.run("renew", "mft", "--now")
                assert site.listed()["last_failure"] is None
                assert (3, "first") == (site.current().number, site.current().meta.enroller)
                assert_normal(site, step.root.pem)
        site.run("rollback", "mft", "--to", "1")
        assert 1 == site.current().number
        assert_normal(site, est.root.pem)


# -- a CA that lies --------------------------------------------------------------------------------------------


class Hostile:
    """
    A scripted CA behind the configured identity; what came of it is read by the command.
    """

    def __init__(self, folder, **identity):
        self.clock = TestClock(datetime.now(UTC).replace(microsecond=0))
        self.ca = make_ca(folder / "ca", TestClock(self.clock.now()))
        (folder / "root.pem").write_bytes(self.ca.root.pem)
        (folder / "other.pem").write_bytes(self.ca.other.pem)
        (folder / "issuing.pem").write_bytes(self.ca.issuing.pem)
        # For the command, which only looks here.
        table = {"type": "file", "chain": "none.pem", "key": "none.key"}
        names = {"names": [NAME, "second.corp.example"]}
        self.site = Site(
            folder,
            {"corp": table},
            anchors=["root.pem", "other.pem"],
            **({"lifetime": "30d"} | names | identity),
        )
        settings = load(self.site.config)
        self.manager = make_manager(
            settings, clock=self.clock, event=lambda _event, **_fields: None, look_only=True
        )
        self.manager._enrollers.update(corp=self.ca)  # type: ignore[attr-defined] # a dict, which nobody needs to know

    async def renew(self, *plan):
        self.ca.plan = list(plan)
        return await self.manager.renew("mft", force=True, wait_s=0)


@pytest.mark.parametrize(
    ("answer", "identity", "said"),
    [
        ("wrong_key", {}, "is for our key"),
        ("fewer_names", {}, "without dns:second.corp.example"),
        ("short", {}, "lifetime: wanted"),
        ("expired", {}, "valid until"),
        ("other_root", {"issuers": ["issuing.pem"]}, "issuer: wanted one of the configured CAs"),
    ],
)
async def test_lying_ca_leaves_the_old_chain_and_the_command_tells_why(tmp_path, answer, identity, said):
    hostile = Hostile(tmp_path, **identity)
    assert (await hostile.renew()).issued
    old = hostile.site.current()
    done = await hostile.renew(answer)
    assert (True, False) == (done.failed, done.issued)
    now = hostile.site.current()
    assert (old.number, old.leaf.der) == (now.number, now.leaf.der)
    told = await asyncio.to_thread(hostile.site.listed)
    assert said in told["trouble"]
    assert old.ends.isoformat(timespec="seconds") == told["runway"]
    assert 1 == len(told["orphans"])
    assert (await hostile.renew()).issued
    assert (await asyncio.to_thread(hostile.site.listed))["trouble"] is None


async def test_chain_out_of_order_with_root_and_duplicates_is_put_in_order(tmp_path):
    hostile = Hostile(tmp_path)
    assert (await hostile.renew("shuffled")).issued
    assert_normal(hostile.site, hostile.ca.root.pem)


async def test_ca_whose_clock_is_ahead_issues_once_and_is_waited_for(tmp_path):
    hostile = Hostile(tmp_path)
    await hostile.renew()
    hostile.ca.clock.advance(timedelta(minutes=10))
    done = await hostile.renew()
    assert (1, False) == (hostile.site.current().number, done.failed)
    assert "not valid before" in (await asyncio.to_thread(hostile.site.listed))["trouble"]
    hostile.clock.advance(timedelta(minutes=10))
    await hostile.manager.tick("mft")
    assert (2, 2) == (hostile.site.current().number, len(hostile.ca.books()["certificates"]))


async def test_ca_whose_clock_is_behind_never_shortens_what_we_have(tmp_path):
    hostile = Hostile(tmp_path, lifetime="25d")
    await hostile.renew()
    hostile.ca.clock.advance(-2 * DAY)
    # With a lifetime asked for, that one decides: the whole of it was issued.
    assert (await hostile.renew()).issued
    assert 2 == hostile.site.current().number


async def test_ca_whose_clock_is_behind_without_a_lifetime_asked_for_is_held_to_the_end_in_force(tmp_path):
    hostile = Hostile(tmp_path)
    del hostile.site.identity["lifetime"]
    hostile.site.write(hostile.site.config)
    settings = load(hostile.site.config)
    hostile.manager._sites["mft"] = site_of(settings.service.state, settings.identities["mft"])
    await hostile.renew()
    hostile.ca.clock.advance(-2 * DAY)
    done = await hostile.renew()
    assert (True, 1) == (done.failed, hostile.site.current().number)
    assert "the end of the chain in force" in done.detail


# -- beside the running service --------------------------------------------------------------------------------

RULE = """
[[rule]]
name = "incoming"
direction = "server"
trust = "own"
identity = "mft"
"""
TRUST = """
sources = ["crl"]
crl = ["{crl_url}", "root.crl"]
allow_hosts = ["127.0.0.1"]
allow_networks = ["127.0.0.0/8"]
"""


@contextlib.contextmanager
def enrolled_service(folder, **identity):
    """
    A step-ca (its end is the last part), and a service that has its first certificate from it.
    """
    ca = make_step_ca(folder)
    (folder / "root.pem").write_bytes(ca.root.pem)
    now = datetime.now(UTC)
    crl = pki.make_crl(
        ca.root, [pki.Revoked(1)], this_update=now - timedelta(hours=1), next_update=now + timedelta(days=1)
    )
    (folder / "root.crl").write_bytes(crl)
    enroller = {"type": "stepca", **ca.options()}
    trust = TRUST.format(crl_url=ca.crl_url)
    site = Site(
        folder,
        {"corp": enroller},
        anchors=["root.pem"],
        trust=trust,
        rule=RULE,
        lifetime="12h",
        min_interval="1s",
        **identity,
    )
    with contextlib.ExitStack() as ca_running:
        ca_running.enter_context(ca.running())
        with real_service.running(site.config) as service:
            until(lambda: service.events("identity_activated"))
            yield ca, site, service, ca_running


def host(service, folder, *arguments, sessions=1, **environment):
    return hostsim.server(
        *("--lib", LIBRARY, "--send-data", "--sessions", str(sessions), "--threads", "2", *arguments),
        trace=folder / f"trace-{time.monotonic_ns()}",
        env={**service.environment, **environment},
    )


def connect(port):
    """
    A TLS connection that looks at everything and verifies nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain)


def served(tls):
    return sha256(tls.getpeercert(binary_form=True)).hexdigest()


def exchange(tls):
    """
    One request on an open session; its answer.
    """
    tls.sendall(b"hello\n")
    answer = tls.recv(100)
    tls.close()
    return answer


def handshake(port):
    with connect(port) as tls:
        seen = served(tls)
        assert exchange(tls)
    return seen


def presented(run):
    """
    The generation that each session's 64-byte area names.
    """
    areas = [AREA.unpack(bytes.fromhex(session["global"])) for session in run.sessions]
    assert all(area[1] & AREA_PRESENTED for area in areas)
    return [area[3] for area in areas]


def fingerprint(site):
    return site.current().leaf.fingerprint


def test_next_handshake_shows_what_another_process_issued_and_open_sessions_keep_theirs(tmp_path):
    with enrolled_service(tmp_path) as (ca, site, service, _):
        first = fingerprint(site)
        with host(service, tmp_path, sessions=2) as simulator:
            old = connect(simulator.port)
            assert first == served(old)
            site.run("renew", "mft", "--now")
            second = fingerprint(site)
            assert first != second
            assert second == handshake(simulator.port)
            # The session that began before goes on as if nothing had been.
            assert exchange(old)
            run = simulator.finish()
        assert (0, [1, 2]) == (run.status, sorted(presented(run)))
        site.run("rollback", "mft")
        with host(service, tmp_path) as simulator:
            assert first == handshake(simulator.port)
            assert [1] == presented(simulator.finish())
        assert 2 == issued(ca)
        assert [] == service.failures()


def test_handshake_that_began_before_a_renewal_has_a_key_that_fits_its_chain(tmp_path):
    with enrolled_service(tmp_path) as (_, site, service, _), host(service, tmp_path) as simulator:
        with socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as plain:
            # StartHandshake is called when the connection comes; the certificate is asked for after ClientHello.
            site.run("renew", "mft", "--now")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) as tls:
                assert fingerprint(site) == served(tls)
                assert exchange(tls)
        assert 0 == simulator.finish().status


def test_outage_of_the_ca_is_told_and_handshakes_go_on(tmp_path):
    with enrolled_service(tmp_path) as (_, site, service, ca_running):
        first, ends = fingerprint(site), site.current().ends
        ca_running.close()
        assert "generation 1 stays in force" in site.run("renew", "mft", "--now", status=1)
        with host(service, tmp_path, sessions=2) as simulator:
            assert [first, first] == [handshake(simulator.port) for _ in range(2)]
            assert [1, 1] == presented(simulator.finish())

        def status():
            command = ["status", "--config", site.config, "--json"]
            done = forked.run(command, capture_output=True, timeout=WAIT_S, check=True)
            return json.loads(done.stdout)["certificates"].get("mft")

        until(lambda: (status() or {}).get("trouble"))
        told = status()
        assert ends.isoformat(timespec="seconds") == told["runway"]
        assert 0 < told["runway_s"] <= 12 * 3600
        assert "unreachable" in told["trouble"]


def test_two_processes_that_renew_now_issue_once(tmp_path):
    with enrolled_service(tmp_path) as (ca, site, _, _):
        before = issued(ca)
        lock = site.site.directory / "lock"
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            both = [site.begin("renew", "mft", "--now") for _ in range(2)]
            # Both have begun and wait for the one who works on it.
            until(lambda: all(has_open(process.pid, lock) for process in both))
        outputs = [process.communicate(timeout=WAIT_S)[0] for process in both]
        assert [0, 0] == [process.returncode for process in both], outputs
        assert 1 == issued(ca) - before, outputs
        assert 2 == site.current().number


def has_open(pid, path):
    """
    Whether a process has a file open.
    """
    with contextlib.suppress(OSError):
        return any(one.resolve() == path.resolve() for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_certificate_revoked_at_the_ca_is_replaced_with_a_new_key(tmp_path):
    # The list lives for a day and partners' checks use it for as long as they may; our own does not.
    with enrolled_service(tmp_path, limits='crl_refresh = "1h"', check_every="10s") as (_, site, service, _):
        old = site.current()
        until(site.status)
        assert not site.status()["revoked"]
        asyncio.run(revoke_elsewhere(site, old))
        revoked_at = time.monotonic()
        until(lambda: len(service.events("identity_activated")) == 2)
        # Two looks at the clock, ten seconds apart each, and an issuance.
        assert time.monotonic() - revoked_at < 30
        new = site.current()
        assert (2, True) == (new.number, new.leaf.spki != old.leaf.spki)
        assert 1 == len(service.events("own_certificate_revoked"))
        with host(service, tmp_path) as simulator:
            assert new.leaf.fingerprint == handshake(simulator.port)
            simulator.finish()


def test_operators_check_sees_a_revocation_at_once_and_the_service_renews(tmp_path):
    with enrolled_service(tmp_path, limits='crl_refresh = "1h"', check_every="1d") as (_, site, service, _):
        old = site.current()
        assert "not_revoked" == json.loads(site.run("check", "mft", "--json"))["status"]
        asyncio.run(revoke_elsewhere(site, old))
        told = json.loads(site.run("check", "mft", "--json", status=44))
        assert ("revoked", 1) == (told["status"], told["generation"])
        until(lambda: len(service.events("identity_activated")) == 2)
        assert site.current().leaf.spki != old.leaf.spki
        assert "not revoked" in site.run("check", "mft")
        assert [] == service.failures()


def test_operators_check_that_nobody_answers_is_no_opinion(tmp_path):
    with enrolled_service(tmp_path, limits='crl_refresh = "1h"', check_every="1d") as (
        _,
        site,
        _service,
        ca_running,
    ):
        site.run("check", "mft")
        ca_running.close()
        # The list that is kept still lets partners in, and is not what was asked for.
        assert "not established" in site.run("check", "mft", status=1)
        assert 1 == site.current().number


def test_what_operators_do_is_in_the_services_log_once_and_in_the_history(tmp_path):
    with enrolled_service(tmp_path) as (_, site, service, _):

        def told(count):
            # Whoever is killed between telling and remembering it tells it again.
            return len(service.events("operator_action")) == count and () == site.site.actions.untold()

        site.run("renew", "mft", "--now")
        until(lambda: told(2))
        service.kill()
        site.run("rollback", "mft")
        service.start()
        until(lambda: told(4))
        service.kill()
        service.start()
        site.run("revoke", "mft", "--generation", "2", "--reason", "superseded")
        until(lambda: told(6))
        actions = service.events("operator_action")
        commands = [(one["command"], one["step"], one["failed"]) for one in actions]
        assert [
            (c, s, False) for c in ("renew", "rollback", "revoke") for s in ("begun", "ended")
        ] == commands
        assert {os.getuid()} == {one["uid"] for one in actions}
        history = json.loads(site.run("history", "mft", "--json"))
        assert commands == [(one["command"], one["step"], one["failed"]) for one in history["actions"]]
        assert "superseded" in site.run("history", "mft")


async def revoke_elsewhere(site, generation):
    """
    As an administrator does it at the CA, without our journal.
    """
    settings, clock = load(site.config), SystemClock()
    one = settings.enrollers["corp"]
    elsewhere = site.folder / "elsewhere"
    elsewhere.mkdir()
    enroller = load_plugin(one.type).make(
        one.options, EnrollerContext(name="corp", state=elsewhere, clock=clock)
    )
    held = Held(chain=tuple(one.der for one in generation.chain), key=generation.key(None))
    assert None is await enroller.revoke(held, reason="keyCompromise", deadline=clock.monotonic() + 20)
    await enroller.aclose()


def test_proof_of_activation_reads_the_hosts_own_listener(tmp_path):
    with (
        enrolled_service(tmp_path) as (_, site, service, _),
        host(service, tmp_path, sessions=100) as simulator,
    ):
        good = {"observe": [f"127.0.0.1:{simulator.port}"]}
        config = site.write(tmp_path / "observing.toml", **good)
        site.run("renew", "mft", "--now", config=config)
        told = site.listed(config)
        assert ("observed", None, 2) == (told["stage"], told["trouble"], told["generation"]["number"])
        # A listener that is not there is told, and issues nothing.
        config = site.write(tmp_path / "nobody.toml", observe=[f"127.0.0.1:{free_port()}"])
        site.run("renew", "mft", "--now", config=config)
        told = site.listed(config)
        assert "activated" == told["stage"]
        assert "no handshake" in told["trouble"]
        assert 3 == site.current().number
        handshake(simulator.port)


def test_hook_that_hangs_or_fails_is_told_and_the_new_chain_is_in_force(tmp_path):
    with enrolled_service(tmp_path) as (ca, site, _, _):
        before = issued(ca)
        config = site.write(
            tmp_path / "hanging.toml",
            hooks=[[sys.executable, "-c", "import time; time.sleep(99)"]],
            hook_timeout="1s",
        )
        begun = time.monotonic()
        site.run("renew", "mft", "--now", config=config, status=1)
        assert time.monotonic() - begun < 30
        told = site.listed(config)
        assert ("activated", 2) == (told["stage"], told["generation"]["number"])
        assert "1" in told["trouble"]
        assert 1 == issued(ca) - before
