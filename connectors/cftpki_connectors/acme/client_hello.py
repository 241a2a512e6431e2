"""
The first message of a TLS client (RFC 8446 4.1.2): whom it wants to speak with, and which protocols it offers.

Pure. Read before OpenSSL sees it: what a listener shows depends on the protocols, which OpenSSL's Python bindings tell
only when the certificate has been shown.
"""

from __future__ import annotations

from cftpki_ext.core.errors import InputError
from cftpki_ext.core.values import dataclass

# One record's worth. Clients with many key shares and tickets send 2 KB.
MAX_HELLO_BYTES = 16 * 1024
# Clients write one record, a few split it; each is looked at again whenever something comes.
MAX_RECORDS = 8
_RECORD_HEAD = 5
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_MESSAGE_HEAD = 4
_SERVER_NAME, _ALPN = 0, 16
_HOST_NAME = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """
    What is looked at: the name in lower case (RFC 6066 3), the protocols in the client's order (RFC 7301 3.1).
    """

    server_name: str | None
    protocols: tuple[bytes, ...]


def read_client_hello(records: bytes) -> ClientHello | None:
    """
    Read what a client has said so far.

    Versions, cipher suites, and whatever follows the message are *not* judged: OpenSSL does that.

    Args:
        records: from the connection's first octet on.

    Returns:
        The message, `None` where more has to come.

    Raises:
        InputError: this is no ClientHello, or one over `MAX_HELLO_BYTES` or `MAX_RECORDS`.

    """
    message = bytearray()
    at = 0
    for _ in range(MAX_RECORDS + 1):
        if len(message) >= _MESSAGE_HEAD:
            if message[0] != _CLIENT_HELLO:
                msg = f"handshake message {message[0]} where a ClientHello is expected"
                raise InputError(msg)
            length = int.from_bytes(message[1:_MESSAGE_HEAD], "big")
            if length > MAX_HELLO_BYTES:
                msg = f"ClientHello of {length} bytes"
                raise InputError(msg)
            if len(message) >= _MESSAGE_HEAD + length:
                return _parse(bytes(message[_MESSAGE_HEAD : _MESSAGE_HEAD + length]))
        head = records[at : at + _RECORD_HEAD]
        if head and (head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != 3)):
            msg = "no TLS handshake"
            raise InputError(msg)
        size = int.from_bytes(head[3:], "big")
        if len(head) == _RECORD_HEAD and not 0 < size <= MAX_HELLO_BYTES:
            msg = f"TLS record of {size} bytes"
            raise InputError(msg)
        if len(head) < _RECORD_HEAD or len(records) < at + _RECORD_HEAD + size:
            return None
        message += records[at + _RECORD_HEAD : at + _RECORD_HEAD + size]
        at += _RECORD_HEAD + size
    msg = f"ClientHello in more than {MAX_RECORDS} records"
    raise InputError(msg)


class _Octets:
    """
    Takes vectors off the front, each checked against what is left.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            msg = "ClientHello is cut off"
            raise InputError(msg)
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Octets:
        return _Octets(self.take(self.number(size)))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)


def _parse(body: bytes) -> ClientHello:
    octets = _Octets(body)
    octets.take(2 + 32)  # legacy_version, random
    octets.vector(1)  # session id
    octets.vector(2)  # cipher suites
    octets.vector(1)  # compression methods
    names: list[str | None] = []
    protocols: list[tuple[bytes, ...]] = []
    if octets:
        extensions = octets.vector(2)
        while extensions:
            kind, content = extensions.number(2), extensions.vector(2)
            if kind == _SERVER_NAME:
                names.append(_name(content))
            elif kind == _ALPN:
                protocols.append(_protocols(content))
    if len(names) > 1 or len(protocols) > 1:
        msg = "ClientHello with an extension twice"
        raise InputError(msg)
    return ClientHello(server_name=(names or [None])[0], protocols=(protocols or [()])[0])


def _name(content: _Octets) -> str | None:
    entries = content.vector(2)
    while entries:
        kind, name = entries.number(1), entries.vector(2).rest()
        if kind == _HOST_NAME:
            try:
                return name.decode("ascii").lower()
            except UnicodeDecodeError as exc:
                msg = "server name is not ASCII"
                raise InputError(msg) from exc
    return None


def _protocols(content: _Octets) -> tuple[bytes, ...]:
    entries = content.vector(2)
    found = []
    while entries:
        found.append(entries.vector(1).rest())
    return tuple(found)
