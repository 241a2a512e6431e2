"""
Lines of the log: structlog, JSON or for a console, on standard error; one event is one line whatever it contains.

Owns set-up and form only. Whoever writes nothing does not import this (`logs.configure_when_needed`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from cftpki_ext.core.escape import printable
from cftpki_ext.core.log import BatchLog
from cftpki_ext.support.logs import StandardError, escaped, fields_of, set_up


class LineLog:
    """
    A `core.log.BatchLog` over a logger of structlog.

    Args:
        logger: writes one event at a time.
        render: makes a line of an event that has its name, level and time.
        stream: where lines of many events go.
        level: the least level that is written.

    """

    def __init__(
        self, logger: FilteringBoundLogger, *, render: Processor, stream: TextIO, level: int
    ) -> None:
        self.debug: Callable[..., Any] = logger.debug
        self.info: Callable[..., Any] = logger.info
        self.warning: Callable[..., Any] = logger.warning
        self.error: Callable[..., Any] = logger.error
        self._render = render
        self._lines = structlog.PrintLogger(stream)  # with the lock that the other lines have
        self._is_written = level <= logging.INFO

    def many(self, events: Sequence[tuple[str, Mapping[str, Any]]], /) -> None:
        """
        See `core.log.BatchLog`: one time, and one write, for all of them.
        """
        if not events or not self._is_written:
            return
        moment = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "info", {})["timestamp"]
        lines = [
            str(self._render(None, "info", {**fields, "event": name, "level": "info", "timestamp": moment}))
            for name, fields in events
        ]
        self._lines.msg("\n".join(lines))


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
    renderer = _renderer(log_format, stream)
    structlog.configure(
        processors=[*_SHARED, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    # Libraries say what goes wrong through `logging`, adapters what they do: both take the same form.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(log_format, stream))
    set_up(handler, level=level)
    # Bound once: a logger that looks its configuration up at each event costs more than the event.
    logger: FilteringBoundLogger = structlog.get_logger().bind()
    return LineLog(logger, render=renderer, stream=stream, level=level)


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
    if log_format == "json":
        return _Json()
    return _Columns(structlog.dev.ConsoleRenderer(colors=stream.isatty()), plain=not stream.isatty())


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
        event = escape(logger, method, event)
        if not self._plain or "exception" in event or "stack" in event:
            return self._renderer(logger, method, event)
        rest = dict(event)
        time, level, name = (str(rest.pop(key, "")) for key in ("timestamp", "level", "event"))
        fields = " ".join([f"{key}={_shown(rest[key])}" for key in sorted(rest)])
        return f"{time} [{level:<9}] {name:<30} {fields}".rstrip()


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value if _APART.isdisjoint(value) else repr(value)
    return repr(value)


_APART = frozenset(" \t=\r\n\"'")


def escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """
    A processor that escapes control characters in every text of an event, however deep.

    Args:
        event: the event.

    Returns:
        The same event, printable.

    """
    return {printable(str(key)): escaped(value) for key, value in event.items()}


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]
