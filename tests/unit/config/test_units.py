from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.config.units import format_duration, format_size, parse_duration, parse_size


@given(st.integers(0, 36_500 * 86_400_000))
def test_duration_written_and_read_is_the_same(milliseconds):
    duration = timedelta(milliseconds=milliseconds)

    assert duration == parse_duration(format_duration(duration))


@given(st.integers(0, 1 << 38))
def test_size_written_and_read_is_the_same(count):
    assert count == parse_size(format_size(count))


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("30s", 30), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172_800)]
)
def test_duration_of_each_unit_is_read(text, seconds):
    assert timedelta(seconds=seconds) == parse_duration(text)


@pytest.mark.parametrize("text", ["", "24", "h", "24 h", "-1h", "1.5h", "24H", "1h x", "1000000d", "٣h"])
def test_duration_in_other_words_is_refused(text):
    with pytest.raises(ValueError, match=r"no duration|hundred years"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "64", "64MB", "64 mib", "-1KiB", "MiB"])
def test_size_in_other_words_is_refused(text):
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(("duration", "text"), [(timedelta(hours=24), "24h"), (timedelta(days=7), "7d")])
def test_duration_is_written_as_people_say_it(duration, text):
    assert text == format_duration(duration)
