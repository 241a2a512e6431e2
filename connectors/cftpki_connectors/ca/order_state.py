"""
How what was written down about an order under way is read again: numbers, texts and octets, each within bounds.

For protocols whose orders have steps; `unanswered` has those that are done in one. Pure.
"""

from __future__ import annotations

import binascii

from cftpki_connectors.ca.values import MAX_CERTIFICATES

_MAX_NUMBER = 2**31 - 1


def number_of(value: object, *, least: int = 0) -> int:
    """
    A whole number of a state.

    Args:
        value: as it was read.
        least: what it is at least.

    Returns:
        The number.

    Raises:
        ValueError: it is none, or out of bounds.

    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_NUMBER:
        msg = "no number"
        raise ValueError(msg)
    return value


def texts_of(value: object) -> tuple[str, ...]:
    """
    A list of texts, as many as a chain may have certificates.

    Raises:
        ValueError: it is none.

    """
    if (
        not isinstance(value, list)
        or len(value) > MAX_CERTIFICATES
        or not all(isinstance(one, str) for one in value)
    ):
        msg = "no list of texts"
        raise ValueError(msg)
    return tuple(value)


def octets_of(text: str) -> bytes:
    """
    Octets that were written as base64.

    Raises:
        ValueError: it is none.

    """
    return binascii.a2b_base64(text, strict_mode=True) if text else b""


def unanswered_note(count: int) -> tuple[str, ...]:
    """
    What is told of requests whose answer never came, nothing where there are none.
    """
    told = (
        f"{count} earlier request(s) of this order had no answer: the CA may have issued "
        "certificates for the same key that nobody received"
    )
    return (told,) if count else ()
