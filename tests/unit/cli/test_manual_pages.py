"""
The manual pages that the packages have: one for each command, as groff wants them.
"""

from __future__ import annotations

import os
import runpy
import subprocess
from pathlib import Path

import click
import pytest

from cftpki_ext.cli import main
from cftpki_ext.cli.program import Later

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "scripts/man-pages"))


@pytest.fixture(autouse=True)
def day(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1796083200")


@pytest.fixture
def manual(tmp_path):
    SCRIPT["write"](tmp_path / "man1")
    return tmp_path / "man1"


def complaints(pages):
    """
    What man and groff say about pages, for real.
    """
    # Of a locale that this machine lacks man would complain as well.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    command = ["man", "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l", *map(str, pages)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr


def names(command, above):
    itself = command.load() if isinstance(command, Later) else command
    yield above
    for name, below in getattr(itself, "commands", {}).items():
        yield from names(below, f"{above}-{name}")


def test_every_command_has_its_page(manual):
    assert sorted(f"{name}.1" for name in names(main, "cftpki")) == sorted(
        path.name for path in manual.iterdir()
    )


def test_man_finds_no_fault_in_any_page(manual):
    assert "" == complaints(sorted(manual.iterdir()))


def test_man_would_name_a_fault(tmp_path):
    page = tmp_path / "wrong.1"
    page.write_text('.TH "WRONG" "1"\n.NOSUCH request\n')
    assert "warning: macro 'NOSUCH' not defined" in complaints([page])


@click.command(
    "odd",
    help="Show C:\\odd → as it's. Then more.\n\n.TH is no request - here,\n  nor is a 'quote'.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("what")
@click.option(
    "--form", type=click.Choice(["one", "two"]), envvar="ODD_FORM", default="one", show_default=True
)
@click.option("--secret", hidden=True)
def odd(what, form, secret):
    del what, form, secret


ODD = r""".TH "CFTPKI" "1" "2026-12-01" "cftpki VERSION" "cftpki manual"
.nh
.ad l
.SH NAME
cftpki \- Show C:\eodd \[u2192] as it\(aqs. Then more
.SH SYNOPSIS
\fBcftpki\fR \fI[OPTIONS]\fR \fIWHAT\fR
.SH DESCRIPTION
.PP
Show C:\eodd \[u2192] as it\(aqs. Then more.
.PP
\&.TH is no request \- here, nor is a \(aqquote\(aq.
.SH OPTIONS
.TP
\fB\-\-form\fR \fI[one|\:two]\fR
[default: one]
.TP
\fB\-h,\fR \fB\-\-help\fR
Show this message and exit.
.SH EXIT STATUS
.TP
0
Done.
.TP
1
Not done; standard error says why.
.TP
2
A wrong call, or a fault of the configuration.
.TP
80
The program itself failed.
.SH ENVIRONMENT
.TP
\fBODD_FORM\fR
What \-\-form says where it is not given.
.SH FILES
.TP
\fI/etc/cftpki/cftpki.toml\fR
The configuration, where no other is named.
.TP
\fI/var/lib/cftpki\fR
The state directory, where the configuration names no other.
.TP
\fI/usr/share/doc/cftpki\fR
The documentation; configuration.md has every key.
"""


def test_page_shows_text_as_it_is_whatever_groff_would_make_of_it(tmp_path):
    ((name, text),) = SCRIPT["pages"](odd)
    (tmp_path / "odd.1").write_text(text)
    version = SCRIPT["escaped"](SCRIPT["version"]())
    assert ("cftpki", ODD.replace("VERSION", version), "") == (name, text, complaints([tmp_path / "odd.1"]))


def test_exit_status_of_check_is_the_alert_and_that_of_its_namesakes_is_not(manual):
    alert = "the number of a TLS alert"
    telling = [path.name for path in sorted(manual.iterdir()) if alert in path.read_text()]
    assert ["cftpki-check.1"] == telling
