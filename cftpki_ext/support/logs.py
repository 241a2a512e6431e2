"""
What the log is told, and when its writer is set up: adapters tell events through `logging`, commands set it up when needed.

Owns the way between them, and what of an event may be written: text from a certificate goes through `escaped`, so that
nobody can write a log line, or to the terminal of whoever reads it, from outside. The lines are `support.log_lines`.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TextIO, cast

from cftpki_ext.core.escape import printable
from cftpki_ext.core.line_budget import LineBudget
from cftpki_ext.core.log import Log

# What adapters tell goes through `logging` under this name, so that it comes out wherever the program's log goes.
EVENTS = "cftpki.events"
_FIELDS = "cftpki_fields"
_WRITER = "cftpki"
# Lines of one event at once, and then one after so long.
_BURST, _EVERY_S = 1024, 10.0


class EventLog:
    """
    A `core.log.Log` that tells `logging`. Safe for several threads.

    Args:
        bound: fields of every event.

    """

    def __init__(self, bound: Mapping[str, Any]) -> None:
        self._bound = dict(bound)

    def bind(self, **fields: Any) -> EventLog:
        """
        A log whose events all have these fields as well.
        """
        return EventLog({**self._bound, **fields})

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
        logging.getLogger(EVENTS).log(level, "%s", event, extra={_FIELDS: {**self._bound, **fields}})


class SteadyLog:
    """
    A `core.log.Log` that never raises: a disk that is full, or a reader that is gone, must not stop what is told of it.

    Not for an audit trail, which is to fail. For one event loop. Of one event again and again only some lines are written,
    with the number of the others: who brings it about in a loop must not fill the disk.

    Args:
        log: writes. What it does not take is counted, and told of with the next event that it does.
        monotonic: seconds that only grow.

    """

    def __init__(self, log: Log, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._unwritten = 0
        self._monotonic = monotonic
        self._budget = LineBudget(burst=_BURST, every_s=_EVERY_S)

    def debug(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(self._log.debug, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(self._log.info, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(self._log.warning, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """
        See `core.log.Log`.
        """
        self._write(self._log.error, event, fields)

    def _write(self, write: Callable[..., Any], event: str, fields: dict[str, Any]) -> None:
        left_out = self._budget.ask(event, self._monotonic())
        if left_out is None:
            return
        try:
            write(event, **fields)
            if left_out:
                self._log.warning("log_lines_left_out", cause=event, lines=left_out)
            if self._unwritten:
                self._log.error("log_not_written", events=self._unwritten)
                self._unwritten = 0
        except Exception:  # noqa: BLE001 - nobody could be told of it
            self._unwritten += 1


def event_log(**bound: Any) -> EventLog:
    """
    A log for adapters that are given none.

    Args:
        bound: fields of every event.

    Returns:
        The log; what it is told goes where the program's log goes, or, where none was set up, where `logging` says.

    """
    return EventLog(bound)


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


class StandardError(io.TextIOBase):
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

    def fileno(self) -> int:
        """
        Its descriptor.
        """
        return sys.stderr.fileno()

    def isatty(self) -> bool:
        """
        Whether somebody looks at it.
        """
        return sys.stderr.isatty()


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """
    Whether what is written to a stream goes to systemd's journal, and nowhere else (systemd.exec(5), JOURNAL_STREAM).

    Args:
        stream: where lines go.
        environ: of this process; children that write elsewhere inherit it.

    Returns:
        `True` where the stream is the very one that the journal opened.

    """
    named = environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False  # a text in memory, or closed
    return named == f"{found.st_dev}:{found.st_ino}"


class _WhenNeeded(logging.Formatter):
    """
    The lines of `support.log_lines`, which is imported when there is one to write.
    """

    def __init__(self, log_format: str, stream: TextIO) -> None:
        super().__init__()
        self._format, self._stream = log_format, stream
        self._made: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """
        One record as a line.
        """
        if self._made is None:
            self._made = import_module("cftpki_ext.support.log_lines").formatter(self._format, self._stream)
        return self._made.format(record)


def configure_when_needed(log_format: str) -> None:
    """
    Let the log be written to standard error. Most commands write none, and need not wait for its library.

    Args:
        log_format: as for `log_lines.configure`.

    """
    stream = cast("TextIO", StandardError())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_WhenNeeded(log_format, stream))
    set_up(handler, level=logging.INFO)


def set_up(handler: logging.Handler, *, level: int) -> None:
    """
    Let one handler write all that comes through `logging`, in place of the one before.

    Args:
        handler: writes.
        level: the least level of our own events that is written; of libraries nothing below a warning is.

    """
    root = logging.getLogger()
    for old in [one for one in root.handlers if one.get_name() == _WRITER]:
        root.removeHandler(old)
    handler.set_name(_WRITER)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(EVENTS).setLevel(level)


def escaped(value: Any) -> Any:
    """
    A field's value with control characters escaped in every text of it, however deep.

    Args:
        value: anything.

    Returns:
        What JSON can write; of what it cannot, the text.

    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [escaped(item) for item in value]
    return value if isinstance(value, int | float | None) else printable(str(value))
