"""
Lines of the log: structlog, JSON or for a console, on standard error; one event is one line whatever it contains.

Owns set-up and form only. Whoever writes nothing does not import this (`logs.configure_when_needed`).
"""

from __future__ import annotations

import logging
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from cftpki_ext.core.escape import printable
from cftpki_ext.support.logs import StandardError, escaped, fields_of, set_up


def configure(
    log_format: str, *, stream: TextIO | None = None, level: int = logging.INFO
) -> FilteringBoundLogger:
    """
    Set the log up for this process, for our own events and for libraries that use `logging`.

    Args:
        log_format: "json" or "console".
        stream: by default what standard error is when something is written.
        level: the least level that is written.

    Returns:
        The logger, a `core.log.Log`.

    """
    stream = stream or cast("TextIO", StandardError())
    structlog.configure(
        processors=[*_SHARED, _renderer(log_format, stream)],
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
    return logger


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
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, escape, renderer],
    )


def _renderer(log_format: str, stream: TextIO) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return _Columns(structlog.dev.ConsoleRenderer(colors=stream.isatty()), plain=not stream.isatty())


def _with_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event["_record"]
    return {**fields_of(record), **event}


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
    escape,
]
