"""
One identity under a manager, with a scripted CA, a clock that is set, and the events that were told.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

from cftpki_ext.core.identity_settings import ManagedIdentity
from cftpki_ext.core.vocabulary import KeyKind
from cftpki_ext.identity.renewal.manager import Manager
from cftpki_ext.identity.store.layout import site_of
from tests.support import pki
from tests.support.scripted_ca import TestClock, make_ca

HOUR = timedelta(hours=1)


MINUTE = timedelta(minutes=1)


IDENTITY = ManagedIdentity(
    name="mft",
    enrollers=("corp",),
    common_name="mft.corp.example",
    dns=("mft.corp.example", "mft2.corp.example"),
    addresses=(),
    key=KeyKind.P256,
)


class World:
    def __init__(self, folder, identity=IDENTITY, **more):
        self.folder = folder
        self.clock = TestClock(pki.NOW)
        self.ca = make_ca(folder / "ca", self.clock)
        self.cas = {"corp": self.ca}
        self.events = []
        self.heard = {}
        self.more = more
        self.identity = identity
        self.start()

    def start(self, identity=None):
        self.identity = identity or self.identity
        self.site = site_of(self.folder, self.identity)
        self.manager = Manager(
            root=self.folder,
            identities={self.identity.name: self.identity},
            enrollers=self.cas,
            anchors=lambda name: {"corp": (self.ca.root.der,), "wrong": (self.ca.other.der,)}[name],
            clock=self.clock,
            event=self.note,
            host="host-1",
            draw=lambda: 0.5,
            **self.more,
        )

    def note(self, event, **fields):
        self.events.append((event, fields))
        if event in self.heard:
            self.heard[event].set()

    async def hear(self, event):
        self.heard[event] = asyncio.Event()
        async with asyncio.timeout(20):
            await self.heard[event].wait()

    def add_ca(self, name):
        self.cas[name] = make_ca(self.folder / name, self.clock, name=name)
        return self.cas[name]

    async def tick(self):
        return await self.manager.tick("mft")

    async def renew(self, *, force=True):
        return await self.manager.renew("mft", force=force, wait_s=0)

    def current(self):
        return self.site.generations.current()

    def number(self):
        current = self.current()
        return None if current is None else current.number

    async def live(self, span, *, step=10 * MINUTE):
        """
        Tick through a span of simulated time.
        """
        until = self.clock.now() + span
        while self.clock.now() < until:
            await self.tick()
            self.clock.advance(step)

    async def trouble(self):
        return (await self.manager.overview("mft")).trouble

    def told(self, event):
        return [fields for name, fields in self.events if name == event]


def world_with_backup(folder):
    """
    An identity with a second enroller for when the first one fails, at a CA with the same root; not started yet, and that CA.
    """
    world = World(folder, replace(IDENTITY, enrollers=("corp", "backup")))
    backup = world.add_ca("backup")
    backup.root, backup.issuing = world.ca.root, world.ca.issuing
    return world, backup
