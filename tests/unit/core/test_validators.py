"""
Validators of lists: what headers may say, what is kept of it, and what goes into a request.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.validators import MAX_OCTETS, Validators, unpack, validators_of

URL = "http://ca.example/a.crl"
OLD, NOW = "Sun, 01 Nov 2026 10:00:00 GMT", "Sun, 01 Nov 2026 12:00:00 GMT"


def said(*, etags=(), modified=(), dates=(NOW,)):
    return validators_of(URL, etags=etags, modified=modified, dates=dates)


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"', '""', '"' + "x" * 256 + '"'])
def test_tag_is_asked_about_alone_and_only_where_it_came_from(etag):
    validators = said(etags=(etag,), modified=(OLD,))
    assert {"If-None-Match": etag} == validators.conditions
    assert (True, False) == (validators.are_of(URL), validators.are_of(URL + "?"))
    assert validators == unpack(validators.pack())


@pytest.mark.parametrize(
    "etags",
    [
        ("a",),
        ('"a" ',),
        ('"a"b"',),
        ('"a\n"',),
        ('"a\r\nX: y"',),
        ('w/"a"',),
        ('"é"',),
        ('"a"', '"a"'),
        ('"' + "x" * 257 + '"',),
    ],
)
def test_tag_that_is_none_is_nothing(etags):
    assert said(etags=etags) is None


@pytest.mark.parametrize(
    ("modified", "date", "counts"),
    [
        (OLD, NOW, True),
        ("Sun, 01 Nov 2026 11:59:00 GMT", NOW, True),
        ("Sun, 01 Nov 2026 11:59:01 GMT", NOW, False),  # another may follow in the same second
        (NOW, OLD, False),
        (OLD, "today", False),
        ("Sun, 31 Feb 2026 10:00:00 GMT", NOW, False),
        ("Sun, 01 Nox 2026 10:00:00 GMT", NOW, False),
        ("Sunday, 01-Nov-26 10:00:00 GMT", NOW, False),
        ("Sun, 01 Nov 2026 10:00:00 +0000", NOW, False),
        ("", NOW, False),
    ],
)
def test_time_counts_where_the_servers_clock_is_a_minute_past_it(modified, date, counts):
    validators = said(modified=(modified,), dates=(date,))
    assert counts is (validators is not None)
    if validators is not None:
        assert {"If-Modified-Since": modified} == validators.conditions
        assert validators == unpack(validators.pack())


def test_confirmation_of_another_version_is_denied():
    tag, time = said(etags=('"a"',)), said(modified=(OLD,))
    assert [False, False, True, False] == [
        tag.are_denied_by(one) for one in (None, said(etags=('W/"a"',)), said(etags=('"b"',)), time)
    ]
    other = replace(time, last_modified=NOW)
    assert [False, False, True, False] == [time.are_denied_by(one) for one in (None, time, other, tag)]


@given(st.lists(st.text(max_size=400), max_size=2), st.lists(st.text(max_size=40), max_size=2))
def test_whatever_headers_say_is_short_printable_and_kept_as_it_is(etags, modified):
    validators = validators_of(URL, etags=etags, modified=modified, dates=(NOW,))
    if validators is not None:
        raw = validators.pack()
        assert (True, validators) == (len(raw) <= MAX_OCTETS, unpack(raw))


@given(st.binary(max_size=1100))
def test_what_was_not_packed_is_nothing(raw):
    assert unpack(raw) is None


def test_what_was_packed_otherwise_is_nothing():
    good = Validators(location="0" * 64, etag='"a"')
    assert good == unpack(good.pack())
    for bad in (
        replace(good, location="0" * 63),
        replace(good, location="0" * 63 + "G"),
        replace(good, etag="a"),
        replace(good, etag=""),
        replace(good, etag='"' + "x" * 1024 + '"'),
        replace(good, etag='"a"\n'),
        replace(good, last_modified="yesterday"),
    ):
        assert unpack(bad.pack()) is None
    assert [None, None] == [unpack(good.pack() + b"\n"), unpack(b"cftpki validators 2" + good.pack()[19:])]
