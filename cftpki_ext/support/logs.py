"""
The log: one event is one line, JSON or for a console, on standard error.

Owns set-up and form. What a partner wrote into a certificate goes through here escaped, so that nobody can
write a log line, or to the terminal of whoever reads it, from outside. Of our own, because the service writes a line for
each handshake and every command would wait for a library of logs to be imported (docs/adr/0030-start-up.md).
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TextIO, cast

from cftpki_ext.core.escape import printable

# What adapters tell goes through `logging` under this name, so that it comes out wherever the program's log goes.
EVENTS = "cftpki.events"
_FIELDS = "cftpki_fields"

# Takes level, event and fields, the latter its own.
Write = Callable[[int, str, dict[str, Any]], None]


class EventLog:
    """
    A `core.log.Log`. Safe for several threads.

    Args:
        write: takes what is to be written.
        least: the least level that is written, as `logging` numbers them.
        bound: fields of every event.

    """

    def __init__(self, write: Write, *, least: int, bound: Mapping[str, Any]) -> None:
        self._write = write
        self._least = least
        self._bound = dict(bound)

    def bind(self, **fields: Any) -> EventLog:
        """
        A log whose events all have these fields as well.
        """
        return EventLog(self._write, least=self._least, bound={**self._bound, **fields})

    def debug(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._tell(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._tell(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._tell(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._tell(logging.ERROR, event, fields)

    def _tell(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if level >= self._least:
            self._write(level, event, {**self._bound, **fields} if self._bound else fields)


def configure(log_format: str, *, stream: TextIO | None = None, level: int = logging.INFO) -> EventLog:
    """
    Set the log up for this process, for our own events and for libraries that use `logging`.

    Args:
        log_format: "json" or "console".
        stream: by default what standard error is when something is written.
        level: the least level that is written.

    Returns:
        The log.

    """
    lines = _Lines(stream or cast("TextIO", _StandardError()), in_json=log_format == "json")
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    # Libraries say what goes wrong through `logging`: their warnings take the same form.
    root.addHandler(_Handler(lines.write))
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(EVENTS).setLevel(level)
    return EventLog(lines.write, least=level, bound={})


def event_log(**bound: Any) -> EventLog:
    """
    A log for adapters that are given none.

    Args:
        bound: fields of every event.

    Returns:
        The log; what it is told goes where the program's log goes, or, where none was set up, where `logging` says.

    """

    def write(level: int, event: str, fields: dict[str, Any]) -> None:
        logging.getLogger(EVENTS).log(level, "%s", event, extra={_FIELDS: fields})

    return EventLog(write, least=logging.DEBUG, bound=bound)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """
    What an event of `event_log` says, besides its name.

    Args:
        record: any.

    Returns:
        Its fields; none of what is not ours.

    """
    found: dict[str, Any] = getattr(record, _FIELDS, {})
    return found


class _Handler(logging.Handler):
    """
    What comes through `logging`, written like our own.
    """

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._lines = write

    def emit(self, record: logging.LogRecord) -> None:
        """
        Write one record.
        """
        try:
            fields = dict(fields_of(record))
            if record.exc_info:
                fields["exception"] = logging.Formatter().formatException(record.exc_info)
            if record.stack_info:
                fields["stack"] = record.stack_info
            self._lines(record.levelno, record.getMessage(), fields)
        except Exception:  # noqa: BLE001 - the library's own way: a log line ends nobody
            self.handleError(record)


class _Lines:
    """
    Events as lines of a stream.
    """

    def __init__(self, stream: TextIO, *, in_json: bool) -> None:
        self._stream = stream
        self._form = _json if in_json else _colours if stream.isatty() else _columns
        self._lock = Lock()

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """
        Write one event, whole.
        """
        told = {printable(key): escaped(value) for key, value in fields.items()}
        name = logging.getLevelName(level).lower()
        time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = self._form(time, name, printable(event), told)
        with self._lock:
            self._stream.write(f"{line}\n")
            self._stream.flush()


_encoder = json.JSONEncoder()


def _json(time: str, level: str, event: str, told: dict[str, Any]) -> str:
    return _encoder.encode({**told, "event": event, "level": level, "timestamp": time})


def _columns(time: str, level: str, event: str, told: dict[str, Any]) -> str:
    fields = " ".join([f"{key}={_shown(told[key])}" for key in sorted(told)])
    return f"{time} [{level:<9}] {event:<30} {fields}".rstrip()


_COLOURS = {"debug": 32, "info": 32, "warning": 33, "error": 31, "critical": 31}


def _colours(time: str, level: str, event: str, told: dict[str, Any]) -> str:
    fields = " ".join([f"\x1b[36m{key}\x1b[0m={_shown(told[key])}" for key in sorted(told)])
    colour = _COLOURS.get(level, 0)
    return (
        f"\x1b[2m{time}\x1b[0m [\x1b[{colour}m{level:<9}\x1b[0m] \x1b[1m{event:<30}\x1b[0m {fields}".rstrip()
    )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value if _APART.isdisjoint(value) else repr(value)
    return repr(value)


_APART = frozenset(" \t=\r\n\"'")


class _StandardError(io.TextIOBase):
    """
    Standard error as it is at each write: whoever replaces or closes it takes nothing from the log.
    """

    def write(self, text: str) -> int:
        """
        Write through.
        """
        return sys.stderr.write(text)

    def flush(self) -> None:
        """
        Flush through.
        """
        sys.stderr.flush()

    def isatty(self) -> bool:
        """
        Whether somebody looks at it.
        """
        return sys.stderr.isatty()


def escaped(value: Any) -> Any:
    """
    A field's value with control characters escaped in every text of it, however deep.

    Args:
        value: anything.

    Returns:
        What JSON can write; of what it cannot, the text.

    """
    kind = type(value)  # most are one of these
    if kind is str:
        return value if value.isprintable() else printable(value)
    if value is None or kind is int or kind is bool or kind is float:
        return value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [escaped(item) for item in value]
    return value if isinstance(value, int | float) else printable(str(value))
