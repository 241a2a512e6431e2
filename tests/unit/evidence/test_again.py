"""
The short record of a verdict that was given again: it says all that its long one says, at its own time.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.evidence import Asked, Door, data_of, decide_again, decode, differences, encode, row_from
from cftpki_ext.evidence.again import again, plain_of, readable
from cftpki_ext.evidence.record import asked_text
from cftpki_ext.ports.evidence import Repeated
from tests.support import evidence_samples as samples

LATER = samples.NOW + timedelta(seconds=90)
ASKED = Asked(door=Door.SOCKET, profile="OTHER", remote="192.0.2.9", port=1762)
BASE = samples.record(*samples.GOOD)
STORED = encode(BASE)
NAME = digest_of(STORED.document)
BLOBS = {**STORED.blobs, NAME: STORED.document}
SHORT = again(Repeated(id=BASE.verdict.id, document=NAME), verdict_id="b" * 32, at=LATER, asked=ASKED)
PLAIN = plain_of(SHORT.document)
# As 0.2.0 and earlier wrote them.
OLD = json.dumps(PLAIN).encode()


def test_record_that_repeats_is_short_and_brings_no_octets():
    assert {} == SHORT.blobs
    assert Repeated(id="a" * 32, document=NAME) == SHORT.repeats
    assert SHORT.document.startswith(b"\x02" + bytes.fromhex("b" * 32 + NAME))
    assert len(SHORT.document) == 49 + 23
    assert {"again", "asked", "at", "format", "id"} == set(PLAIN)


@pytest.mark.parametrize("document", [SHORT.document, OLD], ids=["octets", "json"])
def test_record_that_repeats_is_read_as_the_whole_record_at_its_own_time(document):
    read = decode(document, BLOBS.get)
    evidence = BASE.verdict.evidence
    findings = tuple(
        replace(finding, sources=tuple(replace(one, age_s=(one.age_s or 0) + 90) for one in finding.sources))
        for finding in evidence.findings
    )
    expected = replace(
        BASE.verdict, id="b" * 32, evidence=replace(evidence, decided_at=LATER, findings=findings)
    )
    assert expected == read.verdict
    assert replace(BASE.question, at=LATER) == read.question
    assert BASE.statements == read.statements
    assert ASKED == read.asked
    assert () == differences(read.verdict, decide_again(read))


def test_record_that_repeats_has_a_row_like_any_other():
    row = row_from(SHORT.document, BLOBS.get)
    long = row_from(STORED.document, BLOBS.get)
    expected = replace(long, id="b" * 32, at="2026-06-01T12:01:30.000Z", door="socket", remote="192.0.2.9")
    assert expected == row


@pytest.mark.parametrize("read", [decode, data_of, row_from])
@pytest.mark.parametrize(
    ("blobs", "said"),
    [
        ({}, "missing or was changed"),
        ({**BLOBS, NAME: STORED.document + b" "}, "missing or was changed"),
    ],
)
def test_record_whose_long_one_is_gone_or_changed_is_not_read(read, blobs, said):
    with pytest.raises(StoreError, match=said):
        read(SHORT.document, blobs.get)


@pytest.mark.parametrize("field", ["asked", "at", "id"])
def test_record_that_repeats_and_lacks_a_field_is_not_read(field):
    plain = dict(PLAIN)
    del plain[field]
    with pytest.raises(StoreError, match="not as it was written"):
        decode(json.dumps(plain).encode(), BLOBS.get)


@pytest.mark.parametrize(
    "whole",
    [SHORT.document, OLD, b"[]", b"1", b"{}", b'{"verdict":7}', b'{"verdict":{"evidence":[]}}'],
    # Octets with something random in them would be another test for each worker.
    ids=["short", "old", "list", "number", "empty", "no verdict", "no evidence"],
)
def test_record_that_repeats_what_is_no_record_is_not_read(whole):
    plain = {**PLAIN, "again": digest_of(whole)}
    with pytest.raises(StoreError):
        decode(json.dumps(plain).encode(), {**BLOBS, digest_of(whole): whole}.get)


@pytest.mark.parametrize("name", [7, None, ["a"], "", "z" * 64])
def test_record_that_repeats_nothing_that_can_be_named_is_not_read(name):
    with pytest.raises(StoreError, match="missing or was changed"):
        decode(json.dumps({**PLAIN, "again": name}).encode(), BLOBS.get)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("question", "trust"), {}),
        (("question", "trust", "policy"), None),
        (("question", "chain", 0, "$sha256"), []),
        (("question", "trust", "anchors", 0, "$sha256"), {}),
        (("statements", 0, "raw", "$sha256"), ["a"]),
        (("statements", 0, "nonce"), {"$hex": 7}),
    ],
)
def test_record_of_which_a_field_is_of_another_kind_is_not_read(place, value):
    whole = json.loads(STORED.document)
    *outer, last = place
    inner = whole
    for name in outer:
        inner = inner[name]
    inner[last] = value
    if value is None:
        del inner[last]
    document = json.dumps(whole).encode()
    digest = digest_of(document)
    again_of_it = json.dumps({**PLAIN, "again": digest}).encode()
    for one in (document, again_of_it):
        with pytest.raises(StoreError):
            decode(one, {**BLOBS, digest: document}.get)


# -- its octets ------------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["192.0.2.9", "2001:db8::1", "fe80::1%eth0", "010.0.0.1", "::ffff:1.2.3.4"]
)
NUMBERS = st.integers(0, 2**64 - 1)
ASKERS = st.builds(
    Asked,
    door=st.sampled_from(Door),
    profile=st.none() | TEXTS,
    remote=TEXTS,
    remote_port=st.integers(0, 65535),
    port=st.integers(0, 65535),
    host_task=st.none() | NUMBERS,
    host_session=st.none() | NUMBERS,
    session=st.none() | TEXTS | st.binary(max_size=6).map(bytes.hex),
)
TIMES = st.datetimes(timezones=st.just(UTC))


@given(asked=ASKERS, at=TIMES, verdict_id=st.binary(min_size=16, max_size=16).map(bytes.hex))
def test_short_record_of_anybody_at_any_time_says_what_its_json_said(asked, at, verdict_id):
    made = again(Repeated(id="a" * 32, document=NAME), verdict_id=verdict_id, at=at, asked=asked)
    at_text = at.isoformat().replace("+00:00", "Z")
    expected = {
        "again": NAME,
        "asked": json.loads(asked_text(asked)),
        "at": at_text,
        "format": 1,
        "id": verdict_id,
    }
    assert expected == plain_of(made.document) == json.loads(readable(made.document))


def test_short_record_of_a_session_takes_few_octets():
    asked = Asked(
        door=Door.EXIT,
        profile="PARTNERS",
        remote="192.0.2.17",
        remote_port=49152,
        port=1762,
        host_task=4711,
        host_session=123456,
        session="0123456789ab",
    )
    verdict_id = f"{int(LATER.timestamp() * 1000):012x}" + "c" * 20
    made = again(Repeated(id="a" * 32, document=NAME), verdict_id=verdict_id, at=LATER, asked=asked)
    assert len(made.document) == 49 + 33


@pytest.mark.parametrize("change", [{"host_task": 1 << 64}, {"port": -1}])
def test_short_record_with_a_number_of_no_host_is_json(change):
    made = again(
        Repeated(id="a" * 32, document=NAME), verdict_id="b" * 32, at=LATER, asked=replace(ASKED, **change)
    )
    assert change.items() <= json.loads(made.document)["asked"].items()


@pytest.mark.parametrize("verdict_id", ["b" * 31, "B" * 32, "", "b" * 32 + "\n"])
def test_short_record_whose_id_has_another_form_is_json(verdict_id):
    made = again(Repeated(id="a" * 32, document=NAME), verdict_id=verdict_id, at=LATER, asked=ASKED)
    assert verdict_id == json.loads(made.document)["id"]


@given(st.binary(max_size=80))
def test_short_record_of_any_octets_is_data_or_an_error(rest):
    for document in (b"\x02" + rest, SHORT.document[:49] + rest):
        with contextlib.suppress(StoreError):
            decode(document, BLOBS.get)


@pytest.mark.parametrize("count", range(len(SHORT.document)))
def test_short_record_that_was_cut_off_is_not_read(count):
    with pytest.raises(StoreError):
        decode(SHORT.document[:count], BLOBS.get)


def test_short_record_that_goes_on_is_not_read():
    with pytest.raises(StoreError):
        decode(SHORT.document + b"\0", BLOBS.get)
