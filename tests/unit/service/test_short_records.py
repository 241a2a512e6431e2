"""
Short records reach the ledger's process as they are, in fewer octets than others, and come back in their order.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cftpki_ext.evidence import Asked, Door
from cftpki_ext.evidence.again import again
from cftpki_ext.ports.evidence import BlobsMissingError, EvidenceEntry, Repeated
from cftpki_ext.processes.frames import Frame, FrameReader, Kind, Message, encode
from cftpki_ext.service.evidence_child import serve_evidence
from cftpki_ext.service.short_records import SHORT, short_call, short_entries
from tests.support.evidence_store import MemoryEvidence

NOW = datetime(2027, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
BASES = tuple(Repeated(id=digit * 32, document=digit * 64) for digit in "ab")


def short(number: int) -> EvidenceEntry:
    repeated = BASES[number % 2]
    verdict_id = f"{number:032x}"
    at = NOW + timedelta(milliseconds=number)
    stored = again(repeated, verdict_id=verdict_id, at=at, asked=Asked(door=Door.EXIT, remote="192.0.2.9"))
    return EvidenceEntry(id=verdict_id, kept_at=at, document=stored.document, blobs={}, repeats=repeated)


SHORTS = tuple(short(number) for number in range(300))


def carried(message: Message) -> Message:
    """
    A message as it comes out at the other end.
    """
    reader = FrameReader()
    reader.feed(b"".join(encode(Frame(Kind.CALL, 1, message))))
    frame = reader.next()
    assert frame is not None
    return frame.message


def test_short_records_come_out_as_they_went_in():
    call = short_call(SHORTS)
    assert call is not None
    assert list(SHORTS) == short_entries(carried(call))
    assert len(b"".join(encode(Frame(Kind.CALL, 1, call)))) < 120 * len(SHORTS)


@pytest.mark.parametrize(
    "other",
    [
        replace(SHORTS[0], repeats=None),
        replace(SHORTS[0], id="c" * 32),
        replace(SHORTS[0], id="X" * 32),
        replace(SHORTS[0], blobs={"d" * 64: b"x"}),
        replace(SHORTS[0], present=("d" * 64,)),
        replace(SHORTS[0], document=b'{"again":"a"}'),
    ],
    ids=range(6),
)
def test_other_records_do_not_go_this_way(other):
    assert None is short_call([SHORTS[1], other])


def test_no_records_are_no_call():
    assert None is short_call([])


def test_process_keeps_short_records_and_answers_with_their_hashes():
    store = MemoryEvidence()
    call = short_call(SHORTS)
    assert call is not None
    assert SHORT == call.value["op"]
    answer = serve_evidence(lambda: store)(carried(call))
    assert isinstance(answer, Message)
    assert (list(SHORTS), 300) == (list(store.entries), len(answer.value["hashes"]))


def test_process_says_what_is_missing_of_short_records():
    class Forgetful(MemoryEvidence):
        def append(self, entries):
            raise BlobsMissingError([entries[0].repeats.document])

    call = short_call(SHORTS[:2])
    assert call is not None
    answer = serve_evidence(Forgetful)(carried(call))
    assert isinstance(answer, Message)
    assert {"missing": ["a" * 64]} == answer.value
