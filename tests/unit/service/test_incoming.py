"""
Requests of one connection, however the peer cuts them into pieces.
"""

import asyncio

import pytest

from cftpki_ext.bootstrap.service import _load_late, _refresh
from cftpki_ext.core.errors import ConfigError, WireError
from cftpki_ext.protocol.codec import HEADER, Frame, Message, encode
from cftpki_ext.service.deadline import Deadline
from cftpki_ext.service.incoming import Incoming
from tests.support.logs import CapturedLog


def status(sequence):
    return Frame(message=Message.STATUS, response=False, sequence=sequence, fields={})


def incoming(*pieces, ended=False, idle_s=30.0, frame_s=30.0):
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    if ended:
        reader.feed_eof()
    return reader, Incoming(reader, Deadline(), idle_s=idle_s, frame_s=frame_s)


async def test_requests_that_come_in_one_piece_are_read_one_after_the_other():
    _, found = incoming(encode(status(1)) + encode(status(2)) + encode(status(3))[:5], ended=True)

    assert [status(1), status(2)] == [await found.next(), await found.next()]
    with pytest.raises(asyncio.IncompleteReadError):
        await found.next()


async def test_request_may_come_octet_by_octet():
    reader, found = incoming()
    reading = asyncio.create_task(found.next())
    for octet in encode(status(7)):
        await asyncio.sleep(0)
        reader.feed_data(bytes([octet]))

    assert (status(7), 7) == (await reading, found.sequence)


async def test_peer_that_is_silent_and_one_that_stops_in_the_middle_are_told_apart():
    _, silent = incoming(idle_s=0.01)
    with pytest.raises(TimeoutError):
        await silent.next()
    _, stuck = incoming(encode(status(1))[:-1] or b"", frame_s=0.01)
    with pytest.raises(TimeoutError):
        await stuck.next()


async def test_peer_that_goes_is_gone():
    _, found = incoming(ended=True)
    with pytest.raises(asyncio.IncompleteReadError):
        await found.next()


async def test_header_is_refused_before_its_payload_comes_and_its_sequence_is_known():
    answer = bytearray(encode(status(9)))
    answer[3] |= 0x80
    whole = HEADER.unpack(bytes(answer[: HEADER.size]))
    cut = HEADER.pack(*whole[:-1], 500)
    _, found = incoming(cut)
    with pytest.raises(WireError, match="response where a request is expected"):
        await found.next()
    assert 9 == found.sequence


async def test_octets_that_are_no_frame_are_refused_without_a_sequence():
    _, found = incoming(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(WireError):
        await found.next()
    assert 0 == found.sequence


async def test_partners_are_read_once_the_service_is_ready_and_not_before(monkeypatch):
    done = []

    class Refresher:
        async def run(self):
            done.append("read")

    class Ready:
        ready = asyncio.Event()

    monkeypatch.setattr("cftpki_ext.bootstrap.service._SETTLE_S", 0)
    reading = asyncio.create_task(_refresh(Ready, Refresher()))
    await asyncio.sleep(0)
    assert [] == done
    Ready.ready.set()
    await reading
    assert ["read"] == done


async def test_source_that_cannot_be_loaded_is_told_in_the_log(monkeypatch):
    async def broken(_sources):
        raise ConfigError(("status source 'ocsp' cannot be loaded",))

    class Ready:
        ready = asyncio.Event()

    monkeypatch.setattr("cftpki_ext.bootstrap.service.load_sources", broken)
    monkeypatch.setattr("cftpki_ext.bootstrap.service._SETTLE_S", 0)
    log = CapturedLog()
    loading = asyncio.create_task(_load_late(Ready, {}, log))
    await asyncio.sleep(0)
    assert [] == log.calls
    Ready.ready.set()
    await loading
    assert [("error", "source_not_loaded")] == [(one.method_name, one.kwargs["event"]) for one in log.calls]
