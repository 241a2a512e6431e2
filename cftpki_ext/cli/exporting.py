"""
`cftpki metrics --serve`: a process of its own that serves the numbers, whatever becomes of the service.
"""

from __future__ import annotations

import signal

from cftpki_ext.bootstrap.learning import Learner
from cftpki_ext.core.errors import InputError
from cftpki_ext.service.listener import Listener
from cftpki_ext.service.monitoring.binding import CannotServeError, bind
from cftpki_ext.service.monitoring.serving import MetricsServer
from cftpki_ext.support.listening import read_address
from cftpki_ext.support.logs import EventLog, event_log
from cftpki_ext.support.version import version

# How soon a configuration that names another address is followed, and an address that is taken is tried again.
_LOOK_S = 2.0
_ENDS = {signal.SIGTERM, signal.SIGINT}


def serve_metrics(learner: Learner, listen: str | None) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Without an address of its own it follows `[metrics] listen`, also of a configuration that comes to be, or is repaired, later.

    Args:
        learner: learns what is told.
        listen: the address, whatever the configuration says.

    Raises:
        InputError: it is none.

    """
    if listen is not None:
        try:
            read_address(listen)
        except ValueError as exc:
            raise InputError(str(exc)) from exc
    # Before any thread: they all have it blocked, and this one takes it when it looks.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    log = event_log()
    serving = _Serving(learner, log)
    try:
        while True:
            serving.follow(listen or learner.listen())
            if signal.sigtimedwait(_ENDS, _LOOK_S) is not None:
                return
    finally:
        serving.close()


class _Serving:
    """
    The server at the address that holds now.
    """

    def __init__(self, learner: Learner, log: EventLog) -> None:
        self._learner = learner
        self._log = log
        self._listener: Listener | None = None
        self._server: MetricsServer | None = None
        self._address: str | None = None
        self._told: str | None = None

    def follow(self, address: str | None) -> None:
        """
        Serve there, or nowhere.
        """
        if self._server is not None and address == self._address:
            return
        self.close()
        self._address = address
        if address is None:
            self._tell("the configuration has no [metrics] listen", is_fault=False)
            return
        try:
            self._listener = bind(address)
        except CannotServeError as error:
            self._tell(str(error), is_fault=True)
            return
        self._server = MetricsServer(self._listener.socket, self._learner.learn, self._log)
        self._told = None
        self._log.info("metrics_served", address=address, version=version())

    def close(self) -> None:
        """
        Serve no longer.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._listener is not None:
            self._listener.release()
            self._listener = None

    def _tell(self, detail: str, *, is_fault: bool) -> None:
        if detail == self._told:
            return
        self._told = detail
        tell = self._log.error if is_fault else self._log.info
        tell("metrics_not_served", detail=detail, again=f"tried again every {_LOOK_S:g} s")
