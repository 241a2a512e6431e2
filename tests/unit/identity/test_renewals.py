"""Managers from settings, our own check of our own certificates, and the change of configuration."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType, SimpleNamespace

import pytest

from cftpki_cache.memory import MemoryStore
from cftpki_cache.revocations import RevocationMemory
from cftpki_connectors.file_enroller import FileOptions
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import ConfigError
from cftpki_ext.core.identity_settings import EnrollerSettings, Identity, ManagedIdentity
from cftpki_ext.core.policy import PROFILES
from cftpki_ext.core.settings import ServiceSettings, Settings, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, KeyKind, Origin, SourceKind, Usage
from cftpki_ext.identity.enroller_port import EnrollerPlugin
from cftpki_ext.identity.issuance import plugins
from cftpki_ext.service.renewals import Renewals, make_manager, managed, own_status
from tests.support import pki
from tests.support.scripted_ca import TestClock

MINUTE = timedelta(minutes=1)
IDENTITY = ManagedIdentity(
    name="mft",
    enrollers=("drop",),
    common_name="mft",
    dns=("mft.example",),
    addresses=(),
    key=KeyKind.P256,
    trust="corp",
)


@pytest.fixture
def settings(tmp_path):
    root = pki.make_root("Renewals Root")
    files = Identity(name="files", chain_file=tmp_path / "c", key_file=tmp_path / "k")
    return Settings(
        service=ServiceSettings(state=tmp_path / "state"),
        trusts=MappingProxyType({"corp": TrustSet(name="corp", anchors=(root.der,))}),
        identities=MappingProxyType({"mft": IDENTITY, "files": files}),
        enrollers=MappingProxyType(
            {
                "drop": EnrollerSettings(
                    name="drop", type="file", options=FileOptions(chain=tmp_path / "c", key=tmp_path / "k")
                ),
                "unused": EnrollerSettings(name="unused", type="nobody", options=None),
            }
        ),
    )


async def test_manager_has_the_enrollers_that_are_named_and_no_others(settings):
    manager = make_manager(settings, clock=TestClock(pki.NOW), event=lambda _event, **_fields: None)
    assert ("mft",) == manager.names()
    assert ["drop"] == list(manager._enrollers)
    assert () == await manager._enrollers["drop"].trust_anchors(deadline=0)
    assert 0o700 == (settings.service.state / "enrollers" / "drop").stat().st_mode & 0o777
    assert ["mft"] == list(managed(settings))


def test_manager_that_only_looks_writes_nothing(settings):
    make_manager(settings, clock=TestClock(pki.NOW), event=lambda _event, **_fields: None, look_only=True)
    assert not settings.service.state.exists()


class Crls:
    """
    Answers with a list, or with silence, and counts.
    """

    def __init__(self, clock, crl):
        self.clock, self.crl, self.asked = clock, crl, 0

    async def ask(self, question):
        self.asked += 1
        heard = {"raw": self.crl} if self.crl else {"failure": Cause.UNREACHABLE, "detail": "refused"}
        lookup = question.lookup
        return Statement(
            kind=lookup.kind,
            origin=Origin.NETWORK,
            received_at=self.clock.now(),
            depth=lookup.depth,
            url=lookup.url,
            **heard,
        )

    async def aclose(self):
        pass


class Own:
    """
    Our own check of a certificate, with a source that is under control.
    """

    def __init__(self, settings, *, policy=PROFILES["strict"], proofs=None):
        self.root = pki.make_root("Own Root")
        self.leaf = pki.issue(
            self.root, "mft", eku=["serverAuth", "clientAuth"], crl_urls=["http://127.0.0.1/crl"]
        )
        trust = TrustSet(name="corp", anchors=(self.root.der,), sources=(SourceKind.CRL,), policy=policy)
        self.clock = TestClock(pki.NOW)
        self.source = Crls(self.clock, pki.make_crl(self.root))
        self.checker = Checker(
            sources={SourceKind.CRL: self.source}, store=MemoryStore(), clock=self.clock, proofs=proofs
        )
        self.settings = replace(settings, trusts=MappingProxyType({"corp": trust}))
        self._ask = own_status(self.settings, self.checker, self.clock)

    async def ask(self, max_age=2 * MINUTE, identity=IDENTITY):
        return await self._ask(identity, (self.leaf.der,), max_age)

    def revoke(self):
        self.source.crl = pki.make_crl(self.root, [self.leaf.certificate.serial_number], number=2)


@pytest.mark.parametrize("policy", ["strict", "resilient", "audit"])
async def test_own_status_is_what_is_established_whatever_the_policy(settings, policy):
    own = Own(settings, policy=PROFILES[policy])
    assert not (await own.ask()).revoked
    own.revoke()
    assert (await own.ask(max_age=0 * MINUTE)).revoked
    own = Own(settings, policy=PROFILES[policy])
    own.source.crl = None
    assert await own.ask() is None
    assert await own.ask(identity=replace(IDENTITY, trust=None)) is None


async def test_own_status_leaves_no_trace_in_the_memory_that_is_held_against_the_evidence(settings, tmp_path):
    memory = RevocationMemory(tmp_path)
    own = Own(settings, proofs=memory)
    own.revoke()
    assert (await own.ask()).revoked
    assert memory.latest() is None
    await own.checker.aclose()


async def test_own_status_does_not_rest_on_what_was_heard_before_the_interval(settings):
    own = Own(settings)
    assert own.settings.limits.crl_refresh > 3 * MINUTE
    await own.ask()
    own.revoke()
    own.clock.advance(MINUTE)
    assert (False, 1) == ((await own.ask()).revoked, own.source.asked)
    own.clock.advance(2 * MINUTE)
    assert (True, 2) == ((await own.ask()).revoked, own.source.asked)


async def test_own_status_from_an_old_list_while_nobody_answers_is_no_opinion(settings):
    own = Own(settings)
    assert not (await own.ask()).revoked
    own.source.crl = None
    own.clock.advance(3 * MINUTE)
    assert await own.ask() is None
    # The same list still lets partners in.
    own.source.crl = pki.make_crl(own.root)
    assert not (await own.ask()).revoked


async def test_revoked_issuing_ca_is_no_reason_for_another_certificate_of_it(settings):
    own = Own(settings)
    issuing = pki.issue(own.root, "Own Issuing", ca=True, crl_urls=["http://127.0.0.1/root"])
    leaf = pki.issue(issuing, "mft", eku=["serverAuth"], crl_urls=["http://127.0.0.1/crl"])
    own.source.crl = pki.make_crl(own.root, [issuing.certificate.serial_number])
    found = await own._ask(IDENTITY, (leaf.der, issuing.der), 2 * MINUTE)
    assert (False, True) == (found.revoked, found.above)


async def test_own_status_looks_as_the_partner_does(settings):
    directions = []

    async def check_with_statements(question, *, remember):
        assert not remember
        directions.append(question.direction)
        return SimpleNamespace(evidence=SimpleNamespace(findings=())), ()

    ask = own_status(
        settings, SimpleNamespace(check_with_statements=check_with_statements), TestClock(pki.NOW)
    )
    await ask(IDENTITY, (b"chain",), MINUTE)
    await ask(replace(IDENTITY, usages=frozenset({Usage.CLIENT})), (b"chain",), MINUTE)
    assert [Direction.CLIENT, Direction.SERVER] == directions


class FakeManager:
    def __init__(self, settings):
        self.settings = settings
        self.started = asyncio.Event()
        self.closed = asyncio.Event()

    async def run(self):
        self.started.set()
        await asyncio.Event().wait()

    async def aclose(self):
        self.closed.set()

    def seen(self):
        data = {
            "stage": "observed",
            "runway": "t",
            "runway_s": 1,
            "alarm": None,
            "trouble": None,
            "name": "mft",
            "kind": "enrollers",
            "state": "healthy",
            "states": ["healthy"],
        }
        return {"mft": SimpleNamespace(data=lambda: data)}


async def test_new_configuration_ends_the_old_manager_and_starts_another(settings):
    made = []
    arrived = asyncio.Event()

    def make(current):
        made.append(FakeManager(current))
        arrived.set()
        return made[-1]

    renewals = Renewals(settings, make, event=lambda _event, **_fields: None)
    task = asyncio.create_task(renewals.run())
    async with asyncio.timeout(5):
        await arrived.wait()
        await made[0].started.wait()
        assert {
            "mft": {
                "kind": "enrollers",
                "state": "healthy",
                "states": ["healthy"],
                "stage": "observed",
                "runway": "t",
                "runway_s": 1,
                "alarm": None,
                "trouble": None,
            }
        } == renewals.status()
        arrived.clear()
        fresh = replace(settings, rules=())
        renewals.replace(fresh)
        await arrived.wait()
        await made[0].closed.wait()
        await made[1].started.wait()
    assert fresh is made[1].settings
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert made[1].closed.is_set()
    assert {} == renewals.status()


async def test_enroller_that_cannot_be_made_is_told_and_the_service_goes_on(settings):
    told = asyncio.Event()

    def make(_settings):
        msg = "no such plugin"
        raise ConfigError((msg,))

    renewals = Renewals(settings, make, event=lambda _event, **_fields: told.set())
    task = asyncio.create_task(renewals.run())
    async with asyncio.timeout(5):
        await told.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Point:
    value = "somewhere:PLUGIN"

    def __init__(self, name, found):
        self.name = name
        self.found = found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


PLUGIN = EnrollerPlugin(protocol="x", options=FileOptions, make=lambda _options, _context: None)


def test_plugin_is_loaded_by_its_one_name():
    points = [Point("x", PLUGIN), Point("y", PLUGIN)]
    assert PLUGIN is plugins.load_plugin("x", found=points)
    assert ("x", "y") == plugins.known_types(points)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([], "offered by nobody"),
        ([Point("x", PLUGIN), Point("x", PLUGIN)], "offered by somewhere:PLUGIN, somewhere:PLUGIN"),
        ([Point("x", ImportError("gone"))], "cannot be loaded"),
        ([Point("x", object())], "is no enroller plugin"),
    ],
)
def test_plugin_that_nobody_or_more_than_one_offers_is_a_fault(points, said):
    with pytest.raises(ConfigError, match=said):
        plugins.load_plugin("x", found=points)
