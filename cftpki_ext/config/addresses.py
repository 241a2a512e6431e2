"""
Web addresses that stand in the file: whether one can be asked, holds no secret, and is protected on its way.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from cftpki_ext.config.positions import KeyPath
from cftpki_ext.config.sections import Reader

# What no address holds as it is sent, and what would end it early.
_NOT_IN_ADDRESSES = frozenset(' "<>\\^`{}#')


def address_parts(reader: Reader, path: KeyPath, url: str, fault: str) -> SplitResult | None:
    """
    The parts of an http or https address without user and password.

    Args:
        reader: notes the faults.
        path: where the address stands.
        url: the address.
        fault: what is said of one that is none.

    Returns:
        The parts; `None` where a fault was noted.

    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or set(url) & _NOT_IN_ADDRESSES:
        reader.faults.add(path, fault)
        return None
    if parts.username is not None or parts.password is not None:
        reader.faults.add(path, "holds a user name or password: secrets come from files")
        return None
    return parts


def is_protected(reader: Reader, path: KeyPath, parts: SplitResult, *, plain: bool) -> bool:
    """
    Whether TLS proves who answers, or the operator said that nobody need; else a fault is noted.
    """
    if parts.scheme == "http" and not plain:
        reader.faults.add(
            path, "is not https: nothing else proves who answers (unsafe_plain_http = true on a test network)"
        )
        return False
    return True
