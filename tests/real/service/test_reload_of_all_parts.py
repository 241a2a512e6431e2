"""
A reload that one part of the service cannot take over: none has it then.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cftpki_ext.protocol.codec import Result
from tests.support.daemon_world import result, running


@pytest.mark.parametrize("part", ["checker", "identities", "sources", "board", "follower"])
async def test_reload_that_a_part_of_the_service_cannot_take_over_leaves_all_of_the_old(
    settings, monkeypatch, part
):
    narrowed = replace(settings, rules=settings.rules[:1])
    faults = [True]
    followed = []

    def follow(given):
        followed.append(given)
        if part == "follower" and faults:
            faults.pop()
            raise ZeroDivisionError

    async with running(settings, reload=lambda: narrowed) as world:
        service = world.service
        service.followers = (followed.append, follow, followed.append)
        with monkeypatch.context() as patch:
            at, name = {
                "checker": (service.checker, "replace_settings"),
                "identities": (service.identities, "replace"),
                "sources": (service._sources, "replace_settings"),
                "board": (service, "board"),
                "follower": (service, "_nothing"),
            }[part]
            fails = SimpleNamespace(replace_settings=lambda _: 1 / 0) if part == "board" else lambda _: 1 / 0
            patch.setattr(at, name, fails, raising=False)
            await world.daemon.reload()
        assert "reload_failed" in world.events()
        assert service.settings is settings
        # Whoever goes by the configuration is not told, or told again what is in force.
        assert ([narrowed, narrowed, settings, settings] if part == "follower" else []) == followed
        async with world.client() as client:
            assert Result.DONE is result(await client.start(MODE=2))
        await world.daemon.reload()
        assert [narrowed] * 3 == followed[-3:]
        async with world.client() as client:
            assert Result.REFUSED is result(await client.start(MODE=2))
