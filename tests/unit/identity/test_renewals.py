"""Managers from settings, our own check of our own certificates, and the change of configuration."""

import asyncio
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import pytest

from cftpki_ext.enrolment import EnrollerPlugin
from cftpki_ext.errors import ConfigError
from cftpki_ext.identity import plugins
from cftpki_ext.model import Direction, KeyKind, Usage
from cftpki_ext.renewals import Renewals, make_manager, managed, own_status
from cftpki_ext.settings import (
    EnrollerSettings,
    Identity,
    ManagedIdentity,
    ServiceSettings,
    Settings,
    TrustSet,
)
from cftpki_ext.verdict import Reason
from connectors.fileid import FileOptions
from tests import pki
from tests.scripted_ca import TestClock

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


def test_manager_has_the_enrollers_that_are_named_and_no_others(settings):
    manager = make_manager(settings, clock=TestClock(pki.NOW), event=lambda _event, **_fields: None)
    assert ("mft",) == manager.names()
    assert ["drop"] == list(manager._enrollers)
    assert 0o700 == (settings.service.state / "enrollers" / "drop").stat().st_mode & 0o777
    assert ["mft"] == list(managed(settings))


def test_manager_that_only_looks_writes_nothing(settings):
    make_manager(settings, clock=TestClock(pki.NOW), event=lambda _event, **_fields: None, look_only=True)
    assert not settings.service.state.exists()


@pytest.mark.parametrize(
    ("accepted", "reason", "expected"),
    [
        (True, None, (False, "said")),
        (False, Reason.REVOKED, (True, "said")),
        (False, Reason.STATUS_NOT_ESTABLISHED, None),
    ],
)
async def test_own_status_is_what_the_checker_says_and_nothing_where_it_cannot_say(
    settings, accepted, reason, expected
):
    asked = []

    async def check(question):
        asked.append(question)
        return SimpleNamespace(accepted=accepted, reason=reason, summary="said")

    ask = own_status(settings, SimpleNamespace(check=check), TestClock(pki.NOW))
    assert expected == await ask(IDENTITY, (b"chain",))
    assert expected == await ask(replace(IDENTITY, usages=frozenset({Usage.CLIENT})), (b"chain",))
    assert [Direction.CLIENT, Direction.SERVER] == [question.direction for question in asked]
    assert await ask(replace(IDENTITY, trust=None), (b"chain",)) is None


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
            "mft": {"stage": "observed", "runway": "t", "runway_s": 1, "alarm": None, "trouble": None}
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
