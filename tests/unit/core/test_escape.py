"""
Foreign text: one printable line, of bounded length, the same for every door.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.core.escape import excerpt, printable

NASTY = "CN=x\n2026 [info] accepted\x1b[2J\x9b31m\u202e\u2028\ud800"


def test_printable_of_what_terminals_obey_writes_escapes():
    assert r"CN=x\n2026 [info] accepted\x1b[2J\x9b31m\u202e\u2028\ud800" == printable(NASTY)


@pytest.mark.parametrize("text", ["", "Zürich & Søn", r"C:\new", "a…b"])
def test_printable_of_plain_text_is_the_text(text):
    assert text == printable(text)


@given(st.text())
def test_printable_of_anything_is_one_printable_line_and_stays(text):
    once = printable(text)

    assert (True, once) == (once.isprintable(), printable(once))


@pytest.mark.parametrize(
    ("text", "shown"), [("abcd", "abcd"), ("abcde", "abcd…"), ("ab\x1b", r"ab\x…"), ("\n\n", r"\n\n")]
)
def test_excerpt_of_four_characters_marks_what_is_left_out(text, shown):
    assert shown == excerpt(text, 4)


@given(st.text(max_size=40), st.integers(1, 30))
def test_excerpt_of_anything_is_printable_and_no_longer(text, characters):
    shown = excerpt(text, characters)

    assert (True, True) == (shown.isprintable(), len(shown) <= characters + 1)
