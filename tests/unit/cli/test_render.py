"""
Lines and tables, whole where nobody looks, and on a terminal.
"""

import sys

from cftpki_ext.cli.render import Text, console, counting, table, working

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
