"""
A link between a client and a server that can be cut: then nothing passes and nobody is told, as with a cable.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.support.ports import free_port


class Link:
    """
    Passes octets on while it is whole. What was on its way when it was cut arrives when it is mended.
    """

    def __init__(self, upstream: int) -> None:
        self.port = free_port()
        self._upstream = upstream
        self._whole = threading.Event()
        self._whole.set()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self._closed = True
        self._whole.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                client, _ = self._listener.accept()
                self._whole.wait()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += (client, server)
                for here, there in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(here, there), daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := here.recv(65536):
                self._whole.wait()
                there.sendall(octets)
        with contextlib.suppress(OSError):
            there.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def link_to(upstream: int) -> Iterator[Link]:
    """
    A link to a port of this machine.
    """
    link = Link(upstream)
    try:
        yield link
    finally:
        link.close()
