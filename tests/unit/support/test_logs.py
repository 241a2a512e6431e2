"""
Lines of the log: their form, what goes into them, and what adapters tell.
"""

import io
import json
import logging
import re

import pytest

from cftpki_ext.support import log_lines, logs
from tests.support.logs import captured_events


@pytest.fixture
def stream():
    """
    A log of its own; logging is as before afterwards.
    """
    root, events = logging.getLogger(), logging.getLogger(logs.EVENTS)
    handlers, levels = root.handlers[:], (root.level, events.level)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    events.setLevel(levels[1])


def test_line_in_json_ends_with_event_level_and_time(stream):
    log_lines.configure("json", stream=stream).warning("refused", depth=1, deep={"a": [None, 1.5, b"x"]})

    line = json.loads(stream.getvalue())
    assert ["depth", "deep", "event", "level", "timestamp"] == list(line)
    assert (1, {"a": [None, 1.5, "b'x'"]}, "refused", "warning") == tuple(line.values())[:4]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", line["timestamp"])


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_many_events_are_the_lines_that_each_would_be(stream, log_format):
    log = log_lines.configure(log_format, stream=stream)
    events = [("one", {"a": 1, "deep": {"b": [None, "c d"]}}), ("two", {"text": "x\ny\x7f\u202e", "b": b"z"})]
    for name, fields in events:
        log.info(name, **fields)
    log.many(events)
    log.many([])

    lines = [re.sub(r"\d{4}-[-0-9:.T]+Z", "", line) for line in stream.getvalue().splitlines()]
    assert (4, lines[:2]) == (len(lines), lines[2:])


def test_many_events_below_the_level_are_not_written(stream):
    log_lines.configure("json", stream=stream, level=logging.WARNING).many([("one", {})])

    assert "" == stream.getvalue()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("\x7f", "\\x7f"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("\u202ea", "\\u202ea"),
        ("\u00e9", "\u00e9"),
        ('say "so"', 'say "so"'),
        ("C:\\x", "C:\\x"),
        ("\ud800", "\\ud800"),
        ({"\n": ["\r"]}, {"\\n": ["\\r"]}),
        ({3}, [3]),
        (logging.INFO, 20),
        (None, None),
        (ValueError("a\nb"), "a\\nb"),
    ],
)
def test_value_in_json_has_its_control_characters_escaped_and_nothing_else(stream, value, written):
    log_lines.configure("json", stream=stream).info("one", value=value)

    assert written == json.loads(stream.getvalue())["value"]


def test_line_for_a_console_has_columns_and_fields_by_name(stream):
    log_lines.configure("console", stream=stream).info("listening", socket="/s", partner="CN=a b", count=3)

    _, rest = stream.getvalue().split(" ", 1)
    assert "[info     ] listening                      count=3 partner='CN=a b' socket=/s\n" == rest


def test_terminal_is_shown_the_same_in_colours(stream):
    stream.isatty = lambda: True
    log_lines.configure("console", stream=stream).error("refused", count=3)

    plain = re.sub(r"\x1b\[\d+m", "", stream.getvalue())
    assert plain != stream.getvalue()
    assert "[error    ] refused                        count=3\n" == plain.split(" ", 1)[1]


def test_what_is_below_the_level_is_not_written(stream):
    log = log_lines.configure("json", stream=stream, level=logging.WARNING)
    log.info("one")
    logs.event_log().info("two")
    logs.event_log(a=1).bind(b=2).warning("three")

    line = json.loads(stream.getvalue())
    assert {"a": 1, "b": 2, "event": "three", "level": "warning"} == {
        key: line[key] for key in line if key != "timestamp"
    }


def test_what_adapters_tell_is_written_like_our_own(stream):
    log_lines.configure("json", stream=stream)
    logs.event_log(enroller="e").bind(more=1).info("enroller_root_pinned", fingerprint="f")

    line = json.loads(stream.getvalue())
    assert ("enroller_root_pinned", "info", "e", 1, "f") == tuple(
        line[key] for key in ("event", "level", "enroller", "more", "fingerprint")
    )


def test_fault_of_a_library_is_one_line_with_its_traceback(stream):
    log_lines.configure("json", stream=stream)
    try:
        raise ValueError("a\nb")  # noqa: EM101, TRY003, TRY301 - for its traceback
    except ValueError:
        logging.getLogger("library").exception("trouble with %s", "x\ny")
    logging.getLogger("library").info("nobody asked")

    (text,) = stream.getvalue().splitlines()
    line = json.loads(text)
    assert ("trouble with x\\ny", "error") == (line["event"], line["level"])
    assert line["exception"].endswith("ValueError: a\\nb")


def test_set_up_again_it_writes_once(stream):
    log_lines.configure("json", stream=stream)
    log_lines.configure("json", stream=stream)
    logging.getLogger("library").warning("once")

    assert 1 == len(stream.getvalue().splitlines())


def test_stranger_cannot_name_the_level_or_the_time(stream):
    log_lines.configure("json", stream=stream).warning("refused", level="info", timestamp="never")

    line = json.loads(stream.getvalue())
    assert ("refused", "warning") == (line["event"], line["level"])
    assert "never" != line["timestamp"]


def test_events_of_adapters_are_kept_from_the_programs_log_while_captured(stream):
    log_lines.configure("json", stream=stream)
    with captured_events() as told:
        logs.event_log(a=1).info("one", b=2)

    assert ([{"a": 1, "b": 2, "event": "one"}], "") == (told, stream.getvalue())


def test_command_has_its_lines_where_something_is_logged_and_others_hear_it_once(stream, monkeypatch, caplog):
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure_when_needed("json")
    heard = Heard()
    logging.getLogger().addHandler(heard)
    logs.event_log(a=1).info("one")
    logging.getLogger("library").warning("two")

    assert ["one", "two"] == [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert ["one", "two"] == heard.told == caplog.messages


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.told = []

    def emit(self, record):
        self.told.append(record.getMessage())
