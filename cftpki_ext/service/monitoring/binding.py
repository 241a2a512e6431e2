"""
Listening where metrics, or the console, are served.
"""

from __future__ import annotations

import socket
from pathlib import Path

from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.escape import printable
from cftpki_ext.service.listener import Listener, listen
from cftpki_ext.support.failures import reason_of
from cftpki_ext.support.listening import read_address

# Scrapers are two or three; those beyond wait.
_BACKLOG = 16


class CannotServeError(CftPkiError):
    """
    The address cannot be listened at.
    """


def bind(address: str, *, what: str = "metrics") -> Listener:
    """
    Listen at an address.

    Args:
        address: as `[metrics] listen` has it.
        what: what is served, for the message.

    Returns:
        The listener; whoever has it releases it.

    Raises:
        CannotServeError: it cannot be listened at; a unix socket that nobody serves any more is replaced.

    """
    try:
        place = read_address(address)
        if isinstance(place, Path):
            return listen(place)
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        bound = socket.create_server((place.host, place.port), family=family, backlog=_BACKLOG)
        return Listener(socket=bound, path=None)
    except (OSError, ValueError, CftPkiError) as error:
        msg = f"{what} cannot be served at {printable(address)}: {reason_of(error)}"
        raise CannotServeError(msg) from error
