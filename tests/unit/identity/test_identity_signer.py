"""
The front's side of a signer, before a process that is busy.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cftpki_ext.core.identity_settings import Identity
from cftpki_ext.identity.serving.identity_signer import IdentitySigner, Pins
from cftpki_ext.identity.serving.signer import QUEUE
from cftpki_ext.processes.frames import Message

IDENTITY = Identity(name="mft", chain_file=Path("/chain"), key_file=Path("/key"))


class Doors:
    def __init__(self):
        self.users = [1, 2]

    def call(self):
        return Message({"do": "doors", "users": list(self.users)})

    def drop_superseded(self):
        return False


class Process:
    """
    A signer that notes what it is told.
    """

    is_ready = True

    def __init__(self):
        self.told = []

    async def wait_ready(self, within_s):
        assert within_s > 0

    async def call(self, message, *, within_s):
        assert within_s > 0
        self.told.append(message.value)
        return Message({})


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_signer_that_was_too_busy_to_hear_who_may_no_more_is_told_when_it_is_not():
    doors, process = Doors(), Process()
    signer: Any = IdentitySigner(IDENTITY, Pins(), doors)
    signer.worker, signer._loads = process, 1
    signer._waiting = QUEUE
    doors.users = [1]
    signer.show_doors()
    await settle()
    signer.look()
    await settle()
    assert [] == process.told
    signer._waiting = 0
    signer.look()
    await settle()
    signer.look()
    await settle()
    assert [{"do": "doors", "users": [1]}] == [one for one in process.told if one["do"] == "doors"]


async def test_signer_that_was_told_later_needs_not_be_told_again():
    doors, process = Doors(), Process()
    signer: Any = IdentitySigner(IDENTITY, Pins(), doors)
    signer.worker, signer._loads = process, 1
    for _ in range(3):
        signer.show_doors()
    await settle()
    signer.look()
    await settle()
    assert 3 == len([one for one in process.told if one["do"] == "doors"])
