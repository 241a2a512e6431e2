"""
What was logged, as values.
"""

import contextlib
import errno
import logging
import os
from typing import Any, NamedTuple

from cftpki_ext.support.logs import EVENTS, fields_of


class Call(NamedTuple):
    method_name: str
    kwargs: dict[str, Any]  # the event's fields, and its name as `event`


class CapturedLog:
    """
    A `core.log.Log` that keeps what it is told.
    """

    def __init__(self):
        self.calls: list[Call] = []

    def debug(self, event, /, **fields):
        self.calls.append(Call("debug", {**fields, "event": event}))

    def info(self, event, /, **fields):
        self.calls.append(Call("info", {**fields, "event": event}))

    def warning(self, event, /, **fields):
        self.calls.append(Call("warning", {**fields, "event": event}))

    def error(self, event, /, **fields):
        self.calls.append(Call("error", {**fields, "event": event}))


@contextlib.contextmanager
def captured_events():
    """
    What adapters tell meanwhile: their fields, and the name as `event`.
    """
    told: list[dict[str, Any]] = []

    class Keeps(logging.Handler):
        def emit(self, record):
            told.append({**fields_of(record), "event": record.getMessage()})

    logger, handler = logging.getLogger(EVENTS), Keeps()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class FailingLog:
    """
    A `core.log.Log` on a disk that is full.
    """

    def __init__(self):
        self.calls = 0

    def _fail(self, event, /, **fields):
        del event, fields
        self.calls += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    debug = info = warning = error = _fail
