"""
What nodes keep at the server between them: read as it was written, and nothing else is read.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.blocks import Block
from cftpki_ext.core.cluster import (
    MAX_ANNOUNCED_OCTETS,
    MAX_VALUE_OCTETS,
    Announcement,
    NodeRow,
    Parts,
    RevokedNews,
    SharedAnswer,
    Told,
)
from cftpki_ext.core.cluster_octets import (
    read_announcement,
    read_answer,
    read_row,
    write_announcement,
    write_answer,
    write_parts,
    write_row,
)
from cftpki_ext.core.errors import InputError
from cftpki_ext.core.vocabulary import SourceKind

NOW = datetime(2026, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
SECRET, OTHER = b"s" * 32, b"o" * 32
TOKEN = bytes(8)


def kept(
    raw: bytes = b"answer", key: str = "k", received_at: datetime = NOW, secret: bytes | None = SECRET
) -> bytes:
    return TOKEN + write_answer(key, raw, received_at=received_at, secret=secret)


def test_answer_comes_back_with_the_time_that_is_vouched_for():
    assert SharedAnswer(raw=b"answer", received_at=NOW) == read_answer("k", kept(), now=NOW, secret=SECRET)


@pytest.mark.parametrize(
    ("octets", "key", "secret"),
    [
        (kept(secret=None), "k", SECRET),
        (kept(secret=OTHER), "k", SECRET),
        (kept(), "another", SECRET),
        (kept(), "k", None),
        (kept()[:-1] + b"!", "k", SECRET),
    ],
    ids=["without a secret", "another secret", "another name", "we have none", "another answer"],
)
def test_time_that_nobody_vouches_for_is_none(octets, key, secret):
    found = read_answer(key, octets, now=NOW, secret=secret)
    assert found is not None
    assert found.received_at is None


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (timedelta(seconds=59), NOW),
        (timedelta(seconds=61), None),
        (timedelta(days=-30), NOW - timedelta(days=30)),
    ],
)
def test_time_of_a_clock_that_is_ahead_is_now_and_of_one_far_ahead_none(ahead, expected):
    found = read_answer("k", kept(received_at=NOW + ahead), now=NOW, secret=SECRET)
    assert SharedAnswer(raw=b"answer", received_at=expected) == found


@pytest.mark.parametrize(
    "octets",
    [
        None,
        7,
        [],
        "text",
        b"",
        kept()[:40],
        kept(raw=b""),
        TOKEN + b"CFTB" + kept()[12:],
        kept()[:12] + b"\2" + kept()[13:],
        kept(raw=b"x" * (MAX_VALUE_OCTETS + 1)),
    ],
    ids=["nothing", "number", "list", "text", "empty", "cut", "no answer", "magic", "next form", "too long"],
)
def test_what_is_no_answer_is_none(octets):
    assert read_answer("k", octets, now=NOW, secret=SECRET) is None


def test_large_list_is_named_by_where_its_parts_are():
    parts = Parts(digest="ab" * 32, size=57_000_000)
    found = read_answer("k", kept(raw=write_parts(parts)), now=NOW, secret=SECRET)
    assert SharedAnswer(raw=parts, received_at=NOW) == found


BLOCK = Block(what="sha256:00", reason="stolen", by="operator", at=NOW)
NEWS = RevokedNews(chain=(b"leaf", b"ca"), kind=SourceKind.OCSP, url="http://ca/", raw=b"proof")
ANNOUNCED = [
    Announcement(told=Told.REVOKED, node="a", number=1, at=NOW, revoked=NEWS),
    Announcement(told=Told.BLOCKED, node="a", number=2, at=NOW, block=BLOCK),
    Announcement(told=Told.UNBLOCKED, node="a", number=3, at=NOW, block=BLOCK),
    Announcement(told=Told.FLUSHED, node="a", number=4, at=NOW),
]


@pytest.mark.parametrize("one", ANNOUNCED, ids=lambda one: one.told.value)
@pytest.mark.parametrize(("secret", "vouched"), [(SECRET, True), (None, False), (OTHER, False)])
def test_announcement_comes_back_and_says_whether_it_is_vouched_for(one, secret, vouched):
    heard = read_announcement("1-1", write_announcement(one, secret=secret), secret=SECRET)
    assert ("1-1", one, vouched) == (heard.position, heard.announcement, heard.vouched)


@pytest.mark.parametrize("one", ANNOUNCED, ids=lambda one: one.told.value)
def test_announcement_of_which_anything_was_changed_is_not_vouched_for(one):
    octets = write_announcement(one, secret=SECRET)
    for place in range(len(octets)):
        changed = octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]
        assert not read_announcement("1-1", changed, secret=SECRET).vouched


def test_announcement_that_is_too_long_is_refused_where_it_is_made_and_none_where_it_is_heard():
    news = RevokedNews(chain=(b"leaf",), kind=SourceKind.CRL, url=None, raw=b"x" * MAX_ANNOUNCED_OCTETS)
    with pytest.raises(InputError):
        write_announcement(Announcement(told=Told.REVOKED, node="a", number=1, at=NOW, revoked=news))
    octets = write_announcement(ANNOUNCED[0]) + b"x" * MAX_ANNOUNCED_OCTETS
    assert read_announcement("1-1", octets).announcement is None


def test_revocation_that_is_told_without_a_signature_is_none():
    news = RevokedNews(chain=(b"leaf",), kind=SourceKind.REST, url="https://ca/", raw=b"{}")
    octets = write_announcement(Announcement(told=Told.REVOKED, node="a", number=1, at=NOW, revoked=news))
    assert read_announcement("1-1", octets).announcement is None


def test_row_comes_back():
    row = NodeRow(node="a", version="1.2", position="5-0", at=NOW)
    assert row == read_row(write_row(row))


@given(st.binary(max_size=400))
def test_whatever_the_server_says_is_read_or_none(octets):
    read_answer("k", octets, now=NOW, secret=SECRET)
    read_row(octets)
    heard = read_announcement("1-1", octets, secret=SECRET)
    assert not heard.vouched


@given(st.sampled_from(ANNOUNCED), st.data())
def test_announcements_with_octets_changed_are_read_or_none(one, data):
    octets = bytearray(write_announcement(one, secret=SECRET))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(37, len(octets) - 1))] = data.draw(st.integers(0, 255))
    heard = read_announcement("1-1", bytes(octets), secret=SECRET)
    assert not heard.vouched or heard.announcement == one
