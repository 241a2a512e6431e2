"""
A pool with one judge in this process, as `service.judging.remote` speaks with judges: what is said can be counted and changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cftpki_ext.processes.frames import Message
from cftpki_ext.service.judging import exchange
from cftpki_ext.service.judging.judge import Judge


def _same(message: Message) -> Message:
    return message


class JudgePool:
    """
    One judge, whose answers `change` may change; `said` is how often it was asked.
    """

    def __init__(self, settings: Any, change: Callable[[Message], Message] = _same) -> None:
        self.settings_blobs: dict[str, bytes] = {}
        plain = exchange.settings_to(settings, self.settings_blobs)
        setup = Message(
            {"op": "settings", "settings": plain, "blobs": list(self.settings_blobs)},
            tuple(self.settings_blobs.values()),
        )
        self.settings = settings
        self.judge = Judge(setup)
        self.change = change
        self.said = 0
        self.distrusted: list[str] = []
        self.seat: Any = SimpleNamespace(bodies=set(), cases=OrderedDict())

    async def call(self, job: Any, build: Callable[[Any], Message], *, within_s: float) -> Message:
        del within_s
        self.said += 1
        answer = self.judge.handle(build(self.seat))
        self.seat.cases[job.case] = None
        return self.change(answer)

    def distrust(self, seat: Any, why: str) -> None:
        del seat
        self.distrusted.append(why)

    def replace_settings(self, settings: Any) -> None:
        self.settings = settings

    def status(self) -> dict[str, Any]:
        return {}
