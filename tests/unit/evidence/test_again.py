"""
The short record of a verdict that was given again: it says all that its long one says, at its own time.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.evidence import Asked, Door, data_of, decide_again, decode, differences, encode, row_from
from cftpki_ext.evidence.again import again
from cftpki_ext.ports import Repeated
from tests.support import evidence_samples as samples

LATER = samples.NOW + timedelta(seconds=90)
ASKED = Asked(door=Door.SOCKET, profile="OTHER", remote="192.0.2.9", port=1762)
BASE = samples.record(*samples.GOOD)
STORED = encode(BASE)
NAME = digest_of(STORED.document)
BLOBS = {**STORED.blobs, NAME: STORED.document}
SHORT = again(Repeated(id=BASE.verdict.id, document=NAME), verdict_id="b" * 32, at=LATER, asked=ASKED)


def test_record_that_repeats_is_short_and_brings_no_octets():
    assert {} == SHORT.blobs
    assert Repeated(id="a" * 32, document=NAME) == SHORT.repeats
    assert len(SHORT.document) < 400
    assert {"again", "asked", "at", "format", "id"} == set(json.loads(SHORT.document))


def test_record_that_repeats_is_read_as_the_whole_record_at_its_own_time():
    read = decode(SHORT.document, BLOBS.get)
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
    plain = json.loads(SHORT.document)
    del plain[field]
    with pytest.raises(StoreError, match="not as it was written"):
        decode(json.dumps(plain).encode(), BLOBS.get)


@pytest.mark.parametrize(
    "whole", [SHORT.document, b"[]", b"1", b"{}", b'{"verdict":7}', b'{"verdict":{"evidence":[]}}']
)
def test_record_that_repeats_what_is_no_record_is_not_read(whole):
    plain = {**json.loads(SHORT.document), "again": digest_of(whole)}
    with pytest.raises(StoreError):
        decode(json.dumps(plain).encode(), {**BLOBS, digest_of(whole): whole}.get)


@pytest.mark.parametrize("name", [7, None, ["a"], "", "z" * 64])
def test_record_that_repeats_nothing_that_can_be_named_is_not_read(name):
    with pytest.raises(StoreError, match="missing or was changed"):
        decode(json.dumps({**json.loads(SHORT.document), "again": name}).encode(), BLOBS.get)


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
    again_of_it = json.dumps({**json.loads(SHORT.document), "again": digest}).encode()
    for one in (document, again_of_it):
        with pytest.raises(StoreError):
            decode(one, {**BLOBS, digest: document}.get)
