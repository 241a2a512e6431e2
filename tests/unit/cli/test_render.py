"""
Lines and tables, whole where nobody looks, and on a terminal.
"""

import re
import sys

import pytest

from cftpki_ext.cli.render import Text, coloured, console, counting, table, working

ROWS = (("a", Text("red", style="red"), "x\n1"), ("bb", "二", ""))
WIDE = "w" * 400


def test_table_that_goes_into_a_file_has_whole_rows_in_columns(capsys):
    console().print(table(("", "second", "third"), [*ROWS, (WIDE, 1, None)]))

    gap = " " * 400
    assert [
        f"{gap}  second  third",
        f"a{gap[1:]}  red     x\\n1",
        f"bb{gap[2:]}  二",
        f"{WIDE}  1       None",
    ] == capsys.readouterr().out.splitlines()


def test_line_that_goes_into_a_file_is_whole_and_has_no_colour(capsys):
    console().print(Text("one", style="bold").append(f" {WIDE}"))
    console().print()

    assert f"one {WIDE}\n\n" == capsys.readouterr().out


def test_terminal_shows_the_same_words(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    console().print(Text("[bold]none[/bold] :smile: ").append("one", style="red"))
    console().print(WIDE, whole=True)
    console().print(table(("", "second", "third"), ROWS))

    line, wide, headings, *rows = capsys.readouterr().out.splitlines()
    assert ("[bold]none[/bold] :smile: one", WIDE) == (line, wide)
    assert ["second  third", "a   red     x\\n1", "bb  二"] == [one.strip() for one in (headings, *rows)]


@pytest.fixture
def terminal(monkeypatch, capsys):
    """
    What a table looks like in a window of so many columns, with colours or without.
    """

    def shown(what, columns, *, colour=False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not colour:
            monkeypatch.setenv("NO_COLOR", "1")
        console().print(what)
        return capsys.readouterr().out.splitlines()

    return shown


STATES = table(("name", "state", "detail"), [("one", "revoked", "d" * 40), ("two", "good", "")])


def test_narrow_window_shows_a_table_as_lines_that_can_be_copied(terminal):
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in terminal(STATES, 20)]

    assert [
        "name    one",
        "state   revoked",
        f"detail  {'d' * 40}",
        "",
        "name    two",
        "state   good",
    ] == plain
    assert len(plain) != len(terminal(STATES, 60))
    assert "\x1b[1mdetail\x1b[0m  ddd" in "\n".join(terminal(STATES, 20, colour=True))


def test_word_for_a_state_has_its_colour_in_every_table(terminal):
    told = "\n".join(terminal(STATES, 100, colour=True))

    assert ("\x1b[31mrevoked", "\x1b[32mgood") == tuple(
        word for word in ("\x1b[31mrevoked", "\x1b[32mgood") if word in told
    )
    assert "\x1b[3" not in "\n".join(terminal(STATES, 100))


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("refused 44 revoked", "red"),
        ("accepted, warned", "green"),
        ("warn: soon", "yellow"),
        ("refusedly", ""),
        ("CN=refused", ""),
        ("", ""),
    ],
)
def test_colour_is_the_first_word_s(text, style):
    assert [(text, style)] == coloured(text).parts


def test_nothing_moves_where_nobody_looks(capsys):
    with working("asking") as tell, counting("counting") as advance:
        tell("asking more")
        advance(100)

    assert ("", "") == capsys.readouterr()


def test_something_moves_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with counting("counting") as advance:
        advance(99)
        advance(100)

    assert "" == capsys.readouterr().out
