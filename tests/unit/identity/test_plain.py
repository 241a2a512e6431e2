"""
Identities that nobody renews, and renewals that cannot be started: each is told as any other.
"""

import asyncio
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.identity_settings import Identity
from cftpki_ext.core.settings import ServiceSettings, Settings
from cftpki_ext.identity.enroller_port import Fault
from cftpki_ext.identity.issuance.late import LateEnroller
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.renewal.plain import plain_overview
from cftpki_ext.identity.renewal.standing import Standing
from cftpki_ext.service import renewals as module
from cftpki_ext.service.renewals import Renewals
from tests.support import pki
from tests.support.managed_world import IDENTITY, MINUTE, World
from tests.support.scripted_ca import DAY, TestClock


@pytest.fixture
def files(tmp_path):
    root = pki.make_root("Plain Root")
    leaf = pki.issue(root, "plain", san=["dns:plain.corp.example"])
    (tmp_path / "chain.pem").write_bytes(leaf.pem)
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    (tmp_path / "key.pem").chmod(0o600)
    return Identity(name="plain", chain_file=tmp_path / "chain.pem", key_file=tmp_path / "key.pem"), leaf


def row_at(files, now, fault=None):
    return plain_overview(files[0], fault, now=now)


def test_identity_from_files_stands_by_its_time(files):
    first = row_at(files, pki.NOW)
    begins, ends = first.chain[0].not_before, first.runway
    life = ends - begins
    for share, words in (
        (0.5, (Standing.HEALTHY,)),
        (0.7, (Standing.DUE,)),
        (0.95, (Standing.OVERDUE, Standing.DUE)),
        (1.1, (Standing.EXPIRED, Standing.DUE)),
        (-0.1, (Standing.NOT_YET_VALID,)),
    ):
        row = row_at(files, begins + life * share)
        assert words == row.words, share
        assert (row.alarm is not None) == (share in {0.95, 1.1, -0.1})
    assert (Standing.LAST_DAY, Standing.DUE) == row_at(files, ends - DAY / 2).words


def test_identity_from_files_that_is_gone_or_broken_is_told(files):
    identity = files[0]
    assert (Standing.UNUSABLE,) == row_at(files, pki.NOW, "identity 'plain': its key is another one").words
    identity.chain_file.write_bytes(b"")
    row = row_at(files, pki.NOW)
    assert ((Standing.DAMAGED, Standing.MISSING), True) == (row.words, "0 certificates" in row.trouble)
    identity.chain_file.unlink()
    row = row_at(files, pki.NOW)
    assert ((Standing.MISSING,), True) == (row.words, "no such file" in row.trouble)
    assert row.data().keys() == row_at(files, pki.NOW).data().keys()


async def test_running_service_watches_identities_from_files(tmp_path, files):
    told, heard = [], asyncio.Event()

    def event(name, **fields):
        told.append((name, fields))
        heard.set()

    async def fault(_identity):
        return "its key is another one"

    manager = Manager(
        root=tmp_path,
        identities={},
        enrollers={},
        anchors=lambda _: (),
        clock=TestClock(pki.NOW),
        event=event,
        host="host",
        plain={"plain": files[0]},
        plain_fault=fault,
    )
    task = asyncio.create_task(manager.run())
    async with asyncio.timeout(20):
        await heard.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ((name, fields),) = told
    assert ("identity_alarm", "plain", "unusable") == (name, fields["identity"], fields["alarm"])
    assert ["unusable"] == manager.seen()["plain"].data()["states"]


async def test_renewals_that_cannot_be_started_are_tried_again_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_RESTART_S", 0.01)
    settings = Settings(
        service=ServiceSettings(state=tmp_path),
        identities=MappingProxyType({"mft": replace(IDENTITY)}),
    )
    events: list[str] = []
    tried: list[Any] = []
    started = asyncio.Event()

    class Started:
        async def run(self):
            started.set()
            await asyncio.Event().wait()

        async def aclose(self):
            pass

        def seen(self):
            return {}

    def make(_settings):
        tried.append(renewals.status())
        if len(tried) < 3:
            msg = "input/output error"
            raise StoreError(msg)
        return Started()

    renewals = Renewals(settings, make, event=lambda name, **_fields: events.append(name))
    task = asyncio.create_task(renewals.run())
    async with asyncio.timeout(20):
        await started.wait()
    assert ["renewals_not_started"] * 2 == events
    assert ({}, None) == (tried[0], renewals.fault())
    assert ("blocked", "blocked", "StoreError: input/output error") == tuple(
        tried[1]["mft"][key] for key in ("state", "alarm", "trouble")
    )
    assert {} == renewals.status()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_enroller_that_cannot_be_made_keeps_no_other_from_issuing(tmp_path):
    world = World(tmp_path, replace(IDENTITY, enrollers=("broken", "corp")))
    made = []

    def make():
        made.append(1)
        if len(made) < 3:
            raise OSError(5, "Input/output error", str(tmp_path))
        return world.ca

    cas: dict[str, Any] = world.cas
    cas["broken"] = LateEnroller("broken", "scripted", make)
    await world.tick()
    assert 1 == world.number()
    (failed,) = world.told("identity_attempt_failed")
    assert ("broken", Fault.UNREACHABLE.value) == (failed["enroller"], failed["fault"])
    assert "input/output error" in failed["detail"]


async def test_enroller_that_cannot_be_made_is_made_at_the_next_attempt(tmp_path):
    world = World(tmp_path)
    real, broken = world.ca, [True]

    def make():
        if broken[0]:
            msg = "state/enrollers/corp: no space left on device"
            raise StoreError(msg)
        return real

    cas: dict[str, Any] = world.cas
    cas["corp"] = LateEnroller("corp", "scripted", make)
    await world.tick()
    row = await world.manager.row("mft")
    assert (Standing.MISSING, Standing.FAILING) == row.words
    assert "no space left on device" in row.trouble
    broken[0] = False
    await world.live(10 * MINUTE, step=MINUTE)
    assert 1 == world.number()
