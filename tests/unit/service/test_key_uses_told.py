"""
What a signer tells of its key's uses costs the front the same, however much it claims.
"""

from __future__ import annotations

from types import SimpleNamespace

from cftpki_ext.identity.serving.doors import DoorsHeard
from cftpki_ext.processes.frames import Frame, Kind, Message
from cftpki_ext.processes.worker import Worker
from cftpki_ext.service.trail import Trail
from tests.support.logs import CapturedLog


class Audit:
    def __init__(self):
        self.told = []

    def event(self, name, session, **fields):
        self.told.append((name, session, fields))


def test_signer_that_claims_every_use_there_can_be_is_counted_at_once():
    audit = Audit()
    trail = Trail(audit, SimpleNamespace(monotonic=lambda: 5.0))
    most = (1 << 64) - 1
    trail.at_signer(DoorsHeard(identity="mft", untold=most))
    assert [("key_uses_not_told", None, {"identity": "mft", "uses": most})] == audit.told
    assert {"signed": most, "handed_over": 0, "last_minute": most} == trail.key_uses()["mft"]


async def test_note_that_nobody_could_take_holds_up_no_answer():
    def noted(_):
        msg = "a fault of ours"
        raise ValueError(msg)

    log = CapturedLog()
    worker = Worker(SimpleNamespace(name="signer"), None, setup=None, log=log, ready=None, noted=noted)
    worker._heard(Frame(Kind.NOTE, 0, Message({})))
    assert [("error", "process_note_not_taken", "signer")] == [
        (call.method_name, call.kwargs["event"], call.kwargs["role"]) for call in log.calls
    ]
