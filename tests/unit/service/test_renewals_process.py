"""
The process that keeps our own certificates: what it is told is what is configured, and one that hangs is replaced.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import time, timedelta
from ipaddress import ip_address
from time import monotonic
from types import MappingProxyType
from typing import Any

import pytest

from cftpki_connectors.file_enroller import FileOptions
from cftpki_ext.core.errors import ConfigError, StoreError
from cftpki_ext.core.identity_settings import (
    ChangeWindow,
    EnrollerSettings,
    HookRules,
    Identity,
    ManagedIdentity,
    RenewalRules,
)
from cftpki_ext.core.settings import ServiceSettings, Settings, TrustSet
from cftpki_ext.core.vocabulary import KeyKind, Usage
from cftpki_ext.identity.renewal.advice import Found
from cftpki_ext.identity.renewal.config_digest import stable_text
from cftpki_ext.processes.frames import Frame, FrameReader, Kind, Message, encode
from cftpki_ext.processes.spawning import Nursery
from cftpki_ext.service import renewals_process
from cftpki_ext.service.children import Children
from cftpki_ext.service.renewals import managed
from cftpki_ext.service.renewals_process import RenewalsProcess
from cftpki_ext.service.renewals_settings import enrollers_from, settings_from, settings_to
from tests.support import pki
from tests.support.logs import CapturedLog

WAIT_S = 60.0
# The manager looks ten times a second.
QUICK = """
import sys
from cftpki_ext.identity.renewal import manager
from cftpki_ext.processes.nursery import main
manager.TICK_S = 0.1
main(sys.argv[3:])
"""


def site(folder, **changes):
    """
    A configuration with an identity that an enroller keeps, one from files, and an enroller that nobody uses.
    """
    written = {"chain": folder / "chain.pem", "key": folder / "key.pem"}
    identity = ManagedIdentity(
        **{
            "name": "mft",
            "enrollers": ("drop",),
            "common_name": "mft",
            "dns": ("mft.example",),
            "addresses": (),
            "key": KeyKind.P256,
            **changes,
        }
    )
    return Settings(
        service=ServiceSettings(state=folder / "state"),
        trusts=MappingProxyType({"corp": TrustSet(name="corp", anchors=(pki.make_root("A").der,))}),
        identities=MappingProxyType(
            {
                "mft": identity,
                "files": Identity(name="files", chain_file=folder / "c", key_file=folder / "k"),
            }
        ),
        enrollers=MappingProxyType(
            {
                "drop": EnrollerSettings(
                    name="drop", type="file", options=FileOptions(**written), written=written
                ),
                "unused": EnrollerSettings(name="unused", type="nobody", options=None),
            }
        ),
    )


def through(message):
    """
    What the process makes of what the front sends.
    """
    reader = FrameReader()
    reader.feed(b"".join(encode(Frame(Kind.SETUP, 0, message))))
    return reader.next().message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "common_name": None,
            "addresses": (ip_address("192.0.2.1"), ip_address("2001:db8::1")),
            "key": KeyKind.RSA4096,
            "reuse_key": True,
            "usages": frozenset({Usage.CLIENT}),
            "lifetime": timedelta(days=30, microseconds=1),
            "lifetime_share": 0.1 + 0.2,
            "issuers": (pki.make_root("B").der, pki.make_root("C").der),
            "policies": frozenset({"1.2.3", "2.5.29.32.0"}),
            "trust": "corp",
            "keep": 3,
            "keep_root": True,
            "hand_over_key": True,
            "renewal": RenewalRules(
                renew_before=timedelta(days=9),
                windows=(ChangeWindow(days=frozenset({0, 6}), begin=time(22), end=time(4, 30)),),
                floor=0.07,
            ),
            "hooks": HookRules(commands=(("/bin/true", "a b", ""),), timeout=timedelta(seconds=3)),
            "observe": (("127.0.0.1", 1762), ("host", 1)),
            "check_every": timedelta(seconds=10),
        },
    ],
)
def test_process_is_told_what_is_configured(tmp_path, changes):
    settings = site(tmp_path, **changes, password_file=tmp_path / "secret")
    message = through(settings_to(settings))
    told = settings_from(message)
    assert managed(settings) == told.identities
    assert settings.service.state == told.service.state
    trust = changes.get("trust")
    assert ({} if trust is None else {"corp": settings.trusts["corp"].anchors}) == {
        name: one.anchors for name, one in told.trusts.items()
    }
    assert {"drop": settings.enrollers["drop"]} == enrollers_from(message)
    # What a command of the operator's would say of the same configuration: else each would forget what the other tried.
    assert stable_text(managed(settings)["mft"]) == stable_text(told.identities["mft"])
    assert stable_text(settings.enrollers["drop"]) == stable_text(enrollers_from(message)["drop"])


def test_options_that_a_plugin_does_not_take_any_more_are_a_fault_and_no_end(tmp_path):
    settings = site(tmp_path)
    odd = replace(settings.enrollers["drop"], written={"chain": "x"})
    told = settings_to(replace(settings, enrollers={"drop": odd}))
    assert managed(settings) == settings_from(through(told)).identities
    with pytest.raises(ConfigError, match="enroller 'drop'"):
        enrollers_from(through(told))


@asynccontextmanager
async def running(settings, *, own_status=None, key_fault=None):
    """
    The process with its front; events as they come.
    """
    events: list[tuple[str, dict[str, Any]]] = []
    nursery = Nursery(("cftpki_ext.bootstrap.renewing",), interpreter=(sys.executable, "-I", "-c", QUICK))
    children = Children(nursery, CapturedLog())

    async def no_fault(_):
        return None

    kept = RenewalsProcess(
        settings,
        children=children,
        own_status=lambda _: own_status,
        key_fault=key_fault or no_fault,
        event=lambda name, **fields: events.append((name, fields)),
        log=CapturedLog(),
    )
    task = asyncio.create_task(kept.run())
    try:
        async with asyncio.timeout(WAIT_S):
            yield kept, children, events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await children.aclose()


async def heard(events, name, **fields):
    """
    The first event of a name, and with these fields, that was told or will be.
    """

    def found():
        return [f for n, f in events if n == name and fields.items() <= f.items()]

    await until(found)
    return found()[0]


async def until(condition, look_s=0.01):
    begun = monotonic()
    while not condition():
        assert monotonic() - begun < WAIT_S
        await asyncio.sleep(look_s)


async def up(children, other_than=None):
    def pids():
        return [one["pid"] for one in children.status() if one["ready"] and one["pid"] != other_than]

    await until(pids)
    return pids()[0]


def drop(folder, root):
    leaf = pki.issue(root, "mft", san=["dns:mft.example"], eku=["serverAuth", "clientAuth"])
    (folder / "chain.pem").write_bytes(leaf.pem)
    (folder / "key.pem").write_bytes(leaf.key_pem)
    (folder / "key.pem").chmod(0o600)
    return leaf


async def test_front_is_asked_what_it_alone_can_know(tmp_path):
    root = pki.make_root("Asked")
    settings = site(tmp_path, trust="corp")
    settings = replace(settings, trusts={"corp": TrustSet(name="corp", anchors=(root.der,))})
    leaf = drop(tmp_path, root)
    asked, named = [], []

    async def own_status(identity, chain, max_age):
        asked.append((identity, chain, max_age))
        msg = "the cache is full"
        raise StoreError(msg)

    async def key_fault(name):
        named.append(name)
        return "its token is out"

    async with running(settings, own_status=own_status, key_fault=key_fault) as (kept, _, events):
        assert 1 == (await heard(events, "identity_activated"))["generation"]
        assert "the cache is full" == (await heard(events, "own_status_failed"))["error"]
        told = await heard(events, "identity_alarm", alarm="unusable", identity="mft")
        assert "its token is out" in told["trouble"]
        await until(lambda: "unusable" in kept.status()["mft"]["states"])
        assert {"mft"} == set(kept.status())
        assert kept.fault() is None
    assert {"mft"} == set(named)
    identity, chain, max_age = asked[0]
    assert (settings.identities["mft"], (leaf.der,)) == (identity, chain)
    assert timedelta(0) < max_age <= settings.identities["mft"].check_every


async def test_own_revocation_that_the_front_establishes_is_acted_on(tmp_path):
    root = pki.make_root("Revoked")
    settings = replace(
        site(tmp_path, trust="corp"), trusts={"corp": TrustSet(name="corp", anchors=(root.der,))}
    )
    drop(tmp_path, root)

    async def own_status(*_):
        return Found(revoked=True, detail="keyCompromise")

    async with running(settings, own_status=own_status) as (_, _, events):
        told = await heard(events, "own_certificate_revoked")
    assert ("mft", 1, "keyCompromise") == (told["identity"], told["generation"], told["detail"])


async def test_what_cannot_be_started_is_told_and_blocks(tmp_path):
    (tmp_path / "state").write_text("no folder")
    async with running(site(tmp_path)) as (kept, _, events):
        await heard(events, "identity_alarm", alarm="blocked", identity="mft")
    settings = site(tmp_path)
    odd = replace(settings.enrollers["drop"], written={"chain": "x"})
    async with running(replace(settings, enrollers={"drop": odd})) as (kept, _, events):
        await heard(events, "renewals_not_started")
        assert "enroller 'drop'" in kept.fault()
        assert ("blocked", kept.fault()) == (kept.status()["mft"]["alarm"], kept.status()["mft"]["trouble"])
        # The configuration heals it, without another process.
        kept.replace(settings)
        await until(lambda: kept.fault() is None)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_process_that_ends_or_hangs_is_begun_again_with_the_settings_in_force(
    tmp_path, monkeypatch, how
):
    monkeypatch.setattr(renewals_process, "LOOK_S", 0.1)
    settings = site(tmp_path)
    async with running(settings) as (kept, children, events):
        first = await up(children)
        await heard(events, "identity_attempt_failed")
        kept.replace(replace(settings, identities={"hub": replace(settings.identities["mft"], name="hub")}))
        await heard(events, "identity_alarm", identity="hub")
        events.clear()
        os.kill(first, how)
        await until(lambda: kept.fault() is not None, look_s=0)
        assert "blocked" == kept.status()["hub"]["alarm"]
        second = await up(children, other_than=first)
        await heard(events, "identity_alarm", identity="hub")
        assert first != second
        assert kept.fault() is None


async def test_process_is_there_as_long_as_an_enroller_keeps_something(tmp_path):
    settings = site(tmp_path)
    alone = replace(settings, identities={"files": settings.identities["files"]})
    async with running(alone) as (kept, children, _):
        await asyncio.sleep(0)
        assert ([], {}, None) == (children.status(), kept.status(), kept.fault())
        kept.replace(settings)
        await up(children)
        kept.replace(alone)
        await until(lambda: not children.status())
        assert ({}, None) == (kept.status(), kept.fault())


def test_message_without_its_octets_is_none():
    with pytest.raises(ValueError, match="unpack"):
        settings_from(Message({"octets": [], "state": "s", "identities": {}, "trusts": {}}))
