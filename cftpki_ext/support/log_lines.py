"""
Lines of the log: structlog, JSON or for a console, on standard error; one event is one line whatever it contains.

Owns set-up and form only. Whoever writes nothing does not import this (`logs.configure_when_needed`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, cast

from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import BatchLog
from cftpki_ext.support.absent import absent
from cftpki_ext.support.logs import StandardError, escaped, fields_of, is_journal, set_up

# structlog would have rich draw tracebacks, which here are text (docs/adr/0030-start-up.md): a hundred modules.
with absent("rich"):
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger


class LineLog:
    """
    A `core.log.BatchLog` that writes lines. structlog's own logger would make a line in twice the time.

    Args:
        render: makes a line of an event that has its name, level and time.
        stream: where they go.
        level: the least level that is written.

    """

    def __init__(self, render: Processor, *, stream: TextIO, level: int) -> None:
        self._render = render
        self._stream = stream
        self._writing = threading.Lock()
        self._level = level
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)

    def debug(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(logging.DEBUG, "debug", ((event, fields),))

    def info(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(logging.INFO, "info", ((event, fields),))

    def warning(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(logging.WARNING, "warning", ((event, fields),))

    def error(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(logging.ERROR, "error", ((event, fields),))

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]], /) -> None:
        """
        See `core.log.BatchLog`: one time, and one write, for all of them.
        """
        self._write(logging.INFO, "info", events)

    def _write(self, level: int, name: str, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        if level < self._level or not events:
            return
        about = self._stamp(None, name, {"level": name})
        lines = [
            str(self._render(None, name, {**fields, "event": event, **about})) for event, fields in events
        ]
        # In one piece: two writes are two system calls, and another's line could come in between.
        with self._writing:
            self._stream.write("\n".join((*lines, "")))
            self._stream.flush()


def configure(log_format: str, *, stream: TextIO | None = None, level: int = logging.INFO) -> BatchLog:
    """
    Set the log up for this process, for our own events and for libraries that use `logging`.

    Args:
        log_format: "json" or "console".
        stream: by default what standard error is when something is written.
        level: the least level that is written.

    Returns:
        The log.

    """
    stream = stream or cast("TextIO", StandardError())
    # Libraries say what goes wrong through `logging`, adapters what they do: both take the same form.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(log_format, stream))
    set_up(handler, level=level)
    return LineLog(_renderer(log_format, stream), stream=stream, level=level)


def formatter(log_format: str, stream: TextIO) -> logging.Formatter:
    """
    Lines of what comes through `logging`.

    Args:
        log_format: "json" or "console".
        stream: where they go: colours are for a terminal.

    Returns:
        What writes a record as a line.

    """
    renderer = _renderer(log_format, stream)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_with_fields, *_SHARED],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _renderer(log_format: str, stream: TextIO) -> Processor:
    renderer: Processor = _Json()
    if log_format != "json":
        renderer = _Columns(structlog.dev.ConsoleRenderer(colors=stream.isatty()), plain=not stream.isatty())
    return _Prioritised(renderer) if is_journal(stream, os.environ) else renderer


class _Prioritised:
    """
    Lines with the priority that the journal sorts by (sd-daemon(3)): `journalctl -p warning` shows what has to be looked at.
    """

    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """
        A processor: the event as text, each of its lines with its priority.
        """
        prefix = f"<{_PRIORITIES.get(str(event.get('level')), _NOTICE)}>"
        return "\n".join(prefix + line for line in str(self._renderer(logger, method, event)).split("\n"))


# Of syslog(3).
_NOTICE = 5
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


def _with_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event["_record"]
    return {**fields_of(record), **event}


class _Json:
    """
    JSON. Most events have nothing in them that is to be escaped, which their text shows.
    """

    def __init__(self) -> None:
        self._plain = json.JSONEncoder().encode
        self._written = structlog.processors.JSONRenderer()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """
        A processor: the event as one line.
        """
        try:
            line = self._plain(event)
        except (TypeError, ValueError, RecursionError):
            line = "\\"  # something that JSON cannot write
        # Whatever is not printable ASCII, and a quote in a text, has a backslash in JSON; DEL alone has none.
        if "\\" not in line and "\x7f" not in line:
            return line
        return str(self._written(logger, method, escape(logger, method, event)))


class _Columns:
    """
    structlog's columns, written quickly where nobody looks: a service logs each handshake.
    """

    def __init__(self, renderer: structlog.dev.ConsoleRenderer, *, plain: bool) -> None:
        self._renderer = renderer
        self._plain = plain

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """
        A processor: the event as one line.
        """
        if not self._plain or "exception" in event or "stack" in event or not "".join(event).isprintable():
            return self._renderer(logger, method, escape(logger, method, event))
        fields = []
        for key in sorted(event):
            if key in _COLUMNS:
                continue
            value = event[key]
            # Most are texts of which nothing is escaped and nothing is quoted.
            if type(value) is not str or _AS_IT_IS(value) is None:
                value = _shown(value)
            fields.append(f"{key}={value}")
        time, level, name = (str(event.get(key, "")) for key in _COLUMNS)
        return f"{printable(time)} [{printable(level):<9}] {printable(name):<30} {' '.join(fields)}".rstrip()


def _shown(value: Any) -> str:
    value = escaped(value)
    if isinstance(value, str):
        return value if _APART.isdisjoint(value) else repr(value)
    return repr(value)


_COLUMNS = ("timestamp", "level", "event")  # in their order
_APART = frozenset(" \t=\r\n\"'")
# ASCII that can be printed, without what stands apart.
_AS_IT_IS = re.compile(r"[!#-&(-<>-~]*").fullmatch


def escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """
    A processor that escapes control characters in every text of an event, however deep.

    Args:
        event: the event.

    Returns:
        The same event, printable.

    """
    texts = [value for value in event.values() if type(value) is str]
    if "".join(event).isprintable() and "".join(texts).isprintable():
        return {key: value if type(value) in _PLAIN else escaped(value) for key, value in event.items()}
    return {printable(str(key)): escaped(value) for key, value in event.items()}


# Of texts that can be printed, and of these, nothing is escaped.
_PLAIN = frozenset((str, int, float, bool, type(None)))


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]
