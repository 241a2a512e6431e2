"""
Where the parts of a large CRL are, seen from its beginning before its end is there, and compared once that is.

Owns what is told of a list that is odd there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

from cryptography.hazmat.primitives.hashes import Hash

from cftpki_ext.core.values import dataclass
from cftpki_ext.revocation.crl_parse import MalformedCrlError, Surroundings, outline
from cftpki_ext.revocation.list_cutting import NotIndexableError, Strictly
from cftpki_ext.revocation.list_index import MOST_SURROUNDINGS
from cftpki_ext.x509 import der
from cftpki_ext.x509.der import DerError, Element
from cftpki_ext.x509.signed import AlgorithmIdentifier, algorithm, hash_of

# Tag and length of an element, at most.
_HEADER_OCTETS = 6
# In front of the entries are six fields at the most (RFC 5280 5.1.2).
_FIELDS = 6
# An element's end while nobody knows how long the list is: four octets of length say no more.
_ANYWHERE = 1 << 40
BESIDE = f"more than {MOST_SURROUNDINGS} octets beside the entries"
_WITHOUT = "a list without entries"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """
    What is in front of the entries, and what follows from it.
    """

    head: bytes
    body: Element
    listed: Element
    algorithm: AlgorithmIdentifier
    signed: Hash
    strictly: Strictly


def front_of(data: bytes) -> Front:
    """
    Find where the entries are: in the SEQUENCE behind a time (RFC 5280 5.1).

    Args:
        data: the beginning of a list, not yet verified.

    Returns:
        Where things are, as far as can be seen from there.

    Raises:
        NotIndexableError: there are no entries, or the signature takes the whole list.
        DerError: it is no DER.

    """
    outer = der.expect(_begun(data, 0, _ANYWHERE), der.SEQUENCE, "list")
    body = der.expect(_begun(data, outer.content, outer.end), der.SEQUENCE, "signed part")
    found: list[Element] = []
    at = body.content
    while at < body.end and len(found) <= _FIELDS:
        element = _begun(data, at, body.end)
        if element.tag == der.SEQUENCE and found and found[-1].tag in (der.UTC_TIME, der.GENERALIZED_TIME):
            break
        found.append(element)
        at = element.end
    else:
        raise NotIndexableError(_WITHOUT)
    if element.content == element.end:
        raise NotIndexableError(_WITHOUT)
    inner = next((one for one in found if one.tag == der.SEQUENCE), element)
    identifier = algorithm(data, inner)
    signed = hash_of(identifier)
    if signed is None:
        msg = "its signature algorithm takes the whole list"
        raise NotIndexableError(msg)
    head = data[: element.content]
    return Front(
        head=head,
        body=body,
        listed=element,
        algorithm=identifier,
        signed=signed,
        strictly=Strictly(data[body.content : element.start], der.encoded(data, inner)),
    )


def _begun(data: bytes, at: int, end: int) -> Element:
    """
    An element whose header is at hand.
    """
    if at + _HEADER_OCTETS > len(data):
        raise NotIndexableError(BESIDE if len(data) >= MOST_SURROUNDINGS else "no CRL: it is cut off")
    return der.read(data, at, end)


@contextlib.contextmanager
def as_odd() -> Iterator[None]:
    """
    What cannot be read is odd.
    """
    try:
        yield
    except MalformedCrlError as error:
        raise NotIndexableError(str(error)) from error
    except DerError as error:
        msg = f"no CRL: {error.detail} ({error.rule})"
        raise NotIndexableError(msg) from error


def place_of_end(front: Front, tail: bytes, size: int) -> tuple[bool, int]:
    """
    Whether a list is an indirect one, and how much of its signed part is behind the entries.

    Raises:
        NotIndexableError: its parts are not where they were taken to be.

    """
    data = cast("bytes", Surroundings(front.head, tail, size))
    found = outline(data)
    der.whole(data)
    if (found.body, found.entries, found.algorithm) != (front.body, front.listed, front.algorithm):
        msg = "its parts are not where those of a list are"
        raise NotIndexableError(msg)
    return found.indirect, found.body.end - front.listed.end
