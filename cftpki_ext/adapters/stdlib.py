"""
The service for `ssl.SSLContext`: connections whose partner it has accepted, before the program sees an octet.

    listener = VerifiedListener(socket.create_server(("", 8443)), context, ServiceClient(), profile="PARTNERS")
    connection, address = listener.accept()

The standard library has no verification callback. So OpenSSL verifies by the context's own trust, the handshake ends,
and the chain is judged then; only who is accepted is handed to the program. The refused partner sees its connection
closed without an alert: there is no function that would send one.
"""

from __future__ import annotations

import _ssl
import contextlib
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from cftpki_ext.adapters.client import Answer, Partner, ServiceClient

# A partner that is slow with its handshake keeps the next one waiting no longer than this. Seconds.
HANDSHAKE_S = 10.0


class PartnerRefusedError(ssl.SSLError):
    """
    The service has not accepted the partner; the connection is closed. `answer` says why.
    """

    def __init__(self, answer: Answer) -> None:
        """
        Say it as the log would.
        """
        super().__init__(f"partner refused: {answer.alert} {answer.reason}: {answer.detail}")
        self.answer = answer


def verify(
    connection: ssl.SSLSocket, service: ServiceClient, *, profile: str = "", server: bool | None = None
) -> Answer:
    """
    Have the partner of a connection judged whose handshake is done; close it where it is not accepted.

    Args:
        connection: of the standard library, with `CERT_REQUIRED`.
        service: whom to ask.
        profile: chooses the rule.
        server: whether this side is the TLS server; by default what the connection says.

    Returns:
        The acceptance.

    Raises:
        PartnerRefusedError: anything else.

    """
    server = connection.server_side if server is None else server
    answer = service.check(
        chain_of(connection), server=server, profile=profile, partner=_partner_of(connection, server=server)
    )
    if not answer.accepted:
        connection.close()
        raise PartnerRefusedError(answer)
    return answer


class VerifiedListener:
    """
    A listening socket whose `accept` gives connections of accepted partners alone.

    One thread at a time; handshakes are made one after the other, each within `HANDSHAKE_S`.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        service: ServiceClient,
        *,
        profile: str = "",
        refused: Callable[[Exception], None] | None = None,
    ) -> None:
        """
        Take over a listening socket. The context is set to ask for certificates, and to give no tickets.

        Args:
            listener: a socket that listens.
            context: a server's, with its own certificate and its trust.
            service: whom to ask.
            profile: chooses the rule.
            refused: is told of each partner that does not come in: a `PartnerRefusedError`, or what failed before.

        """
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        self._listener = listener
        self._context = context
        self._service = service
        self._profile = profile
        self._refused = refused

    def accept(self) -> tuple[ssl.SSLSocket, Any]:
        """
        Wait for the next partner that the service accepts.

        Returns:
            The connection and the partner's address. Those of others are closed.

        Raises:
            OSError: the listening socket itself fails or is closed.

        """
        while True:
            plain, address = self._listener.accept()
            plain.settimeout(HANDSHAKE_S)
            try:
                connection = self._context.wrap_socket(plain, server_side=True)
                verify(connection, self._service, profile=self._profile, server=True)
            except OSError as error:  # of this connection: ssl's own errors are among them
                plain.close()
                if self._refused is not None:
                    self._refused(error)
                continue
            connection.settimeout(None)
            return connection, address

    def close(self) -> None:
        """
        Close the listening socket.
        """
        self._listener.close()


def chain_of(connection: ssl.SSLSocket | ssl.SSLObject) -> list[bytes]:
    """
    What the partner presented, its certificate first; none where it presented none.

    Args:
        connection: whose handshake is done.

    Returns:
        DER.

    """
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return []
    public = getattr(connection, "get_unverified_chain", None)  # from Python 3.13 on
    if public is not None:
        presented = [bytes(one) for one in public()]
    else:
        inner: Any = connection._sslobj  # type: ignore[union-attr]  # noqa: SLF001  # the same function, not public yet
        presented = [one.public_bytes(_ssl.ENCODING_DER) for one in inner.get_unverified_chain() or ()]
    # A server's OpenSSL may leave out what it keeps apart: the leaf.
    return presented if leaf in presented else [leaf, *presented]


def _partner_of(connection: ssl.SSLSocket, *, server: bool) -> Partner:
    with contextlib.suppress(OSError, ValueError, IndexError, TypeError):
        remote, local = connection.getpeername(), connection.getsockname()
        return Partner(
            address=str(ip_address(remote[0])), port=remote[1], local_port=local[1] if server else 0
        )
    return Partner()
