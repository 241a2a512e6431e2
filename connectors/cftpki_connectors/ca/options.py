"""
What the tables `[enroller.NAME]` have in common: the CA's URL, fingerprints, the proxy.

Owns these values as pydantic types and what makes them valid. No file is read here.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from pydantic import AfterValidator


def https_parts(text: str) -> SplitResult:
    """
    The parts of an https URL with a host and a port that is one.

    User, path, query and fragment are *not* checked.

    Args:
        text: of the configuration.

    Returns:
        The parts.

    Raises:
        ValueError: it is no such URL.

    """
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname:
        msg = "an https URL is needed"
        raise ValueError(msg)
    _ = parts.port  # raises ValueError for what is no port
    return parts


def web_parts(text: str) -> SplitResult:
    """
    The parts of an http or https URL with a host and a port that is one: for protocols whose messages protect themselves.

    Args:
        text: of the configuration.

    Returns:
        The parts, not checked further.

    Raises:
        ValueError: it is no such URL.

    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "an http or https URL is needed"
        raise ValueError(msg)
    _ = parts.port  # raises ValueError for what is no port
    return parts


def without_extras(parts: SplitResult, whose: str) -> SplitResult:
    """
    The parts of a URL that holds neither a user nor a query nor a fragment.

    Args:
        parts: of the configuration.
        whose: the server that it is the URL of, and what else is to be said, for the message.

    Returns:
        The same parts.

    Raises:
        ValueError: it holds one.

    """
    if parts.query or parts.fragment or parts.username is not None:
        whom, colon, more = whose.partition(":")
        msg = f"the URL of {whom} has no user, query or fragment{colon}{more}"
        raise ValueError(msg)
    return parts


def _fingerprint(text: str) -> str:
    digits = re.sub(r"[:\- ]", "", text).lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        msg = "no SHA-256 fingerprint: 64 hex digits are needed"
        raise ValueError(msg)
    return digits


def _proxy(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "a proxy is http://[user@]host:port"
        raise ValueError(msg)
    if parts.password is not None:
        msg = "the proxy's password belongs into proxy_password_file"
        raise ValueError(msg)
    return text


Fingerprint = Annotated[str, AfterValidator(_fingerprint)]  # SHA-256, as 64 lower-case hex digits
Proxy = Annotated[str, AfterValidator(_proxy)]  # its password comes from a file


def has_user(proxy: str | None) -> bool:
    """
    Whether there is a proxy to which a password can be given.
    """
    return proxy is not None and bool(urlsplit(proxy).username)


def with_password(proxy: str, password: str | bytes) -> str:
    """
    The proxy's URL as the HTTP client takes it.

    Args:
        proxy: with its user.
        password: as it stands in its file.

    Returns:
        The URL, which is a secret now.

    """
    parts = urlsplit(proxy)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
