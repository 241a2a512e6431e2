"""
The use of private keys in the audit trail and in STATUS: each operation, by whom, and how many in a minute.
"""

import json
from dataclasses import replace

import pytest

from cftpki_ext.protocol.codec import Message, Result, Tag
from cftpki_ext.service.key_use import RATE_WINDOW_S, KeyUse, KeyUses
from tests.support.daemon_world import result, running

DIGEST = bytes(32)


def used(world):
    return [call.kwargs for call in world.logs.calls if call.kwargs["event"] == "key_used"]


async def counted(client):
    return json.loads((await client.ask(Message.STATUS)).text(Tag.JSON))["key_uses"]


@pytest.mark.parametrize("handed_over", [False, True])
async def test_each_use_of_the_key_is_in_the_audit_trail_with_the_rate(settings, handed_over):
    identity = replace(settings.identities["mft"], hand_over_key=handed_over)
    use = "handed_over" if handed_over else "signed"
    async with running(replace(settings, identities={"mft": identity})) as world, world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        assert {} == await counted(client)
        for _ in range(3):
            answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0x0401, CRYPT_INPUT=DIGEST)
            assert Result.DONE is result(answer)
        lines = used(world)
        assert [(use, "mft", 1, "0x0401")] * 3 == [
            (line["use"], line["identity"], line["generation"], line["scheme"]) for line in lines
        ]
        assert [1, 2, 3] == [line["uses_last_minute"] for line in lines]
        assert all(line["session_ref"] for line in lines)
        others = {"signed": 0, "handed_over": 0}
        assert {"mft": {**others, use: 3, "last_minute": 3}} == await counted(client)


async def test_refused_operation_is_told_as_refused_and_counts_as_no_use(settings):
    async with running(settings) as world, world.client() as client:
        await client.start()
        await client.ask(Message.GET_CERTIFICATE)
        answer = await client.ask(Message.CRYPT_DATA, CRYPT_SCHEME=0, CRYPT_INPUT=b"\0\2" + bytes(254))
        assert Result.FAILED is result(answer)
        assert [] == used(world)
        assert "crypt_data_refused" in world.events()
        assert {} == await counted(client)


def test_rate_is_that_of_the_last_minute_and_totals_stay():
    uses = KeyUses()
    for at_s in (0.0, 0.9, 30.0, 59.9):
        uses.add(KeyUse.SIGNED, at_s=at_s)
    assert 4 == uses.last_minute(at_s=RATE_WINDOW_S - 0.1)
    # Those of second 0 are a minute old.
    assert 2 == uses.last_minute(at_s=RATE_WINDOW_S)
    assert {"signed": 4, "handed_over": 0, "last_minute": 0} == uses.counts(at_s=1000.0)


def test_counting_keeps_no_more_than_a_minute_of_seconds():
    uses = KeyUses()
    for second in range(10_000):
        uses.add(KeyUse.SIGNED, at_s=float(second))
    assert RATE_WINDOW_S == uses.last_minute(at_s=9_999.0)
    assert RATE_WINDOW_S == len(uses._recent)
