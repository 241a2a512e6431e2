"""
Metrics over HTTP: who may keep a connection for how long, and which form is written.

Owns the listener. Reads nothing of a request but its first line and `Accept`; http.server bounds both, and how many lines come. Neither TLS nor
passwords: it is meant for loopback, or a unix socket.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from cftpki_ext.core.log import Log
from cftpki_ext.service.metrics import Seen, encoded

# Scrapers are two or three. Of more connections, the one that was opened first is closed: who keeps them open keeps nobody out.
_CONNECTIONS = 16
# A request is one packet, and its answer is taken at once.
_SLOW_S = 5.0
# Several scrapers that come at once are told the same.
_YOUNG_S = 1.0


class MetricsServer:
    """
    Serves `/metrics` until it is closed, in threads of its own.

    Args:
        bound: a listening socket, which is the caller's to release once this is closed.
        learn: what there is to tell now; bounded in time.
        log: is told of what goes wrong.

    """

    def __init__(self, bound: socket.socket, learn: Callable[[], Seen], log: Log) -> None:
        bound.settimeout(None)
        self._server = _Server(bound, _Shared(learn), log)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """
        Stop listening; answers under way are not waited for.
        """
        self._server.shutdown()
        self._thread.join()


class _Shared:
    """
    What was learned, for all that ask within a second.
    """

    def __init__(self, learn: Callable[[], Seen]) -> None:
        self._learn = learn
        self._turn = threading.Lock()
        self._last: tuple[float, Seen] | None = None

    def get(self) -> Seen:
        """
        What holds now.
        """
        with self._turn:
            if self._last is None or time.monotonic() - self._last[0] >= _YOUNG_S:
                seen = self._learn()
                self._last = time.monotonic(), seen
            return self._last[1]


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, bound: socket.socket, shared: _Shared, log: Log) -> None:
        address: Any = ("", 0)
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.shared = shared
        self._log = log
        self._turn = threading.Lock()
        self._open: OrderedDict[socket.socket, None] = OrderedDict()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._turn:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > _CONNECTIONS else None
            if oldest is not None:
                del self._open[oldest]
        if oldest is not None:
            with contextlib.suppress(OSError):  # it has just ended
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._turn:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's
        """
        Whoever asked went away, or something of ours failed: one line.
        """
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self._log.error("metrics_not_told", error=repr(error))


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _SLOW_S
    server_version = "cftpki"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        """
        Answer one request.
        """
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "the numbers are at /metrics")
            return
        body, content_type = encoded(self.server.shared.get(), self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
        """
        Requests are not logged: they come every few seconds.
        """

    def address_string(self) -> str:
        """
        Nothing: that of a unix socket has none.
        """
        return ""
