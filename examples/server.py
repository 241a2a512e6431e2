"""
A small TLS server in Python whose partners the cftpki service judges.

    server.py stdlib|pyopenssl PROFILE CONNECTIONS CERTIFICATE KEY CAFILE

Prints "listening PORT", then a line for each partner; echoes one message of those that come in.
"""

import socket
import ssl
import sys
from collections.abc import Sequence

from cftpki_ext.adapters.client import Answer, ServiceClient
from cftpki_ext.adapters.pyopenssl import protect
from cftpki_ext.adapters.stdlib import PartnerRefusedError, VerifiedListener


def say(line: str) -> None:
    """
    At once: somebody reads along.
    """
    print(line, flush=True)


def tell_refusal(error: Exception) -> None:
    """
    The service's reason, or what OpenSSL had to say before anybody asked the service.
    """
    reason = error.answer.reason if isinstance(error, PartnerRefusedError) else "-"
    say(f"refused {reason}: {error}")


def by_standard_library(listener: socket.socket, profile: str, count: int, files: Sequence[str]) -> None:
    """
    `ssl.SSLContext`, and connections of accepted partners alone.
    """
    certificate, key, ca = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    verified = VerifiedListener(listener, context, ServiceClient(), profile=profile, refused=tell_refusal)
    for _ in range(count):
        connection, _ = verified.accept()
        with connection:
            say("accepted")
            connection.sendall(connection.recv(1024))


def by_pyopenssl(listener: socket.socket, profile: str, count: int, files: Sequence[str]) -> None:
    """
    The callbacks of a pyOpenSSL context.
    """
    from OpenSSL import SSL  # noqa: PLC0415  # only who uses it needs it

    def tell(answer: Answer) -> None:
        say("accepted" if answer.accepted else f"refused {answer.reason}: {answer.detail}")

    certificate, key, ca = files
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(certificate)
    context.use_privatekey_file(key)
    context.load_verify_locations(ca)
    protect(context, ServiceClient(), server=True, profile=profile, answered=tell)
    for _ in range(count):
        plain, _ = listener.accept()
        connection = SSL.Connection(context, plain)
        connection.set_accept_state()
        try:
            connection.do_handshake()
            connection.sendall(connection.recv(1024))
            connection.shutdown()
        except SSL.Error as error:
            say(f"handshake failed: {error}")
        connection.close()


def main() -> None:
    """
    As the module says.
    """
    kind, profile, count, *files = sys.argv[1:]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        say(f"listening {listener.getsockname()[1]}")
        serve = by_pyopenssl if kind == "pyopenssl" else by_standard_library
        serve(listener, profile, int(count), files)


if __name__ == "__main__":
    main()
