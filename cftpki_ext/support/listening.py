"""
Where a program of ours listens, as text: `127.0.0.1:9105`, `[::1]:9105`, or the path of a unix socket.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

from cftpki_ext.core.values import dataclass

# sun_path of unix(7), less the closing NUL.
MAX_SOCKET_PATH_BYTES = 107
_TCP = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """
    An IP address and a port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """
        As it is written.
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """
        Whether only this machine can connect to it.
        """
        return ip_address(self.host).is_loopback


def read_address(text: str) -> TcpAddress | Path:
    """
    Read an address to listen at. Names of hosts are none: what a name means may change under a listener.

    Args:
        text: an IP address and a port, or an absolute path.

    Returns:
        The address.

    Raises:
        ValueError: it is neither; the message says what is wrong.

    """
    if text.startswith("/"):
        if "\0" in text:
            msg = "is no path: it holds a NUL"
            raise ValueError(msg)
        length = len(text.encode("utf-8", "surrogateescape"))
        if length > MAX_SOCKET_PATH_BYTES:
            msg = f"the path has {length} bytes, a unix socket's at most {MAX_SOCKET_PATH_BYTES}"
            raise ValueError(msg)
        return Path(text)
    found = _TCP.fullmatch(text)
    if found is None:
        msg = f"{text!r} is no address: write e.g. 127.0.0.1:9105, [::1]:9105, or the path of a unix socket"
        raise ValueError(msg)
    host, port = found[1] or found[2], int(found[3])
    if not 1 <= port <= 65535:
        msg = f"{port} is no port: 1 to 65535"
        raise ValueError(msg)
    try:
        address = ip_address(host)
    except ValueError as exc:
        msg = f"{host!r} is no IP address"
        raise ValueError(msg) from exc
    if (address.version == 6) != (found[1] is not None):
        msg = f"{text!r}: an IPv6 address stands in brackets, and no other does"
        raise ValueError(msg)
    return TcpAddress(str(address), port)
