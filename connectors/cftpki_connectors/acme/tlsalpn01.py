"""
tls-alpn-01 (RFC 8737, RFC 8738 for addresses): a TLS listener of our own that shows one certificate for each name.

Owns the certificate and the listener, which ends every connection after the handshake, and shows the certificate to
nobody but who offers `acme-tls/1` and nothing else (RFC 8737 3), and names what is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from datetime import UTC, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cftpki_connectors.acme.client_hello import read_client_hello
from cftpki_connectors.acme.flow import Task
from cftpki_connectors.acme.http01 import reachable, unbound
from cftpki_connectors.acme.jose import digest
from cftpki_connectors.acme.listening import Door, listening_socket, stop_listening
from cftpki_connectors.acme.options import TlsAlpn01, endpoint
from cftpki_connectors.acme.resources import Identifier
from cftpki_connectors.acme.solver import SolverError
from cftpki_ext.core.errors import InputError
from cftpki_ext.ports.clock import Clock
from cftpki_ext.support.failures import reason_of

PROTOCOL = "acme-tls/1"
# id-pe-acmeIdentifier, RFC 8737 6.1.
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
# Far longer than an order lives, and nobody looks at it.
_LIFE = timedelta(days=7)
_CHECK_S = 5.0
# A CA's handshake is two round trips.
HANDSHAKE_S = 10.0
# After it the CA closes; until then its octets must not be answered by a reset.
_GOODBYE_S = 2.0
_READ_BYTES = 4096
# What a client may say before its handshake is done, all messages together.
_MAX_HANDSHAKE_BYTES = 64 * 1024
# Records of fatal alerts (RFC 8446 6).
_UNRECOGNIZED_NAME = bytes.fromhex("15030300020270")
_NO_APPLICATION_PROTOCOL = bytes.fromhex("15030300020278")


def server_name(identifier: Identifier) -> str:
    """
    The SNI with which the CA asks: the name, or an address as name of its reverse mapping (RFC 8738 6).
    """
    if identifier.kind == "ip":
        return ip_address(identifier.value).reverse_pointer
    return identifier.value


def make_certificate(task: Task, clock: Clock) -> tuple[bytes, bytes]:
    """
    The self-signed certificate of RFC 8737 3 with a key of its own.

    Args:
        task: the identifier and its key authorization.
        clock: for the validity.

    Returns:
        Certificate in DER; certificate and key in PEM.

    """
    key = generate_private_key(SECP256R1())
    name: x509.GeneralName = (
        x509.IPAddress(ip_address(task.identifier.value))
        if task.identifier.kind == "ip"
        else x509.DNSName(task.identifier.value)
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    now = clock.now().astimezone(UTC)
    # The extension's value is an OCTET STRING of 32 bytes: its DER header is 04 20.
    shown = b"\x04\x20" + digest(task.authorization)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, shown), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.DER), pem


class TlsAlpnSolver:
    """
    The listener; bound only while there is a challenge.

    Args:
        options: where to listen.
        clock: for certificates.

    """

    def __init__(self, options: TlsAlpn01, clock: Clock) -> None:
        self._host, self._port = endpoint(options.listen)
        self._clock = clock
        # By SNI: the task's token, the certificate as DER, and the context that shows it.
        self._shown: dict[str, tuple[str, bytes, ssl.SSLContext]] = {}
        self._server: asyncio.Server | None = None
        self._changing = asyncio.Lock()
        self._door = Door()

    async def present(self, task: Task, *, deadline: float) -> None:
        """
        Make the certificate and bind, if nobody has.
        """
        del deadline
        async with self._changing:
            name = server_name(task.identifier)
            held = self._shown.get(name)
            if held is None or held[0] != task.token:
                der, pem = make_certificate(task, self._clock)
                self._shown[name] = task.token, der, _context(pem)
            if self._server is None:
                try:
                    self._server = await asyncio.start_server(
                        self._serve, sock=listening_socket(self._host, self._port)
                    )
                except OSError as error:
                    del self._shown[name]
                    raise unbound(self._host, self._port, error) from error

    async def ready(self, task: Task, *, deadline: float) -> None:
        """
        Ask ourselves as the CA will, and compare the certificate.
        """
        left_s = min(_CHECK_S, max(deadline - self._clock.monotonic(), 0))
        name = server_name(task.identifier)
        held = self._shown.get(name)
        if self._server is None or held is None:
            msg = "the listener is not bound"
            raise SolverError(msg)
        address = self._server.sockets[0].getsockname()
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE  # the certificate is self-signed, it is compared byte for byte
        unverified.set_alpn_protocols([PROTOCOL])
        try:
            async with asyncio.timeout(left_s):
                _, writer = await asyncio.open_connection(
                    reachable(str(address[0])), int(address[1]), ssl=unverified, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            detail = f"tls-alpn-01 for {task.identifier.value}: our own listener: {reason_of(error)}"
            raise SolverError(detail) from error
        seen = writer.get_extra_info("ssl_object")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        if seen.getpeercert(binary_form=True) != held[1] or seen.selected_alpn_protocol() != PROTOCOL:
            msg = f"tls-alpn-01 for {task.identifier.value}: our own listener shows something else"
            raise SolverError(msg)

    async def cleanup(self, task: Task, *, deadline: float) -> None:
        """
        Show it no more; the last one unbinds.
        """
        del deadline
        async with self._changing:
            name = server_name(task.identifier)
            held = self._shown.get(name)
            if held is not None and held[0] == task.token:
                del self._shown[name]
            if not self._shown:
                await self._close()

    async def aclose(self) -> None:
        """
        Unbind.
        """
        async with self._changing:
            self._shown.clear()
            await self._close()

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await stop_listening(server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._door.enter(writer)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._shake_hands(reader, writer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await reader.read(_READ_BYTES)
        except (OSError, TimeoutError, InputError):
            pass  # whoever that was is no CA, or went away; errors of TLS are an OSError
        finally:
            self._door.leave(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _shake_hands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """
        One handshake, which is all there is (RFC 8737 3: no application data).
        """
        said = b""
        while (hello := read_client_hello(said)) is None:
            said += await _more(reader)
        held = self._shown.get(hello.server_name or "")
        if hello.protocols != (PROTOCOL.encode(),) or held is None:
            is_acme = hello.protocols == (PROTOCOL.encode(),)
            writer.write(_UNRECOGNIZED_NAME if is_acme else _NO_APPLICATION_PROTOCOL)
            await writer.drain()
            return
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(said)
        connection = held[2].wrap_bio(incoming, outgoing, server_side=True)
        total = len(said)
        try:
            while not _is_done(connection):
                writer.write(outgoing.read())
                await writer.drain()
                more = await _more(reader)
                total += len(more)
                if total > _MAX_HANDSHAKE_BYTES:
                    return
                incoming.write(more)
            with contextlib.suppress(ssl.SSLError):  # wants the other side's word, which we need not
                connection.unwrap()
        finally:
            writer.write(outgoing.read())  # its last word, an alert perhaps
        await writer.drain()


async def _more(reader: asyncio.StreamReader) -> bytes:
    more = await reader.read(_READ_BYTES)
    if not more:
        raise ConnectionResetError
    return more


def _is_done(connection: ssl.SSLObject) -> bool:
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _bare() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    return context


def _context(pem: bytes) -> ssl.SSLContext:
    """
    OpenSSL's bindings read keys from files only: this one lives in memory and has no name.
    """
    context = _bare()
    with os.fdopen(os.memfd_create("challenge", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
